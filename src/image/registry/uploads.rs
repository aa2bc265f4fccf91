//! A registry that takes uploads, loses connections and answers as it is told. Faults only: pushing for real is shown by the
//! end-to-end tests.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to the next request of a method.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) enum Fault {
    /// So many bytes of the body arrive.
    Cut { after: usize },
    /// The same, and the upload is given up, as Docker's registry does.
    CutForGood { after: usize },
    /// The request is done, and nothing said.
    Silent,
    /// The same, but the connection stays.
    Hanging,
    /// Answered so; with how many seconds to wait.
    Refused(u16, Option<u8>),
    /// Refused, with the wish for a password.
    Challenged,
    /// The upload is no more.
    Forgotten,
}

#[derive(Default)]
struct State {
    blobs: HashMap<String, Vec<u8>>,
    uploads: HashMap<String, Vec<u8>>,
    faults: VecDeque<(&'static str, Fault)>,
    /// Each request's method, path, and range if it had one; `chunked` if the length of its body was not told.
    seen: Vec<String>,
    /// Repositories whose blobs can be mounted.
    mountable: Option<String>,
}

struct Shared {
    state: Mutex<State>,
    /// Bodies of PATCH that are being taken, and the most that were at once. Each waits for so many.
    moving: watch::Sender<(usize, usize)>,
    together: usize,
}

pub(in crate::image) struct Uploads {
    pub(in crate::image) host: String,
    shared: Arc<Shared>,
}

impl Uploads {
    /// `together`: no body is taken before so many are there.
    pub(in crate::image) async fn start(faults: &[(&'static str, Fault)], together: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = State { faults: faults.iter().copied().collect(), ..State::default() };
        let moving = watch::Sender::new((0, 0));
        let shared = Arc::new(Shared { state: Mutex::new(state), moving, together });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move {
                    // A client that hangs up is part of the tests.
                    let _ = serve(stream, &shared).await;
                });
            }
        });
        Self { host, shared }
    }

    pub(in crate::image) fn let_mount(&self, from: &str) {
        self.shared.state.lock().unwrap().mountable = Some(from.to_owned());
    }

    pub(in crate::image) fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        self.shared.state.lock().unwrap().blobs.get(digest).cloned()
    }

    pub(in crate::image) fn have(&self, digest: &str, blob: Vec<u8>) {
        self.shared.state.lock().unwrap().blobs.insert(digest.to_owned(), blob);
    }

    pub(in crate::image) fn forget_blobs(&self) {
        self.shared.state.lock().unwrap().blobs.clear();
    }

    /// The requests that begin so.
    pub(in crate::image) fn seen(&self, begin: &str) -> Vec<String> {
        let state = self.shared.state.lock().unwrap();
        state.seen.iter().filter(|it| it.starts_with(begin)).cloned().collect()
    }

    /// The most bodies that were on their way at once.
    pub(in crate::image) fn most_together(&self) -> usize {
        self.shared.moving.borrow().1
    }
}

struct Request {
    method: String,
    path: String,
    query: HashMap<String, String>,
    length: Length,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Told(usize),
    Chunked,
}

async fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_head(&mut stream, shared).await? {
        let fault = {
            let mut state = shared.state.lock().unwrap();
            let is_next = state.faults.front().is_some_and(|(method, _)| *method == request.method);
            is_next.then(|| state.faults.pop_front()).flatten().map(|(_, fault)| fault)
        };
        let id = request.path.rsplit('/').next().unwrap_or_default().to_owned();
        let is_body = request.method == "PATCH";
        if is_body {
            shared
                .moving
                .send_modify(|(now, most)| (*now, *most) = (*now + 1, (*most).max(*now + 1)));
            let mut all = shared.moving.subscribe();
            let _ = all.wait_for(|(_, most)| *most >= shared.together).await;
        }
        let most = match fault {
            Some(Fault::Cut { after } | Fault::CutForGood { after }) => after,
            _ => usize::MAX,
        };
        let body = read_body(&mut stream, request.length, most).await?;
        if is_body {
            shared.moving.send_modify(|(now, _)| *now -= 1);
        }
        let (status, headers) = match fault {
            Some(Fault::Refused(status, wait)) => {
                (status, wait.map(|wait| format!("retry-after: {wait}\r\n")).unwrap_or_default())
            }
            Some(Fault::Challenged) => (401, "www-authenticate: Basic realm=x\r\n".to_owned()),
            Some(Fault::Forgotten) => {
                shared.state.lock().unwrap().uploads.remove(&id);
                (404, String::new())
            }
            Some(Fault::CutForGood { .. }) => {
                shared.state.lock().unwrap().uploads.remove(&id);
                return Ok(());
            }
            _ => answer(&request, &id, body, &mut shared.state.lock().unwrap()),
        };
        match fault {
            Some(Fault::Cut { .. } | Fault::Silent) => return Ok(()),
            Some(Fault::Hanging) => return stream.read_u8().await.map(drop),
            _ => {}
        }
        let words = r#"{"errors":[{"code":"TOLD_SO","message":"by the test"}]}"#;
        let body = if status >= 400 && request.method != "HEAD" { words } else { "" };
        let head =
            format!("HTTP/1.1 {status} Said\r\n{headers}content-length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).await?;
    }
    Ok(())
}

/// A body, or what comes of it before so many bytes are there.
async fn read_body(
    stream: &mut BufReader<TcpStream>,
    length: Length,
    most: usize,
) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Length::Told(length) = length {
        body.resize(length.min(most), 0);
        stream.read_exact(&mut body).await?;
        return Ok(body);
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap_or_default();
        let from = body.len();
        body.resize(from + size.min(most - from), 0);
        stream.read_exact(&mut body[from..]).await?;
        if body.len() == most {
            return Ok(body);
        }
        stream.read_line(&mut String::new()).await?;
        if size == 0 {
            return Ok(body);
        }
    }
}

async fn read_head(
    stream: &mut BufReader<TcpStream>,
    shared: &Shared,
) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (mut length, mut range) = (Length::Told(0), String::new());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = Length::Told(value.parse().unwrap()),
            "transfer-encoding" => (length, range) = (Length::Chunked, " chunked".to_owned()),
            "content-range" => range = format!(" {value}"),
            _ => {}
        }
    }
    let url = reqwest::Url::parse(&format!("http://host{target}")).unwrap();
    let query = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned()));
    let request = Request { query: query.collect(), path: url.path().to_owned(), method, length };
    let Request { method, path, .. } = &request;
    shared.state.lock().unwrap().seen.push(format!("{method} {path}{range}"));
    Ok(Some(request))
}

/// As an honest registry does it.
fn answer(request: &Request, id: &str, body: Vec<u8>, state: &mut State) -> (u16, String) {
    let place = |id: &str, has: usize| {
        let last = has.saturating_sub(1);
        format!("location: /v2/uploads/{id}?state={has}\r\nrange: 0-{last}\r\n")
    };
    let nothing = String::new;
    match request.method.as_str() {
        "HEAD" if state.blobs.contains_key(id) => (200, nothing()),
        "POST" => {
            let from = request.query.get("from");
            if from.is_some() && from == state.mountable.as_ref() {
                return (201, nothing());
            }
            let id = state.seen.len().to_string();
            state.uploads.insert(id.clone(), Vec::new());
            (202, place(&id, 0))
        }
        "PUT" if request.path.contains("/manifests/") => (201, nothing()),
        "GET" | "PATCH" | "PUT" => {
            let Some(upload) = state.uploads.get_mut(id) else { return (404, nothing()) };
            upload.extend(body);
            let has = upload.len();
            match request.method.as_str() {
                "GET" => (204, place(id, has)),
                "PATCH" => (202, place(id, has)),
                _ => {
                    let whole = state.uploads.remove(id).unwrap();
                    let digest = crate::image::digest::Digest::of(&whole).to_string();
                    if request.query.get("digest") != Some(&digest) {
                        return (400, nothing());
                    }
                    state.blobs.insert(digest, whole);
                    (201, nothing())
                }
            }
        }
        _ => (404, nothing()),
    }
}
