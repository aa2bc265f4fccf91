//! The short form of a port: `[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`, where both may be ranges.

use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::node::{Map, Node, Value};

/// One mapping for every port of the container, in the order of the texts `PORT/PROTOCOL`.
pub(crate) fn parse(text: &str) -> Result<Vec<Map>> {
    let parts: Vec<&str> = text.rsplitn(3, ':').collect();
    let container = parts[0];
    let host = parts.get(1).copied().unwrap_or("");
    let address = address(parts.get(2).copied().unwrap_or(""))?;
    let (container, protocol) = match container.split_once('/') {
        Some((port, protocol)) if !protocol.is_empty() => (port, protocol.to_lowercase()),
        Some((port, _)) => (port, "tcp".to_owned()),
        None => (container, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::new(format!("invalid proto: {protocol}")));
    }
    if container.is_empty() {
        return Err(Error::new(format!("no port specified: {text}<empty>")));
    }
    let wrong = |what: &str, port: &str| Error::new(format!("invalid {what}: {port}"));
    let (first, last) = range(container).ok_or_else(|| wrong("containerPort", container))?;
    let published = match host {
        "" => None,
        _ => Some(range(host).ok_or_else(|| wrong("hostPort", host))?),
    };
    if let Some((from, to)) = published
        && last - first != to - from
        && first != last
    {
        return Err(Error::new(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        )));
    }
    let mut ports: Vec<(String, Map)> = (first..=last)
        .map(|port| {
            let published = published.map(|(from, to)| match first == last && from != to {
                true => format!("{from}-{to}"),
                false => (from + (port - first)).to_string(),
            });
            let mut map = Map::from([
                ("mode".to_owned(), Node::text("ingress")),
                ("protocol".to_owned(), Node::text(&protocol)),
            ]);
            if port != 0 {
                map.insert("target".to_owned(), Value::Int(port.into()).into());
            }
            if let Some(published) = published {
                map.insert("published".to_owned(), Node::text(published));
            }
            if !address.is_empty() {
                map.insert("host_ip".to_owned(), Node::text(&address));
            }
            (format!("{port}/{protocol}"), map)
        })
        .collect();
    ports.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(ports.into_iter().map(|(_, map)| map).collect())
}

/// An address of IPv6 stands in brackets: it has colons of its own.
fn address(text: &str) -> Result<String> {
    let bracketed = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let bare = bracketed.unwrap_or(text);
    let is_address = bare.parse::<IpAddr>().is_ok_and(|it| it.is_ipv4() || bracketed.is_some());
    if bare.is_empty() || is_address {
        Ok(bare.to_owned())
    } else {
        Err(Error::new(format!("invalid IP address: {text}")))
    }
}

fn range(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| text.parse::<u16>().ok().map(u32::from);
    let mut parts = text.split('-');
    let first = number(parts.next()?)?;
    let last = parts.next().map_or(Some(first), number)?;
    (first <= last).then_some((first, last))
}
