//! Who asks, and what of the standalone containers it is shown.
//!
//! A kubelet ends every pod in its lists that it does not know. So only programs are shown them that are known to be no kubelet:
//! those of the configuration (`cri.shown_to`), by the name of the file that the peer of the socket executes. One that cannot
//! be told, such as a program in a PID namespace that is not below ours, is taken for a kubelet.

use std::path::PathBuf;

use http::Extensions;
use tonic::transport::server::UdsConnectInfo;

use super::Cri;
use crate::engine::Sight;

impl Cri {
    /// What may be seen by whom a request with these comes from.
    pub(super) fn sight(&self, extensions: &Extensions) -> Sight {
        let peer = extensions.get::<UdsConnectInfo>().and_then(|it| it.peer_cred);
        let program = peer.and_then(|it| it.pid()).and_then(program);
        of(program.as_deref(), &self.engine.config().cri.shown_to)
    }
}

fn of(program: Option<&str>, shown_to: &[String]) -> Sight {
    match program {
        Some(program) if shown_to.iter().any(|it| it == program) => Sight::Shown,
        Some(_) | None => Sight::Own,
    }
}

/// The name of the file that a process executes. Its `comm` would be what it calls itself.
fn program(pid: i32) -> Option<String> {
    let path = std::fs::read_link(PathBuf::from(format!("/proc/{pid}/exe"))).ok()?;
    path.file_name()?.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_that_are_known_are_shown_more() {
        let shown_to = ["crictl".to_owned()];
        assert_eq!(of(Some("crictl"), &shown_to), Sight::Shown);
        for other in [Some("kubelet"), Some("k3s"), Some("crictl (deleted)"), Some(""), None] {
            assert_eq!(of(other, &shown_to), Sight::Own, "{other:?}");
        }
        assert_eq!(of(Some("crictl"), &[]), Sight::Own);
    }

    #[test]
    fn a_process_is_known_by_the_file_it_executes() {
        let own = std::env::current_exe().unwrap();
        let own = own.file_name().unwrap().to_str().unwrap();
        assert_eq!(program(std::process::id().cast_signed()).as_deref(), Some(own));
        // Of a peer in another PID namespace the kernel tells this.
        assert_eq!(program(0), None);
    }
}
