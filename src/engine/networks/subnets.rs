//! Which addresses a new network gives.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Record, RequestedPool};
use crate::engine::Shared;
use crate::error::{Error, Kind, Result};
use crate::id::NetworkId;
use crate::net::leases::{self, Address};

/// The subnet that is asked for, or the first of Docker's that nobody is in the way of.
pub(super) async fn ipv4(
    shared: &Shared,
    request: &RequestedPool<Ipv4Addr>,
    others: &[Arc<Record>],
) -> Result<Ipv4Net> {
    let mut taken: Vec<IpNet> = others.iter().map(|other| other.subnet.into()).collect();
    // The node's own, made or not.
    let node = shared.network.node_pool().map_or(shared.config.network.subnet, |pool| pool.0);
    taken.push(node.into());
    if let Some(subnet) = request.subnet {
        // The host's own interfaces may be in the way; what it reaches through a router is not.
        return checked::<Ipv4Addr>(subnet, &taken);
    }
    let routed = shared.network.routed().await?.into_iter();
    taken.extend(routed.filter(|net| net.prefix_len() > 0).map(IpNet::from));
    candidates().find(|it| !meets(&(*it).into(), &taken)).ok_or_else(|| {
        Error::new(Kind::Exhausted, "all predefined address pools have been fully subnetted")
    })
}

/// The subnet that is asked for, or one of a unique local prefix (RFC 4193) that follows from the
/// network's id, which is random.
pub(super) fn ipv6(
    id: &NetworkId,
    request: &RequestedPool<Ipv6Addr>,
    others: &[Arc<Record>],
) -> Result<Ipv6Net> {
    let taken = others.iter().filter_map(|other| Some(other.ipv6.as_ref()?.subnet.into()));
    let subnet = match request.subnet {
        Some(subnet) => subnet,
        None => unique_local(id)?,
    };
    checked::<Ipv6Addr>(subnet, &taken.collect::<Vec<_>>())
}

fn unique_local(id: &NetworkId) -> Result<Ipv6Net> {
    let digits = id.as_str().get(..10).unwrap_or_default();
    let random = u128::from_str_radix(digits, 16)
        .map_err(|_| Error::internal(format!("network id {id} is no number")))?;
    let prefix = (0xfd_u128 << 120) | (random << 80);
    Ok(Ipv6Net::new_assert(Ipv6Addr::from_bits(prefix), 64))
}

fn checked<A: Address>(subnet: A::Net, taken: &[IpNet]) -> Result<A::Net>
where
    A::Net: Into<IpNet>,
{
    let net: IpNet = subnet.into();
    let refuse = |why: String| Err(Error::invalid(format!("invalid network config:\n{why}")));
    if net.trunc() != net {
        return refuse(format!("invalid subnet {net}: it should be {}", net.trunc()));
    }
    if let Err(error) = leases::check_prefix::<A>(subnet) {
        return refuse(error.chain());
    }
    if meets(&net, taken) {
        return Err(Error::new(
            Kind::Forbidden,
            "invalid pool request: Pool overlaps with other one on this address space",
        ));
    }
    Ok(subnet)
}

fn meets(net: &IpNet, taken: &[IpNet]) -> bool {
    taken.iter().any(|other| net.contains(&other.network()) || other.contains(&net.network()))
}

/// Docker's default pools, without the one of its `bridge`.
fn candidates() -> impl Iterator<Item = Ipv4Net> {
    let wide = (18..32).map(|second| (Ipv4Addr::new(172, second, 0, 0), 16));
    let narrow = (0..16).map(|third| (Ipv4Addr::new(192, 168, third * 16, 0), 20));
    wide.chain(narrow).filter_map(|(address, prefix)| Ipv4Net::new(address, prefix).ok())
}

/// Also looks at the other addresses that were chosen.
pub(super) fn gateway<A: Address>(request: &RequestedPool<A>, subnet: A::Net) -> Result<A> {
    let refuse = |why: String| Err(Error::invalid(format!("invalid network config:\n{why}")));
    let has_choice = request.gateway.is_some() || request.range.is_some();
    if request.subnet.is_none() && (has_choice || !request.reserved.is_empty()) {
        return refuse("an address or range needs the subnet that it is in".to_owned());
    }
    let (first, last, _) = A::bounds(subnet);
    let contains = |address: A| (first..=last).contains(&address);
    if let Some(range) = request.range {
        let (low, high, _) = A::bounds(range);
        if !contains(low) || !contains(high) {
            return refuse(format!(
                "invalid ip-range {range}: subnet {subnet} does not contain it"
            ));
        }
    }
    let gateway = request.gateway.unwrap_or_else(|| leases::gateway(subnet));
    for address in request.reserved.values().chain([&gateway]) {
        if !contains(*address) {
            return refuse(format!("address {address} is not in subnet {subnet}"));
        }
    }
    Ok(gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pools_are_thirty_and_do_not_meet() {
        let all: Vec<IpNet> = candidates().map(IpNet::from).collect();
        assert_eq!(all.len(), 30);
        for (place, one) in all.iter().enumerate() {
            assert!(!meets(one, &all[place + 1..]), "{one}");
        }
    }

    #[test]
    fn chosen_addresses_must_be_in_the_subnet() {
        let subnet: Ipv4Net = "10.1.0.0/24".parse().unwrap();
        let own = RequestedPool::<Ipv4Addr> { subnet: Some(subnet), ..RequestedPool::default() };
        assert_eq!(gateway(&own, subnet).unwrap(), Ipv4Addr::new(10, 1, 0, 1));
        let last = RequestedPool { gateway: "10.1.0.254".parse().ok(), ..own.clone() };
        assert_eq!(gateway(&last, subnet).unwrap(), Ipv4Addr::new(10, 1, 0, 254));
        for wrong in [
            RequestedPool { gateway: "10.2.0.1".parse().ok(), ..own.clone() },
            RequestedPool { range: "10.2.0.0/25".parse().ok(), ..own.clone() },
            RequestedPool { gateway: "10.1.0.1".parse().ok(), ..RequestedPool::default() },
        ] {
            assert_eq!(gateway(&wrong, subnet).unwrap_err().kind(), Kind::InvalidArgument);
        }
    }

    #[test]
    fn a_network_that_names_no_subnet_of_ipv6_gets_one_of_its_own() {
        let subnet = || {
            let id = NetworkId::generate().unwrap();
            ipv6(&id, &RequestedPool::default(), &[]).unwrap()
        };
        let (one, two) = (subnet(), subnet());
        assert!(one.network().is_unique_local(), "{one}");
        assert_eq!((one.prefix_len(), one.trunc()), (64, one));
        assert_ne!(one, two);
        let gateway: Ipv6Addr = gateway(&RequestedPool::default(), one).unwrap();
        assert!(gateway.to_string().ends_with("::1"), "{gateway}");
    }
}
