//! Checkpoints: what runs, written down so that it can go on elsewhere or be looked at.
//!
//! CheckpointContainer packs one container into an archive, in the layout that other runtimes and
//! `checkpointctl` have. CheckpointPod writes the same for each container of a pod, captured while
//! all of them are frozen, and RestorePod makes a pod of it. CRIU dumps and restores the processes.
//!
//! ```text
//! checkpoint.json            the pod and its containers (of a pod only)
//! shm.tar                    the pod's /dev/shm          (of a pod only)
//! <container>/               (of a container: the root of its archive)
//!   checkpoint/*.img         the processes, as CRIU writes them
//!   checkpoint/descriptors.json   where the standard streams led
//!   rootfs-diff.tar          the writable layer, as an image layer
//!   config.dump spec.dump    the container and its OCI spec, for people and tools
//!   container.log            the log so far
//!   dump.log stats-dump      what CRIU said
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `criu` | finding and running CRIU |
//! | `freeze` | stopping containers together, and resuming them whatever happens |
//! | `capture` | the files of one container |
//! | `container`, `pod` | the two checkpoint calls |
//! | `manifest` | reading what a checkpoint says of itself |
//! | `restore`, `verify` | RestorePod, and the proof that what was restored is confined |
//! | `deadline` | time limits |
//! | `under_way` | what a killed daemon's successor has to take back |

mod capture;
pub(super) mod container;
mod criu;
mod deadline;
mod freeze;
mod manifest;
mod mountinfo;
pub(super) mod pod;
pub(super) mod restore;
pub(super) mod under_way;
mod verify;

use crate::engine::container::config::Config;
use crate::engine::pod::config::{Config as PodConfig, NamespaceMode};
use crate::error::{Error, Result};

/// The images of the processes, within a container's files.
const IMAGES: &str = "checkpoint";
const DIFF: &str = "rootfs-diff.tar";
const DESCRIPTORS: &str = "descriptors.json";
const SHM: &str = "shm.tar";

/// # Errors
/// `WrongState`, saying what of the container cannot be dumped or restored.
fn check_supported(pod: &PodConfig, config: &Config) -> Result<()> {
    let namespaces = &config.security.namespaces;
    let why = if config.tty {
        "it has a terminal"
    } else if pod.user_namespace.is_some() || config.security.user_namespace.is_some() {
        "it has a user namespace"
    } else {
        match namespaces.pid {
            NamespaceMode::Container => return Ok(()),
            NamespaceMode::Pod => "it shares the pod's PID namespace",
            NamespaceMode::Node => "it shares the host's PID namespace",
            NamespaceMode::Target(_) => "it shares another container's PID namespace",
        }
    };
    let name = &config.name;
    Err(Error::wrong_state(format!("container {name} cannot be checkpointed or restored: {why}")))
}
