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
        // The record last: while it is there, the next daemon knows what is left to do.
        shared.network.close_network(record.plan()).await?;
        shared.network_records.remove(record.id.as_str())?;
        shared.networks.lock().remove(record.id.as_str());
        shared.tell_of_network("destroy", &record);
        Ok(())
    })
    .await
}
