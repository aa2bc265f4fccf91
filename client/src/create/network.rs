//! `--network` in its two notations, and the flags that mean the first network.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::values::{fields, pairs};
use super::{Flags, Members, Refused};

#[derive(Debug)]
pub(super) struct Networks {
    pub(super) mode: String,
    /// Settings by network.
    pub(super) endpoints: Value,
}

/// One network that the container is attached to.
#[derive(Debug, Default, Clone)]
struct Attachment {
    target: String,
    aliases: Vec<String>,
    links: Vec<String>,
    ip: String,
    ip6: String,
    link_local_ips: Vec<String>,
    mac_address: String,
    driver_options: Vec<String>,
    gateway_priority: Option<i64>,
}

pub(super) fn networks(flags: &Flags) -> Result<Networks, Refused> {
    let mut attachments: Vec<Attachment> =
        flags.network.iter().map(|it| attachment(it)).collect::<Result<_, _>>()?;
    if attachments.is_empty() {
        attachments.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
    }
    if attachments.len() > 1
        && attachments.iter().any(|it| {
            !is_user_defined(&it.target) && it.target != "bridge" && it.target != "default"
        })
    {
        return Err("conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned());
    }
    let mut endpoints = Map::new();
    for (index, attachment) in attachments.iter_mut().enumerate() {
        if index == 0 {
            attachment.take_flags(flags)?;
        }
        if !attachment.aliases.is_empty() && !is_user_defined(&attachment.target) {
            return Err(
                "network-scoped aliases are only supported for user-defined networks".to_owned()
            );
        }
        let settings = attachment.settings()?;
        // There is nothing to be attached to.
        if !is_user_defined(&attachment.target)
            && !matches!(attachment.target.as_str(), "default" | "bridge")
        {
            continue;
        }
        if endpoints.insert(attachment.target.clone(), settings).is_some() {
            return Err(format!("network {:?} is specified multiple times", attachment.target));
        }
    }
    let mode = attachments.first().map(|it| it.target.clone()).unwrap_or_default();
    Ok(Networks { mode, endpoints: Value::Object(endpoints) })
}

fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

fn attachment(text: &str) -> Result<Attachment, Refused> {
    let mut attachment = Attachment::default();
    if !text.contains('=') {
        text.clone_into(&mut attachment.target);
        return Ok(attachment);
    }
    let refused =
        |what: String| format!("invalid argument {text:?} for \"--network\" flag: {what}");
    for field in fields(text) {
        let (key, value) =
            field.split_once('=').ok_or_else(|| refused(format!("invalid field {field}")))?;
        let value = value.trim();
        match key.trim().to_lowercase().as_str() {
            "name" => value.clone_into(&mut attachment.target),
            "alias" => attachment.aliases.push(value.to_owned()),
            "ip" => value.clone_into(&mut attachment.ip),
            "ip6" => value.clone_into(&mut attachment.ip6),
            "mac-address" => value.clone_into(&mut attachment.mac_address),
            "link-local-ip" => attachment.link_local_ips.push(value.to_owned()),
            "driver-opt" => attachment.driver_options.push(value.to_owned()),
            "gw-priority" => {
                let number =
                    value.parse().map_err(|_| refused(format!("invalid gw-priority ({value})")))?;
                attachment.gateway_priority = Some(number);
            }
            other => return Err(refused(format!("invalid field key {other}"))),
        }
    }
    if attachment.target.is_empty() {
        return Err(refused("network name/id is not specified".to_owned()));
    }
    Ok(attachment)
}

impl Attachment {
    fn take_flags(&mut self, flags: &Flags) -> Result<(), Refused> {
        let conflict = |names: &str| format!("conflicting options: cannot specify both {names}");
        let one = |own: &mut String, flag: &String, names: &str| {
            if flag.is_empty() {
                return Ok(());
            }
            if !own.is_empty() {
                return Err(conflict(names));
            }
            flag.clone_into(own);
            Ok(())
        };
        one(&mut self.ip, &flags.ip, "--ip and per-network IPv4 address")?;
        one(&mut self.ip6, &flags.ip6, "--ip6 and per-network IPv6 address")?;
        one(
            &mut self.mac_address,
            &flags.mac_address,
            "--mac-address and per-network MAC address",
        )?;
        if !flags.network_alias.is_empty() {
            if !self.aliases.is_empty() {
                return Err(conflict("--network-alias and per-network alias"));
            }
            self.aliases.clone_from(&flags.network_alias);
        }
        if is_user_defined(&self.target) {
            self.links.clone_from(&flags.link);
        }
        if !flags.link_local_ip.is_empty() {
            self.link_local_ips.clone_from(&flags.link_local_ip);
        }
        Ok(())
    }

    fn settings(&self) -> Result<Value, Refused> {
        for address in [&self.ip, &self.ip6] {
            if !address.is_empty() && address.parse::<IpAddr>().is_err() {
                return Err(format!("invalid argument {address:?}: invalid IP address"));
            }
        }
        let mut ipam = Members::default();
        ipam.set("IPv4Address", self.ip.as_str());
        ipam.set("IPv6Address", self.ip6.as_str());
        ipam.set("LinkLocalIPs", self.link_local_ips.clone());
        let mut settings = Members::default();
        settings.set("IPAMConfig", ipam.into_value());
        settings.set("Aliases", self.aliases.clone());
        settings.set("Links", self.links.clone());
        settings.set("MacAddress", self.mac_address.as_str());
        settings.set("DriverOpts", pairs(&self.driver_options));
        settings.set("GwPriority", self.gateway_priority.map(|it| json!(it)));
        Ok(settings.into_value())
    }
}
