//! Those who want a container's streams, while it runs and before.
//!
//! Docker's clients attach first and start then. Who comes while nothing runs waits here, and is
//! joined after the container was made and before its program is executed: not a byte is missed.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Mutex, oneshot};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Standalone;
use crate::engine::Shared;
use crate::error::{Error, Kind, Result};
use crate::id::PodId;
use crate::streaming::backend::{Attach, Backend, Process, Wanted};
use crate::streaming::monitors::Monitors;

/// A client's share in a container's or a command's streams.
pub(crate) struct Session {
    pub(crate) process: Process,
    /// The run is not taken down while somebody still carries what it wrote.
    pub(super) _carrier: Option<TaskTrackerToken>,
}

/// Resolves when the container runs; an error means that it is gone.
pub(crate) type Waiting = oneshot::Receiver<Session>;

#[derive(Default)]
pub(super) struct Attachments(Mutex<Streams>);

enum Streams {
    /// Nothing runs; these wait for it.
    Closed(Vec<(Wanted, oneshot::Sender<Session>)>),
    /// The monitor's socket.
    Open(PathBuf),
    /// The container is gone.
    Removed,
}

impl Default for Streams {
    fn default() -> Self {
        Self::Closed(Vec::new())
    }
}

impl Standalone {
    /// Joins the container's streams, now or when it is started.
    pub(crate) async fn attach(&self, mut wanted: Wanted) -> Result<Waiting> {
        let record = self.record();
        let container = &record.config.container;
        wanted.tty = container.tty;
        // Nobody reads what is written to a stdin that was never opened.
        wanted.stdin &= container.stdin;
        wanted.stderr &= !container.tty;
        let (sender, receiver) = oneshot::channel();
        match &mut *self.attachments.0.lock().await {
            Streams::Closed(waiting) => waiting.push((wanted, sender)),
            Streams::Open(monitor) => {
                // A client that has left meanwhile is not told.
                let _ = sender.send(self.join(monitor.clone(), wanted).await?);
            }
            Streams::Removed => {
                return Err(Error::not_found(format!("No such container: {}", self.id)));
            }
        }
        Ok(receiver)
    }

    /// The container is made and not started.
    pub(super) async fn streams_opened(&self, shared: &Arc<Shared>, pod: &PodId) -> Result<()> {
        let monitor = shared.monitor_socket(pod);
        let mut streams = self.attachments.0.lock().await;
        let waiting = match std::mem::replace(&mut *streams, Streams::Open(monitor.clone())) {
            Streams::Closed(waiting) => waiting,
            Streams::Open(_) | Streams::Removed => Vec::new(),
        };
        for (wanted, sender) in waiting.into_iter().filter(|(_, sender)| !sender.is_closed()) {
            let _ = sender.send(self.join(monitor.clone(), wanted).await?);
        }
        Ok(())
    }

    /// The run is over: who comes now waits for the next one.
    pub(super) async fn streams_closed(&self) {
        *self.attachments.0.lock().await = Streams::default();
    }

    async fn join(&self, monitor: PathBuf, wanted: Wanted) -> Result<Session> {
        let attach = Attach { monitor, container: self.id.clone(), wanted };
        let process = Monitors.attach(attach).await?;
        Ok(Session { process, _carrier: Some(self.carriers.token()) })
    }

    pub(crate) async fn resize(&self, shared: &Shared, width: u16, height: u16) -> Result<()> {
        let record = self.record();
        let Some(run) = record.run() else {
            return Err(Error::new(
                Kind::WrongState,
                format!("container {} is not running", self.id),
            ));
        };
        // Docker has nothing to say of a terminal that is not there.
        if !record.config.container.tty {
            return Ok(());
        }
        let pod = shared.pods.find(run.pod.as_str())?;
        let size = crate::executor::plan::TerminalSize { width, height };
        let request =
            crate::monitor::protocol::Request::Resize { container: self.id.clone(), size };
        pod.monitor()?.call(request, Vec::new()).await.map(drop)
    }
}

impl Attachments {
    /// The container is gone: nobody waits for it any more.
    pub(super) fn forget(&self) {
        // Whoever holds the lock is joining a run, and there is none to come.
        if let Ok(mut streams) = self.0.try_lock() {
            *streams = Streams::Removed;
        }
    }
}
