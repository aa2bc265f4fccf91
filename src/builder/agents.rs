//! `RUN --mount=type=ssh`: a client's ssh agent, lent to a command as a socket.
//!
//! The socket is in memory, on a file system of its own that is mounted for one command. Whatever connects to it is passed on to
//! the client, whose keys never come here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cais_dockerfile::instruction::Mount;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::Client;
use super::key::Key;
use super::mounts::place;
use super::progress::Failure;
use super::stage::Stage;
use crate::engine::cells::RunMount;
use crate::engine::memory::{self, Access};
use crate::error::{Context, Error, Result};

/// Where agents are that do not say so, with their number.
const PLACE: &str = "/run/buildkit/ssh_agent.";
const DEFAULT: &str = "default";
const NAME: &str = "agent.sock";
const MODE: u32 = 0o600;
/// The variable that tells ssh(1) of an agent.
const VARIABLE: &str = "SSH_AUTH_SOCK";
/// Connections of one command at the same time.
const MOST_OPEN: usize = 64;
/// After a connection that could not be taken, as when no more files may be open.
const PAUSE: Duration = Duration::from_millis(100);

/// One that a command asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    id: String,
    target: PathBuf,
    access: Access,
    is_required: bool,
}

/// One that is lent, until this goes.
pub(super) struct Agent {
    target: PathBuf,
    mount: Option<RunMount>,
    _relay: AbortOnDropHandle<()>,
}

impl Wanted {
    /// `number`: how many agents the command asks for before this one.
    ///
    /// # Errors
    /// `InvalidArgument` for a place that cannot be.
    pub(super) fn read(working_dir: &str, mount: &Mount, number: usize) -> Result<Self> {
        let id = if mount.id.is_empty() { DEFAULT } else { &mount.id };
        let target = match mount.target.as_str() {
            "" => PathBuf::from(format!("{PLACE}{number}")),
            path => place(working_dir, Path::new(path))?,
        };
        Ok(Self {
            id: id.to_owned(),
            target,
            access: Access {
                mode: mount.mode.unwrap_or(MODE),
                uid: mount.uid.unwrap_or(0),
                gid: mount.gid.unwrap_or(0),
            },
            is_required: mount.required,
        })
    }

    /// The place of an agent takes part in what a layer is made from; its keys do not.
    pub(super) fn key(&self, key: Key) -> Key {
        let Access { mode, uid, gid } = self.access;
        key.with("kind", "ssh")
            .with("id", &self.id)
            .with("target", self.target.as_os_str().as_encoded_bytes())
            .with("access", format!("{mode:o} {uid} {gid}"))
    }

    /// What tells a command of its first agent, unless it is told of another.
    pub(super) fn variable(&self, env: &[String]) -> Option<String> {
        let is_told = |line: &String| line.split('=').next() == Some(VARIABLE);
        (!env.iter().any(is_told)).then(|| format!("{VARIABLE}={}", self.target.display()))
    }

    /// `None` if the client lacks one that need not be there.
    ///
    /// # Errors
    /// `NotFound` if it must.
    pub(super) async fn lend(self, stage: &Stage) -> Result<Option<Agent>, Failure> {
        let Self { id, target, access, is_required } = self;
        let build = &stage.build;
        if !build.unless_cancelled(build.client().has_agent(&id)).await?? {
            let text = format!("no SSH key {id:?} forwarded from the client");
            return if is_required { Err(Error::not_found(text).into()) } else { Ok(None) };
        }
        let (tree, listener) = memory::socket(NAME, access)?;
        let listener = UnixListener::from_std(listener).context("listen for ssh")?;
        let relay = tokio::spawn(relay(listener, build.client().clone(), id));
        let mount = RunMount::Tree {
            target: target.clone(),
            tree,
            is_mapped: false,
            part: NAME.to_owned(),
            is_directory: false,
            readonly: false,
        };
        Ok(Some(Agent { target, mount: Some(mount), _relay: AbortOnDropHandle::new(relay) }))
    }
}

impl Agent {
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Once.
    pub(super) fn take(&mut self) -> Option<RunMount> {
        self.mount.take()
    }
}

/// Passes on what connects, until it is dropped.
async fn relay(listener: UnixListener, client: Arc<dyn Client>, id: String) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < MOST_OPEN => match accepted {
                Ok((connection, _)) => {
                    let (client, id) = (client.clone(), id.clone());
                    open.spawn(async move {
                        // The command sees that its connection ends.
                        if let Err(error) = client.agent(&id, connection).await {
                            tracing::debug!(error = error.chain(), "a build client's ssh agent");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "listen for ssh");
                    // There is nothing to be told by when one can be taken again.
                    let _ = tokio::time::timeout(PAUSE, std::future::pending::<()>()).await;
                }
            },
            Some(_) = open.join_next() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_at_a_place_of_its_own_and_told_once() {
        let read = |mount: Mount, number| Wanted::read("/srv", &mount, number).unwrap();
        let first = read(Mount::default(), 0);
        assert_eq!((first.id.as_str(), first.access.mode), ("default", 0o600));
        assert_eq!(first.variable(&[]).unwrap(), "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0");
        assert_eq!(first.variable(&["SSH_AUTH_SOCK=/own".to_owned()]), None);
        let own = Mount { target: "a.sock".to_owned(), id: "x".to_owned(), ..Mount::default() };
        let second = read(own, 1);
        assert_eq!((second.id.as_str(), second.target.as_path()), ("x", Path::new("/srv/a.sock")));
        let key = |wanted: &Wanted| wanted.key(Key::new("mounts")).finish();
        assert_ne!(key(&first), key(&second));
        assert_eq!(key(&first), key(&read(Mount { required: true, ..Mount::default() }, 0)));
        let root = Mount { target: "..".to_owned(), ..Mount::default() };
        assert!(Wanted::read("/srv", &root, 0).is_err());
    }
}
