//! The rtnetlink messages this crate needs, built and read with `netlink-packet-route`.
//!
//! Builders append to a [`Batch`]; readers ask a [`Socket`] and return plain structs. Interfaces
//! that do not exist yet are meant by name, so that one batch can make a link and configure it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use ipnet::{IpNet, Ipv4Net};
use netlink_packet_core::NetlinkSerializable;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::{ACK, Attributes, Batch, CREATE, EXCL, REPLACE, Refused, Socket};

/// Six bytes, shown as the kernel shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HardwareAddress(pub(crate) [u8; 6]);

impl HardwareAddress {
    /// A locally administered address that follows from an IPv4 address, so that a neighbour's
    /// cached entry stays right when the address passes to another pod.
    pub(crate) fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x0a, 0xca, a, b, c, d])
    }

    /// The address on the link that follows from it (RFC 4291, appendix A).
    pub(crate) fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let pair = |high, low| u16::from_be_bytes([high, low]);
        let end = [pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f)];
        let [one, two, three, four] = end;
        Ipv6Addr::new(0xfe80, 0, 0, 0, one, two, three, four)
    }
}

impl serde::Serialize for HardwareAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for HardwareAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|()| serde::de::Error::custom("no hardware address"))
    }
}

impl std::str::FromStr for HardwareAddress {
    type Err = ();

    /// Six pairs of digits between colons or hyphens. That of a group is no interface's.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 6];
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut pairs = text.split(separator);
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| pair.len() == 2).ok_or(())?;
            // A sign would be read as well.
            if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        let is_group = bytes[0] & 1 != 0;
        if pairs.next().is_some() || is_group || bytes == [0; 6] {
            Err(())
        } else {
            Ok(Self(bytes))
        }
    }
}

impl std::fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// One interface as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mtu: u32,
    pub(crate) is_loopback: bool,
    pub(crate) is_up: bool,
    pub(crate) is_bridge: bool,
    pub(crate) controller: Option<u32>,
    pub(crate) hardware_address: Vec<u8>,
    pub(crate) counters: Counters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    pub(crate) rx_bytes: u64,
    pub(crate) rx_packets: u64,
    pub(crate) rx_errors: u64,
    pub(crate) rx_dropped: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) tx_packets: u64,
    pub(crate) tx_errors: u64,
    pub(crate) tx_dropped: u64,
}

impl Counters {
    /// What the other end of a pair of interfaces has counted.
    pub(crate) fn of_the_peer(self) -> Self {
        Self {
            rx_bytes: self.tx_bytes,
            rx_packets: self.tx_packets,
            rx_errors: self.tx_errors,
            rx_dropped: self.tx_dropped,
            tx_bytes: self.rx_bytes,
            tx_packets: self.rx_packets,
            tx_errors: self.rx_errors,
            tx_dropped: self.rx_dropped,
        }
    }
}

/// A destination the host has a route to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: Ipv4Net,
    pub(crate) interface: Option<u32>,
}

/// Whether the kernel knows IPv6; one that does not refuses to hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ipv6 {
    Known,
    Unknown,
}

/// A pair of interfaces: one here in a bridge, its peer born in another network namespace.
#[derive(Debug)]
pub(crate) struct VethPair<'a, Fd: AsFd> {
    pub(crate) name: &'a str,
    pub(crate) bridge: u32,
    pub(crate) mtu: u32,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_address: HardwareAddress,
    pub(crate) peer_netns: Fd,
}

impl Batch {
    fn route(
        &mut self,
        operation: impl Into<std::borrow::Cow<'static, str>>,
        message: &RouteNetlinkMessage,
        flags: u16,
    ) {
        let mut body = vec![0; NetlinkSerializable::buffer_len(message)];
        NetlinkSerializable::serialize(message, &mut body);
        self.push(operation, message.message_type(), flags | ACK, &body);
    }

    pub(crate) fn add_bridge(&mut self, name: &str, address: HardwareAddress, mtu: u32) {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::Address(address.0.to_vec()));
        link.attributes.push(LinkAttribute::Mtu(mtu));
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        let message = RouteNetlinkMessage::NewLink(link);
        self.route(format!("create bridge {name}"), &message, CREATE | EXCL);
    }

    /// Both ends stay down: `set_port_up` and the pod's own batch raise them, when no IPv6
    /// address of the kernel's making can appear any more.
    pub(crate) fn add_veth<Fd: AsFd>(&mut self, pair: &VethPair<'_, Fd>) {
        let mut peer = named(pair.peer_name);
        peer.attributes.push(LinkAttribute::Address(pair.peer_address.0.to_vec()));
        peer.attributes.push(LinkAttribute::Mtu(pair.mtu));
        peer.attributes.push(LinkAttribute::NetNsFd(pair.peer_netns.as_fd().as_raw_fd()));
        let mut link = named(pair.name);
        link.attributes.push(LinkAttribute::Mtu(pair.mtu));
        link.attributes.push(LinkAttribute::Controller(pair.bridge));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let message = RouteNetlinkMessage::NewLink(link);
        self.route(format!("create veth {}", pair.name), &message, CREATE | EXCL);
    }

    /// Raises a bridge port: hairpin on, so that a pod reaches itself through a published port
    /// also where bridged frames pass the host's filters; no IPv6 address of its own.
    pub(crate) fn set_port_up(&mut self, name: &str, ipv6: Ipv6) {
        let mut link = named(name);
        raise(&mut link);
        link.attributes.extend(without_ipv6_address(ipv6));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
        ]));
        let message = RouteNetlinkMessage::NewLink(link);
        self.route(format!("raise bridge port {name}"), &message, 0);
    }

    pub(crate) fn set_up(&mut self, index: u32) {
        let mut link = LinkMessage::default();
        link.header.index = index;
        raise(&mut link);
        let message = RouteNetlinkMessage::SetLink(link);
        self.route(format!("raise interface {index}"), &message, 0);
    }

    /// As [`Batch::set_up`], and the kernel gives it no IPv6 address of its own.
    pub(crate) fn set_up_without_ipv6(&mut self, index: u32, ipv6: Ipv6) {
        let mut link = LinkMessage::default();
        link.header.index = index;
        raise(&mut link);
        link.attributes.extend(without_ipv6_address(ipv6));
        let message = RouteNetlinkMessage::SetLink(link);
        self.route(format!("raise interface {index}"), &message, 0);
    }

    pub(crate) fn delete_link(&mut self, name: &str) {
        let message = RouteNetlinkMessage::DelLink(named(name));
        self.route(format!("delete interface {name}"), &message, 0);
    }

    pub(crate) fn add_address(&mut self, index: u32, address: IpNet) {
        self.address(index, address, CREATE | EXCL);
    }

    /// As [`Batch::add_address`]; one that is there already is fine.
    pub(crate) fn have_address(&mut self, index: u32, address: IpNet) {
        self.address(index, address, CREATE | REPLACE);
    }

    fn address(&mut self, index: u32, address: IpNet, flags: u16) {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        message.header.scope = AddressScope::Universe;
        message.header.index = index;
        // Our leases rule out duplicates; detection would cost a second.
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        message.attributes.push(AddressAttribute::Local(address.addr()));
        message.attributes.push(AddressAttribute::Address(address.addr()));
        if let IpNet::V4(net) = address {
            message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
        let message = RouteNetlinkMessage::NewAddress(message);
        self.route(format!("add address {address}"), &message, flags);
    }

    pub(crate) fn add_default_route(&mut self, index: u32, gateway: IpAddr) {
        self.default_route(index, gateway, CREATE | EXCL);
    }

    /// In the place of any other that there is.
    pub(crate) fn set_default_route(&mut self, index: u32, gateway: IpAddr) {
        self.default_route(index, gateway, CREATE | REPLACE);
    }

    fn default_route(&mut self, index: u32, gateway: IpAddr, flags: u16) {
        let mut message = RouteMessage::default();
        message.header.address_family = family(gateway);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
        message.attributes.push(RouteAttribute::Oif(index));
        let message = RouteNetlinkMessage::NewRoute(message);
        self.route(format!("add default route by {gateway}"), &message, flags);
    }

    pub(crate) fn get_link(&mut self, name: &str) {
        let message = RouteNetlinkMessage::GetLink(named(name));
        self.route(format!("find interface {name}"), &message, 0);
    }
}

impl Socket {
    /// The interface of this name, or nothing.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, Refused> {
        let mut batch = Batch::new();
        batch.get_link(name);
        let mut found = None;
        match self.exchange(batch, |_, body| found = read_link(body)) {
            Ok(()) => Ok(found),
            Err(refused) if refused.errno == Errno::NODEV => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    pub(crate) fn links(&mut self) -> Result<Vec<Link>, Refused> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let mut links = Vec::new();
        self.dump("list interfaces", message.message_type(), &bytes(&message), |_, body| {
            links.extend(read_link(body));
        })?;
        Ok(links)
    }

    /// Every address with the index of its interface.
    pub(crate) fn addresses(&mut self) -> Result<Vec<(u32, IpNet)>, Refused> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let mut addresses = Vec::new();
        self.dump("list addresses", message.message_type(), &bytes(&message), |_, body| {
            addresses.extend(read_address(body));
        })?;
        Ok(addresses)
    }

    /// The IPv4 routes of the main table.
    pub(crate) fn routes(&mut self) -> Result<Vec<Route>, Refused> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let message = RouteNetlinkMessage::GetRoute(message);
        let mut routes = Vec::new();
        self.dump("list routes", message.message_type(), &bytes(&message), |_, body| {
            routes.extend(read_route(body));
        })?;
        Ok(routes)
    }

    /// Deletes an interface; one that is gone is as good as deleted.
    pub(crate) fn delete_link(&mut self, name: &str) -> Result<(), Refused> {
        let mut batch = Batch::new();
        batch.delete_link(name);
        match self.run(batch) {
            Err(refused) if refused.errno == Errno::NODEV => Ok(()),
            other => other,
        }
    }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

fn raise(link: &mut LinkMessage) {
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
}

fn without_ipv6_address(ipv6: Ipv6) -> Option<LinkAttribute> {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    (ipv6 == Ipv6::Known)
        .then(|| LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]))
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn bytes(message: &RouteNetlinkMessage) -> Vec<u8> {
    let mut body = vec![0; NetlinkSerializable::buffer_len(message)];
    NetlinkSerializable::serialize(message, &mut body);
    body
}

// The readers walk the attributes themselves: an interface of a kind that the library cannot
// decode whole must not hide the rest of the host's interfaces.

fn read_link(body: &[u8]) -> Option<Link> {
    const LOOPBACK: u32 = 0x8;
    const UP: u32 = 0x1;
    let flags = super::u32_at(body, 8)?;
    let mut link = Link {
        index: super::u32_at(body, 4)?,
        is_loopback: flags & LOOPBACK != 0,
        is_up: flags & UP != 0,
        ..Link::default()
    };
    for (kind, value) in Attributes(body.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_MTU => link.mtu = super::u32_at(value, 0)?,
            libc::IFLA_MASTER => link.controller = super::u32_at(value, 0),
            libc::IFLA_ADDRESS => link.hardware_address = value.to_vec(),
            libc::IFLA_STATS64 => link.counters = read_counters(value),
            libc::IFLA_LINKINFO => {
                link.is_bridge = Attributes(value)
                    .any(|(kind, value)| kind == libc::IFLA_INFO_KIND && text(value) == "bridge");
            }
            _ => {}
        }
    }
    Some(link)
}

/// The head of the kernel's `rtnl_link_stats64`; a shorter one reads as zeros.
fn read_counters(value: &[u8]) -> Counters {
    let at = |index: usize| {
        let bytes = value.get(index * 8..index * 8 + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_ne_bytes)
    };
    Counters {
        rx_packets: at(0),
        tx_packets: at(1),
        rx_bytes: at(2),
        tx_bytes: at(3),
        rx_errors: at(4),
        tx_errors: at(5),
        rx_dropped: at(6),
        tx_dropped: at(7),
    }
}

fn read_address(body: &[u8]) -> Option<(u32, IpNet)> {
    let prefix = *body.get(1)?;
    let index = super::u32_at(body, 4)?;
    let mut address = None;
    for (kind, value) in Attributes(body.get(8..)?) {
        // The local address wins: on a point-to-point link the other one is the peer's.
        if kind == libc::IFA_LOCAL || (kind == libc::IFA_ADDRESS && address.is_none()) {
            address = read_ip(value);
        }
    }
    Some((index, IpNet::new(address?, prefix).ok()?))
}

fn read_route(body: &[u8]) -> Option<Route> {
    let [family, prefix, _, _, table] = *body.first_chunk()?;
    if family != u8::from(AddressFamily::Inet) || table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut interface = None;
    for (kind, value) in Attributes(body.get(12..)?) {
        match (kind, read_ip(value)) {
            (libc::RTA_DST, Some(IpAddr::V4(address))) => destination = address,
            (libc::RTA_OIF, _) => interface = super::u32_at(value, 0),
            _ => {}
        }
    }
    Some(Route { destination: Ipv4Net::new(destination, prefix).ok()?, interface })
}

fn read_ip(value: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(value).map(IpAddr::from).ok();
    four.or_else(|| <[u8; 16]>::try_from(value).map(IpAddr::from).ok())
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hardware_address_follows_from_the_address() {
        let address = HardwareAddress::of(Ipv4Addr::new(10, 88, 1, 200));
        assert_eq!(address.to_string(), "0a:ca:0a:58:01:c8");
    }

    #[test]
    fn hardware_addresses_are_read_and_lead_to_one_of_the_link() {
        let address: HardwareAddress = "02:42:Ac:11:00:02".parse().unwrap();
        assert_eq!(address.to_string(), "02:42:ac:11:00:02");
        assert_eq!(address.link_local().to_string(), "fe80::42:acff:fe11:2");
        assert_eq!("02-42-ac-11-00-02".parse(), Ok(address));
        for bad in ["", "02:42", "02:42:ac:11:00:02:03", "02:42:ac:11:00:+2", "01:00:5e:00:00:01"] {
            assert!(bad.parse::<HardwareAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_short_message_is_no_link_no_address_and_no_route() {
        for length in 0..8 {
            let body = vec![2; length];
            assert_eq!(read_link(&body), None);
            assert_eq!(read_address(&body), None);
            assert_eq!(read_route(&body), None);
        }
    }
}
