//! Namespaces that a run shares with the host or with another container. Which run of the other it
//! is, is found out anew for each.

use std::sync::Arc;

use super::Standalone;
use super::config::{Ipc, Sharing as Asked};
use super::record::{Run, State};
use crate::engine::Shared;
use crate::engine::pod::config::{OwnIpc, Sharing};
use crate::error::{Context, Error, Result};
use crate::id::ContainerId;

/// # Errors
/// In Docker's words when the other is gone, does not run, or does not share.
pub(super) fn of(shared: &Shared, asked: &Asked) -> Result<Sharing> {
    Ok(Sharing {
        ipc: ipc(shared, &asked.ipc)?,
        pid_of: asked.pid_of.as_deref().map(|other| pid_of(shared, other)).transpose()?,
        host_uts: asked.host_uts,
        host_cgroup: asked.host_cgroup,
    })
}

fn ipc(shared: &Shared, ipc: &Ipc) -> Result<OwnIpc> {
    let other = match ipc {
        Ipc::Private | Ipc::Shareable | Ipc::Host => return Ok(OwnIpc::New),
        Ipc::WithoutShm => return Ok(OwnIpc::WithoutShm),
        Ipc::Container(other) => other,
    };
    let joined = || -> Result<OwnIpc> {
        let (found, run) = running(shared, other)?;
        match found.record().config.sharing.ipc {
            Ipc::Shareable | Ipc::Container(_) => Ok(OwnIpc::Joined(run.pod)),
            Ipc::Private | Ipc::WithoutShm | Ipc::Host => Err(Error::invalid(
                "non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
            )),
        }
    };
    joined().with_context(|| format!("can't join IPC of container {other}"))
}

fn pid_of(shared: &Shared, other: &str) -> Result<ContainerId> {
    let found = running(shared, other);
    let (found, _) = found.with_context(|| format!("can't join PID namespace of {other}"))?;
    Ok(found.id.clone())
}

fn running(shared: &Shared, other: &str) -> Result<(Arc<Standalone>, Run)> {
    let found = shared.standalones.find(other)?;
    let record = found.record();
    match &record.state {
        State::Running(run) => Ok((found.clone(), run.clone())),
        State::Restarting(_) => Err(Error::wrong_state(format!(
            "Container {} is restarting, wait until the container is running",
            found.id
        ))),
        State::Created { .. } | State::Exited { .. } => {
            Err(Error::wrong_state(format!("container {} is not running", found.id)))
        }
    }
}
