//! `build --ssh`: the user's ssh agents, lent to a build over connections to its daemon.
//!
//! A connection waits at the daemon for each agent. When a command of the build connects to the agent, the daemon hands on what it
//! says: this program then makes its own connection to the agent, carries bytes, and lends the next one.

use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path as LocalPath, PathBuf};
use std::thread;

use crate::client::{Client, Path};
use crate::error::{Context as _, Failure, Result};
use crate::http::Upgraded;

const DEFAULT: &str = "default";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) id: String,
    socket: PathBuf,
}

/// `ID` for the agent that `own` (`$SSH_AUTH_SOCK`) names, or `ID=SOCKET`.
///
/// # Errors
/// There is no such agent. Keys in files are for an agent to read.
pub(super) fn read(text: &str, own: Option<OsString>) -> Result<Agent> {
    let (id, socket) = match text.split_once('=') {
        Some((id, socket)) => (id, PathBuf::from(socket)),
        None => (text, own.unwrap_or_default().into()),
    };
    let id = if id.is_empty() { DEFAULT } else { id };
    if socket.as_os_str().is_empty() {
        let text = "invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set";
        return Err(Failure::new(text));
    }
    let metadata = std::fs::metadata(&socket).context(socket.display())?;
    if !metadata.file_type().is_socket() {
        let socket = socket.display();
        return Err(Failure::new(format!(
            "build --ssh {id}: {socket} is no agent's socket: keys in files need an agent (ssh-add)"
        )));
    }
    Ok(Agent { id: id.to_owned(), socket })
}

/// Lends it until the build is over; the daemon knows it by then.
pub(super) fn lend(client: &Client, session: &str, agent: &Agent) {
    let path = Path::new(&["build", "agent"]).with("session", session).with("id", &agent.id);
    // The daemon refuses when the build is over.
    while let Ok(mut line) = client.upgrade(path.clone(), None) {
        // Who asked has gone without a word, and others may come.
        if !line.reader.fill_buf().is_ok_and(|asked| !asked.is_empty()) {
            continue;
        }
        let socket = agent.socket.clone();
        thread::spawn(move || carry(line, &socket));
    }
}

/// Who asks sees an agent that is gone as a connection that ends.
fn carry(line: Upgraded, socket: &LocalPath) {
    let Upgraded { mut reader, mut writer, .. } = line;
    let carried = || -> io::Result<()> {
        let mut agent = UnixStream::connect(socket)?;
        let mut asked = agent.try_clone()?;
        thread::spawn(move || {
            let _ = io::copy(&mut reader, &mut asked);
            let _ = asked.shutdown(Shutdown::Write);
        });
        io::copy(&mut agent, &mut writer)?;
        writer.flush()
    };
    let _ = carried();
    let _ = writer.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_a_socket_with_a_name() {
        let own = || Some(OsString::from("/nowhere/agent"));
        for (text, own, expected) in [
            ("default", None, "make sure SSH_AUTH_SOCK is set"),
            ("default", own(), "/nowhere/agent"),
            ("default=/etc/passwd", None, "no agent's socket"),
        ] {
            let failure = read(text, own).unwrap_err();
            assert!(failure.message.contains(expected), "{}", failure.message);
        }
        let temp = std::env::temp_dir().join(format!("cais-agent-{}", std::process::id()));
        let _listener = std::os::unix::net::UnixListener::bind(&temp).unwrap();
        let agents =
            [read("x", Some(temp.clone().into())), read(&format!("={}", temp.display()), own())];
        std::fs::remove_file(&temp).unwrap();
        let ids = agents.map(|agent| agent.unwrap().id);
        assert_eq!(ids, ["x", "default"]);
    }
}
