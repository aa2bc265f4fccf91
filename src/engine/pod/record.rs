//! What the next daemon must know of a pod, and what readers see of it: published whole, never
//! locked. Lives under the state directory, dies with the boot.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::phase::Phase;
use crate::cgroup::{self, Resources};
use crate::engine::networks::membership::NetworkRef;
use crate::engine::rendering::Rendering;
use crate::id::{NetworkId, PodId};
use crate::net::Attachment;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: PodId,
    pub(crate) config: Arc<Config>,
    /// Nanoseconds since the epoch.
    pub(crate) created_at: i64,
    pub(crate) phase: Phase,
    /// Parent of the containers' groups.
    pub(crate) cgroup: cgroup::Record,
    /// As UpdatePodSandboxResources said last; `None`: as in `config`.
    #[serde(default)]
    pub(crate) limits: Option<Limits>,
    /// When it became `Stopped`.
    #[serde(default)]
    pub(crate) stopped_at: i64,
    /// The per-pod process; `None` once it is gone.
    #[serde(default)]
    pub(crate) monitor_pid: Option<i32>,
    #[serde(default)]
    pub(crate) attachment: Option<Attachment>,
    /// Networks of Docker's clients that it is in.
    #[serde(default)]
    pub(crate) joined: BTreeMap<NetworkId, Attachment>,
    /// It asks for names at the server in it: it is, or was, in a network that a client made.
    #[serde(default)]
    pub(crate) asks_names: bool,
    /// Where its default route and its published ports are.
    #[serde(default)]
    pub(crate) way_out: Option<NetworkRef>,
    /// The same for IPv6.
    #[serde(default)]
    pub(crate) way_out_ipv6: Option<NetworkRef>,
    /// Whose ports these are, until all records say so: a daemon that dies meanwhile leaves it to the next one to go on.
    #[serde(default)]
    pub(crate) taken_from: Option<PodId>,
    #[serde(skip)]
    pub(crate) rendering: Rendering,
}

/// What the pod costs beside its containers, and what these may use together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) struct Limits {
    pub(crate) overhead: Option<Resources>,
    pub(crate) resources: Option<Resources>,
}

impl Record {
    pub(crate) fn limits(&self) -> Limits {
        self.limits.clone().unwrap_or_else(|| Limits {
            overhead: self.config.overhead.clone(),
            resources: self.config.resources.clone(),
        })
    }

    /// All that it is attached to.
    pub(crate) fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.attachment.iter().chain(self.joined.values())
    }

    pub(crate) fn attachment_of(&self, network: &NetworkRef) -> Option<&Attachment> {
        match network {
            NetworkRef::Node => self.attachment.as_ref(),
            NetworkRef::Custom(id) => self.joined.get(id),
        }
    }

    /// The primary address first; none with the host's network, or once stopped.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let attachment = match self.phase {
            Phase::Ready => self.attachment.as_ref(),
            Phase::Making | Phase::Stopped => None,
        };
        attachment.into_iter().flat_map(|it| &it.addresses).map(|address| address.addr())
    }
}
