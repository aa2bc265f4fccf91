//! `network create`, `ls`, `rm`, `connect`, `disconnect`.

use clap::Args;
use serde_json::json;

use super::volume::natural;
use super::{filters, ps};
use crate::Cais;
use crate::client::Path;
use crate::create::{Members, values};
use crate::error::{Failure, Result};
use crate::json::Value;
use crate::output;
use crate::table::{Format, Kind, Row, short_id};

/// Create a network
#[derive(Debug, Args)]
pub(crate) struct CreateNetwork {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long)]
    aux_address: Vec<String>,
    /// Driver to manage the Network
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long)]
    gateway: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long)]
    ip_range: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, default_value = "default")]
    ipam_driver: String,
    /// Set IPAM driver specific options
    #[arg(long)]
    ipam_opt: Vec<String>,
    /// Enable or disable IPv6 address assignment
    #[arg(long)]
    ipv6: bool,
    /// Set metadata on a network
    #[arg(long)]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long)]
    opt: Vec<String>,
    /// Control the network's scope
    #[arg(long, default_value = "")]
    scope: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long)]
    subnet: Vec<String>,
    network: String,
}

impl CreateNetwork {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let mut ipam = Members::default();
        ipam.set("Driver", self.ipam_driver.as_str());
        ipam.set("Options", values::pairs(&self.ipam_opt));
        ipam.set("Config", self.pools()?);
        let mut body = Members::default();
        body.set("Name", self.network.as_str());
        body.set("Driver", self.driver.as_str());
        body.set("Scope", self.scope.as_str());
        body.set("IPAM", ipam.into_value());
        body.set("Internal", self.internal);
        body.set("Attachable", self.attachable);
        body.set("EnableIPv6", self.ipv6);
        body.set("Options", values::pairs(&self.opt));
        body.set("Labels", values::pairs(&self.label));
        let made = cais.client.post_json(Path::new(&["networks", "create"]), &body.into_value())?;
        if !made["Warning"].text().is_empty() {
            output::notice(&format!("WARNING: {}", made["Warning"].text()));
        }
        output::line(made["Id"].text())
    }

    /// A pool for each subnet, with the range, the gateway and the addresses that lie in it.
    fn pools(&self) -> Result<Vec<serde_json::Value>> {
        if self.subnet.is_empty() && !(self.ip_range.is_empty() && self.gateway.is_empty()) {
            return Err(Failure::new("every ip-range or gateway must have a corresponding subnet"));
        }
        let mut pools: Vec<(&str, Members)> = Vec::new();
        for subnet in &self.subnet {
            let mut pool = Members::default();
            pool.set("Subnet", subnet.as_str());
            pools.push((subnet, pool));
        }
        for (key, what, texts) in
            [("IPRange", "range", &self.ip_range), ("Gateway", "gateway", &self.gateway)]
        {
            for text in texts {
                let pool = pools.iter_mut().find(|(subnet, _)| contains(subnet, text));
                let pool = pool
                    .ok_or_else(|| Failure::new(format!("no matching subnet for {what} {text}")))?;
                pool.1.set(key, text.as_str());
            }
        }
        let mut named: Vec<serde_json::Map<String, serde_json::Value>> =
            vec![serde_json::Map::new(); pools.len()];
        for text in &self.aux_address {
            let (name, address) = text.split_once('=').unwrap_or((text, ""));
            let at = pools.iter().position(|(subnet, _)| contains(subnet, address));
            let at = at.ok_or_else(|| {
                Failure::new(format!("no matching subnet for aux-address {address}"))
            })?;
            named[at].insert(name.to_owned(), address.into());
        }
        for ((_, pool), named) in pools.iter_mut().zip(named) {
            pool.set("AuxiliaryAddresses", named);
        }
        Ok(pools.into_iter().map(|(_, pool)| pool.into_value()).collect())
    }
}

/// Whether an address, or the first one of a range, lies in a subnet of the same family.
fn contains(subnet: &str, text: &str) -> bool {
    use std::net::IpAddr;
    let Some((network, length)) = subnet.split_once('/') else { return false };
    let address = text.split('/').next().unwrap_or_default();
    let (Ok(network), Ok(address), Ok(length)) =
        (network.parse::<IpAddr>(), address.parse::<IpAddr>(), length.parse::<u32>())
    else {
        return false;
    };
    let is_same = |a: u128, b: u128, width: u32| {
        let cut = width.saturating_sub(length);
        cut >= 128 || a >> cut == b >> cut
    };
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => is_same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => is_same(a.into(), b.into(), 128),
        _ => false,
    }
}

/// List networks
#[derive(Debug, Args)]
pub(crate) struct ListNetworks {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_parser = super::filter)]
    filter: Vec<String>,
    /// Format output using 'table', 'json' or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

const KIND: Kind = Kind {
    type_name: "*formatter.networkContext",
    heads: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    table: "{{.ID}}\\t{{.Name}}\\t{{.Driver}}\\t{{.Scope}}",
};

impl ListNetworks {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let config;
        let asked = match self.format.as_str() {
            _ if self.quiet => "{{.ID}}",
            "" => {
                config = cais.config()?;
                config.text("networksFormat")
            }
            asked => asked,
        };
        let format = Format::choose(asked, &KIND)?;
        let path = Path::new(&["networks"]).with_text("filters", &filters(&self.filter)?);
        let listed = cais.client.read(path)?;
        let mut networks: Vec<&Value> = listed.items().iter().collect();
        networks.sort_by(|a, b| natural(a["Name"].text(), b["Name"].text()));
        format.print(&KIND, networks.into_iter().map(|it| self.row(it)).collect())
    }

    fn row(&self, network: &Value) -> Row {
        let id = network["Id"].text();
        let truth = |key: &str| Value::from(network[key].is_true().to_string());
        vec![
            ("ID", if self.no_trunc { id.to_owned() } else { short_id(id) }.into()),
            ("Name", network["Name"].text().into()),
            ("Driver", network["Driver"].text().into()),
            ("Scope", network["Scope"].text().into()),
            ("IPv4", truth("EnableIPv4")),
            ("IPv6", truth("EnableIPv6")),
            ("Internal", truth("Internal")),
            ("Labels", ps::labels(&network["Labels"]).into()),
            ("Label", network["Labels"].clone()),
            ("CreatedAt", crate::units::go_time(network["Created"].text()).into()),
        ]
    }
}

/// Remove one or more networks
#[derive(Debug, Args)]
pub(crate) struct RemoveNetworks {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

impl RemoveNetworks {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let mut is_failed = false;
        for name in &self.networks {
            match cais.client.delete(Path::new(&["networks", name])) {
                Ok(_) => output::line(name)?,
                Err(failure) if self.force && failure.is_not_found() => {}
                Err(failure) => {
                    output::notice(&failure.message);
                    is_failed = true;
                }
            }
        }
        if is_failed { Err(Failure::exit(1)) } else { Ok(()) }
    }
}

/// Connect a container to a network
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Add network-scoped alias for the container
    #[arg(long)]
    alias: Vec<String>,
    /// Driver options for the network
    #[arg(long)]
    driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway
    #[arg(long)]
    gw_priority: Option<i64>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, default_value = "")]
    ip: String,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, default_value = "")]
    ip6: String,
    /// Add link to another container
    #[arg(long)]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long)]
    link_local_ip: Vec<String>,
    network: String,
    container: String,
}

impl Connect {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let mut ipam = Members::default();
        ipam.set("IPv4Address", self.ip.as_str());
        ipam.set("IPv6Address", self.ip6.as_str());
        ipam.set("LinkLocalIPs", self.link_local_ip.clone());
        let mut settings = Members::default();
        settings.set("IPAMConfig", ipam.into_value());
        settings.set("Links", self.link.clone());
        settings.set("Aliases", self.alias.clone());
        settings.set("DriverOpts", values::pairs(&self.driver_opt));
        settings.set("GwPriority", self.gw_priority);
        let body = json!({ "Container": self.container, "EndpointConfig": settings.into_value() });
        cais.client.post_json(Path::new(&["networks", &self.network, "connect"]), &body).map(drop)
    }
}

/// Disconnect a container from a network
#[derive(Debug, Args)]
pub(crate) struct Disconnect {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    network: String,
    container: String,
}

impl Disconnect {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let body = json!({ "Container": self.container, "Force": self.force });
        cais.client
            .post_json(Path::new(&["networks", &self.network, "disconnect"]), &body)
            .map(drop)
    }
}
