//! Builds that clients have begun, by the names that the clients gave them.
//!
//! ```text
//!   Control.Solve ──▶ a job ◀── LLBBridge.Solve: builds, the result stays with the job
//!        │              ▲  ◀── LLBBridge.Return: which of the results it is, or why there is none
//!        └─ exports ◀───┘  ◀── Control.Status: the board
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cais_proto::buildkit::control::frontend::Result as Returned;
use cais_proto::buildkit::control::{RpcStatus, SolveRequest};
use tokio::sync::watch;

use super::board::Board;
use crate::builder::Built;
use crate::error::{Context, Error, Kind, Result};

/// The calls of one build come at the same time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Builds that are over, for who asks late how they went.
const MOST_OVER: usize = 16;

/// One build of a client's.
pub(super) struct Job {
    pub(super) request: SolveRequest,
    pub(super) board: Board,
    results: Mutex<BTreeMap<String, Arc<Built>>>,
    returned: watch::Sender<Option<Result<Returned, RpcStatus>>>,
}

impl Job {
    fn new(request: SolveRequest) -> Self {
        Self {
            request,
            board: Board::new(),
            results: Mutex::default(),
            returned: watch::Sender::new(None),
        }
    }

    /// Keeps what was built; the name of it.
    pub(super) fn keep(&self, built: Built) -> String {
        let mut results = self.lock();
        let name = format!("{}:{}", self.request.r#ref, results.len());
        results.insert(name.clone(), Arc::new(built));
        name
    }

    /// # Errors
    /// `NotFound` for a name that we did not give.
    pub(super) fn built(&self, name: &str) -> Result<Arc<Built>> {
        let found = self.lock().get(name).cloned();
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
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Built>>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those that are known.
#[derive(Default)]
pub(super) struct Jobs {
    known: Mutex<Known>,
    /// Counts those that were begun.
    begun: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    running: BTreeMap<String, Arc<Job>>,
    over: VecDeque<Arc<Job>>,
}

/// Ends its job when it is dropped.
pub(super) struct Running<'a> {
    jobs: &'a Jobs,
    pub(super) job: Arc<Job>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.job.end();
        let mut known = self.jobs.lock();
        known.running.remove(&self.job.request.r#ref);
        known.over.push_back(self.job.clone());
        while known.over.len() > MOST_OVER {
            known.over.pop_front();
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
            let mut known = self.lock();
            if name.is_empty() || known.running.contains_key(&name) {
                let text = format!("build {name:?} has no name, or that of another");
                return Err(Error::new(Kind::AlreadyExists, text));
            }
            known.running.insert(name, job.clone());
        }
        self.begun.send_modify(|count| *count += 1);
        Ok(Running { jobs: self, job })
    }

    /// One that runs or is over, or is about to begin.
    ///
    /// # Errors
    /// `NotFound` if it does not.
    pub(super) async fn find(&self, name: &str) -> Result<Arc<Job>> {
        let mut begun = self.begun.subscribe();
        let looking = async {
            loop {
                if let Some(job) = self.look(name) {
                    return Ok(job);
                }
                begun.changed().await.context("wait for a build")?;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.map_err(|_| Error::not_found(format!("no such job {name}")))?
    }

    fn look(&self, name: &str) -> Option<Arc<Job>> {
        let known = self.lock();
        let over = || known.over.iter().find(|job| job.request.r#ref == name);
        known.running.get(name).or_else(over).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
        drop(running);
        assert!(Arc::ptr_eq(&jobs.find("a").await.unwrap(), &job));
        for number in 0..MOST_OVER {
            drop(jobs.begin(request(&number.to_string())).unwrap());
        }
        assert!(jobs.look("a").is_none());
    }
}
