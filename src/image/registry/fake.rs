//! A registry that misbehaves on request. Faults only: pulling for real is shown against a real
//! registry by the end-to-end tests.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::Settings as RegistrySettings;
use crate::image::digest::Digest;
use crate::image::manifest::OCI_MANIFEST;
use crate::image::{ImageStore, Settings};

#[derive(Debug, Clone, Default)]
pub(in crate::image) struct Request {
    pub(in crate::image) method: String,
    pub(in crate::image) path: String,
    pub(in crate::image) headers: HashMap<String, String>,
    pub(in crate::image) body: String,
}

impl Request {
    pub(in crate::image) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn offset(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0)
    }
}

#[derive(Debug, Clone)]
pub(in crate::image) struct Reply {
    pub(in crate::image) status: u16,
    pub(in crate::image) headers: Vec<(String, String)>,
    pub(in crate::image) body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub(in crate::image) cut: Option<usize>,
    /// Say nothing more after that instead of closing.
    pub(in crate::image) hang: bool,
}

impl Reply {
    pub(in crate::image) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None, hang: false }
    }

    pub(in crate::image) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

type Rule = dyn Fn(&Request, &Content) -> Option<Reply> + Send + Sync;

/// What there is to fetch, by path below `/v2/`.
#[derive(Default)]
pub(in crate::image) struct Content(Mutex<HashMap<String, (String, Vec<u8>)>>);

impl Content {
    pub(in crate::image) fn put(&self, path: String, media_type: &str, bytes: &[u8]) {
        self.0.lock().unwrap().insert(path, (media_type.to_owned(), bytes.to_vec()));
    }

    /// The honest answer.
    pub(in crate::image) fn answer(&self, request: &Request) -> Reply {
        let path = request.path.split('?').next().unwrap();
        let path = path.strip_prefix("/v2/").unwrap_or(path);
        let Some((media_type, bytes)) = self.0.lock().unwrap().get(path).cloned() else {
            let body =
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown to the fake"}]}"#;
            return Reply::new(404, body);
        };
        let offset = request.offset();
        let reply = match offset {
            0 => Reply::new(200, bytes),
            _ => {
                let range = format!("bytes {offset}-{}/{}", bytes.len() - 1, bytes.len());
                Reply::new(206, &bytes[offset..]).with("content-range", range)
            }
        };
        reply.with("content-type", media_type)
    }

    /// An image of these layers (archives, sent as gzip) under `name:tag`; its layer digests.
    pub(in crate::image) fn image(&self, name: &str, tag: &str, layers: &[Vec<u8>]) -> Vec<Digest> {
        let mut descriptors = Vec::new();
        let mut digests = Vec::new();
        for layer in layers {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(layer).unwrap();
            let blob = encoder.finish().unwrap();
            let digest = Digest::of(&blob);
            self.put(format!("{name}/blobs/{digest}"), "application/octet-stream", &blob);
            descriptors.push(json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": digest, "size": blob.len(),
            }));
            digests.push(digest);
        }
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({
            "os": "linux", "architecture": "amd64", "config": {"Cmd": ["/bin/sh"], "User": "7"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "comment": tag,
        })
        .to_string();
        let config_digest = Digest::of(config.as_bytes());
        let json_type = "application/vnd.oci.image.config.v1+json";
        self.put(format!("{name}/blobs/{config_digest}"), json_type, config.as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": json_type, "digest": config_digest, "size": config.len()},
            "layers": descriptors,
        })
        .to_string();
        let digest = Digest::of(manifest.as_bytes());
        for reference in [tag.to_owned(), digest.to_string()] {
            self.put(format!("{name}/manifests/{reference}"), OCI_MANIFEST, manifest.as_bytes());
        }
        digests
    }
}

/// The running registry.
pub(in crate::image) struct Fake {
    pub(in crate::image) host: String,
    pub(in crate::image) content: Arc<Content>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    /// Answers what `rule` leaves open from the content.
    pub(in crate::image) async fn start(
        rule: impl Fn(&Request, &Content) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let content = Arc::new(Content::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let rule: Arc<Rule> = Arc::new(rule);
        let state = (Arc::clone(&content), Arc::clone(&seen));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (content, seen) = state.clone();
                let rule = Arc::clone(&rule);
                tokio::spawn(async move {
                    // A client that hangs up is part of the tests.
                    let _ = serve(stream, &content, &seen, &*rule).await;
                });
            }
        });
        Self { host, content, seen }
    }

    /// The requests whose path has `part` in it.
    pub(in crate::image) fn requests(&self, part: &str) -> Vec<Request> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|request| request.path.contains(part)).cloned().collect()
    }
}

async fn serve(
    stream: TcpStream,
    content: &Content,
    seen: &Mutex<Vec<Request>>,
    rule: &Rule,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = Request::default();
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut words = line.split(' ');
    request.method = words.next().unwrap_or_default().to_owned();
    request.path = words.next().unwrap_or_default().to_owned();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        request.headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    request.body = String::from_utf8(body).unwrap();
    seen.lock().unwrap().push(request.clone());

    let reply = rule(&request, content).unwrap_or_else(|| content.answer(&request));
    let mut head = format!("HTTP/1.1 {} Said\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", reply.body.len()));
    stream.write_all(head.as_bytes()).await?;
    let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
    stream.write_all(&reply.body[..end]).await?;
    stream.flush().await?;
    if reply.hang {
        // Until the client gives up.
        stream.read_u8().await?;
    }
    Ok(())
}

/// A store that loses patience soon.
pub(in crate::image) fn store(root: &Path) -> ImageStore {
    store_of(root, 1)
}

/// One that waits as long as it takes, for tests in which nobody fails.
pub(in crate::image) fn patient_store(root: &Path) -> ImageStore {
    store_of(root, 100)
}

fn store_of(root: &Path, patience: u32) -> ImageStore {
    let registry = RegistrySettings {
        hosts_directories: vec![root.join("certs.d")],
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_millis(600) * patience,
        stall_time: Duration::from_millis(300) * patience,
        stall_bytes: 100,
        finish_timeout: Duration::from_millis(600) * patience,
        attempts: 3,
        back_off: Duration::from_millis(5),
    };
    let settings = Settings { registry, ..Settings::default() };
    ImageStore::open(&root.join("images"), settings).unwrap()
}

/// An archive with one file.
pub(in crate::image) fn archive(path: &str, data: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, path, data).unwrap();
    builder.into_inner().unwrap()
}

/// Bytes that do not compress away.
pub(in crate::image) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
