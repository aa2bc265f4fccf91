//! Calls of the Docker Engine API: paths, refusals, and streams of JSON.

use std::io::Read;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Deserializer;

use crate::error::{Failure, Result};
use crate::host::Host;
use crate::http::{self, Idle, Payload, Request, Response, Upgraded};
use crate::json::Value;

/// The version of the interface that the daemon speaks; newer daemons still do.
pub(crate) const API_VERSION: &str = "1.51";

const UNESCAPED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':')
    .remove(b'@');

#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) host: Host,
    idle: Idle,
    /// Nothing is sent that would change something.
    is_dry: bool,
}

/// The id of what is only imagined.
pub(crate) const IMAGINED: &str = "dry-run";

/// A path with its query, escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(String);

impl Path {
    /// Of parts that are joined by slashes: `["containers", name, "json"]`.
    pub(crate) fn new(parts: &[&str]) -> Self {
        let mut text = format!("/v{API_VERSION}");
        for part in parts {
            text.push('/');
            text.extend(utf8_percent_encode(part, &UNESCAPED));
        }
        Self(text)
    }

    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(key);
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        self
    }

    pub(crate) fn with_flag(self, key: &str, value: bool) -> Self {
        if value { self.with(key, "1") } else { self }
    }

    pub(crate) fn with_text(self, key: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.with(key, value) }
    }
}

pub(crate) type Headers = Vec<(&'static str, String)>;

impl Client {
    pub(crate) fn new(host: Host) -> Self {
        Self { host, idle: Idle::default(), is_dry: false }
    }

    /// The same, which asks, and only imagines what it changes.
    pub(crate) fn dry(&self) -> Self {
        Self { is_dry: true, ..self.clone() }
    }

    pub(crate) fn is_dry(&self) -> bool {
        self.is_dry
    }

    /// Whether the daemon runs on this machine, and reads a context in place: one that does says when the machine started.
    pub(crate) fn reads_in_place(&self) -> Result<bool> {
        let reply = self.get(Path::new(&["_ping"]))?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(!boot.is_empty() && reply.header("cais-boot-id") == Some(boot.trim()))
    }

    pub(crate) fn get(&self, path: Path) -> Result<Response> {
        self.call("GET", path, Payload::None, Vec::new())
    }

    /// The reply to a `GET`, parsed.
    pub(crate) fn read(&self, path: Path) -> Result<Value> {
        parsed(self.get(path)?)
    }

    /// A `POST` without a body; what it gives is of no interest.
    pub(crate) fn post(&self, path: Path) -> Result<()> {
        self.call("POST", path, Payload::None, Vec::new()).map(drop)
    }

    pub(crate) fn post_json(&self, path: Path, body: &serde_json::Value) -> Result<Value> {
        let payload = Payload::Json(body.to_string().into_bytes());
        parsed(self.call("POST", path, payload, Vec::new())?)
    }

    pub(crate) fn delete(&self, path: Path) -> Result<Value> {
        parsed(self.call("DELETE", path, Payload::None, Vec::new())?)
    }

    /// Any call. A reply of 400 and above is a failure with the daemon's words.
    pub(crate) fn call(
        &self,
        method: &'static str,
        path: Path,
        payload: Payload<'_>,
        headers: Headers,
    ) -> Result<Response> {
        if self.is_dry && !matches!(method, "GET" | "HEAD") {
            return http::imagined(IMAGINED);
        }
        let response = http::send(
            &self.host,
            &self.idle,
            Request { method, target: path.0, headers, payload },
        )?;
        if response.status >= 400 { Err(refusal(response)) } else { Ok(response) }
    }

    /// A `POST` that turns the connection into a stream of bytes.
    pub(crate) fn upgrade(&self, path: Path, body: Option<&serde_json::Value>) -> Result<Upgraded> {
        if self.is_dry {
            return Err(Failure::new("--dry-run: there is nothing to connect to"));
        }
        let payload = body.map_or(Payload::None, |it| Payload::Json(it.to_string().into_bytes()));
        let request = Request { method: "POST", target: path.0, headers: Vec::new(), payload };
        match http::upgrade(&self.host, &request)? {
            Ok(upgraded) => Ok(upgraded),
            Err(response) if response.status >= 400 => Err(refusal(response)),
            Err(response) => {
                let status = response.status;
                Err(Failure::new(format!("unable to upgrade to tcp, received {status}")))
            }
        }
    }
}

fn parsed(response: Response) -> Result<Value> {
    let bytes = response.bytes()?;
    // `204 No Content`, and replies of which only the status counts.
    if bytes.is_empty() { Ok(Value::Null) } else { Ok(Value::parse(&bytes)?) }
}

fn refusal(response: Response) -> Failure {
    let status = response.status;
    let bytes = response.bytes().unwrap_or_default();
    let message = match Value::parse(&bytes).ok().as_ref().and_then(|it| it.member("message")) {
        Some(message) => message.text().trim_end().to_owned(),
        None => String::from_utf8_lossy(&bytes).trim().to_owned(),
    };
    let message = format!("Error response from daemon: {message}");
    Failure { message, code: 1, status: Some(status) }
}

/// The JSON documents of a stream, one after the other, as they come.
pub(crate) fn documents(reader: impl Read) -> impl Iterator<Item = Result<Value>> {
    let reader = std::io::BufReader::new(reader);
    Deserializer::from_reader(reader).into_iter::<Value>().map(|it| it.map_err(Failure::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_where_they_must_be() {
        let path = Path::new(&["images", "localhost:5000/a b", "json"])
            .with("filters", r#"{"a":["b"]}"#)
            .with_flag("all", true)
            .with_flag("size", false)
            .with_text("tag", "");
        let expected =
            "/v1.51/images/localhost:5000/a%20b/json?filters=%7B%22a%22%3A%5B%22b%22%5D%7D&all=1";
        assert_eq!(path.0, expected);
    }
}
