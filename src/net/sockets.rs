//! The TCP sockets of a network namespace, as /proc shows them.

use std::collections::BTreeSet;

pub(super) const LISTENS: &str = "0A";

/// Both ends are closed, or this one is and the other knows it: nothing is on its way any more.
const IS_OVER: [&str; 3] = ["05", "06", "07"];

/// What they are at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    pub(crate) listening: BTreeSet<u16>,
    /// Connections to a port on which somebody listens, taken by a program or not yet.
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
        let is_open = |(_, port, state): &(&str, u16, &str)| {
            *state != LISTENS && !IS_OVER.contains(state) && listening.contains(port)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_listeners_are_open_until_both_ends_are_done() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        let line = |port: &str, state: &str| {
            format!("   0: 0100007F:{port} 0200000A:9C40 {state} 00000000:00000000\n")
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
}
