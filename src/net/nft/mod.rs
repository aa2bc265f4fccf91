//! The packet filter of the built-in networks: one table for each family, with two maps of published
//! ports; that of IPv6 is there while a bridge gives such addresses. Publishing a port is adding a map element; no rule changes with the pods, and the table is
//! replaced when a bridge comes or goes.
//!
//! ```text
//!   prerouting, output ── for an address of this host ──▶ publish:
//!       address . protocol . port ─ on_address ─▶ pod address . pod port    rewrite the destination
//!                 protocol . port ─ on_any     ─▶ pod address . pod port    rewrite the destination
//!   postrouting: pods to the outside, and what would not find its way back, get the host's address
//!   forward:     into a bridge only replies, published ports and other pods of the same bridge;
//!                with an internal one, nothing but the last
//!   guard:       127.0.0.0/8 is never accepted from outside (of ::1 the kernel sees to that itself)
//! ```
//!
//! The table is replaced in one transaction at start, so a restart has no moment without rules.
//! It stays when the daemon dies and goes with [`Ruleset::remove`].

mod conntrack;
pub(super) mod names;
pub(super) mod watch;
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use self::wire::{
    Attrs, Conntrack, DESTINATION_PORT, DESTINATION_REWRITTEN, ESTABLISHED_OR_RELATED, Is, Message,
    Meta, Rule, Transaction, Verdict, part,
};
use super::netlink::{self, Refused, Socket};
use super::{Family, Protocol};
use crate::error::{Context, Result};

const ON_ADDRESS: &str = "on_address";
const ON_ANY: &str = "on_any";

/// A list of elements must fit an attribute of 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 400;
/// The socket's send buffer takes about 200 KiB; what is more goes into another transaction.
const BYTES_PER_TRANSACTION: usize = 128 * 1024;

/// One element of a map: packets for `host_address` (for any address of the host, if it is the
/// unspecified one of its family) and `host_port` go to `pod_address` and `pod_port`. Both addresses
/// are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    pub(crate) host_address: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) host_port: u16,
    pub(crate) pod_address: IpAddr,
    pub(crate) pod_port: u16,
}

/// A bridge, and how far those on it get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Net {
    pub(crate) bridge: String,
    pub(crate) subnet: Ipv4Net,
    pub(crate) ipv6: Option<Ipv6Net>,
    pub(crate) reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reach {
    /// To the outside with the host's address.
    Masqueraded,
    /// To the outside with their own.
    Routed,
    /// To each other and to the host itself.
    Internal,
}

/// The table of all bridges of one daemon.
#[derive(Debug)]
pub(crate) struct Ruleset {
    table: String,
    nets: Vec<Net>,
    /// Whether we wrote the table of IPv6.
    had_ipv6: bool,
    socket: Socket,
}

impl Ruleset {
    /// Replaces the table in the calling thread's network namespace by a fresh one with these
    /// elements.
    pub(crate) fn install(table: &str, nets: Vec<Net>, elements: &[Element]) -> Result<Self> {
        let socket = Socket::open(netlink::Protocol::Netfilter)?;
        let mut ruleset = Self { table: table.to_owned(), nets, had_ipv6: false, socket };
        ruleset.replace(elements)?;
        Ok(ruleset)
    }

    /// The bridges that the rules are about.
    pub(crate) fn nets_mut(&mut self) -> &mut Vec<Net> {
        &mut self.nets
    }

    /// Looks whether there is a table of IPv6 that an earlier daemon wrote: it goes when nobody needs
    /// it any more.
    pub(crate) fn find_ipv6(&mut self) {
        let name = self.named();
        self.had_ipv6 |= wire::find_table(&mut self.socket, Family::Ipv6, &name).is_ok();
    }

    /// As [`Ruleset::install`], for a table that somebody flushed.
    pub(crate) fn replace(&mut self, elements: &[Element]) -> Result<()> {
        let mut transaction = Transaction::new();
        for family in self.families() {
            self.push_table(&mut transaction, family);
        }
        // That of the last one that had such addresses, or of a daemon that died. Not known yet is
        // what an earlier daemon's networks have, whose table stands until then.
        if self.had_ipv6 && !self.has_ipv6() {
            self.push_cleared(&mut transaction, Family::Ipv6);
        }
        let rest = self.push_elements(&mut transaction, Message::NewElement, elements);
        transaction.commit(&mut self.socket).context("install the nftables rules")?;
        self.had_ipv6 = self.has_ipv6();
        self.change(Message::NewElement, rest).context("install the published ports")
    }

    /// False after somebody flushed the host's rules.
    pub(crate) fn is_there(&mut self) -> Result<bool> {
        let name = self.named();
        for family in self.families() {
            match wire::find_table(&mut self.socket, family, &name) {
                Ok(()) => {}
                Err(refused) if refused.errno == Errno::NOENT => return Ok(false),
                Err(refused) => return Err(refused).context("look for the nftables rules"),
            }
        }
        Ok(true)
    }

    /// Adds all of them or none.
    pub(crate) fn add(&mut self, elements: &[Element]) -> Result<(), Refused> {
        self.change(Message::NewElement, elements).inspect_err(|_| {
            // Only a list longer than a transaction can be half there.
            if elements.len() > ELEMENTS_PER_MESSAGE {
                let _ = self.remove_elements(elements);
            }
        })
    }

    /// Removes exactly these; those that are gone already are fine.
    pub(crate) fn remove_elements(&mut self, elements: &[Element]) -> Result<(), Refused> {
        match self.change(Message::DeleteElement, elements) {
            Err(refused) if refused.errno == Errno::NOENT => {}
            other => return other,
        }
        for element in elements {
            match self.change(Message::DeleteElement, std::slice::from_ref(element)) {
                Err(refused) if refused.errno != Errno::NOENT => return Err(refused),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Removes and adds in one transaction, so that no packet finds a port between the two without an element. Only of more
    /// elements than a transaction can hold some are added later.
    pub(crate) fn exchange(&mut self, gone: &[Element], come: &[Element]) -> Result<(), Refused> {
        let mut transaction = Transaction::new();
        let gone = self.push_elements(&mut transaction, Message::DeleteElement, gone);
        let come = match gone.is_empty() {
            true => self.push_elements(&mut transaction, Message::NewElement, come),
            false => come,
        };
        transaction.commit(&mut self.socket)?;
        self.change(Message::DeleteElement, gone)?;
        self.change(Message::NewElement, come)
    }

    /// Lets the next packet of each UDP flow to these ports be looked at anew.
    pub(crate) fn forget_flows(&mut self, elements: &[Element]) -> Result<(), Refused> {
        conntrack::forget(&mut self.socket, elements)
    }

    /// Removes the tables with everything in them.
    pub(crate) fn remove(&mut self) -> Result<()> {
        for family in [Family::Ipv4, Family::Ipv6] {
            let mut transaction = Transaction::new();
            transaction.push("delete the table", family, Message::DeleteTable, &self.named());
            match transaction.commit(&mut self.socket) {
                // A kernel without IPv6 does not know such tables.
                Err(refused) if !is_absent(refused.errno) => {
                    return Err(refused).context("remove the nftables rules");
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn has_ipv6(&self) -> bool {
        self.nets.iter().any(|net| net.ipv6.is_some())
    }

    fn families(&self) -> impl Iterator<Item = Family> + use<> {
        std::iter::once(Family::Ipv4).chain(self.has_ipv6().then_some(Family::Ipv6))
    }

    fn change(&mut self, message: Message, mut elements: &[Element]) -> Result<(), Refused> {
        while !elements.is_empty() {
            let mut transaction = Transaction::new();
            elements = self.push_elements(&mut transaction, message, elements);
            transaction.commit(&mut self.socket)?;
        }
        Ok(())
    }

    /// Appends as many as the transaction can hold, and returns the others.
    fn push_elements<'a>(
        &self,
        transaction: &mut Transaction,
        message: Message,
        mut elements: &'a [Element],
    ) -> &'a [Element] {
        while !elements.is_empty() && transaction.len_bytes() < BYTES_PER_TRANSACTION {
            let (chunk, rest) = elements.split_at(elements.len().min(ELEMENTS_PER_MESSAGE));
            elements = rest;
            for family in self.families() {
                for map in [ON_ADDRESS, ON_ANY] {
                    let mut list = Attrs::new();
                    let mut ports = Vec::new();
                    for element in chunk.iter().filter(|it| it.place() == (family, map)) {
                        list = list.nest(1, &element.attrs(message));
                        ports.push(element.host_port);
                    }
                    if ports.is_empty() {
                        continue;
                    }
                    let attrs = self.named().text(2, map).nest(3, &list);
                    let operation = format!("change ports {ports:?} in {map}");
                    transaction.push(operation, family, message, &attrs);
                }
            }
        }
        elements
    }

    fn named(&self) -> Attrs {
        Attrs::new().text(1, &self.table)
    }

    fn push_cleared(&self, transaction: &mut Transaction, family: Family) {
        // Made first so that the deletion cannot miss.
        transaction.push("find the table", family, Message::NewTable, &self.named());
        transaction.push("clear the table", family, Message::DeleteTable, &self.named());
    }

    fn push_table(&self, transaction: &mut Transaction, family: Family) {
        self.push_cleared(transaction, family);
        transaction.push("create the table", family, Message::NewTable, &self.named());
        self.push_maps(transaction, family);
        for chain in &CHAINS {
            let mut attrs = self.named().text(3, chain.name);
            if let Some((kind, hook, priority)) = chain.hook {
                let hook = Attrs::new().number(1, hook).bytes(2, &priority.to_be_bytes());
                attrs = attrs.nest(4, &hook).text(7, kind);
            }
            let operation = format!("create the chain {}", chain.name);
            transaction.push(operation, family, Message::NewChain, &attrs);
        }
        for (chain, rule) in self.rules(family) {
            let attrs = self.named().text(2, chain).nest(4, rule.attrs());
            transaction.push(format!("add a rule to {chain}"), family, Message::NewRule, &attrs);
        }
    }

    fn push_maps(&self, transaction: &mut Transaction, family: Family) {
        const MAP: u32 = 8;
        // How `nft` numbers the types ipv4_addr, ipv6_addr, inet_proto and inet_service: a compound
        // holds six bits for each part.
        const PROTOCOL: u32 = 12;
        const PORT: u32 = 13;
        let address = match family {
            Family::Ipv4 => 7,
            Family::Ipv6 => 8,
        };
        let address_length = 4 * family.parts();
        let target = (address << 6) | PORT;
        let maps = [
            (ON_ADDRESS, (address << 12) | (PROTOCOL << 6) | PORT, address_length + 8),
            (ON_ANY, (PROTOCOL << 6) | PORT, 8),
        ];
        for (id, (name, key, length)) in (1..).zip(maps) {
            let attrs = self
                .named()
                .text(2, name)
                .number(3, MAP)
                .number(4, key)
                .number(5, length)
                .number(6, target)
                .number(7, address_length + 4)
                .number(10, id);
            transaction.push(format!("create the map {name}"), family, Message::NewSet, &attrs);
        }
    }

    fn rules(&self, family: Family) -> Vec<(&'static str, Rule)> {
        let loopback = match family {
            Family::Ipv4 => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
            Family::Ipv6 => IpNet::V6(Ipv6Addr::LOCALHOST.into()),
        };
        let new = Rule::new;
        let for_host = |rule: Rule| rule.for_this_host().verdict(&Verdict::Jump("publish"));
        let rewritten = |rule: Rule| rule.conntrack_has(Conntrack::Status, DESTINATION_REWRITTEN);
        let from_outside = || new().interface(Meta::IncomingName, Is::Different, "lo");
        let behind_address = family.parts();
        let mut rules = match family {
            Family::Ipv4 => vec![
                ("guard", from_outside().destination_in(loopback).verdict(&Verdict::Drop)),
                ("guard", from_outside().source_in(loopback).verdict(&Verdict::Drop)),
            ],
            // Replies would not find the way back (`dns::loopback`).
            Family::Ipv6 => {
                vec![("output", new().destination_in(loopback).verdict(&Verdict::Accept))]
            }
        };
        rules.extend([
            (
                "publish",
                new()
                    .load(family.destination(), part(0))
                    .load_meta(Meta::Layer4Protocol, part(behind_address))
                    .load(DESTINATION_PORT, part(behind_address + 1))
                    .look_up(ON_ADDRESS)
                    .rewrite_destination(family),
            ),
            (
                "publish",
                new()
                    .load_meta(Meta::Layer4Protocol, part(0))
                    .load(DESTINATION_PORT, part(1))
                    .look_up(ON_ANY)
                    .rewrite_destination(family),
            ),
            ("prerouting", for_host(new())),
            ("output", for_host(new())),
            // A pod cannot answer 127.0.0.1.
            ("postrouting", rewritten(new()).source_in(loopback).masquerade()),
            (
                "forward",
                new()
                    .conntrack_has(Conntrack::State, ESTABLISHED_OR_RELATED)
                    .verdict(&Verdict::Accept),
            ),
        ]);
        let nets = || self.nets.iter().filter_map(|net| Some((net, net.subnet_of(family)?)));
        rules.extend(nets().flat_map(|(net, subnet)| net.kept_in(subnet)));
        rules.push(("forward", rewritten(new()).verdict(&Verdict::Accept)));
        // The ports that a pod did not publish are not for those who route through this host, nor
        // for the pods of another bridge.
        rules.extend(nets().map(|(net, _)| {
            let into = new().interface(Meta::OutgoingName, Is::Equal, &net.bridge);
            ("forward", into.verdict(&Verdict::Drop))
        }));
        rules
    }
}

fn is_absent(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT)
}

impl Net {
    fn subnet_of(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::Ipv4 => Some(IpNet::V4(self.subnet)),
            Family::Ipv6 => self.ipv6.map(IpNet::V6),
        }
    }

    /// What holds before published ports are looked at.
    fn kept_in(&self, subnet: IpNet) -> Vec<(&'static str, Rule)> {
        let from = |is| Rule::new().interface(Meta::IncomingName, is, &self.bridge);
        let to = |rule: Rule, is| rule.interface(Meta::OutgoingName, is, &self.bridge);
        let of_pods = |rule: Rule| rule.source_in(subnet);
        let rewritten = |rule: Rule| rule.conntrack_has(Conntrack::Status, DESTINATION_REWRITTEN);
        let mut rules = vec![
            // A pod would answer its neighbour directly, which asked somebody else.
            ("postrouting", of_pods(rewritten(to(Rule::new(), Is::Equal))).masquerade()),
            ("forward", to(from(Is::Equal), Is::Equal).verdict(&Verdict::Accept)),
        ];
        match self.reach {
            Reach::Masqueraded => {
                rules.push(("postrouting", of_pods(to(Rule::new(), Is::Different)).masquerade()));
            }
            Reach::Routed => {}
            Reach::Internal => rules.extend([
                ("forward", from(Is::Equal).verdict(&Verdict::Drop)),
                ("forward", to(Rule::new(), Is::Equal).verdict(&Verdict::Drop)),
            ]),
        }
        rules
    }
}

struct Chain {
    name: &'static str,
    /// Type, hook number and priority; none for a chain that others jump to.
    hook: Option<(&'static str, u32, i32)>,
}

const CHAINS: [Chain; 6] = [
    // Before connection tracking, which would remember what is to be dropped.
    Chain { name: "guard", hook: Some(("filter", 0, -300)) },
    Chain { name: "publish", hook: None },
    Chain { name: "prerouting", hook: Some(("nat", 0, -100)) },
    Chain { name: "output", hook: Some(("nat", 3, -100)) },
    Chain { name: "postrouting", hook: Some(("nat", 4, 100)) },
    Chain { name: "forward", hook: Some(("filter", 2, 0)) },
];

impl Element {
    pub(crate) fn family(&self) -> Family {
        Family::of(self.pod_address)
    }

    /// The table and the map that it is in.
    fn place(&self) -> (Family, &'static str) {
        let map = if self.host_address.is_unspecified() { ON_ANY } else { ON_ADDRESS };
        (self.family(), map)
    }

    fn attrs(&self, message: Message) -> Attrs {
        // Each part of a compound takes a whole 4-byte register.
        let port = |port: u16| {
            let [high, low] = port.to_be_bytes();
            [high, low, 0, 0]
        };
        let mut key = Vec::with_capacity(24);
        if !self.host_address.is_unspecified() {
            key.extend_from_slice(&wire::bytes(self.host_address));
        }
        key.extend_from_slice(&[self.protocol.number(), 0, 0, 0]);
        key.extend_from_slice(&port(self.host_port));
        let attrs = Attrs::new().nest(1, &Attrs::new().bytes(1, &key));
        if message == Message::DeleteElement {
            return attrs;
        }
        let mut target = wire::bytes(self.pod_address);
        target.extend_from_slice(&port(self.pod_port));
        attrs.nest(2, &Attrs::new().bytes(1, &target))
    }
}
