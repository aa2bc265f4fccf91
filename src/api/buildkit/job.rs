//! Builds that clients have begun, by the names that the clients gave them.
//!
//! ```text
//!   Control.Solve ──▶ a job ◀── LLBBridge.Solve: builds, the result stays with the job
//!        │              ▲  ◀── LLBBridge.Return: which of the results it is, or why there is none
//!        └─ exports ◀───┘  ◀── Control.Status: the board
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cais_proto::buildkit::control::frontend::Result as Returned;
use cais_proto::buildkit::control::{RpcStatus, SolveRequest};
use tokio::runtime::Handle;
use tokio::sync::watch;

use tokio_util::sync::CancellationToken;

use super::board::Board;
use crate::builder::Built;
use crate::error::{Context, Error, Kind, Result};
use crate::image::index::Predicate;

/// The calls of one build come at the same time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Builds that are over, for who asks late how they went, and how long that is of interest.
const MOST_OVER: usize = 16;
const LATE: Duration = Duration::from_secs(30);

/// What was built for one platform.
pub(super) struct Made {
    /// `linux/amd64`
    pub(super) platform: String,
    pub(super) built: Arc<Built>,
    /// What is said of it.
    pub(super) predicates: Vec<Predicate>,
    /// Of files that say it, seconds since the epoch.
    pub(super) time: u64,
}

/// What a build came to: one image, or an index of them.
pub(super) struct Outcome {
    pub(super) parts: Vec<Arc<Made>>,
    pub(super) has_platforms: bool,
}

/// One build of a client's.
pub(super) struct Job {
    pub(super) request: SolveRequest,
    pub(super) board: Board,
    /// `None` when it is over.
    results: Mutex<Option<BTreeMap<String, Arc<Made>>>>,
    /// What is still done for it is done in vain.
    pub(super) over: CancellationToken,
    returned: watch::Sender<Option<Result<Returned, RpcStatus>>>,
}

impl Job {
    fn new(request: SolveRequest) -> Self {
        Self {
            request,
            board: Board::new(),
            results: Mutex::new(Some(BTreeMap::new())),
            over: CancellationToken::new(),
            returned: watch::Sender::new(None),
        }
    }

    /// Keeps what was built; the name of it.
    ///
    /// # Errors
    /// `Cancelled` if it is over.
    pub(super) fn keep(&self, made: Arc<Made>) -> Result<String> {
        let mut results = self.lock();
        let results = results.as_mut().ok_or_else(is_over)?;
        let name = format!("{}:{}", self.request.r#ref, results.len());
        results.insert(name.clone(), made);
        Ok(name)
    }

    /// # Errors
    /// `NotFound` for a name that we did not give; `Cancelled` if it is over.
    pub(super) fn made(&self, name: &str) -> Result<Arc<Made>> {
        let found = self.lock().as_ref().ok_or_else(is_over)?.get(name).cloned();
        found.ok_or_else(|| Error::not_found(format!("no such ref: {name}")))
    }

    /// Why the client gave up, or what it wants.
    pub(super) fn returns(&self, what: Result<Returned, RpcStatus>) {
        self.returned.send_replace(Some(what));
    }

    pub(super) async fn returned(&self) -> Result<Result<Returned, RpcStatus>> {
        let mut returned = self.returned.subscribe();
        let what = returned.wait_for(Option::is_some).await.context("wait for the client")?;
        what.clone().context("nothing was returned")
    }

    /// Nothing more will come of it; layers are no longer kept for it.
    fn end(&self) {
        self.board.close();
        self.over.cancel();
        let results = self.lock().take();
        // Not under the lock.
        drop(results);
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<String, Arc<Made>>>> {
        lock(&self.results)
    }
}

pub(super) fn is_over() -> Error {
    Error::new(Kind::Cancelled, "the build is over")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those that are known.
#[derive(Default)]
pub(super) struct Jobs {
    known: Arc<Mutex<Known>>,
    /// Counts those that were begun.
    begun: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    running: BTreeMap<String, Arc<Job>>,
    over: VecDeque<Over>,
}

/// What is left of a build.
struct Over {
    name: String,
    board: Board,
    since: Instant,
}

impl Known {
    fn over(&self, name: &str) -> Option<&Over> {
        self.over.iter().rev().find(|over| over.name == name)
    }
}

/// Ends its job when it is dropped.
pub(super) struct Running<'a> {
    jobs: &'a Jobs,
    pub(super) job: Arc<Job>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.job.end();
        let name = self.job.request.r#ref.clone();
        {
            let mut known = lock(&self.jobs.known);
            known.running.remove(&name);
            let board = self.job.board.clone();
            known.over.push_back(Over { name, board, since: Instant::now() });
            while known.over.len() > MOST_OVER {
                known.over.pop_front();
            }
        }
        let known = self.jobs.known.clone();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                #[expect(clippy::disallowed_methods, reason = "it is kept for so long")]
                tokio::time::sleep(LATE).await;
                lock(&known).over.retain(|over| over.since.elapsed() < LATE);
            });
        }
    }
}

impl Jobs {
    /// # Errors
    /// `AlreadyExists` if one of that name runs.
    pub(super) fn begin(&self, request: SolveRequest) -> Result<Running<'_>> {
        let name = request.r#ref.clone();
        let job = Arc::new(Job::new(request));
        {
            let mut known = lock(&self.known);
            if name.is_empty() || known.running.contains_key(&name) {
                let text = format!("build {name:?} has no name, or that of another");
                return Err(Error::new(Kind::AlreadyExists, text));
            }
            known.running.insert(name, job.clone());
        }
        self.begun.send_modify(|count| *count += 1);
        Ok(Running { jobs: self, job })
    }

    /// One that runs, or is about to begin.
    ///
    /// # Errors
    /// `NotFound` if it does not; `Cancelled` if it is over.
    pub(super) async fn find(&self, name: &str) -> Result<Arc<Job>> {
        let look = |known: &Known| match known.running.get(name) {
            Some(job) => Some(Ok(job.clone())),
            None => known.over(name).map(|_| Err(is_over())),
        };
        self.wait(name, look).await?
    }

    /// What a build has made that still runs, by the name of that.
    pub(super) fn made(&self, result: &str) -> Option<Arc<Made>> {
        let (name, _) = result.rsplit_once(':')?;
        let job = lock(&self.known).running.get(name).cloned()?;
        job.made(result).ok()
    }

    /// The board of one that runs or is over, or is about to begin.
    ///
    /// # Errors
    /// `NotFound` if it does not.
    pub(super) async fn board(&self, name: &str) -> Result<Board> {
        let look = |known: &Known| match known.running.get(name) {
            Some(job) => Some(job.board.clone()),
            None => known.over(name).map(|over| over.board.clone()),
        };
        self.wait(name, look).await
    }

    async fn wait<T>(&self, name: &str, look: impl Fn(&Known) -> Option<T>) -> Result<T> {
        let mut begun = self.begun.subscribe();
        let looking = async {
            loop {
                if let Some(found) = look(&lock(&self.known)) {
                    return Ok(found);
                }
                begun.changed().await.context("wait for a build")?;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.map_err(|_| Error::not_found(format!("no such job {name}")))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str) -> SolveRequest {
        SolveRequest { r#ref: name.to_owned(), ..SolveRequest::default() }
    }

    #[tokio::test]
    async fn a_build_is_found_before_it_begins_and_after_its_end() {
        let jobs = Jobs::default();
        let (early, running) = tokio::join!(jobs.find("a"), async { jobs.begin(request("a")) });
        let running = running.unwrap();
        assert!(Arc::ptr_eq(&early.unwrap(), &running.job));
        assert!(jobs.begin(request("a")).is_err() && jobs.begin(request("")).is_err());

        let job = running.job.clone();
        job.returns(Err(RpcStatus { message: "no".to_owned(), ..RpcStatus::default() }));
        assert_eq!(job.returned().await.unwrap().unwrap_err().message, "no");
        assert_eq!(job.made("x").err().unwrap().kind(), Kind::NotFound);
        drop(running);
        // What is left is what was shown of it.
        jobs.board("a").await.unwrap();
        assert_eq!(jobs.find("a").await.err().unwrap().kind(), Kind::Cancelled);
        assert_eq!(job.made("x").err().unwrap().kind(), Kind::Cancelled);
        assert!(job.over.is_cancelled() && Arc::strong_count(&job) == 1);
        for number in 0..MOST_OVER {
            drop(jobs.begin(request(&number.to_string())).unwrap());
        }
        assert!(lock(&jobs.known).over("a").is_none());
    }
}
