//! HTTP/1.1 as the Docker Engine API needs it: one request on a connection, its reply, or the bare connection after an upgrade.
//!
//! Blocking, without a runtime: a client does one thing at a time, and its start is most of what it costs.

mod body;
mod stream;
mod tls;

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};

pub(crate) use self::body::Body;
pub(crate) use self::stream::Stream;
pub(crate) use self::tls::{Certificates, TlsStream};
use crate::error::{Failure, Result};
use crate::host::Host;

const MOST_HEADERS: usize = 64;
const LONGEST_HEAD: usize = 64 << 10;

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

/// Sends the request on a connection of its own and reads the head of the reply.
pub(crate) fn send(host: &Host, request: Request<'_>) -> Result<Response> {
    let mut stream = host.connect()?;
    // A daemon that refuses answers before it has read all, and then closes.
    let mut written = write_request(&mut stream, &request, false);
    if let (Ok(()), Payload::Archive(reader)) = (&written, request.payload) {
        // What cannot be read is cut off with the connection: no daemon takes it for complete.
        written = body::write_chunks(&mut stream, reader)
            .map_err(|error| Failure::new(error.to_string()))?;
    }
    let mut reader = BufReader::new(stream);
    match read_head(&mut reader) {
        Ok((status, headers)) => {
            let body = Body::new(reader, request.method, status, &headers);
            Ok(Response { status, headers, body })
        }
        Err(error) => Err(broken(host, written.as_ref().err().unwrap_or(&error))),
    }
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
    write_request(&mut stream, request, true).map_err(|error| broken(host, &error))?;
    let writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(32 << 10, stream);
    let (status, headers) = read_head(&mut reader).map_err(|error| broken(host, &error))?;
    if status == 101 {
        let is_multiplexed = headers.iter().any(|(key, value)| {
            key == "content-type" && value == "application/vnd.docker.multiplexed-stream"
        });
        return Ok(Ok(Upgraded { reader, writer, is_multiplexed }));
    }
    let body = Body::new(reader, request.method, status, &headers);
    Ok(Err(Response { status, headers, body }))
}

fn broken(host: &Host, error: &io::Error) -> Failure {
    Failure::new(format!("error during connect: {host}: {error}"))
}

fn write_request(stream: &mut Stream, request: &Request<'_>, upgrades: bool) -> io::Result<()> {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: cais\r\n", request.method, request.target);
    head.push_str(concat!("User-Agent: cais/", env!("CARGO_PKG_VERSION"), "\r\n"));
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(if upgrades {
        "Connection: Upgrade\r\nUpgrade: tcp\r\n"
    } else {
        "Connection: close\r\n"
    });
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
