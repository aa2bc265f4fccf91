//! GetContainerEvents: what happens to pods and containers, as kubelet's evented PLEG wants it.

use cais_proto::runtime::v1::{ContainerEventResponse, ContainerEventType, GetEventsRequest};
use futures_util::stream;
use tonic::Status;

use super::Cri;
use super::convert::{container, pod};
use super::parts::Parts;
use crate::engine::events::{Change, Event, Seen};

impl Cri {
    /// Never ends by itself.
    pub(super) fn container_events(
        &self,
        request: GetEventsRequest,
    ) -> Parts<ContainerEventResponse> {
        let GetEventsRequest {} = request;
        let following = Some(self.engine.follow_events());
        Box::pin(stream::unfold(following, |following| async {
            let mut follower = following?;
            match follower.next().await {
                Ok(event) => Some((Ok(response(&event)), Some(follower))),
                Err(error) => Some((Err(Status::from(error)), None)),
            }
        }))
    }
}

fn response(event: &Event<Seen>) -> ContainerEventResponse {
    let Event { at, change, subject, seen } = event;
    ContainerEventResponse {
        // A pod's own events carry its id here.
        container_id: subject.clone(),
        container_event_type: kind(*change) as i32,
        created_at: *at,
        pod_sandbox_status: Some(pod::pod_status(&seen.pod)),
        containers_statuses: seen
            .containers
            .iter()
            .map(|record| container::container_status(record))
            .collect(),
    }
}

fn kind(change: Change) -> ContainerEventType {
    match change {
        Change::Created => ContainerEventType::ContainerCreatedEvent,
        Change::Started => ContainerEventType::ContainerStartedEvent,
        Change::Stopped => ContainerEventType::ContainerStoppedEvent,
        Change::Deleted => ContainerEventType::ContainerDeletedEvent,
    }
}
