//! The network as the engine opens it: from the configuration and from what earlier pods have.

use std::collections::BTreeSet;
use std::time::Duration;

use super::networks::membership::NetworkRef;
use super::pod::attach;
use super::pod::phase::Phase;
use super::pod::record::Record;
use crate::config::Config;
use crate::error::Result;
use crate::id::PodId;
use crate::net::ports::Published;
use crate::net::{Config as NetworkConfig, Network, Provider};
use crate::store::table::Table;

pub(super) fn open(config: &Config, records: &Table<Record>) -> Result<Network> {
    let mut all = records.scan()?;
    finish_hand_overs(records, &mut all)?;
    let survivors = all.iter().filter_map(|(_, record)| survivor(record));
    let network = &config.network;
    let settings = NetworkConfig {
        mode: network.mode,
        bridge: network.bridge.clone(),
        // Two daemons on one host have two bridges, and must not share rules either.
        table: network.bridge.clone(),
        subnet: network.subnet,
        cni_config_dirs: vec![network.cni_config_dir.clone()],
        cni_plugin_dirs: network.cni_plugin_dirs.clone(),
        cni_timeout: Duration::from_secs(network.cni_timeout_secs),
        state: config.state.clone(),
    };
    Network::open(settings, survivors.collect())
}

/// Of two pods between which ports were changing hands when the daemon died, the one that took them has them.
fn finish_hand_overs(records: &Table<Record>, all: &mut [(String, Record)]) -> Result<()> {
    let takers = all.iter().filter(|(_, it)| it.phase == Phase::Ready);
    let from: BTreeSet<PodId> = takers.filter_map(|(_, it)| it.taken_from.clone()).collect();
    for (key, record) in all.iter_mut().filter(|(_, it)| from.contains(&it.id)) {
        attach::set_ports(record, Vec::new());
        records.put(key, record)?;
    }
    Ok(())
}

fn survivor(record: &Record) -> Option<Published> {
    let attachment = record.attachment_of(record.way_out.as_ref().unwrap_or(&NetworkRef::Node))?;
    // A stopped pod may still have its attachment to give back, but nobody answers there.
    if record.phase != Phase::Ready {
        return None;
    }
    if attachment.provider != Provider::Builtin {
        return None;
    }
    Some(Published {
        pod: record.id.clone(),
        address: attachment.ipv4()?,
        ipv6: record.way_out_ipv6.as_ref().and_then(|it| record.attachment_of(it)?.ipv6()),
        mappings: record.config.ports.clone(),
    })
}
