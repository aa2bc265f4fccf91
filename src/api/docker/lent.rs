//! The ssh agents of clients that build by the classic call, and lend connections for them.
//!
//! ```text
//!   POST /build?session=S&ssh=default                        the build may ask for the agent
//!   POST /build/agent?session=S&id=default ══ upgrade ══▶    one connection to it, when a command makes one
//! ```
//!
//! Docker's own clients do not ask for this: buildx has it on its session ([`crate::api::buildkit`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::Door;
use super::call::Call;
use super::hijack::{Framing, answer};
use super::query::Query;
use super::reply::Answer;
use crate::builder::{Client, Context, Sent};
use crate::error::{Context as _, Error, Kind, Result};
use crate::image::Credentials;

/// Connections that wait to be used, of one agent.
const MOST_WAITING: usize = 4;
/// Agents of one build.
const MOST_AGENTS: usize = 16;
/// A client lends a connection as soon as the one before it is in use.
const PATIENCE: Duration = Duration::from_secs(20);

type Line = Box<dyn super::hijack::Connection>;

/// By the names of builds, and those of their agents.
#[derive(Clone, Default)]
pub(super) struct Agents(Arc<Mutex<Lines>>);

type Lines = BTreeMap<String, BTreeMap<String, mpsc::Sender<Line>>>;

impl Agents {
    /// What a build may ask for, as its call says.
    ///
    /// # Errors
    /// `InvalidArgument` without a name to find the build by; `AlreadyExists` if another has it.
    pub(super) fn of(&self, query: &Query) -> Result<Lent> {
        let (session, ids) = (query.text("session").unwrap_or_default(), query.texts("ssh"));
        if ids.is_empty() {
            return Ok(Lent::default());
        }
        if session.is_empty() || ids.len() > MOST_AGENTS {
            let text = format!("ssh agents need a session, and are at most {MOST_AGENTS}");
            return Err(Error::invalid(text));
        }
        let mut all = self.lock();
        if all.contains_key(session) {
            return Err(Error::new(
                Kind::AlreadyExists,
                format!("session {session} already exists"),
            ));
        }
        let (mut lines, mut senders) = (BTreeMap::new(), BTreeMap::new());
        for id in ids {
            let (sender, receiver) = mpsc::channel(MOST_WAITING);
            senders.insert(id.to_owned(), sender);
            lines.insert(id.to_owned(), tokio::sync::Mutex::new(receiver));
        }
        all.insert(session.to_owned(), senders);
        Ok(Lent { lines, session: Some((self.clone(), session.to_owned())) })
    }

    fn find(&self, session: &str, id: &str) -> Result<mpsc::Sender<Line>> {
        let found = self.lock().get(session).and_then(|lines| lines.get(id)).cloned();
        found.ok_or_else(|| Error::not_found(format!("no build asks for the ssh agent {id:?}")))
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection for an agent.
pub(super) fn lend(door: &Door, call: Call) -> Answer {
    let text = |key| call.query.text(key).unwrap_or_default();
    let sender = door.agents.find(text("session"), text("id"))?;
    let (upgrade, call) = call.split_upgrade();
    let upgrade = upgrade.ok_or_else(|| Error::invalid("this needs an upgrade to tcp"))?;
    Ok(answer((Some(upgrade), call.peer), Framing::Raw, async move |client| {
        // One too many is closed, as all are when the build is over.
        let _ = sender.try_send(client.stream);
        Ok(())
    }))
}

/// What one build may ask for. With it go the connections that were not used.
#[derive(Default)]
pub(super) struct Lent {
    lines: BTreeMap<String, tokio::sync::Mutex<mpsc::Receiver<Line>>>,
    session: Option<(Agents, String)>,
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lent").field(&self.lines.keys()).finish()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some((agents, session)) = &self.session {
            agents.lock().remove(session);
        }
    }
}

impl Lent {
    async fn relay(&self, id: &str, mut connection: UnixStream) -> Result<()> {
        let unknown = || Error::not_found(format!("no ssh agent is called {id}"));
        let lines = self.lines.get(id).ok_or_else(unknown)?;
        let line = async { lines.lock().await.recv().await };
        let line = tokio::time::timeout(PATIENCE, line).await.ok().flatten();
        let gone = || Error::new(Kind::Unavailable, format!("no connection to the ssh agent {id}"));
        let mut line = line.ok_or_else(gone)?;
        let carried = tokio::io::copy_bidirectional(&mut connection, &mut line).await;
        carried.map(drop).context("carry for an ssh agent")
    }
}

/// A client that has sent all but its agents' answers.
#[derive(Debug)]
pub(super) struct Lender {
    pub(super) sent: Sent,
    pub(super) agents: Lent,
}

impl Client for Lender {
    fn context(&self) -> BoxFuture<'_, Result<Context>> {
        self.sent.context()
    }

    fn named_context<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Context>> {
        self.sent.named_context(name)
    }

    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Credentials>> {
        self.sent.credentials(registry)
    }

    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        self.sent.secret(id)
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>> {
        let is_there = self.agents.lines.contains_key(id);
        async move { Ok(is_there) }.boxed()
    }

    fn agent<'a>(&'a self, id: &'a str, connection: UnixStream) -> BoxFuture<'a, Result<()>> {
        self.agents.relay(id, connection).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_build_has_the_agents_that_it_names_until_it_is_over() {
        let agents = Agents::default();
        let of = |query: &str| agents.of(&Query::parse(query));
        let lent = of("session=s&ssh=default&ssh=other").unwrap();
        assert_eq!(of("session=s&ssh=x").unwrap_err().kind(), Kind::AlreadyExists);
        assert_eq!(of("ssh=x").unwrap_err().kind(), Kind::InvalidArgument);
        assert!(of("session=s").unwrap().lines.is_empty());

        let sender = agents.find("s", "other").unwrap();
        let (mut theirs, ours) = tokio::io::duplex(64);
        assert!(sender.try_send(Box::new(ours)).is_ok());
        let (mut command, connection) = UnixStream::pair().unwrap();
        let agent = async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut asked = [0; 3];
            theirs.read_exact(&mut asked).await.unwrap();
            theirs.write_all(b"yes").await.unwrap();
            drop(theirs);
            asked
        };
        let asking = async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            command.write_all(b"ask").await.unwrap();
            let mut answer = Vec::new();
            command.read_to_end(&mut answer).await.unwrap();
            drop(command);
            answer
        };
        let (relayed, asked, answer) = tokio::join!(lent.relay("other", connection), agent, asking);
        relayed.unwrap();
        assert_eq!((&asked, answer.as_slice()), (b"ask", b"yes".as_slice()));

        drop(lent);
        assert_eq!(agents.find("s", "other").err().unwrap().kind(), Kind::NotFound);
    }
}
