//! A build's client, by its session.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cais_dockerfile::dockerignore;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;

use super::agents;
use super::attrs::Place;
use super::board::{Board, Task};
use super::kept::{KeptContexts, Key};
use super::session::Session;
use super::transfer::{self, Wanted};
use super::{BuildKit, Inner, uploads};
use crate::builder::{Address, Client, Context, DOCKERFILE, FetchedContext, Synced};
use crate::error::{Error, Result};
use crate::image::Credentials;

const IGNORE: &str = ".dockerignore";

/// How often a client sees how far its files are.
const PERIOD: Duration = Duration::from_millis(100);

/// What the builder asks, answered by calls to the client.
pub(super) struct SessionClient {
    inner: Arc<Inner>,
    board: Board,
    session: Arc<Session>,
    context: Place,
    named: BTreeMap<String, Place>,
    /// Sessions of directories that are not the build's own.
    others: BTreeMap<String, Arc<Session>>,
    /// Of the Dockerfile's own `.dockerignore`, in place of the context's.
    excludes: Option<Vec<String>>,
    /// A context that is no directory of the client's.
    fetched: OnceCell<FetchedContext>,
    keeps_git: bool,
    /// Of the build for the first platform, for those after it; the context has no name.
    known: Mutex<BTreeMap<Option<String>, Context>>,
    /// What came for this build, and is kept for the next.
    contexts: Mutex<Vec<(Key, Synced)>>,
}

impl fmt::Debug for SessionClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionClient").field("context", &self.context).finish_non_exhaustive()
    }
}

/// The Dockerfile, as a client has it.
pub(super) struct Dockerfile {
    pub(super) text: String,
    /// What its own `.dockerignore` says.
    excludes: Option<Vec<String>>,
    /// The step that has read it.
    pub(super) task: Option<Task>,
}

impl SessionClient {
    pub(super) async fn of(
        kit: &BuildKit,
        board: &Board,
        session: Arc<Session>,
        asked: &super::attrs::Asked,
    ) -> Result<Self> {
        let mut others = BTreeMap::new();
        for (directory, id) in &asked.sessions {
            others.insert(directory.clone(), kit.0.sessions.find(id).await?);
        }
        Ok(Self {
            inner: kit.0.clone(),
            board: board.clone(),
            session,
            context: asked.context.clone(),
            named: asked.named.clone(),
            others,
            excludes: None,
            fetched: OnceCell::new(),
            keeps_git: asked.options.keeps_git(),
            known: Mutex::default(),
            contexts: Mutex::default(),
        })
    }

    fn session_of(&self, directory: &str) -> &Arc<Session> {
        self.others.get(directory).unwrap_or(&self.session)
    }

    /// The Dockerfile and what it says of files that are not to come.
    ///
    /// # Errors
    /// `InvalidArgument` if there is none.
    pub(super) async fn dockerfile(
        &mut self,
        directory: Option<&str>,
        name: &str,
    ) -> Result<Dockerfile> {
        let Some(directory) = directory else { return self.fetched_dockerfile(name).await };
        let task = self.board.begin(&format!("[internal] load build definition from {name}"));
        let read = self.read_dockerfile(directory, name).await;
        task.ended(&read);
        let dockerfile = read?;
        self.excludes.clone_from(&dockerfile.excludes);
        Ok(Dockerfile { task: Some(task), ..dockerfile })
    }

    async fn read_dockerfile(&self, directory: &str, name: &str) -> Result<Dockerfile> {
        let ignore = format!("{name}{IGNORE}");
        let lower = match name.rsplit_once('/') {
            Some((above, "Dockerfile")) => Some(format!("{above}/dockerfile")),
            None if name == "Dockerfile" => Some("dockerfile".to_owned()),
            _ => None,
        };
        let mut follow = vec![name.to_owned(), ignore.clone()];
        follow.extend(lower.clone());
        let files = self.few(directory, follow).await?;
        let mut text = files.text(name)?;
        if let (None, Some(lower)) = (&text, lower) {
            text = files.text(&lower)?;
        }
        let text = text.ok_or_else(|| missing(name))?;
        let excludes = files.text(&ignore)?.map(|text| dockerignore::parse(text.as_bytes()));
        Ok(Dockerfile { text, excludes, task: None })
    }

    /// The one in a context that is no directory of the client's. Nothing is left out of such a context.
    async fn fetched_dockerfile(&self, name: &str) -> Result<Dockerfile> {
        let FetchedContext { context, is_dockerfile } = self.fetched().await?;
        let name = if *is_dockerfile { DOCKERFILE } else { name };
        let task = self.board.begin(&format!("[internal] load build definition from {name}"));
        let text = context.text(name).and_then(|text| text.ok_or_else(|| missing(name)));
        task.ended(&text);
        Ok(Dockerfile { text: text?, excludes: None, task: Some(task) })
    }

    async fn fetched(&self) -> Result<&FetchedContext> {
        self.fetched.get_or_try_init(|| self.fetch(&self.context, "[internal]")).await
    }

    /// Files that are no directory of the client's.
    async fn fetch(&self, place: &Place, task: &str) -> Result<FetchedContext> {
        let builder = &self.inner.builder;
        match place {
            Place::Directory(name) => {
                Err(Error::invalid(format!("{name} is a directory of the client's")))
            }
            Place::Upload(name) => {
                let task = self.board.begin(&format!("{task} load remote build context"));
                let received = uploads::receive(&self.session, name, builder).await;
                task.ended(&received);
                Ok(FetchedContext { context: received?, is_dockerfile: false })
            }
            Place::Elsewhere(address) => {
                let kind = match address {
                    Address::Git(_) => "load git source",
                    Address::Http(_) => "load remote build context",
                };
                let task = self.board.begin(&format!("{task} {kind} {}", address.shown()));
                let fetched = builder.fetch_context(address.clone(), self.keeps_git).await;
                task.ended(&fetched);
                fetched
            }
        }
    }

    /// A few files by their names, and nothing that is kept.
    async fn few(&self, directory: &str, follow: Vec<String>) -> Result<Context> {
        let wanted = Wanted { directory: directory.to_owned(), follow, excludes: Vec::new() };
        let empty = self.inner.builder.begin_sync()?;
        let session = self.session_of(directory);
        let synced = transfer::receive(session, &wanted, empty, &Arc::default()).await?;
        Ok(synced.context())
    }

    async fn ignored(&self, directory: &str, task: &str) -> Result<Vec<String>> {
        let task = self.board.begin(&format!("{task} load {IGNORE}"));
        let files = self.few(directory, vec![IGNORE.to_owned()]).await;
        let text = files.and_then(|files| files.text(IGNORE));
        task.ended(&text);
        Ok(text?.map(|text| dockerignore::parse(text.as_bytes())).unwrap_or_default())
    }

    /// All of a directory but what is not to come.
    async fn tree(&self, directory: &str, excludes: Vec<String>, task: &str) -> Result<Context> {
        let mut task = self.board.begin(task);
        let session = self.session_of(directory);
        let shared = session.shared_key().to_owned();
        let key = Key { shared, directory: directory.to_owned() };
        let kept: &KeptContexts = &self.inner.kept;
        let synced = match kept.take(&key) {
            Some(synced) => synced,
            None => self.inner.builder.begin_sync()?,
        };
        let wanted = Wanted { directory: directory.to_owned(), excludes, follow: Vec::new() };
        let received = Arc::new(AtomicU64::new(0));
        let transfer = transfer::receive(session, &wanted, synced, &received);
        let mut transfer = std::pin::pin!(transfer);
        let mut ticks = tokio::time::interval(PERIOD);
        let mut told = None;
        let done = loop {
            tokio::select! {
                done = &mut transfer => break done,
                _ = ticks.tick() => {
                    let bytes = received.load(Ordering::Relaxed);
                    if told.replace(bytes) != Some(bytes) {
                        task.part("transferring context:", (bytes, 0), false);
                    }
                }
            }
        };
        task.part("transferring context:", (received.load(Ordering::Relaxed), 0), true);
        task.ended(&done);
        let synced = done?;
        let context = synced.context();
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner).push((key, synced));
        Ok(context)
    }

    /// What was fetched for the build before, else what is fetched now.
    async fn once(
        &self,
        name: Option<&str>,
        fetching: impl Future<Output = Result<Context>>,
    ) -> Result<Context> {
        let name = name.map(str::to_owned);
        if let Some(known) = self.known().get(&name) {
            return Ok(known.clone());
        }
        let fetched = fetching.await?;
        self.known().insert(name, fetched.clone());
        Ok(fetched)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Option<String>, Context>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The build is over: what it had is there for the next.
    pub(super) fn give_back(&self) {
        self.known().clear();
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, synced) in contexts.drain(..) {
            self.inner.kept.put(key, synced);
        }
    }
}

fn missing(dockerfile: &str) -> Error {
    let text = format!("failed to read dockerfile: open {dockerfile}: no such file or directory");
    Error::not_found(text)
}

impl Client for SessionClient {
    fn context(&self) -> BoxFuture<'_, Result<Context>> {
        let fetching = async {
            let Place::Directory(directory) = &self.context else {
                return Ok(self.fetched().await?.context.clone());
            };
            let excludes = match &self.excludes {
                Some(excludes) => excludes.clone(),
                None => self.ignored(directory, "[internal]").await?,
            };
            self.tree(directory, excludes, "[internal] load build context").await
        };
        self.once(None, fetching).boxed()
    }

    fn named_context<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Context>> {
        let fetching = async move {
            let missing = || Error::not_found(format!("no context is called {name}"));
            let place = self.named.get(name).ok_or_else(missing)?;
            let Place::Directory(directory) = place else {
                return Ok(self.fetch(place, &format!("[context {name}]")).await?.context);
            };
            let excludes = self.ignored(directory, &format!("[context {name}]")).await?;
            self.tree(directory, excludes, &format!("[context {name}] load from client")).await
        };
        self.once(Some(name), fetching).boxed()
    }

    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Credentials>> {
        self.session.credentials(registry).boxed()
    }

    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        self.session.secret(id).boxed()
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>> {
        agents::is_there(&self.session, id).boxed()
    }

    fn agent<'a>(&'a self, id: &'a str, connection: UnixStream) -> BoxFuture<'a, Result<()>> {
        agents::relay(&self.session, id, connection).boxed()
    }
}
