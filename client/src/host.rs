//! Which daemon is spoken to, and how.

use std::fmt;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::error::{Failure, Result};
use crate::http::Stream;
use crate::program::Program;

const DEFAULT_SOCKET: &str = "/run/cais/docker.sock";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    address: Address,
    program: Program,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    Tcp(String),
}

impl Host {
    /// From `--host`, else `CAIS_HOST`, else `DOCKER_HOST`, else the daemon's own socket.
    pub(crate) fn choose(flag: Option<&str>, program: Program) -> Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let text = flag
            .map(str::to_owned)
            .or_else(|| variable("CAIS_HOST"))
            .or_else(|| variable("DOCKER_HOST"))
            .unwrap_or_else(|| format!("unix://{DEFAULT_SOCKET}"));
        Ok(Self { address: parse(&text)?, program })
    }

    pub(crate) fn connect(&self) -> Result<Stream> {
        let connected = match &self.address {
            Address::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Address::Tcp(address) => TcpStream::connect(address).map(Stream::Tcp),
        };
        connected.map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
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

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

fn parse(text: &str) -> Result<Address> {
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
            Ok(Address::Tcp(if has_port { rest.to_owned() } else { format!("{rest}:2375") }))
        }
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_sockets_or_addresses() {
        assert_eq!(parse("unix:///run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
        assert_eq!(parse("tcp://a").unwrap(), Address::Tcp("a:2375".into()));
        assert_eq!(parse("tcp://[::1]:9/").unwrap(), Address::Tcp("[::1]:9".into()));
        for wrong in ["", "/run/x.sock", "ssh://a", "tcp://"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
