//! What went through a pod's interfaces, asked in the pod's own network namespace.

use super::bridge::POD_INTERFACE;
pub(crate) use super::netlink::route::Counters;
use super::pod::PodSocket;
use crate::error::{Context, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterfaceStats {
    pub(crate) name: String,
    pub(crate) counters: Counters,
}

/// The pod's interfaces without its loopback, the default one first.
pub(crate) fn interfaces(pod: &PodSocket) -> Result<Vec<InterfaceStats>> {
    let links = pod.lock().links().context("read the pod's interface statistics")?;
    let mut stats: Vec<InterfaceStats> = links
        .into_iter()
        // A fallback tunnel that the kernel puts into each namespace is down and nobody's.
        .filter(|link| !link.is_loopback && link.is_up)
        .map(|link| InterfaceStats { name: link.name, counters: link.counters })
        .collect();
    stats.sort_by_key(|stats| stats.name != POD_INTERFACE);
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::net::testing::Netns;

    #[test]
    fn what_a_pod_sends_is_counted_and_its_loopback_is_not() {
        let (pod, peer) = (Netns::new(), Netns::new());
        pod.cable(&peer, "aux0", ["10.3.0.1/24", "10.3.0.2/24"]);
        pod.cable(&peer, "eth0", ["10.4.0.1/24", "10.4.0.2/24"]);
        pod.ip("link add down0 type veth peer name down1");
        let socket = pod.netlink();
        let before = interfaces(&socket).unwrap();
        pod.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for _ in 0..10 {
                socket.send_to(&[0; 1000], "10.4.0.2:9").unwrap();
            }
        });

        let after = interfaces(&socket).unwrap();

        let names: Vec<_> = after.iter().map(|stats| stats.name.as_str()).collect();
        assert_eq!(names, ["eth0", "aux0"]);
        let sent = after[0].counters.tx_bytes - before[0].counters.tx_bytes;
        assert!((10_000..30_000).contains(&sent), "{sent}");
        assert!(after[0].counters.tx_packets >= 10);
        assert_eq!(after[0].counters.tx_errors, 0);
    }
}
