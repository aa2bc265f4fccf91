//! Networks that clients make: a bridge each, with a subnet and leases of its own, beside the node's.
//!
//! ```text
//!   host ─┬─ cais0         10.88.0.1/16 ── eth0 10.88.0.2    pod
//!         └─ br-4f0c81aa…  172.18.0.1/16 ─ eth1 172.18.0.2   the same pod
//! ```
//!
//! What a network is comes from the engine's records; here is what the kernel has of it. One packet
//! filter keeps all bridges apart (`nft`), and ports are published by one table for all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;

use super::bridge::{self, Addresses, Bridge, BridgeConfig, Port};
pub(crate) use super::bridge::{Held, Wish};
use super::leases::Pool;
use super::nft::{Net, Reach};
use super::ports::Published;
use super::sockets::Sockets;
use super::{Attachment, Network, PodSocket};
use crate::error::{Context, Error, Kind, Result};
use crate::id::{NetworkId, PodId};

/// What the kernel is to have of a network.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) id: NetworkId,
    /// At most 15 bytes.
    pub(crate) bridge: String,
    pub(crate) pool: Pool,
    pub(crate) ipv6: Option<Pool<Ipv6Addr>>,
    pub(crate) reach: Reach,
    /// `None`: that of the interface behind the default route.
    pub(crate) mtu: Option<u32>,
}

/// A pod that is to be on a network.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    /// `None`: the node's own, built in.
    pub(crate) network: Option<NetworkId>,
    pub(crate) pod: PodId,
    /// `/proc/<monitor>/ns/net`; the monitor must be alive.
    pub(crate) netns: PathBuf,
    pub(crate) socket: PodSocket,
    pub(crate) interface: String,
    pub(crate) wish: Wish,
}

#[derive(Debug)]
pub(super) struct Networks {
    /// A directory for each network.
    leases: PathBuf,
    open: Mutex<BTreeMap<NetworkId, Arc<Bridge>>>,
}

impl Networks {
    pub(super) fn new(leases: PathBuf) -> Self {
        Self { leases, open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NetworkId, Arc<Bridge>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Bridge>> {
        self.lock().values().cloned().collect()
    }

    fn find(&self, id: &NetworkId) -> Result<Arc<Bridge>> {
        let found = self.lock().get(id).cloned();
        found.ok_or_else(|| Error::not_found(format!("network {id} not found")))
    }

    pub(super) fn holders(&self) -> Vec<PodId> {
        let leases = self.all().into_iter().flat_map(|bridge| bridge.leases().all());
        leases.map(|(pod, _)| pod).collect()
    }

    pub(super) fn leave_all(&self, pod: &PodId) -> Result<()> {
        let all = self.all().into_iter();
        let mut on = all.filter(|bridge| bridge.leases().of(pod).is_some());
        on.try_for_each(|bridge| bridge.detach(pod))
    }

    pub(super) fn remove_bridges(&self) -> Result<()> {
        self.all().iter().try_for_each(|bridge| bridge.remove())
    }
}

impl Network {
    /// Makes the bridge and its rules, or finds those of an earlier daemon. `survivors` are the
    /// pods on it that live.
    pub(crate) async fn open_network(
        &self,
        plan: Plan,
        survivors: Vec<(PodId, Held)>,
    ) -> Result<()> {
        self.blocking(move |shared| {
            let builtin = shared.builtin()?;
            let bridge = Bridge::open(&BridgeConfig {
                name: plan.bridge.clone(),
                addresses: Addresses::Fixed(plan.pool.clone()),
                ipv6: plan.ipv6.clone(),
                mtu: plan.mtu,
                leases: builtin.networks.leases.join(plan.id.as_str()),
                network: Some(plan.id.clone()),
            })?;
            for (pod, held) in &survivors {
                bridge.restore(pod, *held)?;
            }
            let net = Net {
                bridge: plan.bridge.clone(),
                subnet: plan.pool.subnet,
                ipv6: plan.ipv6.map(|pool| pool.subnet),
                reach: plan.reach,
            };
            if let Err(error) = builtin.ports.add_net(net) {
                if let Err(error) = bridge.remove() {
                    tracing::warn!(network = %plan.id, error = error.chain(), "undo a network");
                }
                return Err(error);
            }
            builtin.networks.lock().insert(plan.id, Arc::new(bridge));
            Ok(())
        })
        .await
    }

    /// Removes bridge, rules and leases; what is gone already is fine. Nobody is on it any more.
    pub(crate) async fn close_network(&self, plan: Plan) -> Result<()> {
        // Those who left may still have their interfaces.
        self.settle().await;
        self.blocking(move |shared| {
            let builtin = shared.builtin()?;
            let open = builtin.networks.lock().remove(&plan.id);
            match open {
                Some(open) => open.remove()?,
                // This daemon could not open it, or did not get to the end of this before.
                None => bridge::remove_left(&plan.bridge)?,
            }
            builtin.ports.remove_net(&plan.bridge, plan.ipv6.is_some())?;
            let leases = builtin.networks.leases.join(plan.id.as_str());
            [bridge::ipv6_leases(&leases), leases].iter().try_for_each(|leases| {
                match std::fs::remove_dir_all(leases) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        Err(error).with_context(|| format!("remove {}", leases.display()))
                    }
                    Ok(()) | Err(_) => Ok(()),
                }
            })
        })
        .await
    }

    /// Puts the pod on the network. After an error nothing of it is left there.
    ///
    /// # Errors
    /// `NotFound` without such a network, `AlreadyExists` for an address that another pod has.
    pub(crate) async fn join(&self, join: Join) -> Result<Attachment> {
        let again = join.clone();
        match self.blocking(move |shared| shared.join(&join)).await {
            // Whoever had it may just be leaving.
            Err(error) if error.kind() == Kind::AlreadyExists => {
                self.settle().await;
                self.blocking(move |shared| shared.join(&again)).await
            }
            joined => joined,
        }
    }

    /// Takes the pod from the network; what is gone already is fine.
    pub(crate) async fn leave(&self, network: NetworkId, pod: PodId) -> Result<()> {
        self.blocking(move |shared| {
            let Some(builtin) = shared.opened() else { return Ok(()) };
            match builtin.networks.find(&network) {
                Ok(bridge) => bridge.detach(&pod),
                Err(_) => Ok(()),
            }
        })
        .await
    }

    /// Takes the pod from the node's own network; what is gone already is fine.
    pub(crate) async fn leave_node(&self, pod: PodId) -> Result<()> {
        self.blocking(move |shared| match shared.opened() {
            Some(builtin) => builtin.bridge.detach(&pod),
            None => Ok(()),
        })
        .await
    }

    /// Gives the pod's way out to one of its interfaces.
    pub(crate) async fn route(
        &self,
        socket: PodSocket,
        interface: String,
        gateway: IpAddr,
    ) -> Result<()> {
        self.blocking(move |_| bridge::set_default_route(&socket, &interface, gateway)).await
    }

    /// Publishes ports of a pod, in the place of what it published before.
    pub(crate) async fn publish(&self, published: Published) -> Result<()> {
        self.blocking(move |shared| {
            let builtin = shared.builtin()?;
            builtin.ports.unpublish(&published.pod)?;
            builtin.ports.publish(&published)
        })
        .await
    }

    /// Publishes ports of a pod, and takes those of another back at the same moment.
    pub(crate) async fn hand_over(&self, published: Published, from: PodId) -> Result<()> {
        self.blocking(move |shared| shared.builtin()?.ports.hand_over(&published, &from)).await
    }

    /// What the TCP sockets of the network namespace of this process are at.
    pub(crate) async fn sockets(&self, pid: i32) -> Result<Sockets> {
        self.blocking(move |_| Ok(Sockets::of(pid))).await
    }

    pub(crate) async fn unpublish(&self, pod: PodId) -> Result<()> {
        self.blocking(move |shared| match shared.opened() {
            Some(builtin) => builtin.ports.unpublish(&pod),
            None => Ok(()),
        })
        .await
    }

    /// What the host has a route to.
    pub(crate) async fn routed(&self) -> Result<Vec<Ipv4Net>> {
        self.blocking(|_| bridge::routed()).await
    }

    /// Subnet, gateway and bridge of the node's own network, once it is made.
    pub(crate) fn node_pool(&self) -> Option<(Ipv4Net, Ipv4Addr, String)> {
        let builtin = self.shared.opened()?;
        let bridge = &builtin.bridge;
        Some((bridge.subnet(), bridge.gateway(), bridge.name().to_owned()))
    }
}

impl super::Shared {
    fn join(&self, join: &Join) -> Result<Attachment> {
        let builtin = self.builtin()?;
        match &join.network {
            None => put(&builtin.bridge, join),
            Some(id) => put(&*builtin.networks.find(id)?, join),
        }
    }
}

fn put(bridge: &Bridge, join: &Join) -> Result<Attachment> {
    let netns = std::fs::File::open(&join.netns);
    let netns = netns.with_context(|| format!("open {}", join.netns.display()))?;
    let port = Port { interface: join.interface.clone(), wish: join.wish, has_route: false };
    let made = bridge.attach(&join.pod, netns.as_fd(), &join.socket, &port)?;
    Ok(made.into_attachment(&port.interface))
}
