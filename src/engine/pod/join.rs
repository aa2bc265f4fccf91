//! What a pod has of another pod: namespaces and shared memory, opened here and entered by the
//! monitor. Once joined they are there as long as this pod is, whatever becomes of the other.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::config::{Config, OwnIpc, OwnNetwork};
use crate::engine::Shared;
use crate::engine::container::phase::Phase;
use crate::engine::spec::Joined;
use crate::error::{Context, Error, Result};
use crate::executor::plan::Fd;
use crate::id::{ContainerId, PodId};
use crate::monitor::protocol::{Reply, Request};

/// Appends the descriptors to `list`, in which the monitor finds them.
pub(super) async fn open(
    shared: &Shared,
    config: &Config,
    list: &mut Vec<OwnedFd>,
) -> Result<Joined> {
    let Some(own) = &config.standalone else { return Ok(Joined::default()) };
    let mut push = |fd: OwnedFd| {
        let number = u32::try_from(list.len()).context("count descriptors")?;
        list.push(fd);
        Ok::<_, Error>(Fd(number))
    };
    let mut joined = Joined::default();
    if let OwnNetwork::Joined(other) = &own.network {
        joined.network = Some(push(namespace(shared, other, "net")?)?);
    }
    if let OwnIpc::Joined(other) = &own.sharing.ipc {
        joined.ipc = Some(push(namespace(shared, other, "ipc")?)?);
        joined.shm = Some(push(shm(shared, other).await?)?);
    }
    if let Some(other) = &own.sharing.pid_of {
        joined.pid = Some(push(process(shared, other)?)?);
    }
    Ok(joined)
}

/// Those that the containers of a pod share are its monitor's.
fn namespace(shared: &Shared, pod: &PodId, kind: &str) -> Result<OwnedFd> {
    let pid = shared.pods.find(pod.as_str())?.record().monitor_pid;
    let pid = pid.context("the pod whose namespace is to be joined does not run")?;
    let path = format!("/proc/{pid}/ns/{kind}");
    let file = std::fs::File::open(&path).with_context(|| format!("open {path}"))?;
    Ok(file.into())
}

/// Only who is in a mount namespace can copy a mount out of it.
async fn shm(shared: &Shared, pod: &PodId) -> Result<OwnedFd> {
    let monitor = shared.pods.find(pod.as_str())?.monitor()?;
    let answer = monitor.call(Request::OpenShm, Vec::new()).await;
    let (reply, descriptors) = answer.context("open the other pod's shared memory")?;
    match (reply, descriptors.into_iter().next()) {
        (Reply::Shm, Some(shm)) => Ok(shm),
        (reply, _) => Err(Error::internal(format!("the monitor answered {reply:?} to OpenShm"))),
    }
}

fn process(shared: &Shared, container: &ContainerId) -> Result<OwnedFd> {
    let container = shared.containers.find(container.as_str())?;
    let pid = || match &container.record().phase {
        Phase::Running { pid, .. } => Some(*pid),
        Phase::Created { .. } | Phase::Exited(_) => None,
    };
    let found = pid().context("the container whose PID namespace is to be joined does not run")?;
    let number = Pid::from_raw(found).context("a process without a number")?;
    let process = pidfd_open(number, PidfdFlags::empty()).context("open the first process")?;
    // It may have ended in between, and the number be somebody else's.
    match pid() == Some(found) {
        true => Ok(process),
        false => Err(Error::wrong_state("the container whose PID namespace is to be joined ended")),
    }
}
