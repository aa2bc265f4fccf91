//! The way to the server of names inside a pod: 127.0.0.11, port 53, UDP and TCP.
//!
//! The sockets have other ports, or a container could not serve names itself: to bind port 53 on
//! every address fails while somebody has it on one. The rules rewrite the port on the way in
//! and on the way out. They look at nothing else and track nothing, so the pod's other packets cost
//! what they cost without them.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use super::wire::{Attrs, DESTINATION_PORT, Message, Rule, SOURCE_PORT, Transaction};
use crate::error::{Context, Result};
use crate::net::netlink::Socket;
use crate::net::{Family, Protocol};

const TABLE: &str = "cais-names";
const CHAIN: &str = "output";
const PORT: u16 = 53;
const OUTPUT_HOOK: u32 = 3;
/// Where packets are usually changed.
const MANGLE: i32 = -150;

/// Leads what is sent to the port of names at this address to the sockets, in the network namespace
/// of `socket`. What led elsewhere before is replaced.
pub(in crate::net) fn lead(
    socket: &mut Socket,
    address: Ipv4Addr,
    ports: [(Protocol, u16); 2],
) -> Result<()> {
    let mut transaction = Transaction::new();
    let mut push = |what: &'static str, message, attrs: &Attrs| {
        transaction.push(what, Family::Ipv4, message, attrs);
    };
    let named = || Attrs::new().text(1, TABLE);
    // Made first so that the deletion cannot miss.
    push("find the table", Message::NewTable, &named());
    push("clear the table", Message::DeleteTable, &named());
    push("create the table", Message::NewTable, &named());
    let hook = Attrs::new().number(1, OUTPUT_HOOK).bytes(2, &MANGLE.to_be_bytes());
    let chain = named().text(3, CHAIN).nest(4, &hook).text(7, "filter");
    push("create the chain", Message::NewChain, &chain);
    for (protocol, port) in ports {
        for rule in rules(address, protocol, port) {
            let attrs = named().text(2, CHAIN).nest(4, rule.attrs());
            push("add a rule", Message::NewRule, &attrs);
        }
    }
    transaction.commit(socket).context("lead questions for names to their sockets")
}

fn rules(address: Ipv4Addr, protocol: Protocol, port: u16) -> [Rule; 2] {
    let checksum = if protocol == Protocol::Udp { 6 } else { 16 };
    let address = IpNet::V4(Ipv4Net::from(address));
    let of = |rule: Rule| rule.protocol(protocol.number());
    let (there, back) =
        (of(Rule::new().destination_in(address)), of(Rule::new().source_in(address)));
    [
        there.port(DESTINATION_PORT, PORT).write_port(DESTINATION_PORT, port, checksum),
        back.port(SOURCE_PORT, port).write_port(SOURCE_PORT, PORT, checksum),
    ]
}
