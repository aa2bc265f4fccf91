//! What clients that build by the classic call have, and give when the build needs it: ssh agents, secrets, and files by name.
//!
//! ```text
//!   POST /build?session=S&ssh=default&secret=token&context=lib     the build may ask for these
//!   POST /build/agent?session=S&id=default ══ upgrade ══▶   one connection to the agent, when a command makes one
//!   POST /build/secret?session=S&id=token                   the body is its value
//!   POST /build/context?session=S&id=lib                    the body is an archive, as that of the build
//! ```
//!
//! Docker's own clients do not ask for this: buildx has it on its session ([`crate::api::buildkit`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use super::Door;
use super::call::Call;
use super::convert::build as convert;
use super::hijack::{Framing, answer};
use super::query::Query;
use super::reply::{self, Answer};
use crate::builder::{Address, Builder, Client, Context, Names, Sent};
use crate::error::{Context as _, Error, Kind, Result};
use crate::image::Credentials;

/// Connections that wait to be used, of one agent.
const MOST_WAITING: usize = 4;
/// Things of one kind of one build.
const MOST: usize = 64;
/// A client lends a connection as soon as the one before it is in use, and gives all else when its build has begun.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a secret; BuildKit's own limit.
const LARGEST_SECRET: usize = 500 << 10;

type Line = Box<dyn super::hijack::Connection>;

/// What the clients of builds give, by the names of sessions.
#[derive(Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<BTreeMap<String, Givers>>>);

/// Of one build, by what it calls them.
#[derive(Default)]
struct Givers {
    agents: BTreeMap<String, mpsc::Sender<Line>>,
    secrets: BTreeMap<String, Giver<Vec<u8>>>,
    contexts: BTreeMap<String, Giver<Context>>,
}

/// What one build may ask for. With it goes what was not used.
#[derive(Default)]
pub(super) struct Lent {
    agents: BTreeMap<String, tokio::sync::Mutex<mpsc::Receiver<Line>>>,
    secrets: BTreeMap<String, Taker<Vec<u8>>>,
    contexts: BTreeMap<String, Taker<Context>>,
    /// Files that are not the client's.
    addresses: BTreeMap<String, Address>,
    session: Option<(Sessions, String)>,
}

/// Something that is given once and may be used many times.
#[derive(Debug, Clone)]
enum Gift<T> {
    Awaited,
    /// Its bytes are on their way.
    Coming,
    Here(T),
    Broken(String),
}

type Giver<T> = Arc<watch::Sender<Gift<T>>>;
type Taker<T> = watch::Receiver<Gift<T>>;

impl Sessions {
    /// What a build may ask for, as its call says, and what names mean to it.
    ///
    /// # Errors
    /// `InvalidArgument` without a name to find the build by; `AlreadyExists` if another has it.
    pub(super) fn of(&self, query: &Query) -> Result<(Lent, Names)> {
        let session = query.text("session").unwrap_or_default();
        let (agents, secrets) = (query.texts("ssh"), query.texts("secret"));
        let convert::Contexts { named, lent, addresses } = convert::contexts(query)?;
        if agents.is_empty() && secrets.is_empty() && lent.is_empty() {
            let mut lent = Lent::default();
            lent.addresses = addresses;
            return Ok((lent, named));
        }
        if session.is_empty()
            || [agents.len(), secrets.len(), lent.len()].iter().any(|it| *it > MOST)
        {
            let text =
                format!("what a client lends needs a session, and is at most {MOST} of each kind");
            return Err(Error::invalid(text));
        }
        let mut all = self.lock();
        if all.contains_key(session) {
            return Err(Error::new(
                Kind::AlreadyExists,
                format!("session {session} already exists"),
            ));
        }
        let (mut lines, mut givers) = (BTreeMap::new(), Givers::default());
        for id in agents {
            let (sender, receiver) = mpsc::channel(MOST_WAITING);
            givers.agents.insert(id.to_owned(), sender);
            lines.insert(id.to_owned(), tokio::sync::Mutex::new(receiver));
        }
        let secrets = gifts(secrets, &mut givers.secrets);
        let contexts = gifts(lent.iter().map(String::as_str), &mut givers.contexts);
        all.insert(session.to_owned(), givers);
        let session = Some((self.clone(), session.to_owned()));
        Ok((Lent { agents: lines, secrets, contexts, addresses, session }, named))
    }

    /// # Errors
    /// `NotFound` if no build, or none any more, asks for it.
    fn find<T: Clone>(
        &self,
        call: &Call,
        kind: &str,
        of: impl Fn(&Givers) -> &BTreeMap<String, T>,
    ) -> Result<T> {
        let text = |key| call.query.text(key).unwrap_or_default();
        let (session, id) = (text("session"), text("id"));
        let found = self.lock().get(session).and_then(|givers| of(givers).get(id)).cloned();
        found.ok_or_else(|| Error::not_found(format!("no build asks for the {kind} {id:?}")))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Givers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gifts<'a, T>(
    ids: impl IntoIterator<Item = &'a str>,
    givers: &mut BTreeMap<String, Giver<T>>,
) -> BTreeMap<String, Taker<T>> {
    let pair = |id: &str| {
        let (giver, taker) = watch::channel(Gift::Awaited);
        givers.insert(id.to_owned(), Arc::new(giver));
        (id.to_owned(), taker)
    };
    ids.into_iter().map(pair).collect()
}

/// A connection for an agent.
pub(super) fn lend(door: &Door, call: Call) -> Answer {
    let sender = door.sessions.find(&call, "ssh agent", |it| &it.agents)?;
    let (upgrade, call) = call.split_upgrade();
    let upgrade = upgrade.ok_or_else(|| Error::invalid("this needs an upgrade to tcp"))?;
    Ok(answer((Some(upgrade), call.peer), Framing::Raw, async move |client| {
        // One too many is closed, as all are when the build is over.
        let _ = sender.try_send(client.stream);
        Ok(())
    }))
}

pub(super) async fn give_secret(door: &Door, call: Call) -> Answer {
    let giver = door.sessions.find(&call, "secret", |it| &it.secrets)?;
    give(giver, async { Ok(call.bytes_of(LARGEST_SECRET).await?.into()) }).await
}

pub(super) async fn give_context(door: &Door, call: Call) -> Answer {
    let giver = door.sessions.find(&call, "context", |it| &it.contexts)?;
    let directory = convert::directory(&call.query)?;
    give(giver, async {
        let sent = super::build::receive(door, call).await?.finish().await?;
        match directory {
            None => Ok(sent),
            Some(directory) => door.builder.context_in_place(&sent, directory).await,
        }
    })
    .await
}

/// The first who gives it does. `WrongState`, for a directory that is another one for us, leaves it to be given in another way.
async fn give<T>(giver: Giver<T>, coming: impl Future<Output = Result<T>>) -> Answer {
    let is_first = giver.send_if_modified(|gift| {
        let is_first = matches!(gift, Gift::Awaited);
        if is_first {
            *gift = Gift::Coming;
        }
        is_first
    });
    if !is_first {
        return Err(Error::new(Kind::AlreadyExists, "it was given already"));
    }
    let mut broken = Broken(Some(giver));
    let come = coming.await;
    let Some(giver) = broken.0.take() else { return Ok(reply::empty(StatusCode::NO_CONTENT)) };
    match come {
        Ok(here) => {
            giver.send_replace(Gift::Here(here));
            Ok(reply::empty(StatusCode::NO_CONTENT))
        }
        Err(error) if error.kind() == Kind::WrongState => {
            giver.send_replace(Gift::Awaited);
            Err(error)
        }
        Err(error) => {
            giver.send_replace(Gift::Broken(error.chain()));
            Err(error)
        }
    }
}

/// A client that goes away half way leaves nothing to wait for.
struct Broken<T>(Option<Giver<T>>);

impl<T> Drop for Broken<T> {
    fn drop(&mut self) {
        if let Some(giver) = self.0.take() {
            giver.send_replace(Gift::Broken("the client is gone".to_owned()));
        }
    }
}

async fn taken<T: Clone>(mut gift: Taker<T>, what: &str) -> Result<T> {
    let never = || Error::new(Kind::Unavailable, format!("{what} was not given"));
    let begun = gift.wait_for(|gift| !matches!(gift, Gift::Awaited));
    // Its sender is there as long as the build.
    tokio::time::timeout(PATIENCE, begun)
        .await
        .ok()
        .and_then(|begun| begun.ok().map(drop))
        .ok_or_else(never)?;
    let come = gift.wait_for(|gift| matches!(gift, Gift::Here(_) | Gift::Broken(_))).await;
    match come.map(|gift| gift.clone()) {
        Ok(Gift::Here(here)) => Ok(here),
        Ok(Gift::Broken(why)) => Err(Error::new(Kind::Unavailable, format!("{what}: {why}"))),
        Ok(Gift::Awaited | Gift::Coming) | Err(_) => Err(never()),
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agents, secrets, contexts, .. } = self;
        f.debug_tuple("Lent")
            .field(&agents.keys())
            .field(&secrets.keys())
            .field(&contexts.keys())
            .finish()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some((sessions, session)) = &self.session {
            sessions.lock().remove(session);
        }
    }
}

impl Lent {
    async fn relay(&self, id: &str, mut connection: UnixStream) -> Result<()> {
        let unknown = || Error::not_found(format!("no ssh agent is called {id}"));
        let lines = self.agents.get(id).ok_or_else(unknown)?;
        let line = async { lines.lock().await.recv().await };
        let line = tokio::time::timeout(PATIENCE, line).await.ok().flatten();
        let gone = || Error::new(Kind::Unavailable, format!("no connection to the ssh agent {id}"));
        let mut line = line.ok_or_else(gone)?;
        let carried = tokio::io::copy_bidirectional(&mut connection, &mut line).await;
        carried.map(drop).context("carry for an ssh agent")
    }
}

/// A client that sends its context with the call, and all else when it is needed.
pub(super) struct Lender {
    pub(super) sent: Sent,
    pub(super) lent: Lent,
    /// Fetches what is elsewhere.
    pub(super) builder: Builder,
    pub(super) keeps_git: bool,
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lender").field(&self.sent).field(&self.lent).finish()
    }
}

impl Client for Lender {
    fn context(&self) -> BoxFuture<'_, Result<Context>> {
        self.sent.context()
    }

    fn named_context<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Context>> {
        if let Some(address) = self.lent.addresses.get(name) {
            let fetching = async move {
                Ok(self.builder.fetch_context(address.clone(), self.keeps_git).await?.context)
            };
            return fetching.boxed();
        }
        match self.lent.contexts.get(name) {
            Some(gift) => {
                let gift = gift.clone();
                async move { taken(gift, &format!("the context {name}")).await }.boxed()
            }
            None => self.sent.named_context(name),
        }
    }

    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Credentials>> {
        self.sent.credentials(registry)
    }

    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        match self.lent.secrets.get(id) {
            Some(gift) => {
                let gift = gift.clone();
                async move { taken(gift, &format!("the secret {id}")).await.map(Some) }.boxed()
            }
            None => self.sent.secret(id),
        }
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>> {
        let is_there = self.lent.agents.contains_key(id);
        async move { Ok(is_there) }.boxed()
    }

    fn agent<'a>(&'a self, id: &'a str, connection: UnixStream) -> BoxFuture<'a, Result<()>> {
        self.lent.relay(id, connection).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_build_has_what_it_names_until_it_is_over() {
        let sessions = Sessions::default();
        let of = |query: &str| sessions.of(&Query::parse(query));
        let (lent, _) = of("session=s&ssh=default&ssh=other").unwrap();
        assert_eq!(of("session=s&secret=x").unwrap_err().kind(), Kind::AlreadyExists);
        for query in ["ssh=x", "secret=x", "context=x%3D"] {
            assert_eq!(of(query).unwrap_err().kind(), Kind::InvalidArgument, "{query}");
        }
        assert!(of("session=s").unwrap().0.agents.is_empty());

        let sender = sessions.lock()["s"].agents["other"].clone();
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
        assert!(sessions.lock().is_empty());
    }

    #[tokio::test]
    async fn a_gift_is_waited_for_and_broken_by_who_goes() {
        let sessions = Sessions::default();
        let (lent, _) = sessions.of(&Query::parse("session=s&secret=a&secret=b")).unwrap();
        let giver = |id: &str| sessions.lock()["s"].secrets[id].clone();
        let taker = |id: &str| taken(lent.secrets[id].clone(), "it");

        let (came, given) = tokio::join!(taker("a"), give(giver("a"), async { Ok(b"1".to_vec()) }));
        given.unwrap();
        assert_eq!(came.unwrap(), b"1");
        assert_eq!(taker("a").await.unwrap(), b"1");
        let again = give(giver("a"), async { Ok(b"2".to_vec()) }).await;
        assert_eq!(again.unwrap_err().kind(), Kind::AlreadyExists);

        // A directory that is not ours is sent then.
        let elsewhere = give(giver("b"), async { Err(Error::wrong_state("elsewhere")) }).await;
        assert_eq!(elsewhere.unwrap_err().kind(), Kind::WrongState);
        let gone = tokio::time::timeout(
            Duration::from_millis(1),
            give(giver("b"), std::future::pending()),
        );
        assert!(gone.await.is_err());
        assert!(taker("b").await.unwrap_err().chain().contains("the client is gone"));
    }
}
