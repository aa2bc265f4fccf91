//! Ports of containers as lists show them, and `port`.

use std::collections::BTreeMap;

use clap::Args;

use crate::Cais;
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::json::Value;
use crate::output;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    private: i64,
    ip: String,
    public: i64,
    protocol: String,
}

/// `Ports` of a list of containers in one cell: `0.0.0.0:8080->80/tcp`. Neighbours with the same port on both sides are one range.
pub(crate) fn cell(ports: &Value) -> String {
    let mut ports: Vec<Port> = ports
        .items()
        .iter()
        .map(|port| Port {
            private: port["PrivatePort"].integer(),
            ip: port["IP"].text().to_owned(),
            public: port["PublicPort"].integer(),
            protocol: port["Type"].text().to_owned(),
        })
        .collect();
    ports.sort();
    let (mut ended, mut mapped) = (Vec::new(), Vec::new());
    // Ranges that may still grow, in the order of their first ports.
    let mut open: Vec<((String, String), (i64, i64))> = Vec::new();
    for port in ports {
        let Port { private, ip, public, protocol } = port;
        if !ip.is_empty() && public != private {
            mapped.push(format!("{}->{private}/{protocol}", joined(&ip, &public.to_string())));
            continue;
        }
        let key = (ip, protocol);
        match open.iter_mut().find(|(it, _)| *it == key) {
            None => open.push((key, (private, private))),
            Some((_, range)) if private == range.1 + 1 => range.1 = private,
            Some((_, range)) => {
                ended.push(range_text(&key, *range));
                *range = (private, private);
            }
        }
    }
    ended.extend(open.iter().map(|(key, range)| range_text(key, *range)));
    ended.extend(mapped);
    ended.join(", ")
}

fn range_text((ip, protocol): &(String, String), (first, last): (i64, i64)) -> String {
    let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
    if ip.is_empty() {
        format!("{ports}/{protocol}")
    } else {
        format!("{}->{ports}/{protocol}", joined(ip, &ports))
    }
}

fn joined(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// List port mappings or a specific mapping for the container
#[derive(Debug, Args)]
pub(crate) struct PortOf {
    pub(crate) container: String,
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    pub(crate) port: Option<String>,
}

impl PortOf {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let container = cais.client.read(Path::new(&["containers", &self.container, "json"]))?;
        let ports = &container["NetworkSettings"]["Ports"];
        let addresses = |bindings: &Value| -> Vec<String> {
            bindings
                .items()
                .iter()
                .map(|it| joined(it["HostIp"].text(), it["HostPort"].text()))
                .collect()
        };
        let Some(wanted) = &self.port else {
            // By number, not by the order of their texts.
            let mut lines = BTreeMap::new();
            for (port, bindings) in ports.members() {
                let number: u32 =
                    port.split('/').next().and_then(|it| it.parse().ok()).unwrap_or(0);
                for address in addresses(bindings) {
                    lines.entry((number, port.clone())).or_insert_with(Vec::new).push(address);
                }
            }
            for ((_, port), addresses) in lines {
                for address in addresses {
                    output::line(&format!("{port} -> {address}"))?;
                }
            }
            return Ok(());
        };
        let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        if number.parse::<u16>().is_err() {
            let why = format!("strconv.ParseUint: parsing {number:?}: invalid syntax");
            return Err(Failure::new(format!("Error: invalid port ({number}): {why}")));
        }
        let port = format!("{number}/{protocol}");
        let found = addresses(&ports[port.as_str()]);
        if found.is_empty() {
            let name = &self.container;
            return Err(Failure::new(format!(
                "Error: No public port '{wanted}' published for {name}"
            )));
        }
        found.iter().try_for_each(|it| output::line(it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_grouped() {
        let ports = br#"[
            {"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
            {"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
            {"PrivatePort":443,"Type":"tcp"},
            {"PrivatePort":444,"Type":"tcp"},
            {"IP":"0.0.0.0","PrivatePort":91,"PublicPort":91,"Type":"tcp"},
            {"IP":"0.0.0.0","PrivatePort":90,"PublicPort":90,"Type":"tcp"},
            {"PrivatePort":500,"Type":"tcp"}
        ]"#;
        let shown = cell(&Value::parse(ports).unwrap());
        let expected = "443-444/tcp, 0.0.0.0:90-91->90-91/tcp, 500/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp";
        assert_eq!(shown, expected);
        assert_eq!(cell(&Value::Null), "");
    }
}
