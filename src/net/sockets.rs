//! The TCP sockets of a network namespace, as /proc shows them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) const LISTENS: &str = "0A";

/// Both ends are closed, or this one is and the other knows it: nothing is on its way any more.
const IS_OVER: [&str; 3] = ["05", "06", "07"];

/// What they are at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    pub(crate) listening: BTreeSet<u16>,
    /// Connections to a port on which somebody listens, taken by a program or not yet. Not those from within.
    pub(crate) open: usize,
}

impl Sockets {
    /// Of the network namespace of this process. Of one that is gone there are none.
    pub(super) fn of(pid: i32) -> Self {
        let read = |table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}"));
        Self::parse(&["tcp", "tcp6"].map(|table| read(table).unwrap_or_default()))
    }

    fn parse(tables: &[String]) -> Self {
        let lines = || tables.iter().flat_map(|it| it.lines().skip(1)).filter_map(local);
        let listening: BTreeSet<u16> =
            lines().filter(|(_, _, state)| *state == LISTENS).map(|(_, port, _)| port).collect();
        let is_open = |(address, port, state): &(&str, u16, &str)| {
            *state != LISTENS
                && !IS_OVER.contains(state)
                && listening.contains(port)
                && !is_loopback(address)
        };
        let open = lines().filter(is_open).count();
        Self { listening, open }
    }
}

/// Address, port and state of `0: 0100007F:1F90 00000000:0000 0A …`: number, local and remote address, state.
pub(super) fn local(line: &str) -> Option<(&str, u16, &str)> {
    let mut fields = line.split_whitespace();
    let (address, hex) = fields.nth(1)?.rsplit_once(':')?;
    Some((address, u16::from_str_radix(hex, 16).ok()?, fields.nth(1)?))
}

/// Of an address as the table has it: words of 32 bits, each in the machine's order of bytes.
fn is_loopback(address: &str) -> bool {
    let word = |at: usize| {
        let hex = address.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(hex, 16).ok().map(u32::to_ne_bytes)
    };
    match [0, 1, 2, 3].map(word) {
        [Some(word), None, None, None] => Ipv4Addr::from(word).is_loopback(),
        [Some(a), Some(b), Some(c), Some(d)] => {
            let mut octets = [0; 16];
            for (to, from) in octets.iter_mut().zip([a, b, c, d].concat()) {
                *to = from;
            }
            Ipv6Addr::from(octets).to_canonical().is_loopback()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_listeners_are_open_until_both_ends_are_done() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        let line = |port: &str, state: &str| {
            format!("   0: 0100000A:{port} 0200000A:9C40 {state} 00000000:00000000\n")
        };
        let table = |states: &[(&str, &str)]| {
            let lines: String = states.iter().map(|(port, state)| line(port, state)).collect();
            format!("{head}{lines}")
        };
        let parse = |states: &[(&str, &str)]| Sockets::parse(&[table(states), head.to_owned()]);
        // 80 listens; 5432 is somebody else's, asked from a port of the kernel's choice.
        for (state, open) in [("01", 1), ("03", 1), ("08", 1), ("05", 0), ("06", 0)] {
            let sockets = parse(&[("0050", LISTENS), ("0050", state), ("9C41", "01")]);
            assert_eq!(sockets, Sockets { listening: BTreeSet::from([80]), open }, "{state}");
        }
        assert_eq!(parse(&[("0050", "01")]), Sockets::default());
    }

    #[test]
    fn what_comes_from_within_is_nobodys_connection() {
        let hex = |octets: &[u8]| {
            let words = octets.as_chunks::<4>().0.iter();
            words.map(|it| format!("{:08X}", u32::from_ne_bytes(*it))).collect::<String>()
        };
        for (address, expected) in
            [("127.0.0.1", true), ("127.0.0.11", true), ("10.0.0.127", false)]
        {
            let address: Ipv4Addr = address.parse().unwrap();
            assert_eq!(is_loopback(&hex(&address.octets())), expected, "{address}");
            let address = address.to_ipv6_mapped();
            assert_eq!(is_loopback(&hex(&address.octets())), expected, "{address}");
        }
        for (address, expected) in [("::1", true), ("fd00::1", false), ("::", false)] {
            let address: Ipv6Addr = address.parse().unwrap();
            assert_eq!(is_loopback(&hex(&address.octets())), expected, "{address}");
        }
        let lines = ["0100007F:0050 00000000:0000 0A", "0100007F:0050 0100007F:9C40 01"];
        let table = lines.map(|it| format!("   0: {it} 00000000:00000000\n")).concat();
        assert_eq!(Sockets::parse(&[format!("head\n{table}")]).open, 0);
    }
}
