//! Networks and ports that a request asks for.

use std::net::{IpAddr, Ipv4Addr};

use crate::api::docker::wire::container::{CreateRequest, HostConfig};
use crate::api::docker::wire::network::EndpointSettings;
use crate::engine::Engine;
use crate::engine::networks::Found;
use crate::engine::networks::membership::{Link, Membership, Wanted};
use crate::engine::pod::config::{Dns, Protocol};
use crate::engine::standalone::config::{HostPort, Network, PortRequest};
use crate::error::{Error, Result};

pub(crate) fn mode(host: &HostConfig, is_disabled: bool) -> Result<Network> {
    match host.network_mode.as_deref().unwrap_or_default() {
        _ if is_disabled => Ok(Network::None),
        "" | "default" | "bridge" => Ok(Network::Bridge),
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        other => match other.strip_prefix("container:") {
            Some(container) => Ok(Network::Container(container.to_owned())),
            None => Ok(Network::Custom(other.to_owned())),
        },
    }
}

/// The networks of a new container: that of its mode, and those that the request names beside it.
pub(crate) fn memberships(
    engine: &Engine,
    mode: &Network,
    request: &CreateRequest,
) -> Result<Vec<Membership>> {
    let named = match mode {
        Network::Bridge => Found::Node.name(),
        Network::Custom(name) => name,
        Network::Host | Network::None | Network::Container(_) => {
            return match some(request.mac_address.as_ref()) {
                None => Ok(Vec::new()),
                Some(_) => {
                    Err(Error::invalid("conflicting options: mac-address and the network mode"))
                }
            };
        }
    };
    let asked = request.networking_config.as_ref().and_then(|it| it.endpoints_config.clone());
    let mut asked = asked.unwrap_or_default();
    let mut own = asked.remove(named).or_else(|| asked.remove("default")).flatten();
    if let Some(address) = some(request.mac_address.as_ref()) {
        main_hardware_address(own.get_or_insert_default(), address)?;
    }
    let first = (named.to_owned(), own);
    let mut all: Vec<Membership> = Vec::new();
    for (name, settings) in std::iter::once(first).chain(asked) {
        let found = engine.find_network(&name)?;
        let membership = Membership::of(&found, wanted(settings)?)?;
        // By its id and by its name it is the same.
        if !all.iter().any(|it| it.network == membership.network) {
            all.push(membership);
        }
    }
    Ok(all)
}

/// Older clients give the container a hardware address, not what it is in a network.
fn main_hardware_address(settings: &mut EndpointSettings, address: &str) -> Result<()> {
    match some(settings.mac_address.as_ref()) {
        Some(other) if !other.eq_ignore_ascii_case(address) => Err(Error::invalid(
            "the container-wide MAC address must match the endpoint-specific MAC address for the \
             main network, or be left empty",
        )),
        Some(_) | None => {
            settings.mac_address = Some(address.to_owned());
            Ok(())
        }
    }
}

fn some(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// The option of an endpoint that is its interface's name in the container.
pub(crate) const INTERFACE: &str = "com.docker.network.endpoint.ifname";

/// What a client asks for in a network.
pub(crate) fn wanted(settings: Option<EndpointSettings>) -> Result<Wanted> {
    let Some(settings) = settings else { return Ok(Wanted::default()) };
    let address = settings.ipam_config.unwrap_or_default();
    let refuse = |what: &str, text: &str| {
        Error::invalid(format!("invalid endpoint settings:\ninvalid {what} address: {text}"))
    };
    Ok(Wanted {
        address: some(Some(&address.ipv4_address))
            .map(|text| text.parse().map_err(|_| refuse("IPv4", text)))
            .transpose()?,
        ipv6: some(Some(&address.ipv6_address))
            .map(|text| text.parse().map_err(|_| refuse("IPv6", text)))
            .transpose()?,
        hardware_address: some(settings.mac_address.as_ref())
            .map(|text| text.parse().map_err(|()| refuse("MAC", text)))
            .transpose()?,
        aliases: settings.aliases.unwrap_or_default(),
        links: settings.links.iter().flatten().map(|text| link(text)).collect::<Result<_>>()?,
        priority: settings.gw_priority.unwrap_or_default(),
        interface: settings.driver_opts.and_then(|mut options| options.remove(INTERFACE)),
    })
}

/// `container:alias`, or `container` for one that is called as it is.
pub(crate) fn link(text: &str) -> Result<Link> {
    let (container, alias) = text.split_once(':').unwrap_or((text, text));
    let container = container.trim_start_matches('/');
    let alias = alias.rsplit('/').next().unwrap_or_default();
    if container.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(Error::invalid(format!("bad format for links: {text}")));
    }
    Ok(Link { container: container.to_owned(), alias: alias.to_owned() })
}

/// The containers that one in the node's network is linked to, by id. In a network that a client
/// made the endpoint's own links say the same.
pub(crate) fn links(engine: &Engine, mode: &Network, request: &CreateRequest) -> Result<Vec<Link>> {
    let asked = request.host_config.as_ref().and_then(|host| host.links.clone());
    let asked = asked.unwrap_or_default();
    let conflict = |what: &str| {
        Err(Error::invalid(format!(
            "conflicting options: {what} can't be used with links. This would result in undefined \
             behavior"
        )))
    };
    match mode {
        Network::Host if !asked.is_empty() => return conflict("host type networking"),
        Network::Container(_) if !asked.is_empty() => return conflict("container type network"),
        Network::Bridge => {}
        Network::Custom(_) | Network::Host | Network::None | Network::Container(_) => {
            return Ok(Vec::new());
        }
    }
    let found = asked.iter().map(|text| {
        let Link { container, alias } = link(text)?;
        let other = engine.standalone(&container).map_err(|error| {
            Error::invalid(format!("could not get container for {container}: {}", error.chain()))
        })?;
        Ok(Link { container: other.record().id.to_string(), alias })
    });
    found.collect()
}

pub(crate) fn ports(
    host: &HostConfig,
    exposed: &[String],
    network: &Network,
) -> Result<Vec<PortRequest>> {
    let mut all = Vec::new();
    for (port, bindings) in host.port_bindings.iter().flatten() {
        let (container_port, protocol) = parse(port)?;
        for binding in bindings.iter().flatten() {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => Some(
                    text.parse::<IpAddr>()
                        .map_err(|_| Error::invalid(format!("invalid host IP address: {text}")))?,
                ),
            };
            let host_port = host_port(&binding.host_port)?;
            all.push(PortRequest { protocol, container_port, host_ip, host_port });
        }
    }
    if host.publish_all_ports == Some(true) {
        for port in exposed {
            let (container_port, protocol) = parse(port)?;
            let is_it =
                |it: &PortRequest| (it.container_port, it.protocol) == (container_port, protocol);
            if !all.iter().any(is_it) {
                let host_port = HostPort::Any;
                all.push(PortRequest { protocol, container_port, host_ip: None, host_port });
            }
        }
    }
    match network {
        Network::Bridge | Network::Custom(_) => Ok(all),
        // Their ports are those of somebody else, or nobody's.
        Network::Host | Network::None => Ok(Vec::new()),
        Network::Container(_) if all.is_empty() => Ok(all),
        Network::Container(_) => Err(Error::invalid(
            "conflicting options: port publishing and the container type network mode",
        )),
    }
}

/// `8080`, `8000-8010` for any of these, or nothing for any at all.
fn host_port(text: &str) -> Result<HostPort> {
    let refuse = || Error::invalid(format!("invalid port specification: {text:?}"));
    let number = |text: &str| text.parse::<u16>().map_err(|_| refuse());
    match text.split_once('-') {
        None if matches!(text, "" | "0") => Ok(HostPort::Any),
        None => Ok(HostPort::This(number(text)?)),
        Some((first, last)) => match (number(first)?, number(last)?) {
            (first, last) if first == 0 || last < first => Err(refuse()),
            (first, last) if first == last => Ok(HostPort::This(first)),
            (first, last) => Ok(HostPort::Among(first, last)),
        },
    }
}

/// `80/tcp`, or `80`.
pub(crate) fn parse(text: &str) -> Result<(u16, Protocol)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => return Err(Error::invalid(format!("invalid proto: {other}"))),
    };
    let number = number.parse().ok().filter(|number| *number != 0);
    let number =
        number.ok_or_else(|| Error::invalid(format!("invalid port specification: {text:?}")))?;
    Ok((number, protocol))
}

pub(crate) fn dns(host: &HostConfig) -> Option<Dns> {
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let dns = Dns {
        servers: list(&host.dns),
        searches: list(&host.dns_search),
        options: list(&host.dns_options),
    };
    (dns != Dns::default()).then_some(dns)
}

/// `name:address`; an address of version 6 may stand in brackets. `host-gateway` is the host.
pub(crate) fn hosts(host: &HostConfig, gateway: Option<Ipv4Addr>) -> Result<Vec<(IpAddr, String)>> {
    let all = host.extra_hosts.iter().flatten().map(|line| {
        let refuse = || Error::invalid(format!("invalid --add-host {line:?}"));
        let (name, address) = line.split_once([':', '=']).ok_or_else(refuse)?;
        if address == "host-gateway" {
            let gateway = gateway.ok_or_else(|| {
                Error::wrong_state("unable to derive the IP value for host-gateway")
            })?;
            return Ok((gateway.into(), name.to_owned()));
        }
        let address = address.trim_start_matches('[').trim_end_matches(']');
        Ok((address.parse::<IpAddr>().map_err(|_| refuse())?, name.to_owned()))
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::docker::wire::container::PortBinding;

    fn host(bindings: &[(&str, &str)]) -> HostConfig {
        let bindings = bindings.iter().map(|(port, host_port)| {
            let binding =
                PortBinding { host_ip: String::new(), host_port: (*host_port).to_owned() };
            ((*port).to_owned(), Some(vec![binding]))
        });
        HostConfig { port_bindings: Some(bindings.collect()), ..HostConfig::default() }
    }

    #[test]
    fn ports_are_read_with_and_without_a_protocol() {
        let all = ports(&host(&[("80/tcp", "8080"), ("53/udp", "")]), &[], &Network::Bridge);
        let all: Vec<_> = all.unwrap().iter().map(|it| (it.container_port, it.host_port)).collect();
        assert_eq!(all, [(53, HostPort::Any), (80, HostPort::This(8080))]);
        assert_eq!(parse("80").unwrap(), (80, Protocol::Tcp));
        for text in ["", "0", "x", "70000", "80/icmp"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_of_host_ports_is_one_of_them() {
        assert_eq!(host_port("8000-8010").unwrap(), HostPort::Among(8000, 8010));
        assert_eq!(host_port("8000-8000").unwrap(), HostPort::This(8000));
        for wrong in ["8010-8000", "0-10", "1-", "-1", "1-2-3", "a-b", "1-65536", " 1"] {
            assert!(host_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_host_is_one_of_the_additional_hosts() {
        let of = |line: &str| HostConfig {
            extra_hosts: Some(vec![line.to_owned()]),
            ..HostConfig::default()
        };
        let gateway = Some(Ipv4Addr::new(10, 88, 0, 1));
        for (line, address) in [
            ("a:192.0.2.1", "192.0.2.1"),
            ("a:[2001:db8::1]", "2001:db8::1"),
            ("a:2001:db8::1", "2001:db8::1"),
            ("a:host-gateway", "10.88.0.1"),
        ] {
            let expected = (address.parse().unwrap(), "a".to_owned());
            assert_eq!(hosts(&of(line), gateway).unwrap(), [expected], "{line}");
        }
        assert!(hosts(&of("a:host-gateway"), None).is_err());
        assert!(hosts(&of("a:nowhere"), gateway).is_err());
    }

    #[test]
    fn all_exposed_ports_are_published_once() {
        let mut host = host(&[("80/tcp", "8080")]);
        host.publish_all_ports = Some(true);
        let exposed = ["80/tcp".to_owned(), "443/tcp".to_owned()];
        let all = ports(&host, &exposed, &Network::Bridge).unwrap();
        assert_eq!(all.iter().map(|it| it.container_port).collect::<Vec<_>>(), [80, 443]);
        assert!(ports(&host, &exposed, &Network::Host).unwrap().is_empty());
        assert!(ports(&host, &exposed, &Network::Container("web".into())).is_err());
    }
}
