//! nf_tables messages as bytes: attributes, expressions, and the transaction that carries them.
//!
//! No crate writes these with a permissive licence and without C, and we need a dozen of them.
//! Numbers are those of `linux/netfilter/nf_tables.h`. Integers inside attributes are big-endian;
//! values that are compared with a register are in the order the register has them.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::net::Family;
use crate::net::netlink::{ACK, APPEND, Batch, CREATE, EXCL, Refused, Socket};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NESTED: u16 = 0x8000;

/// Register 1 as 16 bytes; the first four registers of 4 bytes are its parts, and others follow.
pub(super) const WHOLE: u32 = 1;
const FIRST_PART: u32 = 8;

/// The register of 4 bytes in this place.
pub(super) fn part(place: u32) -> u32 {
    FIRST_PART + place
}

impl Family {
    /// Of a table.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }

    /// How many registers of 4 bytes an address takes.
    pub(super) fn parts(self) -> u32 {
        match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 4,
        }
    }

    pub(super) fn source(self) -> Field {
        match self {
            Self::Ipv4 => Field { base: 1, offset: 12, length: 4 },
            Self::Ipv6 => Field { base: 1, offset: 8, length: 16 },
        }
    }

    pub(super) fn destination(self) -> Field {
        match self {
            Self::Ipv4 => Field { base: 1, offset: 16, length: 4 },
            Self::Ipv6 => Field { base: 1, offset: 24, length: 16 },
        }
    }
}

/// Attributes one after the other.
#[derive(Debug, Default, Clone)]
pub(super) struct Attrs(Vec<u8>);

impl Attrs {
    pub(super) fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        // An attribute is at most 64 KiB; ours are far smaller and lists are cut before.
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    #[must_use]
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    #[must_use]
    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    #[must_use]
    pub(super) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }
}

/// What a transaction does with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Message {
    NewTable = 0,
    DeleteTable = 2,
    NewChain = 3,
    NewRule = 6,
    NewSet = 9,
    NewElement = 12,
    DeleteElement = 14,
}

/// Changes that happen together or not at all.
#[derive(Debug)]
pub(super) struct Transaction {
    batch: Batch,
    /// Held back so that the last one can ask for the acknowledgement.
    last: Option<(String, u16, u16, Vec<u8>)>,
}

impl Transaction {
    pub(super) fn new() -> Self {
        let mut batch = Batch::new();
        batch.push("begin the nftables transaction", BATCH_BEGIN, 0, &generic_header(0));
        Self { batch, last: None }
    }

    pub(super) fn push(
        &mut self,
        operation: impl Into<String>,
        family: Family,
        message: Message,
        attrs: &Attrs,
    ) {
        self.flush(0);
        let flags = match message {
            Message::NewTable | Message::NewChain | Message::NewSet => CREATE,
            Message::NewRule => CREATE | APPEND,
            Message::NewElement => CREATE | EXCL,
            Message::DeleteTable | Message::DeleteElement => 0,
        };
        let mut body = vec![family.number(), 0, 0, 0];
        body.extend_from_slice(&attrs.0);
        self.last = Some((operation.into(), (SUBSYSTEM << 8) | message as u16, flags, body));
    }

    pub(super) fn len_bytes(&self) -> usize {
        self.batch.len_bytes() + self.last.as_ref().map_or(0, |(.., body)| body.len())
    }

    pub(super) fn commit(mut self, socket: &mut Socket) -> Result<(), Refused> {
        if self.last.is_none() {
            return Ok(());
        }
        // One acknowledgement is enough: refusals are always answered.
        self.flush(ACK);
        self.batch.push("commit the nftables transaction", BATCH_END, 0, &generic_header(0));
        socket.run(self.batch)
    }

    fn flush(&mut self, extra: u16) {
        if let Some((operation, kind, flags, body)) = self.last.take() {
            self.batch.push(operation, kind, flags | extra, &body);
        }
    }
}

/// Asks for one table, outside of any transaction.
pub(super) fn find_table(socket: &mut Socket, family: Family, name: &Attrs) -> Result<(), Refused> {
    const GET_TABLE: u16 = 1;
    let mut body = vec![family.number(), 0, 0, 0];
    body.extend_from_slice(&name.0);
    let mut batch = Batch::new();
    batch.push("find the table", (SUBSYSTEM << 8) | GET_TABLE, ACK, &body);
    socket.run(batch)
}

/// The header of the batch's own messages: no family, and the subsystem as resource.
fn generic_header(family: u8) -> [u8; 4] {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    [family, 0, high, low]
}

/// The expressions of one rule, in the order they are evaluated; each may end the rule.
#[derive(Debug, Default, Clone)]
pub(super) struct Rule(Attrs);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Equal = 0,
    Different = 1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meta {
    IncomingName = 6,
    OutgoingName = 7,
    Layer4Protocol = 16,
}

/// Where a field of a packet is: base (1 network, 2 transport header), offset, length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    base: u32,
    offset: u32,
    length: u32,
}

/// The same places for TCP, UDP and SCTP.
pub(super) const SOURCE_PORT: Field = Field { base: 2, offset: 0, length: 2 };
pub(super) const DESTINATION_PORT: Field = Field { base: 2, offset: 2, length: 2 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conntrack {
    State = 0,
    Status = 2,
}

/// `ct state` bits.
pub(super) const ESTABLISHED_OR_RELATED: u32 = 0x2 | 0x4;
/// `ct status` bit: the destination was rewritten.
pub(super) const DESTINATION_REWRITTEN: u32 = 0x20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Drop,
    Accept,
    Jump(&'static str),
}

impl Rule {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn attrs(&self) -> &Attrs {
        &self.0
    }

    #[must_use]
    fn expression(self, name: &str, data: &Attrs) -> Self {
        let expression = Attrs::new().text(1, name).nest(2, data);
        Self(self.0.nest(1, &expression))
    }

    #[must_use]
    pub(super) fn load_meta(self, key: Meta, register: u32) -> Self {
        self.expression("meta", &Attrs::new().number(1, register).number(2, key as u32))
    }

    #[must_use]
    pub(super) fn load(self, field: Field, register: u32) -> Self {
        let data = Attrs::new()
            .number(1, register)
            .number(2, field.base)
            .number(3, field.offset)
            .number(4, field.length);
        self.expression("payload", &data)
    }

    #[must_use]
    fn compare(self, is: Is, value: &[u8]) -> Self {
        let value = Attrs::new().bytes(1, value);
        let data = Attrs::new().number(1, WHOLE).number(2, is as u32).nest(3, &value);
        self.expression("cmp", &data)
    }

    #[must_use]
    fn mask(self, mask: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).unwrap_or(0);
        let data = Attrs::new()
            .number(1, WHOLE)
            .number(2, WHOLE)
            .number(3, length)
            .nest(4, &Attrs::new().bytes(1, mask))
            .nest(5, &Attrs::new().bytes(1, &vec![0; mask.len()]));
        self.expression("bitwise", &data)
    }

    #[must_use]
    pub(super) fn interface(self, which: Meta, is: Is, name: &str) -> Self {
        let mut padded = name.as_bytes().to_vec();
        padded.resize(libc::IFNAMSIZ, 0);
        self.load_meta(which, WHOLE).compare(is, &padded)
    }

    #[must_use]
    pub(super) fn source_in(self, net: IpNet) -> Self {
        self.address(Family::of(net.addr()).source(), net)
    }

    #[must_use]
    pub(super) fn destination_in(self, net: IpNet) -> Self {
        self.address(Family::of(net.addr()).destination(), net)
    }

    fn address(self, field: Field, net: IpNet) -> Self {
        let (mask, network) = (bytes(net.netmask()), bytes(net.network()));
        self.load(field, WHOLE).mask(&mask).compare(Is::Equal, &network)
    }

    /// The number as the IP header has it.
    #[must_use]
    pub(super) fn protocol(self, number: u8) -> Self {
        self.load_meta(Meta::Layer4Protocol, WHOLE).compare(Is::Equal, &[number])
    }

    #[must_use]
    pub(super) fn port(self, field: Field, port: u16) -> Self {
        self.load(field, WHOLE).compare(Is::Equal, &port.to_be_bytes())
    }

    /// Writes a port into the packet and corrects its checksum, which is at this offset of the
    /// transport header. Nothing is tracked.
    #[must_use]
    pub(super) fn write_port(self, field: Field, port: u16, checksum: u32) -> Self {
        const CHECKSUM_OF_INTERNET: u32 = 1;
        let value = Attrs::new().bytes(1, &port.to_be_bytes());
        let loaded = self.expression("immediate", &Attrs::new().number(1, WHOLE).nest(2, &value));
        let data = Attrs::new()
            .number(5, WHOLE)
            .number(2, field.base)
            .number(3, field.offset)
            .number(4, field.length)
            .number(6, CHECKSUM_OF_INTERNET)
            .number(7, checksum);
        loaded.expression("payload", &data)
    }

    /// The packet is for an address of this host.
    #[must_use]
    pub(super) fn for_this_host(self) -> Self {
        const RESULT_ADDRESS_TYPE: u32 = 3;
        const BY_DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        let data =
            Attrs::new().number(1, WHOLE).number(2, RESULT_ADDRESS_TYPE).number(3, BY_DESTINATION);
        self.expression("fib", &data).compare(Is::Equal, &LOCAL.to_ne_bytes())
    }

    #[must_use]
    pub(super) fn conntrack_has(self, key: Conntrack, bits: u32) -> Self {
        let data = Attrs::new().number(1, WHOLE).number(2, key as u32);
        self.expression("ct", &data)
            .mask(&bits.to_ne_bytes())
            .compare(Is::Different, &0_u32.to_ne_bytes())
    }

    /// Looks register 1 up in a map and puts what is there into the same register.
    #[must_use]
    pub(super) fn look_up(self, map: &str) -> Self {
        let data = Attrs::new().text(1, map).number(2, WHOLE).number(3, WHOLE);
        self.expression("lookup", &data)
    }

    /// Rewrites the destination to the address that register 1 begins with, and the port behind it.
    #[must_use]
    pub(super) fn rewrite_destination(self, family: Family) -> Self {
        const DESTINATION_NAT: u32 = 1;
        let data = Attrs::new()
            .number(1, DESTINATION_NAT)
            .number(2, u32::from(family.number()))
            .number(3, part(0))
            .number(5, part(family.parts()));
        self.expression("nat", &data)
    }

    #[must_use]
    pub(super) fn masquerade(self) -> Self {
        self.expression("masq", &Attrs::new())
    }

    #[must_use]
    pub(super) fn verdict(self, verdict: &Verdict) -> Self {
        let code = |code: i32| Attrs::new().bytes(1, &code.to_be_bytes());
        let verdict = match verdict {
            Verdict::Drop => code(0),
            Verdict::Accept => code(1),
            Verdict::Jump(chain) => code(-3).text(2, chain),
        };
        let data = Attrs::new().number(1, 0).nest(2, &Attrs::new().nest(2, &verdict));
        self.expression("immediate", &data)
    }
}

/// An address as it travels.
pub(super) fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let attrs = Attrs::new().text(1, "ab").number(2, 1);
        assert_eq!(attrs.0, [7, 0, 1, 0, b'a', b'b', 0, 0, 8, 0, 2, 0, 0, 0, 0, 1]);
    }
}
