//! Whole sessions against a server with local processes, driven by small clients of our own.

mod client;
mod forward;
mod process;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::backend::{Attach, Exec, PortForward, Wanted};
use super::local::Local;
use super::server::{self, Registered, Shared};
use crate::id::{ContainerId, PodId};

/// A running server; it ends with the test's runtime.
struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared::new(Arc::new(Local));
        tokio::spawn(server::run(listener, Arc::clone(&shared)));
        Self { address, shared }
    }

    fn path(&self, registered: Registered) -> String {
        let route = registered.route();
        format!("/{route}/{}", self.shared.tokens.issue(registered).unwrap())
    }

    fn exec(&self, script: &str, wanted: &str) -> String {
        self.path(Registered::Exec(Exec {
            monitor: "/none".into(),
            container: ContainerId::generate().unwrap(),
            plan: script.as_bytes().to_vec(),
            wanted: self::wanted(wanted),
        }))
    }

    fn attach(&self, wanted: &str) -> String {
        self.path(Registered::Attach(Attach {
            monitor: "/none".into(),
            container: ContainerId::generate().unwrap(),
            wanted: self::wanted(wanted),
        }))
    }

    fn forward(&self, ports: &[u16]) -> String {
        self.path(Registered::PortForward(PortForward {
            monitor: "/none".into(),
            pod: PodId::generate().unwrap(),
            ports: ports.to_vec(),
        }))
    }
}

/// `i`, `o`, `e` and `t` for the streams and the terminal.
fn wanted(letters: &str) -> Wanted {
    Wanted {
        stdin: letters.contains('i'),
        stdout: letters.contains('o'),
        stderr: letters.contains('e'),
        tty: letters.contains('t'),
    }
}
