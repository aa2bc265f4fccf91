//! One plugin that has joined: what it wants to hear, and how it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use cais_proto::nri::v1alpha1::{Container, Event, PodSandbox, StateChangeEvent};
use prost::Message;

use super::connection::{CallError, Connection};
use super::wire::{self, Status, code};
use crate::error::{Error, Kind, Result};

pub(super) const SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";

pub(super) struct Plugin {
    /// Index and name: `10-topology`. Plugins are called in this order.
    pub(super) name: String,
    pub(super) events: Events,
    pub(super) connection: Arc<Connection>,
    pub(super) request_timeout: Duration,
    /// Events for which it has no call of their own.
    by_state_change: AtomicI32,
}

/// A set of events, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Events(i32);

impl Events {
    pub(super) const ALL: Self = Self((1 << (Event::Last as i32 - 1)) - 1);

    /// # Errors
    /// `Unavailable` for a bit that stands for no event we know.
    pub(super) fn parse(bits: i32) -> Result<Self> {
        match bits {
            // Who says nothing wants everything.
            0 => Ok(Self::ALL),
            bits if bits & !Self::ALL.0 == 0 => Ok(Self(bits)),
            bits => {
                let text = format!("the plugin subscribes to unknown events ({bits:#x})");
                Err(Error::new(Kind::Unavailable, text))
            }
        }
    }

    pub(super) fn contains(self, event: Event) -> bool {
        self.0 & bit(event) != 0
    }
}

fn bit(event: Event) -> i32 {
    1 << (event as i32 - 1)
}

/// What all events without an answer carry: the numbers of the fields are the same in their requests.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Subject {
    #[prost(message, optional, tag = "1")]
    pub(super) pod: Option<PodSandbox>,
    #[prost(message, optional, tag = "2")]
    pub(super) container: Option<Container>,
}

impl Plugin {
    pub(super) fn new(
        name: String,
        events: Events,
        connection: Arc<Connection>,
        request_timeout: Duration,
    ) -> Self {
        let by_state_change = AtomicI32::new(0);
        Self { name, events, connection, request_timeout, by_state_change }
    }

    /// Asks the plugin, if it wants to be asked. A plugin that does not answer in time, or not in the
    /// protocol, is dropped, and the request goes on without it.
    ///
    /// # Errors
    /// `Unavailable` with the plugin's own words when it refuses.
    pub(super) async fn ask<R: Message + Default>(
        &self,
        event: Event,
        request: &impl Message,
    ) -> Result<Option<R>> {
        if !self.events.contains(event) {
            return Ok(None);
        }
        self.answered(event, self.call(method(event), request).await)
    }

    /// Tells the plugin of an event that has no answer.
    ///
    /// # Errors
    /// As [`Plugin::ask`].
    pub(super) async fn tell(&self, event: Event, subject: &Subject) -> Result<()> {
        if !self.events.contains(event) {
            return Ok(());
        }
        if self.by_state_change.load(Ordering::Relaxed) & bit(event) == 0 {
            match self.call::<Nothing>(method(event), subject).await {
                // Older than the call: from now on by the one that always was there.
                Err(CallError::Refused(status)) if status.code == code::UNIMPLEMENTED => {
                    self.by_state_change.fetch_or(bit(event), Ordering::Relaxed);
                }
                outcome => return self.answered(event, outcome).map(drop),
            }
        }
        let Subject { pod, container } = subject.clone();
        let change = StateChangeEvent { event: event.into(), pod, container };
        self.answered::<Nothing>(event, self.call("StateChange", &change).await).map(drop)
    }

    fn answered<R>(&self, event: Event, outcome: Result<R, CallError>) -> Result<Option<R>> {
        let event = method(event);
        match outcome {
            Ok(answer) => Ok(Some(answer)),
            Err(CallError::Refused(Status { message, .. })) => Err(Error::new(
                Kind::Unavailable,
                format!("plugin {} refuses {event}: {message}", self.name),
            )),
            Err(CallError::TooLarge) => Err(Error::new(
                Kind::Exhausted,
                format!("{event} is too large for plugin {}", self.name),
            )),
            Err(CallError::Broken(error)) => {
                let plugin = &self.name;
                tracing::warn!(plugin, event, error = error.chain(), "the plugin is dropped");
                self.connection.close();
                Ok(None)
            }
        }
    }

    pub(super) async fn call<R: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<R, CallError> {
        call(&self.connection, method, request, self.request_timeout).await
    }
}

/// Any answer of which nothing is read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Nothing {}

pub(super) async fn call<R: Message + Default>(
    connection: &Connection,
    method: &str,
    request: &impl Message,
    timeout: Duration,
) -> Result<R, CallError> {
    let answer = connection.call(SERVICE, method, request.encode_to_vec(), timeout).await?;
    wire::decode(&answer, method).map_err(CallError::Broken)
}

/// The plugin's call for the event.
pub(super) fn method(event: Event) -> &'static str {
    match event {
        Event::RunPodSandbox => "RunPodSandbox",
        Event::UpdatePodSandbox => "UpdatePodSandbox",
        Event::PostUpdatePodSandbox => "PostUpdatePodSandbox",
        Event::StopPodSandbox => "StopPodSandbox",
        Event::RemovePodSandbox => "RemovePodSandbox",
        Event::CreateContainer => "CreateContainer",
        Event::PostCreateContainer => "PostCreateContainer",
        Event::StartContainer => "StartContainer",
        Event::PostStartContainer => "PostStartContainer",
        Event::UpdateContainer => "UpdateContainer",
        Event::PostUpdateContainer => "PostUpdateContainer",
        Event::StopContainer => "StopContainer",
        Event::RemoveContainer => "RemoveContainer",
        Event::ValidateContainerAdjustment => "ValidateContainerAdjustment",
        // No events: the ends of the list.
        Event::Unknown | Event::Last => "StateChange",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_subscription_means_all_and_an_unknown_event_is_refused() {
        assert_eq!(Events::parse(0).unwrap(), Events::ALL);
        assert!(Events::ALL.contains(Event::ValidateContainerAdjustment));
        let some = Events::parse(0b1001).unwrap();
        assert!(some.contains(Event::RunPodSandbox) && some.contains(Event::CreateContainer));
        assert!(!some.contains(Event::StopPodSandbox));
        assert!(Events::parse(1 << 20).is_err());
    }

    #[test]
    fn a_subject_reads_as_the_request_of_any_event() {
        use cais_proto::nri::v1alpha1::{RemoveContainerRequest, StopPodSandboxRequest};

        let pod = PodSandbox { id: "p".into(), ..Default::default() };
        let container = Container { id: "c".into(), ..Default::default() };
        let subject = Subject { pod: Some(pod.clone()), container: Some(container.clone()) };
        let read = RemoveContainerRequest::decode(&*subject.encode_to_vec()).unwrap();
        assert_eq!((read.pod, read.container), (Some(pod.clone()), Some(container)));
        let subject = Subject { pod: Some(pod.clone()), container: None };
        let read = StopPodSandboxRequest::decode(&*subject.encode_to_vec()).unwrap();
        assert_eq!(read.pod, Some(pod));
    }
}
