//! Removing a network that nobody is in.

use std::sync::Arc;

use super::membership::NetworkRef;
use super::{Record, members};
use crate::engine::{Shared, operation};
use crate::error::{Error, Kind, Result};

/// Succeeds on what is gone.
///
/// # Errors
/// `Forbidden` in Docker's words while containers of it run.
pub(crate) async fn remove(shared: Arc<Shared>, record: Arc<Record>) -> Result<()> {
    operation::run(async move {
        let _change = shared.networks.change.lock().await;
        if shared.networks.get(&record.id).is_none() {
            return Ok(());
        }
        let members = members(&shared, &NetworkRef::Custom(record.id.clone()));
        if !members.is_empty() {
            let names: Vec<String> = members
                .iter()
                .map(|it| format!("name:{:?} id:{:?}", it.container.name, it.container.id.as_str()))
                .collect();
            return Err(Error::new(
                Kind::Forbidden,
                format!(
                    "error while removing network: network {} has active endpoints ({})",
                    record.name,
                    names.join(", ")
                ),
            ));
        }
        // For the next daemon, should this one not get to the end.
        let removed = Record { is_removed: true, ..(*record).clone() };
        shared.network_records.put(record.id.as_str(), &removed)?;
        shared.networks.lock().remove(record.id.as_str());
        shared.tell_of_network("destroy", &record);
        // The kernel deletes no interface while it takes apart the namespaces of containers that have just ended, which takes it
        // tenths of a second. Nobody needs to wait for it but who makes the next network.
        let leaving = shared.networks.leaving.clone().read_owned().await;
        let shared = shared.clone();
        tokio::spawn(async move {
            take_apart(&shared, &record).await;
            drop(leaving);
        });
        Ok(())
    })
    .await
}

/// Removes what there is of a network that clients do not see any more, and its record last: while that is there, the next
/// daemon knows what is left to do.
pub(super) async fn take_apart(shared: &Shared, record: &Record) {
    let closed = shared.network.close_network(record.plan()).await;
    let done = closed.and_then(|()| shared.network_records.remove(record.id.as_str()));
    if let Err(error) = done {
        tracing::error!(network = %record.name, error = error.chain(), "take a removed network apart; the next daemon tries again");
    }
}
