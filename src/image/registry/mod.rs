//! The registry client.
//!
//! ```text
//!   mirrors  which hosts to ask, in which order, with which TLS
//!   auth     challenges and credentials
//!   token    tokens for a challenge, kept until they expire
//!   request  one request: redirects, authentication, retries, errors by name
//!   blob     a blob as a stream that survives broken connections
//!   push     manifests to the owner of a name, and what it has
//!   upload   blobs to it: mounted, resumed
//!   streaming  blobs to it while they are made
//! ```
//!
//! A [`Session`] is one image's conversation: the hosts that may be asked and what they were
//! shown. Credentials are bound to the host they are for; they do not follow a redirect to
//! another origin.

pub(crate) mod auth;
mod blob;
#[cfg(test)]
pub(super) mod fake;
mod mirrors;
pub(super) mod push;
mod request;
pub(super) mod streaming;
#[cfg(test)]
mod tests;
mod token;
pub(super) mod upload;
#[cfg(test)]
pub(super) mod uploads;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::{Certificate, Client, ClientBuilder, Identity};

use self::auth::{Credentials, Method};
use self::mirrors::{Endpoint, Tls};
use self::request::{Accept, Target};
use self::token::Tokens;
use super::digest::Digest;
use super::manifest::{Descriptor, LARGEST_DOCUMENT};
use super::reference::Reference;
use crate::error::{Context, Error, Kind, Result};

/// How the client finds registries and how patient it is.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Searched in order for `HOST/hosts.toml`.
    pub(crate) hosts_directories: Vec<PathBuf>,
    pub(crate) connect_timeout: Duration,
    /// For the beginning of an answer.
    pub(crate) response_timeout: Duration,
    /// A transfer that brings less than `stall_bytes` in this time is broken off and resumed.
    pub(crate) stall_time: Duration,
    pub(crate) stall_bytes: u64,
    /// For what a registry does with a blob once it has all of it.
    pub(crate) finish_timeout: Duration,
    /// Tries without any progress before a host is given up.
    pub(crate) attempts: u32,
    /// Before the second try; doubles with each.
    pub(crate) back_off: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts_directories: vec![PathBuf::from("/etc/cais/certs.d")],
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(30),
            stall_time: Duration::from_secs(30),
            stall_bytes: 30 << 10,
            finish_timeout: Duration::from_secs(300),
            attempts: 5,
            back_off: Duration::from_millis(250),
        }
    }
}

/// What all sessions share: connections and tokens.
pub(super) struct Registry {
    settings: Settings,
    clients: Mutex<HashMap<ClientKey, Client>>,
    tokens: Tokens,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ClientKey {
    tls: Tls,
    /// A certificate that was replaced makes a new client.
    files: Vec<Option<SystemTime>>,
    uses_proxy: bool,
}

impl Registry {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, clients: Mutex::default(), tokens: Tokens::default() }
    }

    /// Opens a conversation about one image.
    pub(super) fn session(
        self: &Arc<Self>,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Session> {
        let registry = reference.registry();
        let endpoints = mirrors::endpoints(&self.settings.hosts_directories, registry)?;
        let mut hosts = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let method = credentials.method_for(registry, &endpoint.host(), endpoint.is_owner);
            let client = self.client(&endpoint.tls, &endpoint.host())?;
            let strict = match endpoint.tls.skip_verify {
                true => self.client(&Tls::default(), &endpoint.host())?,
                false => client.clone(),
            };
            hosts.push(Host {
                client,
                strict,
                method,
                authorization: tokio::sync::Mutex::default(),
                endpoint,
            });
        }
        Ok(Session { registry: Arc::clone(self), reference: reference.clone(), hosts })
    }

    fn client(&self, tls: &Tls, host: &str) -> Result<Client> {
        let files = tls.authorities.iter().chain(tls.clients.iter().map(|(cert, _)| cert));
        let modified = |path: &PathBuf| std::fs::metadata(path).ok()?.modified().ok();
        let key = ClientKey {
            tls: tls.clone(),
            files: files.map(modified).collect(),
            // A proxy elsewhere has its own idea of what a loopback address is.
            uses_proxy: !mirrors::is_loopback(host),
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = build_client(&key, &self.settings)?;
        clients.retain(|other, _| other.tls != key.tls || other.uses_proxy != key.uses_proxy);
        clients.insert(key, client.clone());
        Ok(client)
    }
}

fn build_client(key: &ClientKey, settings: &Settings) -> Result<Client> {
    // Only the first call sets it; others find it set.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut authorities = Vec::new();
    for path in &key.tls.authorities {
        let certificates = Certificate::from_pem_bundle(&read_certificate(path)?)
            .with_context(|| format!("certificate {}", path.display()))?;
        authorities.extend(certificates);
    }
    let beside_the_machines =
        prepare_client(key, settings)?.tls_certs_merge(authorities.iter().cloned()).build();
    match beside_the_machines {
        Ok(client) => Ok(client),
        // A machine that trusts no authority at all can still reach what needs none.
        Err(_) => prepare_client(key, settings)?
            .tls_certs_only(authorities)
            .build()
            .context("set up the registry client"),
    }
}

fn read_certificate(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .with_context(|| format!("read certificate {}", path.display()))
        .kind(Kind::WrongState)
}

/// Everything but the authorities that are trusted.
fn prepare_client(key: &ClientKey, settings: &Settings) -> Result<ClientBuilder> {
    let mut builder = Client::builder()
        .user_agent(concat!("cais/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(settings.connect_timeout)
        .http2_adaptive_window(true)
        .tcp_nodelay(true)
        .tls_danger_accept_invalid_certs(key.tls.skip_verify);
    if !key.uses_proxy {
        builder = builder.no_proxy();
    }
    for (certificate, secret) in &key.tls.clients {
        let mut pem = read_certificate(certificate)?;
        if let Some(secret) = secret {
            pem.push(b'\n');
            pem.extend(read_certificate(secret)?);
        }
        let identity = Identity::from_pem(&pem)
            .with_context(|| format!("client certificate {}", certificate.display()))?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

/// One image's conversation with the hosts that serve it.
pub(super) struct Session {
    registry: Arc<Registry>,
    reference: Reference,
    hosts: Vec<Host>,
}

struct Host {
    endpoint: Endpoint,
    client: Client,
    /// Verifies certificates even where the host's own client does not: for other origins.
    strict: Client,
    method: Method,
    /// The header that the host accepted last.
    authorization: tokio::sync::Mutex<Option<http::HeaderValue>>,
}

/// A manifest or an index, as it was served.
pub(super) struct Served {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
}

impl Session {
    /// What the reference stands for now.
    pub(super) async fn resolve(&self) -> Result<Served> {
        let name = match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_owned(),
            (None, None) => return Err(Error::invalid("the reference has no tag and no digest")),
        };
        let is_digest = self.reference.digest().is_some();
        let may = |host: &Host| host.endpoint.can_resolve || is_digest && host.endpoint.can_pull;
        let target = Target::Manifest(name);
        let served = self.first(may, &target, Accept::Manifests).await?;
        if let Some(digest) = self.reference.digest() {
            verify(digest, &served)?;
            return Ok(Served { digest: digest.clone(), ..served });
        }
        Ok(served)
    }

    /// A document by its descriptor: a manifest below an index, or a configuration.
    pub(super) async fn document(&self, descriptor: &Descriptor, kind: Document) -> Result<Served> {
        if descriptor.size > LARGEST_DOCUMENT as u64 {
            return Err(Error::invalid(format!("{} is larger than 4 MiB", descriptor.digest)));
        }
        let digest = &descriptor.digest;
        let (target, accept) = match kind {
            Document::Manifest => (Target::Manifest(digest.to_string()), Accept::Manifests),
            Document::Blob => (Target::Blob(digest.clone()), Accept::Anything),
        };
        let may = |host: &Host| host.endpoint.can_pull;
        let served = self.first(may, &target, accept).await?;
        if served.bytes.len() as u64 != descriptor.size {
            return Err(Error::invalid(format!(
                "{digest} is {} bytes, its descriptor says {}",
                served.bytes.len(),
                descriptor.size
            )));
        }
        verify(digest, &served)?;
        Ok(Served { digest: digest.clone(), ..served })
    }

    /// Asks one host after the other; the answer of the last counts.
    async fn first(
        &self,
        may: impl Fn(&Host) -> bool,
        target: &Target,
        accept: Accept,
    ) -> Result<Served> {
        let mut last = None;
        for host in self.hosts.iter().filter(|host| may(host)) {
            if let Some(error) = last.take() {
                warn_failed(&error);
            }
            match self.small(host, target, accept).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            Error::wrong_state(format!("no host may serve images of {}", self.reference.registry()))
        }))
    }
}

fn warn_failed(error: &Error) {
    tracing::warn!(error = error.chain(), "a registry mirror failed, asking the next");
}

/// Where a document lives in a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Document {
    Manifest,
    Blob,
}

fn verify(digest: &Digest, served: &Served) -> Result<()> {
    match digest.mismatch(&served.bytes) {
        None => Ok(()),
        Some(found) => Err(Error::invalid(format!(
            "the registry served content with the digest {found} for {digest}"
        ))),
    }
}
