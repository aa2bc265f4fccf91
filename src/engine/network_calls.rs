//! What the engine does for Docker's clients about networks.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;

use super::networks::membership::{NetworkRef, Wanted};
use super::networks::{self, Found, Member, Record, Request};
use super::standalone::Standalone;
use super::{Engine, actions};
use crate::error::Result;
use crate::id::PodId;
use crate::image::digest::Digest;

impl Engine {
    /// # Errors
    /// `NotFound` in Docker's words.
    pub(crate) fn find_network(&self, text: &str) -> Result<Found> {
        let always = [Found::Node, Found::Host, Found::Nothing];
        let ids = always.map(|found| (found.clone(), self.network_id(found.name())));
        self.shared.networks.find(text, &ids)
    }

    /// Those that clients made.
    pub(crate) fn networks(&self) -> Vec<Arc<Record>> {
        self.shared.networks.all()
    }

    pub(crate) async fn create_network(&self, request: Request) -> Result<Arc<Record>> {
        networks::create(self.shared.clone(), request).await
    }

    pub(crate) async fn remove_network(&self, record: Arc<Record>) -> Result<()> {
        networks::remove(self.shared.clone(), record).await
    }

    pub(crate) async fn connect_network(
        &self,
        network: Found,
        container: &Arc<Standalone>,
        wanted: Wanted,
    ) -> Result<()> {
        networks::connect(self.shared.clone(), network, container.clone(), wanted).await
    }

    pub(crate) async fn disconnect_network(
        &self,
        network: Found,
        container: &Arc<Standalone>,
    ) -> Result<()> {
        networks::disconnect(self.shared.clone(), network, container.clone()).await
    }

    /// The containers that have an address of the network now.
    pub(crate) fn network_members(&self, network: &NetworkRef) -> Vec<Member> {
        networks::members(&self.shared, network)
    }

    /// Subnet, gateway and bridge of the node's own network, once it is made.
    pub(crate) fn node_network(&self) -> Option<(Ipv4Net, Ipv4Addr, String)> {
        self.shared.network.node_pool()
    }

    /// Networks that are always there keep their ids for ever.
    pub(crate) fn network_id(&self, name: &str) -> String {
        networks::fixed_id(&self.shared, name)
    }

    /// Networks that nobody is in were removed.
    pub(crate) fn networks_pruned(&self) {
        self.shared.tell_of_pruning(actions::Kind::Network, 0);
    }

    /// What a pod is in a network, for clients that want it to have an id.
    pub(crate) fn endpoint_id(pod: &PodId, network: &NetworkRef) -> String {
        let network = match network {
            NetworkRef::Node => "",
            NetworkRef::Custom(id) => id.as_str(),
        };
        Digest::of(format!("{pod} {network}").as_bytes()).hex().to_owned()
    }
}
