//! What went through a pod's interfaces: asked in the pod's own network namespace, or, cheaper, of the host's ends
//! of the pairs by which pods hang on the built-in bridge.

use std::collections::{HashMap, HashSet};

use super::bridge::POD_INTERFACE;
use super::netlink::Socket;
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

/// Fewer are asked for by name: a dump shows every interface of the host.
const FEWEST_FOR_A_DUMP: usize = 4;

/// What went through the other ends of these pairs of interfaces of the host; one that is gone is left out.
///
/// `veth` counts each packet once, as sent by the one end and received by the other.
pub(super) fn peers(host: &mut Socket, names: &[String]) -> Result<HashMap<String, Counters>> {
    let context = "read the interfaces' statistics";
    let mut counters = HashMap::with_capacity(names.len());
    if names.len() < FEWEST_FOR_A_DUMP {
        for name in names {
            let link = host.link(name).context(context)?;
            counters.extend(link.map(|link| (link.name, link.counters.of_the_peer())));
        }
    } else {
        let wanted: HashSet<_> = names.iter().collect();
        let links = host.links().context(context)?.into_iter();
        let wanted = links.filter(|link| wanted.contains(&link.name));
        counters.extend(wanted.map(|link| (link.name, link.counters.of_the_peer())));
    }
    Ok(counters)
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

    #[test]
    fn the_other_end_of_a_pair_tells_the_same() {
        let (pod, host) = (Netns::new(), Netns::new());
        let names: Vec<String> = (0..4).map(|index| format!("pair{index}")).collect();
        for (index, name) in names.iter().enumerate() {
            let addresses = [2, 1].map(|last| format!("10.3.{index}.{last}/24"));
            pod.cable(&host, name, [&addresses[0], &addresses[1]]);
        }
        pod.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(&[0; 1000], "10.3.2.1:9").unwrap();
        });

        for some in [&names[..], &names[2..3]] {
            let (inside, outside) = loop {
                let before = interfaces(&pod.netlink()).unwrap();
                let outside = peers(&mut host.netlink().lock(), some).unwrap();
                // The kernel's own neighbour discovery may have come between.
                if before == interfaces(&pod.netlink()).unwrap() {
                    break (before, outside);
                }
            };

            assert_eq!(outside.len(), some.len());
            for name in some {
                let own = inside.iter().find(|stats| stats.name == *name).unwrap();
                assert_eq!(outside[name], own.counters, "{name}");
            }
            assert!(outside["pair2"].tx_bytes > 1000);
        }
        let gone = peers(&mut host.netlink().lock(), &["gone".to_owned()]).unwrap();
        assert!(gone.is_empty(), "{gone:?}");
    }
}
