//! Published ports: who holds which port of the host, and its elements in the packet filter.
//!
//! The packet filter is the working copy and is rebuilt from the pods' records at start
//! ([`Ports::open`]); the table here answers who is in the way. Publishing is all or nothing.

mod reservation;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

pub(crate) use self::reservation::{HostPort, PortRequest};
use super::nft::{Element, Net, Ruleset};
use super::{Family, PortMapping, Protocol, host_ports};
use crate::error::{Context, Error, Kind, Result};
use crate::id::PodId;

/// The dynamic ports of RFC 6335 begin here.
const FIRST_FREE: u16 = 49_152;

/// What a pod publishes, and the address it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) pod: PodId,
    pub(crate) address: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) mappings: Vec<PortMapping>,
}

impl Published {
    /// What may be asked of a new pod. One whose network with IPv6 was taken from it goes without
    /// those of its ports that were there only.
    ///
    /// # Errors
    /// `Unsupported` for a port on an IPv6 address of the host without an IPv6 address of the pod.
    pub(crate) fn check(&self) -> Result<()> {
        if self.ipv6.is_some() {
            return Ok(());
        }
        for mapping in &self.mappings {
            if let Some(IpAddr::V6(host)) = mapping.host_ip.map(|it| it.to_canonical())
                && !host.is_unspecified()
            {
                let port = mapping.host_port;
                let message = format!("host port {port} on {host}: the network has no IPv6");
                return Err(Error::new(Kind::Unsupported, message));
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Ports {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    ruleset: Ruleset,
    held: Held,
    /// By us: then nobody writes it again.
    is_removed: bool,
    /// Chosen for pods that have not published them yet.
    reserved: BTreeSet<(Protocol, u16)>,
    /// Where the search for a free port goes on.
    next_free: u16,
}

/// The elements of each pod, and the pods that hold each port.
#[derive(Debug, Default)]
struct Held {
    pods: BTreeMap<PodId, Vec<Element>>,
    ports: BTreeMap<(Protocol, u16), Vec<Holder>>,
}

/// On which address of the host (every one of its family, if it is unspecified), and who.
type Holder = (IpAddr, PodId);

impl Ports {
    /// Installs the rules in the calling thread's network namespace, with what the surviving pods
    /// publish. Of two that hold the same port the first keeps it; the other is only logged, for
    /// a daemon must start.
    pub(crate) fn open(table: &str, nets: Vec<Net>, published: &[Published]) -> Result<Self> {
        let mut held = Held::default();
        for published in published {
            match held.claim(published) {
                Ok(elements) => held.insert(&published.pod, elements),
                Err(error) => {
                    tracing::warn!(pod = %published.pod, error = error.chain(), "port not restored");
                }
            }
        }
        let elements: Vec<Element> = held.pods.values().flatten().copied().collect();
        let ruleset = Ruleset::install(table, nets, &elements)?;
        Ok(Self {
            table: Mutex::new(Table {
                ruleset,
                held,
                is_removed: false,
                reserved: BTreeSet::new(),
                next_free: FIRST_FREE,
            }),
        })
    }

    pub(crate) fn publish(&self, published: &Published) -> Result<()> {
        if published.mappings.is_empty() {
            return Ok(());
        }
        let mut table = self.lock();
        let elements = table.held.claim(published)?;
        elements.iter().try_for_each(check_host)?;
        match table.ruleset.add(&elements) {
            // Not known to us: somebody else wrote into our table, or flushed it.
            Err(refused) if matches!(refused.errno, Errno::EXIST | Errno::NOENT) => {
                let mut all: Vec<Element> = table.held.pods.values().flatten().copied().collect();
                all.extend(&elements);
                table.ruleset.replace(&all)?;
            }
            other => other.context("publish the pod's ports")?,
        }
        table.forget_flows(&elements);
        table.held.insert(&published.pod, elements);
        Ok(())
    }

    /// Takes the pod's ports back; a pod that holds none is fine.
    pub(crate) fn unpublish(&self, pod: &PodId) -> Result<()> {
        let mut table = self.lock();
        let Some(elements) = table.held.pods.get(pod).cloned() else { return Ok(()) };
        table.ruleset.remove_elements(&elements).context("take the pod's ports back")?;
        table.forget_flows(&elements);
        table.held.remove(pod);
        Ok(())
    }

    /// Publishes what `from` publishes no more: a port that both have changes hands at once. Connections stay with the
    /// pod that they were made to.
    ///
    /// # Errors
    /// As when a pod publishes; then `from` has what it had.
    pub(crate) fn hand_over(&self, published: &Published, from: &PodId) -> Result<()> {
        let mut table = self.lock();
        let gone = table.held.pods.get(from).cloned().unwrap_or_default();
        table.held.remove(from);
        match table.exchange(published, &gone) {
            Ok(come) => {
                table.forget_flows(&[gone, come.clone()].concat());
                table.held.insert(&published.pod, come);
                Ok(())
            }
            Err(error) => {
                table.held.insert(from, gone);
                Err(error)
            }
        }
    }

    /// Writes the whole table again if somebody flushed the host's rules.
    pub(crate) fn ensure(&self) -> Result<()> {
        let mut table = self.lock();
        if table.is_removed || table.ruleset.is_there()? {
            return Ok(());
        }
        tracing::warn!("the nftables rules were flushed by somebody else; writing them again");
        table.replace()
    }

    /// Lets this bridge's rules in; those of an earlier one of its name go.
    pub(crate) fn add_net(&self, net: Net) -> Result<()> {
        let mut table = self.lock();
        let nets = table.ruleset.nets_mut();
        nets.retain(|it| it.bridge != net.bridge);
        nets.push(net);
        table.replace()
    }

    /// Takes a bridge's rules out; one without any is fine. `has_ipv6`: an earlier daemon may have
    /// written rules of IPv6 for it.
    pub(crate) fn remove_net(&self, bridge: &str, has_ipv6: bool) -> Result<()> {
        let mut table = self.lock();
        if has_ipv6 {
            table.ruleset.find_ipv6();
        }
        table.ruleset.nets_mut().retain(|it| it.bridge != bridge);
        if table.is_removed { Ok(()) } else { table.replace() }
    }

    /// Removes every rule of ours.
    pub(crate) fn remove(&self) -> Result<()> {
        let mut table = self.lock();
        table.is_removed = true;
        table.ruleset.remove()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn replace(&mut self) -> Result<()> {
        let elements: Vec<Element> = self.held.pods.values().flatten().copied().collect();
        self.ruleset.replace(&elements)
    }

    /// The elements that these mappings get, in the place of those that are not held any more.
    fn exchange(&mut self, published: &Published, gone: &[Element]) -> Result<Vec<Element>> {
        let come = self.held.claim(published)?;
        let was_held = |element: &Element| {
            gone.iter().any(|it| {
                (it.host_address, it.protocol, it.host_port)
                    == (element.host_address, element.protocol, element.host_port)
            })
        };
        come.iter().filter(|it| !was_held(it)).try_for_each(check_host)?;
        match self.ruleset.exchange(gone, &come) {
            // Not as we left it: somebody else wrote into our table, or flushed it.
            Err(refused) if matches!(refused.errno, Errno::EXIST | Errno::NOENT) => {
                let held = self.held.pods.values().flatten();
                let all: Vec<Element> = held.chain(&come).copied().collect();
                self.ruleset.replace(&all)?;
            }
            other => other.context("hand the pod's ports over")?,
        }
        Ok(come)
    }

    fn forget_flows(&mut self, elements: &[Element]) {
        if let Err(refused) = self.ruleset.forget_flows(elements) {
            // The ports are right for new flows all the same.
            tracing::warn!(error = %refused, "forget the flows of the ports");
        }
    }
}

impl Held {
    /// The elements for these mappings, if nobody else holds their ports.
    fn claim(&self, published: &Published) -> Result<Vec<Element>> {
        let mut elements: Vec<Element> = Vec::with_capacity(published.mappings.len());
        let all = published.mappings.iter().map(|mapping| elements_of(mapping, published));
        for element in all.collect::<Result<Vec<_>>>()?.into_iter().flatten() {
            self.check_free(&element, &published.pod)?;
            let twin = elements.iter().find(|other| {
                (other.host_address, other.protocol, other.host_port)
                    == (element.host_address, element.protocol, element.host_port)
            });
            match twin {
                Some(twin) if *twin == element => {}
                Some(_) => {
                    let port = show(&element);
                    let message = format!("host port {port} is mapped to two container ports");
                    return Err(Error::invalid(message));
                }
                None => elements.push(element),
            }
        }
        Ok(elements)
    }

    /// Another pod on the same port is in the way if it is on the same address, or either of the
    /// two is on every address.
    fn check_free(&self, element: &Element, pod: &PodId) -> Result<()> {
        let (address, protocol) = (element.host_address, element.protocol);
        match self.holder(&[address], protocol, element.host_port, Some(pod)) {
            Some(holder) => {
                let message = format!("host port {} is in use by pod {holder}", show(element));
                Err(Error::new(Kind::AlreadyExists, message))
            }
            None => Ok(()),
        }
    }

    /// A pod, other than `own`, that has the port on one of these addresses.
    fn holder(
        &self,
        addresses: &[IpAddr],
        protocol: Protocol,
        port: u16,
        own: Option<&PodId>,
    ) -> Option<&PodId> {
        let mut holders = self.ports.get(&(protocol, port)).into_iter().flatten();
        let found = holders.find(|(other, holder)| {
            Some(holder) != own && addresses.iter().any(|address| meet(*address, *other))
        });
        found.map(|(_, holder)| holder)
    }

    fn insert(&mut self, pod: &PodId, elements: Vec<Element>) {
        for element in &elements {
            let holders = self.ports.entry((element.protocol, element.host_port)).or_default();
            holders.push((element.host_address, pod.clone()));
        }
        self.pods.entry(pod.clone()).or_default().extend(elements);
    }

    fn remove(&mut self, pod: &PodId) {
        for element in self.pods.remove(pod).into_iter().flatten() {
            let key = (element.protocol, element.host_port);
            if let Some(holders) = self.ports.get_mut(&key) {
                holders.retain(|(_, holder)| holder != pod);
                if holders.is_empty() {
                    self.ports.remove(&key);
                }
            }
        }
    }
}

/// Those of surviving pods are not looked at: whoever came later is in the wrong.
fn check_host(element: &Element) -> Result<()> {
    if !host_ports::is_taken(element.protocol, element.host_address, element.host_port) {
        return Ok(());
    }
    let message = format!("host port {} is in use by a program of the host", show(element));
    Err(Error::new(Kind::AlreadyExists, message))
}

/// One for each family in which the pod is reached by this mapping.
fn elements_of(mapping: &PortMapping, published: &Published) -> Result<Vec<Element>> {
    let port = mapping.host_port;
    if port == 0 || mapping.container_port == 0 {
        let message = format!("port mapping {port} to {} has port 0", mapping.container_port);
        return Err(Error::invalid(message));
    }
    let element = |host_address: IpAddr, pod_address: IpAddr| Element {
        host_address,
        protocol: mapping.protocol,
        host_port: port,
        pod_address,
        pod_port: mapping.container_port,
    };
    let (ipv4, ipv6) = (IpAddr::V4(published.address), published.ipv6.map(IpAddr::V6));
    let (any_ipv4, any_ipv6) = (Family::Ipv4.any(), Family::Ipv6.any());
    Ok(match (mapping.host_ip.map(|it| it.to_canonical()), ipv6) {
        (None, None) => vec![element(any_ipv4, ipv4)],
        (None, Some(ipv6)) => vec![element(any_ipv4, ipv4), element(any_ipv6, ipv6)],
        (Some(host @ IpAddr::V4(_)), _) => vec![element(host, ipv4)],
        (Some(host @ IpAddr::V6(_)), Some(ipv6)) => vec![element(host, ipv6)],
        // Whoever wants every address gets those that there are.
        (Some(IpAddr::V6(host)), None) if host.is_unspecified() => vec![element(any_ipv4, ipv4)],
        (Some(IpAddr::V6(_)), None) => Vec::new(),
    })
}

/// The addresses of the host that a mapping may be about, whatever network the pod is in.
fn host_addresses(host_ip: Option<IpAddr>) -> Vec<IpAddr> {
    match host_ip.map(|it| it.to_canonical()) {
        Some(address) if address.is_ipv4() || !address.is_unspecified() => vec![address],
        None | Some(_) => vec![Family::Ipv4.any(), Family::Ipv6.any()],
    }
}

/// Whether a packet may be for both.
fn meet(one: IpAddr, other: IpAddr) -> bool {
    let is_any = one.is_unspecified() || other.is_unspecified();
    one == other || (is_any && Family::of(one) == Family::of(other))
}

fn show(element: &Element) -> String {
    let (port, protocol) = (element.host_port, element.protocol.as_str());
    match element.host_address {
        address if address.is_unspecified() => format!("{port}/{protocol}"),
        IpAddr::V4(address) => format!("{address}:{port}/{protocol}"),
        IpAddr::V6(address) => format!("[{address}]:{port}/{protocol}"),
    }
}
