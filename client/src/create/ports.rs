//! `-p [[IP:]HOST:]CONTAINER[/PROTOCOL]` and `--expose`, with ranges of ports.

use serde_json::{Map, Value, json};

use super::Refused;
use super::values::fields;

#[derive(Debug)]
pub(crate) struct Ports {
    /// `80/tcp` to `{}`.
    pub(crate) exposed: Value,
    /// `80/tcp` to a list of addresses and ports of the host.
    pub(crate) bindings: Value,
}

pub(crate) fn published(publish: &[String], expose: &[String]) -> Result<Ports, Refused> {
    let (mut exposed, mut bindings) = (Map::new(), Map::new());
    for text in publish {
        let short = if text.contains('=') { short_form(text)? } else { text.clone() };
        for (port, host_ip, host_port) in bindings_of(&short)? {
            exposed.insert(port.clone(), json!({}));
            let list = bindings.entry(port).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(json!({ "HostIp": host_ip, "HostPort": host_port }));
            }
        }
    }
    for text in expose {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (from, to) = range(ports).map_err(|_| {
            format!("invalid range format for --expose: {text}, error: invalid port number")
        })?;
        for port in from..=to {
            exposed.insert(format!("{port}/{}", protocol.to_lowercase()), json!({}));
        }
    }
    Ok(Ports { exposed: Value::Object(exposed), bindings: Value::Object(bindings) })
}

/// `target=80,published=8080,protocol=tcp` in the short notation.
fn short_form(text: &str) -> Result<String, Refused> {
    let (mut target, mut published, mut protocol) =
        (String::new(), String::new(), "tcp".to_owned());
    for field in fields(text) {
        let (key, value) = field.split_once('=').ok_or_else(|| {
            format!("invalid publish opts format (should be name=value but got '{field}')")
        })?;
        match key {
            "target" => value.clone_into(&mut target),
            "published" => value.clone_into(&mut published),
            "protocol" => value.clone_into(&mut protocol),
            "mode" => {}
            _ => return Err(format!("invalid publish opts format: unknown field '{key}'")),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// Port with protocol, address and port of the host, one for each port of the range.
fn bindings_of(text: &str) -> Result<Vec<(String, String, String)>, Refused> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    let (host_ip, host, container) = parts(ports)?;
    if container.is_empty() {
        return Err(format!("No port specified: {text}<empty>"));
    }
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("Invalid proto: {protocol}"));
    }
    if !host_ip.is_empty() && host_ip.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("Invalid ip address: {host_ip}"));
    }
    let (from, to) = range(container).map_err(|_| format!("Invalid containerPort: {container}"))?;
    let own = if host.is_empty() {
        None
    } else {
        Some(range(host).map_err(|_| format!("Invalid hostPort: {host}"))?)
    };
    let mut bindings = Vec::new();
    for port in from..=to {
        let host_port = match own {
            None => String::new(),
            // One port of the container, and any of these of the host.
            Some((first, last)) if from == to && first != last => format!("{first}-{last}"),
            Some((first, last)) if last - first == to - from => (first + (port - from)).to_string(),
            Some(_) => {
                return Err(format!(
                    "Invalid ranges specified for container and host Ports: {container} and {host}"
                ));
            }
        };
        bindings.push((format!("{port}/{protocol}"), host_ip.clone(), host_port));
    }
    Ok(bindings)
}

/// Address, port of the host, port of the container.
fn parts(text: &str) -> Result<(String, &str, &str), Refused> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) =
            rest.split_once("]:").ok_or_else(|| format!("Invalid ip address: {text}"))?;
        let (host, container) = rest.split_once(':').unwrap_or(("", rest));
        return Ok((address.to_owned(), host, container));
    }
    let parts: Vec<_> = text.rsplitn(3, ':').collect();
    Ok(match parts.as_slice() {
        [container, host, address] => ((*address).to_owned(), *host, *container),
        [container, host] => (String::new(), *host, *container),
        [container] => (String::new(), "", *container),
        _ => (String::new(), "", text),
    })
}

fn range(text: &str) -> Result<(u32, u32), ()> {
    let number = |it: &str| it.parse::<u16>().map(u32::from).map_err(|_| ());
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (number(from)?, number(to)?);
    if from <= to { Ok((from, to)) } else { Err(()) }
}
