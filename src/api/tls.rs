//! TLS for clients of the Docker door that come over TCP. Each side shows a certificate; who has none of the configured
//! authority's gets nothing. There is no TCP without it.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::DockerTls;
use crate::error::{Context, Error, Kind, Result};

/// For all of a handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first byte of TLS (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// What Go's servers answer, and people look for.
const PLAIN: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// A bound port, not yet served.
pub(super) struct Port {
    listener: TcpListener,
    handshakes: Handshakes,
}

#[derive(Clone)]
pub(super) struct Handshakes(TlsAcceptor);

impl Port {
    /// # Errors
    /// Files that cannot be read or hold no certificate or key, a key that is not the certificate's, an address in use.
    pub(super) fn bind(settings: &DockerTls) -> Result<Self> {
        let context = || format!("listen on tcp://{}", settings.address);
        let acceptor = TlsAcceptor::from(Arc::new(server(settings).with_context(context)?));
        let listener = TcpListener::bind(settings.address).with_context(context)?;
        listener.set_nonblocking(true).with_context(context)?;
        Ok(Self { listener, handshakes: Handshakes(acceptor) })
    }

    pub(super) fn open(self) -> Result<(tokio::net::TcpListener, Handshakes)> {
        let listener = tokio::net::TcpListener::from_std(self.listener);
        Ok((listener.context("watch the TCP port")?, self.handshakes))
    }
}

impl Handshakes {
    /// # Errors
    /// Why the client is not let in. It has been told.
    pub(super) async fn with(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let shaken = async {
            let mut stream = stream;
            let mut first = [0];
            stream.peek(&mut first).await?;
            if first != [HANDSHAKE] {
                stream.write_all(PLAIN).await?;
                stream.shutdown().await?;
                // To close before all it said was read would take the answer from it again.
                let mut said = [0; 1024];
                while stream.read(&mut said).await? > 0 {}
                return Err(std::io::Error::other("it does not speak TLS"));
            }
            self.0.accept(stream).await
        };
        match timeout(PATIENCE, shaken).await {
            Ok(shaken) => shaken.context("shake hands").kind(Kind::InvalidArgument),
            Err(_) => Err(Error::new(Kind::Timeout, "shake hands: it says nothing")),
        }
    }
}

fn server(settings: &DockerTls) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut authorities = RootCertStore::empty();
    for authority in certificates(&settings.ca)? {
        authorities.add(authority).with_context(|| read(&settings.ca))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_file(&settings.key).with_context(|| read(&settings.key))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose versions of TLS")?
        .with_client_cert_verifier(verifier.build().with_context(|| read(&settings.ca))?)
        .with_single_cert(certificates(&settings.cert)?, key)
        .with_context(|| read(&settings.cert))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read_all = CertificateDer::pem_file_iter(path)
        .and_then(|found| found.collect::<std::result::Result<Vec<_>, _>>());
    let certificates = read_all.with_context(|| read(path))?;
    if certificates.is_empty() {
        return Err(Error::invalid("there is no certificate")).with_context(|| read(path));
    }
    Ok(certificates)
}

fn read(path: &Path) -> String {
    format!("read {}", path.display())
}
