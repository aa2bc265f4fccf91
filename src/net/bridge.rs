//! The built-in network: one bridge on the host, one veth pair and one address per pod.
//!
//! ```text
//!   host  ── cais0 10.88.0.1/16 ──┬── veth4f0c…  ◀──▶  eth0 10.88.0.2/16   pod
//!                                 └── veth81aa…  ◀──▶  eth0 10.88.0.3/16   pod
//! ```
//!
//! Attaching costs two batches and one question: the pair is made with its peer already in the
//! pod's namespace, then configured over a netlink socket that lives there. Nothing is executed
//! and nothing is waited for. The bridge is found again after a restart and keeps its subnet.
//!
//! Interfaces get no IPv6 address and take no router advertisements, unless the bridge was asked to
//! give such addresses: a pod must not become reachable by a protocol that nobody configured. Where
//! it gives them, both ends get their link-local address from us, too: the kernel would be a second
//! in looking for duplicates, and is what neighbours are asked from until then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::io::Errno;

use super::leases::{self, Leases, Pool};
use super::netlink::route::{HardwareAddress, Ipv6, Link, VethPair};
use super::netlink::{Batch, Protocol, Refused, Socket};
use super::pod::{Attachment, PodSocket, Provider};
use super::sysctls;
use crate::error::{Context, Error, Result};
use crate::id::{NetworkId, PodId};

pub(crate) const POD_INTERFACE: &str = "eth0";
/// The bridge's own address on the link, as Docker has it.
const LINK_LOCAL_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const LINK_LOCAL_PREFIX: u8 = 64;
/// The loopback interface is the first of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
const DEFAULT_MTU: u32 = 1500;

/// Tried in turn when the wanted subnet is taken; the first that no route of the host touches wins.
const SUBNETS: [[u8; 4]; 7] = [
    [10, 88, 0, 0],
    [10, 89, 0, 0],
    [10, 152, 0, 0],
    [10, 217, 0, 0],
    [172, 27, 0, 0],
    [172, 30, 0, 0],
    [192, 168, 0, 0],
];
const SUBNET_PREFIX: u8 = 16;

#[derive(Debug, Clone)]
pub(crate) struct BridgeConfig {
    pub(crate) name: String,
    pub(crate) addresses: Addresses,
    /// `None`: it has nothing to do with IPv6.
    pub(crate) ipv6: Option<Pool<Ipv6Addr>>,
    /// `None`: that of the interface behind the default route.
    pub(crate) mtu: Option<u32>,
    /// Where leases are kept; those of IPv6 addresses beside it.
    pub(crate) leases: PathBuf,
    /// Tells the interfaces of a pod apart that is on several bridges; `None` for the node's own.
    pub(crate) network: Option<NetworkId>,
}

/// Which addresses a bridge gives.
#[derive(Debug, Clone)]
pub(crate) enum Addresses {
    /// Those of this subnet, unless a route of the host is in the way: then those of the first
    /// free one of a built-in list.
    Preferred(Ipv4Net),
    /// These and no others.
    Fixed(Pool),
}

impl Addresses {
    fn wanted(&self) -> Pool {
        match self {
            Self::Preferred(subnet) => Pool::of(subnet.trunc()),
            Self::Fixed(pool) => pool.clone(),
        }
    }
}

/// How a pod is to be on a bridge.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    /// Inside the pod.
    pub(crate) interface: String,
    pub(crate) wish: Wish,
    /// Whether its way out is here.
    pub(crate) has_route: bool,
}

/// Addresses that a pod wants; `None`: any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) hardware: Option<HardwareAddress>,
}

impl Port {
    /// That of a pod which is on no other bridge.
    pub(crate) fn only() -> Self {
        Self { interface: POD_INTERFACE.to_owned(), wish: Wish::default(), has_route: true }
    }
}

/// What a pod got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeAttachment {
    pub(crate) host_interface: String,
    pub(crate) address: Ipv4Net,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) ipv6: Option<(Ipv6Net, Ipv6Addr)>,
    pub(crate) hardware_address: HardwareAddress,
    pub(crate) mtu: u32,
}

impl BridgeAttachment {
    fn addresses(&self) -> impl Iterator<Item = IpNet> {
        let ipv6 = self.ipv6.map(|(address, _)| IpNet::V6(address));
        std::iter::once(IpNet::V4(self.address)).chain(ipv6)
    }

    fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        let ipv6 = self.ipv6.map(|(_, gateway)| IpAddr::V6(gateway));
        std::iter::once(IpAddr::V4(self.gateway)).chain(ipv6)
    }

    pub(super) fn into_attachment(self, interface: &str) -> Attachment {
        Attachment {
            provider: Provider::Builtin,
            interface: interface.to_owned(),
            addresses: self.addresses().collect(),
            gateways: self.gateways().collect(),
            host_interface: Some(self.host_interface),
            hardware_address: Some(self.hardware_address.to_string()),
            mtu: Some(self.mtu),
            name_servers: Vec::new(),
            name_searches: Vec::new(),
            name_options: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Bridge {
    name: String,
    index: u32,
    mtu: u32,
    pool: Pool,
    network: Option<NetworkId>,
    ipv6: Ipv6,
    leases: Leases,
    second: Option<Second>,
    /// The kernel has one lock for all interfaces, so a second socket would gain nothing.
    host: Mutex<Socket>,
}

/// What a bridge has for IPv6.
#[derive(Debug)]
struct Second {
    pool: Pool<Ipv6Addr>,
    leases: Leases<Ipv6Addr>,
}

impl Second {
    fn net(&self, address: Ipv6Addr) -> Result<Ipv6Net> {
        Ipv6Net::new(address, self.pool.subnet.prefix_len()).context("IPv6 address")
    }
}

impl Bridge {
    /// Makes the bridge, or finds the one an earlier daemon made, in the calling thread's network
    /// namespace.
    pub(crate) fn open(config: &BridgeConfig) -> Result<Self> {
        let mut host = Socket::open(Protocol::Route)?;
        let describe = || format!("set up bridge {}", config.name);
        let (link, pool) = match host.link(&config.name).with_context(describe)? {
            Some(link) => adopt(&mut host, config, link).with_context(describe)?,
            None => create(&mut host, config).with_context(describe)?,
        };
        let leases = Leases::open(&config.leases, &pool)?;
        let second = match &config.ipv6 {
            None => None,
            Some(pool) => {
                let leases = Leases::open(&ipv6_leases(&config.leases), pool)?;
                Some(Second { pool: pool.clone(), leases })
            }
        };
        let ipv6 = sysctls::set(&config.name, second.is_some()).with_context(describe)?;
        let mut batch = Batch::new();
        batch.set_up_without_ipv6(link.index, ipv6);
        if let Some(second) = &second {
            batch.have_address(link.index, IpNet::V6(second.net(second.pool.gateway)?));
            batch.have_address(link.index, IpNet::V6(link_local(LINK_LOCAL_GATEWAY)?));
        }
        host.run(batch).with_context(describe)?;
        Ok(Self {
            name: config.name.clone(),
            index: link.index,
            mtu: link.mtu,
            pool,
            network: config.network.clone(),
            ipv6,
            leases,
            second,
            host: Mutex::new(host),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn subnet(&self) -> Ipv4Net {
        self.pool.subnet
    }

    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.pool.gateway
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Gives a living pod back what it had here.
    pub(super) fn restore(&self, pod: &PodId, held: Held) -> Result<()> {
        self.leases.restore(pod, held.ipv4)?;
        match (&self.second, held.ipv6) {
            (Some(second), Some(address)) => second.leases.restore(pod, address),
            _ => Ok(()),
        }
    }

    /// Gives the pod its loopback, its interface, address and route. After an error nothing of it
    /// is left on the host.
    pub(crate) fn attach(
        &self,
        pod: &PodId,
        netns: BorrowedFd<'_>,
        inside: &PodSocket,
        port: &Port,
    ) -> Result<BridgeAttachment> {
        let attachment = match self.lease(pod, &port.wish) {
            Ok(attachment) => attachment,
            Err(error) => {
                self.release(pod)?;
                return Err(error);
            }
        };
        let attached = self
            .connect(&attachment, netns, port)
            .and_then(|()| self.configure(&mut inside.lock(), &attachment, port))
            .and_then(|()| self.wake_up(&attachment));
        match attached {
            Ok(()) => Ok(attachment),
            Err(error) => {
                if let Err(error) = self.detach(pod) {
                    tracing::warn!(%pod, error = error.chain(), "undo a failed attach");
                }
                Err(error)
            }
        }
    }

    fn lease(&self, pod: &PodId, wish: &Wish) -> Result<BridgeAttachment> {
        let address = self.leases.take(pod, wish.ipv4)?;
        let ipv6 = self.second.as_ref().map(|second| {
            let address = second.leases.take(pod, wish.ipv6)?;
            Ok::<_, Error>((second.net(address)?, second.pool.gateway))
        });
        Ok(BridgeAttachment {
            host_interface: self.host_interface(pod),
            address: Ipv4Net::new(address, self.subnet().prefix_len()).context("pod address")?,
            gateway: self.gateway(),
            ipv6: ipv6.transpose()?,
            hardware_address: wish.hardware.unwrap_or_else(|| HardwareAddress::of(address)),
            mtu: self.mtu,
        })
    }

    fn release(&self, pod: &PodId) -> Result<()> {
        if let Some(second) = &self.second {
            second.leases.release(pod)?;
        }
        self.leases.release(pod)
    }

    /// Takes the interface and the address back; what is gone already is fine.
    pub(crate) fn detach(&self, pod: &PodId) -> Result<()> {
        // First the interface: until it is gone the address is in use.
        self.host().delete_link(&self.host_interface(pod)).context("detach the pod's interface")?;
        self.release(pod)
    }

    /// Deletes the bridge itself.
    pub(crate) fn remove(&self) -> Result<()> {
        Ok(self.host().delete_link(&self.name)?)
    }

    /// Fails if somebody deleted the bridge.
    pub(crate) fn check(&self) -> Result<()> {
        match self.host().link(&self.name)? {
            Some(link) if link.index == self.index && link.is_up => Ok(()),
            Some(link) if link.index == self.index => {
                Err(Error::wrong_state(format!("bridge {} is down", self.name)))
            }
            Some(_) | None => Err(Error::wrong_state(format!("bridge {} is gone", self.name))),
        }
    }

    fn connect(
        &self,
        attachment: &BridgeAttachment,
        netns: BorrowedFd<'_>,
        port: &Port,
    ) -> Result<()> {
        match self.make_pair(attachment, netns, port) {
            // Left by a daemon that died half way through this pod.
            Err(refused) if refused.errno == Errno::EXIST => {
                self.host().delete_link(&attachment.host_interface)?;
                Ok(self.make_pair(attachment, netns, port)?)
            }
            other => Ok(other?),
        }
    }

    fn make_pair(
        &self,
        attachment: &BridgeAttachment,
        netns: BorrowedFd<'_>,
        port: &Port,
    ) -> Result<(), Refused> {
        let mut batch = Batch::new();
        batch.add_veth(&VethPair {
            name: &attachment.host_interface,
            bridge: self.index,
            mtu: attachment.mtu,
            peer_name: &port.interface,
            peer_address: attachment.hardware_address,
            peer_netns: netns,
        });
        batch.set_port_up(&attachment.host_interface, self.ipv6);
        self.host().run(batch)
    }

    fn configure(
        &self,
        inside: &mut Socket,
        attachment: &BridgeAttachment,
        port: &Port,
    ) -> Result<()> {
        let link = inside.link(&port.interface).context("configure the pod's interface")?;
        let index = link.context("the pod's interface did not appear in its namespace")?.index;
        let mut batch = Batch::new();
        batch.set_up(LOOPBACK_INDEX);
        batch.set_up_without_ipv6(index, self.ipv6);
        for address in attachment.addresses() {
            batch.add_address(index, address);
        }
        if attachment.ipv6.is_some() {
            let own = link_local(attachment.hardware_address.link_local())?;
            batch.add_address(index, IpNet::V6(own));
        }
        if port.has_route {
            for gateway in attachment.gateways() {
                batch.add_default_route(index, gateway);
            }
        }
        inside.run(batch).context("configure the pod's interface")
    }

    /// The host's end was raised while its peer was down, and the bridge was down if this is its
    /// first port. Both have their carrier now, but the kernel lets them send only after a
    /// deferred job of its own; packets before that are lost, and a connection waits a second.
    /// Asking for a link makes Linux do its job at once (since 6.8; before, it is just soon).
    fn wake_up(&self, attachment: &BridgeAttachment) -> Result<()> {
        // In this order: the bridge gets its carrier from the port.
        let mut batch = Batch::new();
        batch.get_link(&attachment.host_interface);
        batch.get_link(&self.name);
        Ok(self.host().run(batch)?)
    }

    /// 15 bytes are allowed; 11 digits of the ids do not meet by chance.
    fn host_interface(&self, pod: &PodId) -> String {
        let digits = |id: &str| u64::from_str_radix(id.get(..11).unwrap_or_default(), 16);
        let network = self.network.as_ref().map_or("0", NetworkId::as_str);
        let mixed = digits(pod.as_str()).unwrap_or(0) ^ digits(network).unwrap_or(0);
        format!("veth{mixed:011x}")
    }

    fn host(&self) -> MutexGuard<'_, Socket> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a pod has on a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

fn link_local(address: Ipv6Addr) -> Result<Ipv6Net> {
    Ipv6Net::new(address, LINK_LOCAL_PREFIX).context("link-local address")
}

/// Beside the other ones, which are all that their directory holds.
pub(super) fn ipv6_leases(leases: &Path) -> PathBuf {
    leases.with_added_extension("ipv6")
}

/// Raises the loopback of a network namespace and nothing else.
pub(crate) fn raise_loopback(inside: &PodSocket) -> Result<()> {
    let mut batch = Batch::new();
    batch.set_up(LOOPBACK_INDEX);
    inside.lock().run(batch).context("raise the pod's loopback")
}

/// Gives the pod's way out to this interface of its.
pub(crate) fn set_default_route(
    inside: &PodSocket,
    interface: &str,
    gateway: IpAddr,
) -> Result<()> {
    let mut inside = inside.lock();
    let link = inside.link(interface)?;
    let link = link.with_context(|| format!("the pod has no interface {interface}"))?;
    let mut batch = Batch::new();
    batch.set_default_route(link.index, gateway);
    inside.run(batch).context("set the pod's default route")
}

/// Deletes a bridge of this name that nobody opened; one that is gone, or no bridge, is left alone.
pub(super) fn remove_left(name: &str) -> Result<()> {
    let mut host = Socket::open(Protocol::Route)?;
    match host.link(name)? {
        Some(link) if link.is_bridge => Ok(host.delete_link(name)?),
        Some(_) | None => Ok(()),
    }
}

/// What the host has a route to.
pub(crate) fn routed() -> Result<Vec<Ipv4Net>> {
    let routes = Socket::open(Protocol::Route)?.routes()?;
    Ok(routes.iter().map(|route| route.destination).collect())
}

fn create(host: &mut Socket, config: &BridgeConfig) -> Result<(Link, Pool)> {
    let mut pool = config.addresses.wanted();
    if let Addresses::Preferred(_) = config.addresses {
        let taken: Vec<Ipv4Net> = host.routes()?.iter().map(|route| route.destination).collect();
        let subnet = choose_subnet(pool.subnet, &taken)
            .context("every subnet we know meets a route of the host")?;
        if subnet != pool.subnet {
            tracing::warn!(wanted = %pool.subnet, taken = %subnet, "the host routes the subnet");
            pool = Pool::of(subnet);
        }
    }
    let mtu = match config.mtu {
        Some(mtu) => mtu,
        None => uplink_mtu(host)?,
    };
    let mut batch = Batch::new();
    batch.add_bridge(&config.name, HardwareAddress::of(pool.gateway), mtu);
    host.run(batch)?;
    let link = host.link(&config.name)?.context("the new bridge is not there")?;
    let prefix = pool.subnet.prefix_len();
    let address = Ipv4Net::new(pool.gateway, prefix).context("bridge address")?;
    let mut batch = Batch::new();
    batch.add_address(link.index, IpNet::V4(address));
    host.run(batch)?;
    Ok((link, pool))
}

/// An existing bridge keeps its subnet while pods may live in it.
fn adopt(host: &mut Socket, config: &BridgeConfig, link: Link) -> Result<(Link, Pool)> {
    if !link.is_bridge {
        let message = format!("an interface named {} exists and is no bridge", config.name);
        return Err(Error::wrong_state(message));
    }
    let wanted = config.addresses.wanted();
    let found = host.addresses()?.into_iter().find_map(|(index, address)| match address {
        IpNet::V4(net) if index == link.index => Some(net.trunc()),
        IpNet::V4(_) | IpNet::V6(_) => None,
    });
    match found {
        Some(found) if found == wanted.subnet => Ok((link, wanted)),
        Some(found) if has_leases(&config.leases) => {
            tracing::warn!(wanted = %wanted.subnet, kept = %found, "pods live in the old subnet");
            Ok((link, Pool::of(found)))
        }
        // Nobody lives there; or a daemon died between making the bridge and its address.
        Some(_) | None => {
            host.delete_link(&config.name)?;
            create(host, config)
        }
    }
}

/// Whether any pod may still live on the bridge.
pub(super) fn has_leases(directory: &Path) -> bool {
    let is_damaged = |name: &Path| name.extension().is_some_and(|it| it == leases::DAMAGED);
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| !is_damaged(Path::new(&entry.file_name())))
}

fn choose_subnet(wanted: Ipv4Net, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let others = SUBNETS
        .iter()
        .filter_map(|octets| Ipv4Net::new(Ipv4Addr::from(*octets), SUBNET_PREFIX).ok());
    std::iter::once(wanted).chain(others).find(|subnet| {
        // The default route meets everything and clashes with nothing.
        taken
            .iter()
            .filter(|taken| taken.prefix_len() > 0)
            .all(|taken| !taken.contains(&subnet.network()) && !subnet.contains(&taken.network()))
    })
}

/// Pods must not send what the host cannot pass on, as behind a tunnel.
fn uplink_mtu(host: &mut Socket) -> Result<u32> {
    let routes = host.routes()?;
    let uplink = routes
        .iter()
        .find(|route| route.destination.prefix_len() == 0)
        .and_then(|route| route.interface);
    let links = host.links()?;
    let link = links.iter().find(|link| Some(link.index) == uplink);
    Ok(link.map_or(DEFAULT_MTU, |link| link.mtu))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Instant;

    use super::super::testing::Netns;
    use super::*;
    use crate::error::Kind;

    struct Host {
        netns: Netns,
        state: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Self {
            Self { netns: Netns::new(), state: tempfile::tempdir().unwrap() }
        }

        fn open(&self, subnet: &str) -> Result<Bridge> {
            let config = BridgeConfig {
                name: "ct-br0".to_owned(),
                addresses: Addresses::Preferred(subnet.parse().unwrap()),
                ipv6: None,
                mtu: None,
                leases: self.state.path().join("leases"),
                network: None,
            };
            self.netns.run(move || Bridge::open(&config))
        }
    }

    fn attach(bridge: &Bridge, pod: &PodId, netns: &Netns) -> Result<BridgeAttachment> {
        let fd = netns.fd();
        bridge.attach(pod, fd.as_fd(), &netns.netlink(), &Port::only())
    }

    #[test]
    fn two_pods_reach_each_other_and_the_host_at_once() {
        let host = Host::new();
        let bridge = host.open("10.77.0.0/24").unwrap();
        let (one, two) = (Netns::for_pod(), Netns::for_pod());
        let first = attach(&bridge, &PodId::generate().unwrap(), &one).unwrap();
        let second = attach(&bridge, &PodId::generate().unwrap(), &two).unwrap();
        assert_eq!(first.address.to_string(), "10.77.0.2/24");
        assert_eq!(second.gateway, Ipv4Addr::new(10, 77, 0, 1));

        let to = (first.address.addr(), 80);
        let listener = one.run(move || TcpListener::bind(to).unwrap());
        for client in [&two, &host.netns, &one] {
            let started = Instant::now();
            let mut stream = client.run(move || TcpStream::connect(to).unwrap());
            // A lost packet is sent again after a second.
            assert!(started.elapsed().as_millis() < 900, "{:?}", started.elapsed());
            let (mut server, _) = listener.accept().unwrap();
            stream.write_all(b"hello").unwrap();
            let mut read = [0; 5];
            server.read_exact(&mut read).unwrap();
            assert_eq!(&read, b"hello");
        }
        // Loopback was raised as well.
        one.run(|| {
            TcpStream::connect(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
        })
        .unwrap();
    }

    #[test]
    fn a_pod_gets_no_ipv6_address_that_nobody_configured() {
        let host = Host::new();
        let bridge = host.open("10.77.0.0/24").unwrap();
        let pod = Netns::for_pod();
        let id = PodId::generate().unwrap();
        let attachment = attach(&bridge, &id, &pod).unwrap();

        assert_eq!(pod.ip("-6 addr show dev eth0"), "");
        assert_eq!(host.netns.ip("-6 addr show dev ct-br0"), "");
        let port = format!("-6 addr show dev {}", attachment.host_interface);
        assert_eq!(host.netns.ip(&port), "");
        let shown = pod.ip("addr show dev eth0");
        assert!(shown.contains(&attachment.hardware_address.to_string()), "{shown}");
        let port = host.netns.ip(&format!("-d link show dev {}", attachment.host_interface));
        assert!(port.contains("hairpin on"), "{port}");
    }

    #[test]
    fn detaching_twice_leaves_nothing_and_fails_never() {
        let host = Host::new();
        let bridge = host.open("10.77.0.0/24").unwrap();
        let (pod, id) = (Netns::for_pod(), PodId::generate().unwrap());
        let attachment = attach(&bridge, &id, &pod).unwrap();
        bridge.detach(&id).unwrap();
        bridge.detach(&id).unwrap();

        assert!(!host.netns.ip("link").contains(&attachment.host_interface));
        assert!(!pod.ip("link").contains("eth0"));
        assert_eq!(bridge.leases().all(), []);
    }

    #[test]
    fn a_failed_attach_leaves_nothing_on_the_host() {
        let host = Host::new();
        let bridge = host.open("10.77.0.0/24").unwrap();
        let before = host.netns.interfaces();
        let pod = Netns::for_pod();
        pod.ip("link add eth0 type veth peer name spare");

        let error = attach(&bridge, &PodId::generate().unwrap(), &pod).unwrap_err();

        assert!(error.chain().contains("create veth"), "{}", error.chain());
        assert_eq!(host.netns.interfaces(), before);
        assert_eq!(bridge.leases().all(), []);
    }

    #[test]
    fn a_half_made_pod_of_a_dead_daemon_is_made_anew() {
        let host = Host::new();
        let bridge = host.open("10.77.0.0/24").unwrap();
        let (pod, id) = (Netns::for_pod(), PodId::generate().unwrap());
        host.netns
            .ip(&format!("link add {} type veth peer name spare", bridge.host_interface(&id)));

        attach(&bridge, &id, &pod).unwrap();
    }

    #[test]
    fn a_restart_finds_the_bridge_its_subnet_and_its_leases() {
        let host = Host::new();
        let (pod, id) = (Netns::for_pod(), PodId::generate().unwrap());
        let bridge = host.open("10.88.0.0/16").unwrap();
        let address = attach(&bridge, &id, &pod).unwrap().address;
        let index = bridge.index;
        drop(bridge);
        // A route that would rule the subnet out if it were chosen again.
        host.netns.ip("link add other type veth peer name spare");
        host.netns.ip("addr add 10.88.200.1/24 dev other");

        let bridge = host.open("10.88.0.0/16").unwrap();

        assert_eq!(bridge.index, index);
        assert_eq!(bridge.leases().of(&id), Some(address.addr()));
        bridge.check().unwrap();
        bridge.remove().unwrap();
        assert_eq!(bridge.check().unwrap_err().kind(), Kind::WrongState);
    }

    #[test]
    fn a_changed_subnet_waits_until_no_pod_lives_in_the_old_one() {
        let host = Host::new();
        let (pod, id) = (Netns::for_pod(), PodId::generate().unwrap());
        let bridge = host.open("10.77.0.0/24").unwrap();
        attach(&bridge, &id, &pod).unwrap();

        let bridge = host.open("10.78.0.0/24").unwrap();
        assert_eq!(bridge.subnet().to_string(), "10.77.0.0/24");
        bridge.detach(&id).unwrap();

        let bridge = host.open("10.78.0.0/24").unwrap();
        assert_eq!(bridge.subnet().to_string(), "10.78.0.0/24");
        assert!(!host.netns.ip("addr").contains("10.77.0."));
    }

    #[test]
    fn an_interface_that_is_no_bridge_is_not_taken_over() {
        let host = Host::new();
        host.netns.ip("link add ct-br0 type veth peer name spare");
        let error = host.open("10.88.0.0/16").unwrap_err();
        assert!(error.chain().contains("is no bridge"), "{}", error.chain());
    }

    #[test]
    fn a_subnet_that_the_host_has_a_route_to_is_not_chosen() {
        let host = Host::new();
        host.netns.ip("link add other mtu 1400 type veth peer name spare");
        host.netns.ip("addr add 10.88.3.1/24 dev other");
        host.netns.ip("link set other up");
        host.netns.ip("route add default via 10.88.3.2");
        host.netns.ip("route add 10.89.64.0/18 via 10.88.3.2");

        let bridge = host.open("10.88.0.0/16").unwrap();

        assert_eq!(bridge.subnet().to_string(), "10.152.0.0/16");
        assert_eq!(bridge.mtu, 1400, "the uplink's MTU");
    }

    #[test]
    fn an_interface_in_the_pod_is_ready_within_milliseconds() {
        let host = Host::new();
        let bridge = host.open("10.77.0.0/24").unwrap();
        let mut times: Vec<_> = (0..15)
            .map(|_| {
                let (pod, id) = (Netns::for_pod(), PodId::generate().unwrap());
                let (fd, netlink) = (pod.fd(), pod.netlink());
                let start = Instant::now();
                bridge.attach(&id, fd.as_fd(), &netlink, &Port::only()).unwrap();
                let attached = start.elapsed();
                let start = Instant::now();
                bridge.detach(&id).unwrap();
                (attached, start.elapsed())
            })
            .collect();
        times.sort();
        // Other tests share the kernel's interface lock: far above the goal, far below a wait.
        assert!(times[times.len() / 2].0.as_millis() < 100, "{times:?}");
    }
}
