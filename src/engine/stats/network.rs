//! What went through the pods' interfaces.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;

use super::Shared;
use crate::engine::pod::Pod;
use crate::error::{Context, Result};
use crate::monitor::protocol::SocketKind;
use crate::net::stats::InterfaceStats;
use crate::net::{Attachment, PodSocket, Provider};

/// Of each pod, in their order: nothing with the host's network, and nothing of a pod that is being stopped.
///
/// Pods on the built-in bridge are told by the host's ends of their interfaces, all at once; the others are asked one
/// by one, for a CNI plugin's interface may be of any kind and need not have another end here.
pub(super) async fn of_pods(shared: &Arc<Shared>, pods: &[Arc<Pod>]) -> Vec<Vec<InterfaceStats>> {
    let records: Vec<_> = pods.iter().map(|pod| pod.record()).collect();
    let attachments = records.iter().filter_map(|record| record.attachment.as_ref());
    let ends = attachments.filter_map(host_end).map(str::to_owned).collect();
    let usage = shared.network.usage(ends).await.unwrap_or_else(|error| {
        tracing::debug!(error = error.chain(), "no network figures of the host's interfaces");
        HashMap::default()
    });
    let figures = pods.iter().zip(&records).map(|(pod, record)| {
        let usage = &usage;
        async move {
            if !record.joined.is_empty() {
                return ask(pod).await;
            }
            let Some(attachment) = &record.attachment else { return Vec::new() };
            let Some(end) = host_end(attachment) else { return ask(pod).await };
            let counters = usage.get(end).copied();
            let name = || attachment.interface.clone();
            counters.map(|counters| InterfaceStats { name: name(), counters }).into_iter().collect()
        }
    });
    join_all(figures).await
}

fn host_end(attachment: &Attachment) -> Option<&str> {
    let is_builtin = attachment.provider == Provider::Builtin;
    attachment.host_interface.as_deref().filter(|_| is_builtin)
}

/// In the pod's own network namespace.
async fn ask(pod: &Pod) -> Vec<InterfaceStats> {
    let ask = async || -> Result<Vec<InterfaceStats>> {
        let Ok(monitor) = pod.monitor() else { return Ok(Vec::new()) };
        let socket = monitor.open_socket(SocketKind::Route).await?;
        crate::net::stats::interfaces(&PodSocket::new(socket)?).context("read the network's usage")
    };
    match ask().await {
        Ok(stats) => stats,
        Err(error) => {
            tracing::debug!(pod = %pod.id, error = error.chain(), "no network figures");
            Vec::new()
        }
    }
}
