//! Forgetting UDP flows when a port changes hands.
//!
//! The kernel decides about a flow once. A client that keeps sending from one socket would go on
//! reaching the pod that had the port before, or the host itself, for as long as it sends. TCP
//! needs no such help: a connection ends with its peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Element;
use crate::net::netlink::{ACK, Attributes, Batch, Refused, Socket};
use crate::net::{Family, Protocol};

const SUBSYSTEM: u16 = 1;
const GET: u16 = (SUBSYSTEM << 8) | 1;
const DELETE: u16 = (SUBSYSTEM << 8) | 2;
const TUPLE_ORIGINAL: u16 = 1;
const NESTED: u16 = 0x8000;

/// Where a flow was first sent to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Destination {
    address: Option<IpAddr>,
    protocol: u8,
    port: u16,
}

/// Deletes the flows towards the UDP ports among these. It reads the whole table once, and only if
/// there is such a port.
pub(super) fn forget(socket: &mut Socket, elements: &[Element]) -> Result<(), Refused> {
    for family in [Family::Ipv4, Family::Ipv6] {
        let is_it = |it: &&Element| it.protocol == Protocol::Udp && it.family() == family;
        let udp: Vec<&Element> = elements.iter().filter(is_it).collect();
        if !udp.is_empty() {
            forget_those(socket, family, &udp)?;
        }
    }
    Ok(())
}

fn forget_those(socket: &mut Socket, family: Family, udp: &[&Element]) -> Result<(), Refused> {
    let header = [family.number(), 0, 0, 0];
    let mut found: Vec<Vec<u8>> = Vec::new();
    socket.dump("list the tracked flows", GET, &header, |_, body| {
        let attributes = Attributes(body.get(header.len()..).unwrap_or_default());
        let tuple = attributes.into_iter().find(|(kind, _)| *kind == TUPLE_ORIGINAL);
        if let Some((_, tuple)) = tuple
            && udp.iter().any(|element| meets(element, &destination(tuple)))
        {
            found.push(tuple.to_vec());
        }
    })?;
    for tuple in found {
        let mut body = header.to_vec();
        let length = u16::try_from(4 + tuple.len()).unwrap_or(u16::MAX);
        body.extend_from_slice(&length.to_ne_bytes());
        body.extend_from_slice(&(TUPLE_ORIGINAL | NESTED).to_ne_bytes());
        body.extend_from_slice(&tuple);
        let mut batch = Batch::new();
        batch.push("forget a tracked flow", DELETE, ACK, &body);
        match socket.run(batch) {
            // It ended by itself meanwhile.
            Err(refused) if refused.errno == rustix::io::Errno::NOENT => {}
            other => other?,
        }
    }
    Ok(())
}

fn meets(element: &Element, destination: &Destination) -> bool {
    destination.protocol == Protocol::Udp.number()
        && destination.port == element.host_port
        && (element.host_address.is_unspecified()
            || Some(element.host_address) == destination.address)
}

fn destination(tuple: &[u8]) -> Destination {
    let mut destination = Destination::default();
    for (part, fields) in Attributes(tuple) {
        for (field, value) in Attributes(fields) {
            match (part, field) {
                // CTA_TUPLE_IP: CTA_IP_V4_DST and CTA_IP_V6_DST.
                (1, 2) => {
                    let four = <[u8; 4]>::try_from(value).ok();
                    destination.address = four.map(|it| Ipv4Addr::from(it).into());
                }
                (1, 4) => {
                    let sixteen = <[u8; 16]>::try_from(value).ok();
                    destination.address = sixteen.map(|it| Ipv6Addr::from(it).into());
                }
                // CTA_TUPLE_PROTO: CTA_PROTO_NUM and CTA_PROTO_DST_PORT.
                (2, 1) => destination.protocol = value.first().copied().unwrap_or_default(),
                (2, 3) => {
                    destination.port = u16::from_be_bytes(value.try_into().unwrap_or_default());
                }
                _ => {}
            }
        }
    }
    destination
}
