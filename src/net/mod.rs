//! The pods' network: one handle for the engine, two providers behind it.
//!
//! ```text
//!   Network ── mode ──┬── builtin: bridge (+ leases), ports (+ nft)   all over netlink, in process
//!                     └── cni: plugins of the operator, executed
//!   pure or read-only beside them: dns_files, stats
//! ```
//!
//! A pod's network namespace is its monitor's. We never enter it: what is done inside goes over a
//! netlink socket that the monitor opened there.
//!
//! Netlink calls run on the blocking pool, a whole attach in one hop. They take microseconds, but
//! the kernel has one lock for all interfaces and holds it for tens of milliseconds while it takes
//! a dead namespace down; the two threads that serve every call must not wait for that.

pub(crate) mod bridge;
pub(crate) mod cni;
pub(crate) mod dns_files;
mod host_ports;
pub(crate) mod leases;
pub(crate) mod netlink;
pub(crate) mod networks;
pub(crate) mod nft;
mod pod;
mod pod_names;
pub(crate) mod ports;
#[cfg(test)]
mod ports_tests;
pub(crate) mod sockets;
pub(crate) mod stats;
mod sysctls;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::Ipv4Net;
use serde_json::{Map, Value, json};
use tokio_util::task::TaskTracker;

use self::bridge::{Addresses, Bridge, BridgeConfig, Held, Port};
use self::cni::{Cni, CniConfig};
use self::netlink::Socket;
pub(crate) use self::netlink::route::HardwareAddress;
use self::networks::Networks;
use self::nft::{Net, Reach};
pub(crate) use self::pod::{
    Attachment, Family, PodIdentity, PodNetworkRequest, PodSocket, PortMapping, Protocol, Provider,
};
pub(crate) use self::pod_names::NamePorts;
use self::ports::{Ports, Published};
use crate::config::NetworkMode;
use crate::error::{Context, Result};
use crate::id::PodId;

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) mode: NetworkMode,
    pub(crate) bridge: String,
    /// Name of the nftables table.
    pub(crate) table: String,
    pub(crate) subnet: Ipv4Net,
    pub(crate) cni_config_dirs: Vec<PathBuf>,
    pub(crate) cni_plugin_dirs: Vec<PathBuf>,
    pub(crate) cni_timeout: Duration,
    /// The daemon's state directory: `leases/` and `cni/` are made in it.
    pub(crate) state: PathBuf,
}

/// Between two tries of a CNI DEL that is owed.
const RETRY: Duration = Duration::from_secs(5);

/// The network as the engine sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mode: NetworkMode,
    cni: Cni,
    builtin: Mutex<Slot>,
    bridge: BridgeConfig,
    table: String,
    /// Leases of the networks that clients made.
    leases_of_networks: PathBuf,
    /// Interfaces that are being deleted behind the back of a finished detach.
    removals: TaskTracker,
    /// Held by the one task that pays the DELs owed.
    paying: Arc<tokio::sync::Mutex<()>>,
}

/// The built-in network is made when it is first needed: a node with CNI never sees a bridge.
#[derive(Debug)]
enum Slot {
    /// With what surviving pods have.
    Unused(Vec<Published>),
    Open(Arc<Builtin>),
}

#[derive(Debug)]
struct Builtin {
    bridge: Bridge,
    ports: Ports,
    networks: Networks,
}

impl Network {
    /// Opens the network in the calling thread's network namespace. `survivors` are the pods of an
    /// earlier daemon that have an address of the built-in network. A built-in network that cannot be set up does not fail
    /// the daemon: [`Network::ready`] says why, and every use tries again.
    pub(crate) fn open(config: Config, survivors: Vec<Published>) -> Result<Self> {
        let cni = Cni::open(CniConfig {
            config_dirs: config.cni_config_dirs,
            plugin_dirs: config.cni_plugin_dirs,
            timeout: config.cni_timeout,
            records: config.state.join("cni"),
        })?;
        let leases = config.state.join("leases");
        // Pods that came by the bridge go by it, whatever is configured now.
        let is_in_use = !survivors.is_empty() || bridge::has_leases(&leases);
        let is_needed = match config.mode {
            NetworkMode::Builtin => true,
            NetworkMode::Cni => is_in_use,
            NetworkMode::Auto => is_in_use || !cni.is_configured().unwrap_or(true),
        };
        let shared = Shared {
            mode: config.mode,
            cni,
            builtin: Mutex::new(Slot::Unused(survivors)),
            bridge: BridgeConfig {
                name: config.bridge,
                addresses: Addresses::Preferred(config.subnet),
                ipv6: None,
                mtu: None,
                leases,
                network: None,
            },
            table: config.table,
            leases_of_networks: config.state.join("networks"),
            removals: TaskTracker::new(),
            paying: Arc::default(),
        };
        if is_needed && let Err(error) = shared.builtin() {
            tracing::warn!(error = error.chain(), "the built-in network is not ready");
        }
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Gives the pod a network. After an error nothing of it is left, or what is left is recorded
    /// and taken back by [`Network::detach`] or [`Network::collect`].
    pub(crate) async fn attach(&self, request: PodNetworkRequest) -> Result<Attachment> {
        match self.shared.provider()? {
            Provider::Builtin => self.blocking(move |shared| shared.attach(&request)).await,
            Provider::Cni => {
                let socket = request.socket.clone();
                self.blocking(move |_| bridge::raise_loopback(&socket)).await?;
                let arguments = capability_arguments(&request);
                let added = self.shared.cni.add(&request.identity, &request.netns, arguments).await;
                if added.is_err() {
                    self.pay_later();
                }
                added
            }
        }
    }

    /// Leaves a network namespace alone with its loopback.
    pub(crate) async fn isolate(&self, socket: PodSocket) -> Result<()> {
        self.blocking(move |_| bridge::raise_loopback(&socket)).await
    }

    /// What went through pods of the built-in network, by the host's end of each: [`Attachment::host_interface`].
    /// One that is gone is left out.
    pub(crate) async fn usage(
        &self,
        ends: Vec<String>,
    ) -> Result<HashMap<String, stats::Counters>> {
        if ends.is_empty() {
            return Ok(HashMap::new());
        }
        self.blocking(move |_| {
            // A socket of its own: the bridge's is taken while an interface is made or deleted.
            let mut host =
                Socket::open(netlink::Protocol::Route).context("open a netlink socket")?;
            stats::peers(&mut host, &ends)
        })
        .await
    }

    /// Asks whether the pod's network is still as it was made; for a pod of an earlier daemon.
    pub(crate) async fn check(
        &self,
        attachment: &Attachment,
        pod: &PodId,
        netns: &Path,
    ) -> Result<()> {
        match attachment.provider {
            Provider::Builtin => Ok(()),
            Provider::Cni => self.shared.cni.check(pod, netns).await,
        }
    }

    /// What the pod's namespace needs to be told before it is attached: a neighbour on the bridge
    /// must not make itself the pod's IPv6 router. `has_own_networks`: it may come into networks that
    /// clients made, which are ours whatever the node's is.
    pub(crate) fn pod_sysctls(
        &self,
        has_own_networks: bool,
    ) -> Result<&'static [(&'static str, &'static str)]> {
        const WITH_IPV6: &[(&str, &str)] = &[("net.ipv6.conf.default.accept_ra", "0")];
        // A kernel without IPv6 does not have the file.
        let has_ipv6 = Path::new("/proc/sys/net/ipv6").exists();
        let is_ours = has_own_networks || self.shared.provider()? == Provider::Builtin;
        Ok(if is_ours && has_ipv6 { WITH_IPV6 } else { &[] })
    }

    /// Takes the pod's network back, whoever gave it; what is gone already is fine. `netns` is
    /// given only while the pod's monitor surely lives: a stale `/proc` path may be a stranger's.
    ///
    /// Published ports are gone when this returns. The kernel needs tens of milliseconds to delete
    /// an interface and nobody has to wait for it; the address is given back after that.
    pub(crate) async fn detach(&self, pod: &PodId, netns: Option<&Path>) -> Result<()> {
        self.shared.cni.delete(pod, netns).await?;
        let Some(builtin) = self.shared.opened() else { return Ok(()) };
        let id = pod.clone();
        let in_use = Arc::clone(&builtin);
        self.blocking(move |_| in_use.ports.unpublish(&id)).await?;
        let id = pod.clone();
        self.shared.removals.spawn_blocking(move || {
            // The lease stays after a failure, and `collect` finds it.
            if let Err(error) = builtin.leave_all(&id) {
                tracing::warn!(pod = %id, error = error.chain(), "delete the pod's interface");
            }
        });
        Ok(())
    }

    /// Waits until no interface is being deleted.
    pub(crate) async fn settle(&self) {
        self.shared.removals.close();
        self.shared.removals.wait().await;
        self.shared.removals.reopen();
    }

    /// Fails with the reason why no pod can get a network now.
    pub(crate) async fn ready(&self) -> Result<()> {
        // Directories are read for the answer, and plugins are processes: not on the thread of who asks, which is the door's.
        let (network, here) = (self.clone(), tokio::runtime::Handle::current());
        let asked = tokio::task::spawn_blocking(move || here.block_on(network.find_ready()));
        asked.await.context("network task")?
    }

    async fn find_ready(&self) -> Result<()> {
        match self.shared.provider()? {
            Provider::Cni => self.shared.cni.ready().await,
            Provider::Builtin => {
                self.blocking(|shared| {
                    let builtin = shared.builtin()?;
                    builtin.bridge.check()?;
                    builtin.ports.ensure()
                })
                .await
            }
        }
    }

    /// Takes back what belongs to no living pod: leases and interfaces, and DELs still owed.
    pub(crate) async fn collect(&self, living: BTreeSet<PodId>) -> Result<()> {
        let owed = self.shared.cni.collect(&living).await;
        self.pay_later();
        self.blocking(move |shared| {
            let Some(builtin) = shared.opened() else { return Ok(()) };
            for pod in builtin.holders() {
                if !living.contains(&pod) {
                    builtin.ports.unpublish(&pod)?;
                    builtin.leave_all(&pod)?;
                }
            }
            Ok(())
        })
        .await?;
        owed
    }

    /// Asks plugins that could not take back what a dead pod had again and again, until they can.
    fn pay_later(&self) {
        let cni = &self.shared.cni;
        let (true, Ok(turn)) = (cni.is_owing(), Arc::clone(&self.shared.paying).try_lock_owned())
        else {
            return;
        };
        let network = self.clone();
        tokio::spawn(async move {
            let mut tries = tokio::time::interval(RETRY);
            // The first tick comes at once, and the plugin was just asked.
            tries.tick().await;
            while network.shared.cni.is_owing() {
                tries.tick().await;
                network.shared.cni.pay().await;
            }
            drop(turn);
            // A debt that came while the turn was ours has nobody else.
            network.pay_later();
        });
    }

    /// Removes the rules and the bridge; for when the last pod is gone for good.
    pub(crate) async fn remove(&self) -> Result<()> {
        self.settle().await;
        self.blocking(|shared| {
            let Some(builtin) = shared.opened() else { return Ok(()) };
            builtin.ports.remove()?;
            builtin.networks.remove_bridges()?;
            builtin.bridge.remove()
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || job(&shared)).await;
        done.context("network task")?
    }
}

impl Shared {
    fn provider(&self) -> Result<Provider> {
        Ok(match self.mode {
            NetworkMode::Builtin => Provider::Builtin,
            NetworkMode::Cni => Provider::Cni,
            NetworkMode::Auto if self.cni.is_configured()? => Provider::Cni,
            NetworkMode::Auto => Provider::Builtin,
        })
    }

    fn builtin(&self) -> Result<Arc<Builtin>> {
        let mut slot = self.builtin.lock().unwrap_or_else(PoisonError::into_inner);
        let survivors = match &*slot {
            Slot::Open(builtin) => return Ok(Arc::clone(builtin)),
            Slot::Unused(survivors) => survivors,
        };
        let bridge = Bridge::open(&self.bridge)?;
        for Published { pod, address, .. } in survivors {
            bridge.restore(pod, Held { ipv4: *address, ipv6: None })?;
        }
        let net = Net {
            bridge: bridge.name().to_owned(),
            subnet: bridge.subnet(),
            ipv6: None,
            reach: Reach::Masqueraded,
        };
        let ports = Ports::open(&self.table, vec![net], survivors)?;
        let networks = Networks::new(self.leases_of_networks.clone());
        let builtin = Arc::new(Builtin { bridge, ports, networks });
        watch_rules(&builtin)?;
        *slot = Slot::Open(Arc::clone(&builtin));
        Ok(builtin)
    }

    /// The built-in network if any pod may have it.
    fn opened(&self) -> Option<Arc<Builtin>> {
        match &*self.builtin.lock().unwrap_or_else(PoisonError::into_inner) {
            Slot::Open(builtin) => Some(Arc::clone(builtin)),
            Slot::Unused(_) => None,
        }
    }

    fn attach(&self, request: &PodNetworkRequest) -> Result<Attachment> {
        use std::os::fd::AsFd;

        let builtin = self.builtin()?;
        let pod = &request.identity.pod;
        let netns = std::fs::File::open(&request.netns)
            .with_context(|| format!("open {}", request.netns.display()))?;
        let mut port = Port::only();
        port.wish.hardware = request.hardware_address;
        let made = builtin.bridge.attach(pod, netns.as_fd(), &request.socket, &port)?;
        let published = Published {
            pod: pod.clone(),
            address: made.address.addr(),
            ipv6: None,
            mappings: request.ports.clone(),
        };
        let checked = published.check();
        if let Err(error) = checked.and_then(|()| builtin.ports.publish(&published)) {
            if let Err(error) = builtin.bridge.detach(pod) {
                tracing::warn!(%pod, error = error.chain(), "undo a failed attach");
            }
            return Err(error);
        }
        Ok(made.into_attachment(bridge::POD_INTERFACE))
    }
}

impl Builtin {
    /// Every pod that has an address of any bridge.
    fn holders(&self) -> BTreeSet<PodId> {
        let own = self.bridge.leases().all().into_iter().map(|(pod, _)| pod);
        own.chain(self.networks.holders()).collect()
    }

    /// Takes the pod from every bridge; what is gone already is fine.
    fn leave_all(&self, pod: &PodId) -> Result<()> {
        if self.bridge.leases().of(pod).is_some() {
            self.bridge.detach(pod)?;
        }
        self.networks.leave_all(pod)
    }
}

/// Writes the rules again as soon as somebody else deleted them: until then a port published on
/// one address, or not at all, could be reached by others.
fn watch_rules(builtin: &Arc<Builtin>) -> Result<()> {
    let builtin = Arc::downgrade(builtin);
    nft::watch::spawn(move |wake| {
        let Some(builtin) = builtin.upgrade() else { return false };
        if wake == nft::watch::Wake::Deleted
            && let Err(error) = builtin.ports.ensure()
        {
            tracing::warn!(error = error.chain(), "write the nftables rules again");
        }
        true
    })
}

/// What CNI plugins may ask for by a capability; each gets only what its configuration names.
fn capability_arguments(request: &PodNetworkRequest) -> Map<String, Value> {
    let mut arguments = Map::new();
    if !request.ports.is_empty() {
        let ports: Vec<Value> = request
            .ports
            .iter()
            .map(|port| {
                json!({
                    "hostPort": port.host_port,
                    "containerPort": port.container_port,
                    "protocol": port.protocol.as_str(),
                    "hostIP": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
                })
            })
            .collect();
        arguments.insert("portMappings".to_owned(), ports.into());
    }
    if let Some(dns) = &request.dns {
        let dns = json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options});
        arguments.insert("dns".to_owned(), dns);
    }
    if let Some(bandwidth) = cni::bandwidth::of(&request.annotations) {
        arguments.insert("bandwidth".to_owned(), bandwidth);
    }
    if let Some(address) = request.hardware_address {
        arguments.insert("mac".to_owned(), address.to_string().into());
    }
    if !request.cgroup_parent.is_empty() {
        arguments.insert("cgroupPath".to_owned(), request.cgroup_parent.clone().into());
    }
    arguments.insert("aliases".to_owned(), json!([request.identity.name]));
    arguments.insert("io.kubernetes.cri.pod-annotations".to_owned(), json!(request.annotations));
    arguments
}
