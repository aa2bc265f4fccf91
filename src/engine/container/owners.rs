//! Whose the files of a container are: user namespaces by which mounts are mapped.
//!
//! The daemon never makes a namespace. The monitor has the pod's own and can make others, and
//! passes them out.

use std::os::fd::{AsFd, OwnedFd};

use crate::engine::pod::Pod;
use crate::error::{Context, Error, Result};
use crate::executor::plan::UserNamespace;
use crate::image::Owners;
use crate::monitor::protocol::{Reply, Request};

/// The pod's users, held open.
pub(in crate::engine) struct PodOwners {
    namespace: OwnedFd,
    root: (u32, u32),
}

impl PodOwners {
    /// `None`: the pod's users are the host's.
    pub(in crate::engine) async fn open(pod: &Pod) -> Result<Option<Self>> {
        let config = pod.record().config.clone();
        let Some(users) = &config.user_namespace else { return Ok(None) };
        Ok(Some(Self { namespace: open(pod, users).await?, root: config.root_on_host() }))
    }

    pub(in crate::engine) fn of_files(&self) -> Owners<'_> {
        Owners { namespace: self.namespace.as_fd(), root: self.root }
    }
}

/// One user namespace for each.
pub(super) async fn open_all(
    pod: &Pod,
    wanted: Vec<UserNamespace>,
) -> Result<Vec<(UserNamespace, OwnedFd)>> {
    let mut opened = Vec::with_capacity(wanted.len());
    for users in wanted {
        let namespace = open(pod, &users).await?;
        opened.push((users, namespace));
    }
    Ok(opened)
}

async fn open(pod: &Pod, users: &UserNamespace) -> Result<OwnedFd> {
    let request = Request::OpenUserNamespace(users.clone());
    let (reply, descriptors) =
        pod.monitor()?.call(request, Vec::new()).await.context("open a user namespace")?;
    match (reply, descriptors.into_iter().next()) {
        (Reply::UserNamespace, Some(namespace)) => Ok(namespace),
        (reply, _) => {
            Err(Error::internal(format!("the monitor answered {reply:?} to OpenUserNamespace")))
        }
    }
}
