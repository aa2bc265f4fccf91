//! Putting a container into a network and taking it out, whether it runs or not.

use std::sync::Arc;

use super::Found;
use super::membership::{Membership, NetworkRef, Wanted};
use crate::engine::pod::{Pod, attach, files};
use crate::engine::standalone::Standalone;
use crate::engine::standalone::config::Network;
use crate::engine::{Shared, names, operation};
use crate::error::{Error, Kind, Result};

/// # Errors
/// In Docker's words: `Forbidden` for a container that is in it already.
pub(crate) async fn connect(
    shared: Arc<Shared>,
    network: Found,
    container: Arc<Standalone>,
    wanted: Wanted,
) -> Result<()> {
    operation::run(async move {
        let _mutation = container.mutation.lock().await;
        check_mode(&container, &network)?;
        let membership = Membership::of(&network, wanted)?;
        let record = container.record();
        if record.networks.iter().any(|it| it.network == membership.network) {
            return Err(Error::new(
                Kind::Forbidden,
                format!(
                    "endpoint with name {} already exists in network {}",
                    record.name, membership.name
                ),
            ));
        }
        let mut networks = record.networks.clone();
        networks.push(membership.clone());
        if let Some(run) = record.run() {
            let pod = shared.pods.find(run.pod.as_str())?;
            let _pod = pod.mutation.lock().await;
            attach::join(&shared, &pod, &membership).await?;
            if let Err(error) = settled(&shared, &pod, &networks).await {
                attach::leave(&shared, &pod, &membership.network).await?;
                return Err(error);
            }
        }
        container.networks_changed(&shared, networks)?;
        if record.run().is_some() {
            let network = (&membership.network, membership.name.as_str());
            shared.tell_of_member("connect", &record, network);
        }
        names::publish(&shared).await
    })
    .await
}

/// # Errors
/// In Docker's words: `Forbidden` for a container that is not in it.
pub(crate) async fn disconnect(
    shared: Arc<Shared>,
    network: Found,
    container: Arc<Standalone>,
) -> Result<()> {
    operation::run(async move {
        let _mutation = container.mutation.lock().await;
        check_mode(&container, &network)?;
        let record = container.record();
        let wanted = match &network {
            Found::Custom(record) => NetworkRef::Custom(record.id.clone()),
            Found::Node | Found::Host | Found::Nothing => NetworkRef::Node,
        };
        let mut networks = record.networks.clone();
        networks.retain(|it| it.network != wanted);
        if networks.len() == record.networks.len() {
            let (id, name) = (&record.id, network.name());
            let message = format!("container {id} is not connected to network {name}");
            return Err(Error::new(Kind::Forbidden, message));
        }
        if let Some(run) = record.run() {
            let pod = shared.pods.find(run.pod.as_str())?;
            let _pod = pod.mutation.lock().await;
            attach::leave(&shared, &pod, &wanted).await?;
            settled(&shared, &pod, &networks).await?;
        }
        container.networks_changed(&shared, networks)?;
        if record.run().is_some() {
            shared.tell_of_member("disconnect", &record, (&wanted, network.name()));
        }
        names::publish(&shared).await
    })
    .await
}

/// A container that has no network of its own is in none.
fn check_mode(container: &Standalone, network: &Found) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(why));
    match (&container.record().config.network, network) {
        (Network::Container(_), _) => refuse(
            "container sharing network namespace with another container or host cannot be \
             connected to any other network",
        ),
        (Network::Host, _) | (_, Found::Host) => refuse(
            "container cannot be disconnected from host network or connected to host network",
        ),
        (Network::None, _) | (_, Found::Nothing) => refuse(
            "container cannot be connected to multiple networks with one of the networks in \
             private (none) mode",
        ),
        (Network::Bridge | Network::Custom(_), Found::Node | Found::Custom(_)) => Ok(()),
    }
}

/// The way out and the hosts file follow the networks that there are.
async fn settled(shared: &Arc<Shared>, pod: &Arc<Pod>, networks: &[Membership]) -> Result<()> {
    attach::reroute(shared, pod, networks).await?;
    files::rewrite_hosts(&shared.layout.pod(&pod.id), &pod.record())
}
