//! HTTP/1.1 as the Docker Engine API needs it: requests and their replies, or the bare connection after an upgrade.
//!
//! Blocking, without a runtime: a client does one thing at a time, and its start is most of what it costs.

mod body;
mod idle;
mod stream;
mod tls;

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

pub(crate) use self::body::Body;
pub(crate) use self::idle::Idle;
pub(crate) use self::stream::Stream;
pub(crate) use self::tls::{Certificates, TlsStream};
use crate::error::{Failure, Result};
use crate::host::Host;

const MOST_HEADERS: usize = 64;
const LONGEST_HEAD: usize = 64 << 10;

/// What becomes of the connection after the reply. HTTP/1.1 keeps it unless something else is said.
const KEPT: &str = "";
const CLOSED: &str = "Connection: close\r\n";
const UPGRADED: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";

pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    /// With the query, escaped.
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Payload<'a>,
}

pub(crate) enum Payload<'a> {
    None,
    Json(Vec<u8>),
    /// Sent in chunks, of no known length.
    Archive(&'a mut dyn Read),
}

pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

/// A connection after `101 UPGRADED`.
pub(crate) struct Upgraded {
    pub(crate) reader: BufReader<Stream>,
    pub(crate) writer: Stream,
    pub(crate) is_multiplexed: bool,
}

impl Response {
    /// By its name in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn bytes(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Sends the request and reads the head of the reply, on an idle connection if there is one.
pub(crate) fn send(host: &Host, idle: &Idle, mut request: Request<'_>) -> Result<Response> {
    // An archive that cannot be read to its end is cut off with its connection.
    let idle = (!matches!(request.payload, Payload::Archive(_))).then_some(idle);
    if let Some(reader) = idle.and_then(Idle::take) {
        match exchange(host, reader, idle, &mut request) {
            // The daemon went away meanwhile, and its successor may be there.
            Err(_) if request.method == "GET" => {}
            outcome => return outcome,
        }
    }
    exchange(host, BufReader::new(host.connect()?), idle, &mut request)
}

fn exchange(
    host: &Host,
    mut reader: BufReader<Stream>,
    idle: Option<&Idle>,
    request: &mut Request<'_>,
) -> Result<Response> {
    let stream = reader.get_mut();
    // A daemon that refuses answers before it has read all, and then closes.
    let mut written = write_request(stream, request, if idle.is_some() { KEPT } else { CLOSED });
    if let (Ok(()), Payload::Archive(archive)) = (&written, &mut request.payload) {
        // What cannot be read is cut off with the connection: no daemon takes it for complete.
        written = body::write_chunks(stream, &mut **archive)
            .map_err(|error| Failure::new(error.to_string()))?;
    }
    match read_head(&mut reader) {
        Ok((status, headers)) => {
            let body = Body::new(reader, request.method, status, &headers, idle);
            Ok(Response { status, headers, body })
        }
        Err(error) => Err(broken(host, written.as_ref().err().unwrap_or(&error))),
    }
}

/// What a daemon would say that has done as it was told, and calls what it made so.
pub(crate) fn imagined(id: &str) -> Result<Response> {
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(format!("{{\"Id\":\"{id}\"}}\n").as_bytes())?;
    let (status, headers) = (200, Vec::new());
    let body = Body::new(BufReader::new(Stream::Unix(ours)), "GET", status, &headers, None);
    Ok(Response { status, headers, body })
}

/// Asks for the bare connection.
///
/// # Errors
/// The reply, when it is no upgrade.
pub(crate) fn upgrade(
    host: &Host,
    request: &Request<'_>,
) -> Result<std::result::Result<Upgraded, Response>> {
    let mut stream = host.connect()?;
    write_request(&mut stream, request, UPGRADED).map_err(|error| broken(host, &error))?;
    let writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(32 << 10, stream);
    let (status, headers) = read_head(&mut reader).map_err(|error| broken(host, &error))?;
    if status == 101 {
        let is_multiplexed = headers.iter().any(|(key, value)| {
            key == "content-type" && value == "application/vnd.docker.multiplexed-stream"
        });
        return Ok(Ok(Upgraded { reader, writer, is_multiplexed }));
    }
    let body = Body::new(reader, request.method, status, &headers, None);
    Ok(Err(Response { status, headers, body }))
}

fn broken(host: &Host, error: &io::Error) -> Failure {
    Failure::new(format!("error during connect: {host}: {error}"))
}

fn write_request(stream: &mut Stream, request: &Request<'_>, connection: &str) -> io::Result<()> {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: cais\r\n", request.method, request.target);
    head.push_str(concat!("User-Agent: cais/", env!("CARGO_PKG_VERSION"), "\r\n"));
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(connection);
    let json: &[u8] = match &request.payload {
        Payload::Json(json) => {
            let length = json.len();
            head.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {length}\r\n"
            ));
            json
        }
        Payload::Archive(_) => {
            head.push_str("Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n");
            &[]
        }
        Payload::None if request.method == "POST" || request.method == "PUT" => {
            head.push_str("Content-Length: 0\r\n");
            &[]
        }
        Payload::None => &[],
    };
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(json);
    stream.write_all(&bytes)
}

type Head = (u16, Vec<(String, String)>);

fn read_head(reader: &mut BufReader<Stream>) -> io::Result<Head> {
    let mut bytes = Vec::with_capacity(512);
    loop {
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the daemon hung up"));
        }
        if bytes.ends_with(b"\r\n\r\n") {
            let head = parse_head(&bytes)?;
            // An interim reply is followed by the final one.
            if head.0 != 100 {
                return Ok(head);
            }
            bytes.clear();
        }
        if bytes.len() > LONGEST_HEAD {
            return Err(invalid("the head of the reply is too long"));
        }
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Head> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(bytes).map_err(|error| invalid(&format!("no HTTP reply: {error}")))?;
    let status = response.code.ok_or_else(|| invalid("no status in the reply"))?;
    let headers = response.headers.iter().map(|header| {
        let value = String::from_utf8_lossy(header.value).into_owned();
        (header.name.to_ascii_lowercase(), value)
    });
    Ok((status, headers.collect()))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::host::TlsFlags;
    use crate::program::Program;

    /// What happens on a connection: the replies to its requests; then it is closed, when another request was read.
    type Replies = &'static [&'static str];

    /// A daemon with these connections, one after the other.
    fn daemon(
        connections: &'static [Replies],
    ) -> (tempfile::TempDir, Host, thread::JoinHandle<()>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let host = format!("unix://{}", path.display());
        let host = Host::choose(Some(&host), TlsFlags::default(), None, Program::Cais).unwrap();
        let served = thread::spawn(move || {
            for replies in connections {
                let mut reader = BufReader::new(listener.accept().unwrap().0);
                for reply in *replies {
                    let mut line = String::new();
                    while reader.read_line(&mut line).unwrap() > 2 {
                        line.clear();
                    }
                    reader.get_mut().write_all(reply.as_bytes()).unwrap();
                }
                let _ = reader.read_until(b'\n', &mut Vec::new());
            }
        });
        (directory, host, served)
    }

    fn ask(host: &Host, idle: &Idle, method: &'static str) -> Result<Vec<u8>> {
        let target = "/v1.51/x".to_owned();
        let payload = Payload::None;
        send(host, idle, Request { method, target, headers: Vec::new(), payload })?.bytes()
    }

    const LONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nAfter: 1\r\n\r\n";
    const NOTHING: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

    #[test]
    fn requests_follow_on_a_connection_unless_it_is_to_be_closed() {
        let (_directory, host, served) = daemon(&[&[LONG, CHUNKED, NOTHING, LAST], &[LONG]]);
        let idle = Idle::default();
        for expected in ["ok", "ok", "", "ok", "ok"] {
            assert_eq!(ask(&host, &idle, "POST").unwrap(), expected.as_bytes());
        }
        drop(idle);
        served.join().unwrap();
    }

    #[test]
    fn what_is_only_asked_is_asked_again_of_the_next_daemon() {
        let (_directory, host, served) = daemon(&[&[LONG], &[LONG]]);
        let idle = Idle::default();
        assert_eq!(ask(&host, &idle, "GET").unwrap(), b"ok");
        // The connection ends when it has been read. It may have been done, and is not done twice.
        assert!(ask(&host, &idle, "POST").unwrap_err().message.contains("error during connect"));
        assert_eq!(ask(&host, &idle, "GET").unwrap(), b"ok");
        drop(idle);
        served.join().unwrap();

        let (_directory, host, served) = daemon(&[&[LONG], &[LONG]]);
        let idle = Idle::default();
        for _ in 0..2 {
            assert_eq!(ask(&host, &idle, "GET").unwrap(), b"ok");
        }
        drop(idle);
        served.join().unwrap();
    }
}
