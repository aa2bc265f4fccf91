//! A registry that serves what a test gives it, also what no honest registry would.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[derive(Clone, Default)]
struct Answer {
    kind: String,
    body: Vec<u8>,
    pace: Pace,
}

/// How an answer is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Pace {
    #[default]
    AtOnce,
    /// The request is read, and that is all.
    Never,
    /// So many bytes of the body, and no more.
    Stalling(usize),
    /// A byte of the body every 20 ms.
    Trickling,
    /// So many bytes of the body, and the rest when [`FakeRegistry::open_gate`] is called.
    Gated(usize),
}

pub(crate) struct FakeRegistry {
    pub(crate) address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<String, Answer>>,
    /// The paths of all requests, in order.
    requests: Mutex<Vec<String>>,
    gate: watch::Sender<bool>,
}

impl FakeRegistry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared: Arc<Shared> = Arc::default();
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }

    /// How many requests there were for paths that end so.
    pub(crate) fn requests(&self, end: &str) -> usize {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|path| path.ends_with(end)).count()
    }

    pub(crate) fn put(&self, path: &str, kind: &str, body: impl Into<Vec<u8>>) {
        let answer = Answer { kind: kind.to_owned(), body: body.into(), pace: Pace::AtOnce };
        self.shared.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    pub(crate) fn pace(&self, path: &str, pace: Pace) {
        self.shared.answers.lock().unwrap().get_mut(path).unwrap().pace = pace;
    }

    /// An image of these archives.
    pub(crate) fn image_of(&self, name: &str, archives: &[Vec<u8>]) {
        let shell = json!({"Cmd": ["sh"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]});
        self.image_with(name, archives, &shell);
    }

    /// With this configuration of what runs in it.
    pub(crate) fn image_with(&self, name: &str, archives: &[Vec<u8>], config: &Value) {
        let diff_ids: Vec<_> = archives.iter().map(|archive| digest(archive)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let mut layers = Vec::new();
        for archive in archives {
            let layer = gzip(archive);
            layers.push(json!({"mediaType": LAYER, "digest": digest(&layer), "size": layer.len()}));
            self.put_blob(name, layer);
        }
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(&config), "size": config.len(),
            },
            "layers": layers,
        });
        self.put_blob(name, config);
        self.put_manifest(name, &manifest);
    }

    fn put_blob(&self, name: &str, bytes: Vec<u8>) {
        let path = format!("/v2/{name}/blobs/{}", digest(&bytes));
        self.put(&path, "application/octet-stream", bytes);
    }

    pub(crate) fn put_manifest(&self, name: &str, manifest: &Value) {
        let kind = manifest["mediaType"].as_str().unwrap();
        let bytes = manifest.to_string().into_bytes();
        let by_digest = format!("/v2/{name}/manifests/{}", digest(&bytes));
        self.put(&by_digest, kind, bytes.clone());
        self.put(&format!("/v2/{name}/manifests/latest"), kind, bytes);
    }

    /// An image of one layer, its parts as the caller wants them after an honest draft.
    pub(crate) fn image(
        &self,
        name: &str,
        layer: &[u8],
        diff_id: &str,
        change: impl FnOnce(&mut Value),
    ) {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        });
        let config = config.to_string().into_bytes();
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(&config), "size": config.len(),
            },
            "layers": [{"mediaType": LAYER, "digest": digest(layer), "size": layer.len()}],
        });
        change(&mut manifest);
        let layer_digest = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
        let config_digest = manifest["config"]["digest"].as_str().unwrap().to_owned();
        self.put(&format!("/v2/{name}/blobs/{layer_digest}"), "application/octet-stream", layer);
        self.put(&format!("/v2/{name}/blobs/{config_digest}"), "application/octet-stream", config);
        self.put_manifest(name, &manifest);
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}:latest", self.address)
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if stream.read_line(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let mut header = String::new();
        while stream.read_line(&mut header).await.unwrap_or(0) > 2 {
            header.clear();
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = path.split('?').next().unwrap_or_default();
        shared.requests.lock().unwrap().push(path.to_owned());
        let found = shared.answers.lock().unwrap().get(path).cloned();
        let status = match found.is_some() || path == "/v2/" {
            true => "200 OK",
            false => "404 Not Found",
        };
        let nothing = || Answer { kind: "application/json".to_owned(), ..Answer::default() };
        let Answer { kind, body, pace } = found.unwrap_or_else(nothing);
        if matches!(pace, Pace::Never) {
            // Until the client gives up.
            let _ = stream.read_u8().await;
            return;
        }
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        if method != "HEAD" && send(&mut stream, &body, pace, &shared.gate).await.is_none() {
            return;
        }
    }
}

/// Sends the body; `None` when the connection is of no more use.
async fn send(
    stream: &mut BufReader<TcpStream>,
    body: &[u8],
    pace: Pace,
    gate: &watch::Sender<bool>,
) -> Option<()> {
    match pace {
        Pace::AtOnce | Pace::Never => stream.write_all(body).await.ok(),
        Pace::Stalling(after) => {
            stream.write_all(body.get(..after).unwrap_or(body)).await.ok()?;
            let _ = stream.read_u8().await;
            None
        }
        Pace::Gated(after) => {
            let (first, rest) = body.split_at(after.min(body.len()));
            stream.write_all(first).await.ok()?;
            gate.subscribe().wait_for(|is_open| *is_open).await.ok()?;
            stream.write_all(rest).await.ok()
        }
        Pace::Trickling => {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            for byte in body {
                ticks.tick().await;
                stream.write_all(&[*byte]).await.ok()?;
            }
            Some(())
        }
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar with one file whose name is written as it is, however wrong.
pub(crate) fn tar_with(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header(name, content.len() as u64), content).unwrap();
    builder.into_inner().unwrap()
}

pub(crate) fn header(name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    // `set_path` refuses what this is for.
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    header
}
