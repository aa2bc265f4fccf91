//! What the next daemon must know of a standalone container, and what readers see of it. Lives
//! under the root directory and survives the boot.
//!
//! ```text
//!            ┌──────────── start ────────────┐
//!   Created ─┴▶ Running ──ended──▶ Exited ───┘      remove: record deleted
//!                  ▲  └──ended──▶ Restarting
//!                  └────────────────┘
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::{Config, RestartPolicy};
use super::health::Status;
use crate::engine::container::phase::End;
use crate::engine::networks::membership::Membership;
use crate::engine::pod::config::PortMapping;
use crate::id::{ContainerId, PodId};
use crate::image::LayerKey;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) config: Arc<Config>,
    /// The image's id: its configuration's digest.
    pub(crate) image_id: String,
    /// As the client called it.
    pub(crate) image_name: String,
    /// Of the image, kept as long as the container is there.
    pub(crate) layers: Vec<LayerKey>,
    /// Nanoseconds since the epoch.
    pub(crate) created_at: i64,
    pub(crate) state: State,
    /// That it is in while it runs; without meaning where it has no network of its own.
    #[serde(default = "node_only")]
    pub(crate) networks: Vec<Membership>,
    /// How often it was started.
    pub(crate) runs: u32,
    /// How often the restart policy did that since somebody asked for it.
    pub(crate) restarts: u32,
    /// Somebody ended it: the restart policy rests.
    pub(crate) is_stopped: bool,
    /// It runs beside the container whose place it takes, or beside the one that took its own: without published ports,
    /// and without names that the other one has.
    #[serde(default)]
    pub(crate) is_aside: bool,
    /// Whose place it has taken, until that one's record says so, too: the one write that says who has the place.
    #[serde(default)]
    pub(crate) took_from: Option<ContainerId>,
}

fn node_only() -> Vec<Membership> {
    vec![Membership::node()]
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// Never ran; the failure is that of the last try.
    Created {
        failure: Option<StartFailure>,
    },
    Running(Run),
    /// Ended, and about to be started again.
    Restarting(End),
    Exited {
        end: End,
        failure: Option<StartFailure>,
    },
}

/// How a record takes the place of the one before it on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// The call returns when the disk has it.
    Synced,
    Soon,
    /// The call does not wait for the disk.
    Unsynced,
    /// The record that is there says enough.
    Unneeded,
}

/// One run: a pod with one container in it, which has the standalone container's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) pod: PodId,
    pub(crate) pid: i32,
    /// Nanoseconds since the epoch.
    pub(crate) started_at: i64,
    pub(crate) ports: Vec<PortMapping>,
    pub(crate) is_paused: bool,
    /// `None`: nobody asks how it is.
    #[serde(default)]
    pub(crate) health: Option<Status>,
    /// Its end, while the pod is being taken down: the pod that knew it may be gone before the
    /// daemon is killed.
    pub(crate) end: Option<End>,
}

/// Why a start came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartFailure {
    /// 127: there is no such program; 126: it cannot be executed; 128: anything else.
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl Record {
    pub(crate) fn run(&self) -> Option<&Run> {
        match &self.state {
            State::Running(run) => Some(run),
            State::Created { .. } | State::Restarting(_) | State::Exited { .. } => None,
        }
    }

    /// Whether nobody misses it after a boot, which would only remove it: it goes when its run ends, and nothing outside of its
    /// own directories does with it.
    pub(super) fn goes_with_its_run(&self) -> bool {
        self.config.auto_remove && self.config.container.volumes().next().is_none()
    }

    /// What a client changed is to stay changed, and a container that the boot starts again is to be what it was.
    /// Of all others a boot may find this record or the one `before` it.
    pub(super) fn writing_over(&self, before: &Self) -> Writing {
        // Its end is on record, and it is removed next.
        if self.config.auto_remove
            && matches!(self.state, State::Exited { .. })
            && before.run().is_some_and(|run| run.end.is_some())
        {
            return Writing::Unneeded;
        }
        if self.goes_with_its_run() {
            return Writing::Unsynced;
        }
        let is_same = (self.restarts, self.is_stopped) == (before.restarts, before.is_stopped)
            && self.state == before.state;
        if self.runs != before.runs && is_same && !self.config.auto_remove {
            // How this run begins, or does not, is written next; a daemon that comes between removes what there is of it.
            return Writing::Unneeded;
        }
        let is_asked_for = !Arc::ptr_eq(&self.config, &before.config)
            || self.name != before.name
            || self.networks != before.networks
            || self.took_from != before.took_from
            || (self.is_stopped, self.is_aside) != (before.is_stopped, before.is_aside);
        match is_asked_for || self.config.restart != RestartPolicy::No {
            true => Writing::Synced,
            false => Writing::Soon,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.run().is_some_and(|run| run.is_paused)
    }

    /// The code of the last end, or of the start that failed; 0 while it runs.
    pub(crate) fn exit_code(&self) -> i32 {
        match &self.state {
            State::Created { failure } => failure.as_ref().map_or(0, |failure| failure.code),
            State::Running(_) => 0,
            State::Restarting(end) => end.code,
            State::Exited { end, failure } => {
                failure.as_ref().map_or(end.code, |failure| failure.code)
            }
        }
    }
}
