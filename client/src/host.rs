//! Which daemon is spoken to, and how.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::sockopt;

use crate::config_file;
use crate::error::{Failure, Result};
use crate::http::Certificates;
use crate::http::Stream;
use crate::http::TlsStream;
use crate::program::Program;

const DEFAULT_SOCKET: &str = "/run/cais/docker.sock";

/// A peer that is silent for so long is asked whether it is there, and again, and is gone after the third (tcp(7)): who
/// waits for a container would else wait for a daemon whose host went away. Docker's client asks at the same pace.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_PROBES: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    address: Address,
    program: Program,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    Tcp(String),
    Tls(String, Certificates),
}

/// What docker's flags say of TLS.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct TlsFlags {
    /// Use TLS; implied by --tlsverify, and not without it
    #[arg(long)]
    tls: bool,
    /// Trust certs signed only by this CA
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// Path to TLS certificate file
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// Path to TLS key file
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
    /// Use TLS and verify the remote
    #[arg(long)]
    tlsverify: bool,
}

impl TlsFlags {
    /// The files, if TLS is asked for: those of the flags, else of `DOCKER_CERT_PATH`, else beside the client's configuration.
    fn certificates(self, config: Option<&str>) -> Result<Option<Certificates>> {
        if !self.tlsverify && variable("DOCKER_TLS_VERIFY").is_none() {
            return if self.tls {
                Err(Failure::new(
                    "--tls without --tlsverify would trust any daemon: say --tlsverify".to_owned(),
                ))
            } else {
                Ok(None)
            };
        }
        let directory = variable("DOCKER_CERT_PATH")
            .map_or_else(|| config_file::directory(config), PathBuf::from);
        let or = |file: Option<PathBuf>, name: &str| file.unwrap_or_else(|| directory.join(name));
        Ok(Some(Certificates {
            ca: or(self.tlscacert, "ca.pem"),
            cert: or(self.tlscert, "cert.pem"),
            key: or(self.tlskey, "key.pem"),
        }))
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Host {
    /// Whether the daemon may be on this machine.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    /// The path of the daemon's socket, if it has one on this machine.
    pub(crate) fn socket(&self) -> Option<&str> {
        match &self.address {
            Address::Unix(path) => path.to_str(),
            Address::Tcp(_) | Address::Tls(..) => None,
        }
    }

    /// From `--host`, else `CAIS_HOST`, else `DOCKER_HOST`, else the daemon's own socket; with TLS, docker's port of this host.
    pub(crate) fn choose(
        flag: Option<&str>,
        tls: TlsFlags,
        config: Option<&str>,
        program: Program,
    ) -> Result<Self> {
        let certificates = tls.certificates(config)?;
        let text = flag
            .map(str::to_owned)
            .or_else(|| variable("CAIS_HOST"))
            .or_else(|| variable("DOCKER_HOST"))
            .unwrap_or_else(|| match &certificates {
                Some(_) => "tcp://localhost".to_owned(),
                None => format!("unix://{DEFAULT_SOCKET}"),
            });
        Ok(Self { address: parse(&text, certificates)?, program })
    }

    pub(crate) fn connect(&self) -> Result<Stream> {
        let connected = match &self.address {
            Address::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Address::Tcp(address) => connect_tcp(address).map(Stream::Tcp),
            Address::Tls(address, files) => {
                let socket = connect_tcp(address).map_err(|it| self.unreachable(&it))?;
                let host = address.rsplit_once(':').map_or(&**address, |(host, _)| host);
                TlsStream::new(socket, host.trim_matches(['[', ']']), files).map(Stream::Tls)
            }
        };
        connected.map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        // Somebody is there, and is not who was asked for.
        if error.kind() == ErrorKind::InvalidData {
            return Failure::new(format!("error during connect: {self}: {error}"));
        }
        if error.kind() == ErrorKind::PermissionDenied {
            let who = match self.program {
                Program::Docker => "docker API",
                Program::Cais => "daemon's",
            };
            return Failure::new(format!(
                "permission denied while trying to connect to the {who} socket at {self}: {error}"
            ));
        }
        let known = format!(
            "Cannot connect to the {} daemon at {self}. Is the {} daemon running?",
            self.program.title(),
            self.program.name()
        );
        Failure::new(match self.program {
            Program::Docker => known,
            Program::Cais => format!(
                "{known}\n{error}. Start it with `systemctl start caisd`, or as root with `caisd`; \
                 another one is named with --host or CAIS_HOST."
            ),
        })
    }
}

fn connect_tcp(address: &str) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE)?;
    sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_PROBES)?;
    Ok(socket)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(address) | Address::Tls(address, _) => write!(f, "tcp://{address}"),
        }
    }
}

fn parse(text: &str, certificates: Option<Certificates>) -> Result<Address> {
    let refused = || {
        Failure::new(format!("unable to parse docker host `{text}`: unix:// or tcp:// is needed"))
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(refused)?;
    match scheme {
        "unix" if rest.is_empty() => Ok(Address::Unix(DEFAULT_SOCKET.into())),
        "unix" => Ok(Address::Unix(rest.into())),
        "tcp" | "http" if !rest.is_empty() => {
            let rest = rest.trim_end_matches('/');
            let has_port =
                rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let with_port =
                |port| if has_port { rest.to_owned() } else { format!("{rest}:{port}") };
            Ok(match certificates {
                Some(certificates) => Address::Tls(with_port(2376), certificates),
                None => Address::Tcp(with_port(2375)),
            })
        }
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_sockets_or_addresses() {
        let parsed = |text| parse(text, None);
        assert_eq!(parsed("unix:///run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
        assert_eq!(parsed("tcp://a").unwrap(), Address::Tcp("a:2375".into()));
        assert_eq!(parsed("tcp://[::1]:9/").unwrap(), Address::Tcp("[::1]:9".into()));
        for wrong in ["", "/run/x.sock", "ssh://a", "tcp://"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_peer_that_went_away_is_noticed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = connect_tcp(&listener.local_addr().unwrap().to_string()).unwrap();
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), KEEPALIVE);
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), KEEPALIVE);
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), KEEPALIVE_PROBES);
    }

    #[test]
    fn certificates_are_those_of_the_flags_and_change_the_port() {
        let flags = TlsFlags {
            tlsverify: true,
            tlscert: Some("/x/mine.pem".into()),
            ..TlsFlags::default()
        };
        let files = flags.certificates(Some("/conf")).unwrap().unwrap();
        assert_eq!(files.cert, PathBuf::from("/x/mine.pem"));
        assert!(files.ca.ends_with("ca.pem") && files.key.ends_with("key.pem"));
        let address = parse("tcp://a", Some(files.clone())).unwrap();
        assert_eq!(address, Address::Tls("a:2376".into(), files));
        // It would be a name for "do not look who it is".
        let unverified = TlsFlags { tls: true, ..TlsFlags::default() };
        assert!(unverified.certificates(None).is_err());
    }
}
