//! TLS on a connection that is read by one thread and written by another.
//!
//! The state is locked only while it turns plain bytes into sealed ones or back, never while the network is waited for: a
//! peer that does not read must not keep us from reading.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The files that both sides know each other by, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificates {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

#[derive(Debug, Clone)]
pub(crate) struct TlsStream(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: TcpStream,
    session: Mutex<ClientConnection>,
    /// Held from sealing to sending, so that records travel in their order.
    sending: Mutex<()>,
}

impl TlsStream {
    /// # Errors
    /// Files that cannot be read, and a peer that is not who it should be, with `InvalidData`.
    pub(crate) fn new(socket: TcpStream, host: &str, files: &Certificates) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        let config = Arc::new(configuration(files)?);
        let mut session = ClientConnection::new(config, name).map_err(invalid)?;
        while session.is_handshaking() {
            session.complete_io(&mut &socket)?;
        }
        let (session, sending) = (Mutex::new(session), Mutex::new(()));
        Ok(Self(Arc::new(Shared { socket, session, sending })))
    }

    /// The other side reads on when it sees the end of what was said.
    pub(crate) fn end_writing(&self) -> io::Result<()> {
        self.send(|session| {
            session.send_close_notify();
            Ok(())
        })
    }

    pub(crate) fn close(&self) -> io::Result<()> {
        let said = self.end_writing();
        self.0.socket.shutdown(Shutdown::Both).and(said)
    }

    fn session(&self) -> MutexGuard<'_, ClientConnection> {
        self.0.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send<T>(&self, put: impl FnOnce(&mut ClientConnection) -> io::Result<T>) -> io::Result<T> {
        let _ordered = self.0.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sealed = Vec::new();
        let done = {
            let mut session = self.session();
            let done = put(&mut session)?;
            while session.wants_write() {
                session.write_tls(&mut sealed)?;
            }
            done
        };
        (&self.0.socket).write_all(&sealed)?;
        Ok(done)
    }

    /// Waits for records and opens them. Only one thread reads, so what `poll` saw is still there.
    fn receive(&self) -> io::Result<()> {
        loop {
            let mut watched = [PollFd::new(&self.0.socket, PollFlags::IN)];
            match poll(&mut watched, None) {
                Err(rustix::io::Errno::INTR) => {}
                waited => break waited.map(drop)?,
            }
        }
        let opened = {
            let mut session = self.session();
            session.read_tls(&mut &self.0.socket)?;
            session.process_new_packets().map(drop)
        };
        // An answer to what came, or the alert that says what was wrong with it.
        let answered = if self.session().wants_write() { self.send(|_| Ok(())) } else { Ok(()) };
        opened.map_err(invalid).and(answered)
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session().reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // A daemon that was killed says no farewell.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(ErrorKind::ConnectionReset.into());
                }
                read => return read,
            }
            self.receive()?;
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.send(|session| session.writer().write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn configuration(files: &Certificates) -> io::Result<ClientConfig> {
    let mut authorities = RootCertStore::empty();
    for authority in certificates(&files.ca)? {
        authorities.add(authority).map_err(|error| in_file(&files.ca, error))?;
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| in_file(&files.key, error))?;
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(invalid)?
        .with_root_certificates(authorities)
        .with_client_auth_cert(certificates(&files.cert)?, key)
        .map_err(|error| in_file(&files.cert, error))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(|found| found.collect())
        .map_err(|error| in_file(path, error))
}

fn in_file(path: &Path, error: impl std::fmt::Display) -> io::Error {
    invalid(format!("{}: {error}", path.display()))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
