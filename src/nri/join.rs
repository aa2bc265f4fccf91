//! How a plugin joins: it registers, is configured, and is told of all there is.
//!
//! ```text
//!   plugin ── RegisterPlugin ──▶ runtime
//!   plugin ◀──── Configure ────  runtime      which events
//!   plugin ◀─── Synchronize ───  runtime      pods, containers; nothing is made meanwhile
//! ```
//!
//! From the first of these on the plugin's own calls are served; each step has the registration
//! timeout.

use std::sync::Arc;
use std::time::Duration;

use cais_proto::nri::v1alpha1::{
    ConfigureRequest, ConfigureResponse, Container, ContainerUpdate, PodSandbox,
    RegisterPluginRequest, SynchronizeRequest, SynchronizeResponse, UpdateContainersRequest,
    UpdateContainersResponse,
};
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::connection::{CallError, Connection, Incoming};
use super::launch::Preset;
use super::plugin::{Events, Plugin, call};
use super::wire::{self, Request, Response, Status, code};
use super::{Nri, Runtime};
use crate::error::{Context, Error, Kind, Result};

const SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";
/// Of the interface, as in `nri.proto`.
const NRI_VERSION: &str = "v0.12.2";
/// The bytes of pods and containers in one message, with room for what surrounds them.
const CHUNK: usize = wire::LARGEST_MESSAGE - (64 << 10);

/// A plugin that is configured and not told of anything yet.
pub(super) struct Joining {
    plugin: Plugin,
}

impl Joining {
    /// Registers and configures the plugin at the other end of the socket.
    pub(super) async fn meet(
        nri: &Nri,
        runtime: &Arc<dyn Runtime>,
        socket: UnixStream,
        preset: Option<&Preset>,
    ) -> Result<Self> {
        let timeout = nri.registration_timeout;
        let (connection, incoming) = Connection::open(socket);
        let (registered, registration) = oneshot::channel();
        tokio::spawn(serve(connection.clone(), incoming, registered, runtime.clone()));
        let met = async {
            let asked = tokio::time::timeout(timeout, registration).await;
            let asked = asked
                .map_err(|_| Error::new(Kind::Timeout, format!("no registration in {timeout:?}")))?
                .map_err(|_| {
                    Error::new(Kind::Unavailable, "the connection closed before a registration")
                })?;
            let name = match preset {
                Some(preset) => preset.name.clone(),
                None => format!("{}-{}", asked.plugin_idx, asked.plugin_name),
            };
            let config = preset.map(|preset| preset.config.clone()).unwrap_or_default();
            let events = configure(nri, &connection, config)
                .await
                .with_context(|| format!("configure plugin {name}"))?;
            Ok::<_, Error>(Plugin::new(name, events, connection.clone(), nri.request_timeout))
        };
        let met = met.await;
        if met.is_err() {
            connection.close();
        }
        Ok(Self { plugin: met? })
    }

    pub(super) fn name(&self) -> &str {
        &self.plugin.name
    }

    /// Tells the plugin of all there is. The caller sees to it that nothing changes meanwhile.
    pub(super) async fn synchronize(
        self,
        timeout: Duration,
        pods: &[PodSandbox],
        containers: &[Container],
    ) -> Result<(Plugin, Vec<ContainerUpdate>)> {
        let Self { plugin } = self;
        let told = tell_all(&plugin.connection, timeout, chunks(pods, containers)).await;
        match told.with_context(|| format!("synchronize plugin {}", plugin.name)) {
            Ok(updates) => Ok((plugin, updates)),
            Err(error) => {
                plugin.connection.close();
                Err(error)
            }
        }
    }
}

async fn configure(nri: &Nri, connection: &Connection, config: String) -> Result<Events> {
    let millis = |timeout: Duration| i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
    let request = ConfigureRequest {
        config,
        runtime_name: "cais".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        registration_timeout: millis(nri.registration_timeout),
        request_timeout: millis(nri.request_timeout),
        nri_version: NRI_VERSION.to_owned(),
    };
    let answer: ConfigureResponse =
        call(connection, "Configure", &request, nri.registration_timeout).await.map_err(failure)?;
    Events::parse(answer.events)
}

async fn tell_all(
    connection: &Connection,
    timeout: Duration,
    chunks: Vec<SynchronizeRequest>,
) -> Result<Vec<ContainerUpdate>> {
    let mut updates = Vec::new();
    for request in chunks {
        let answer: SynchronizeResponse =
            call(connection, "Synchronize", &request, timeout).await.map_err(failure)?;
        if request.more && !answer.more {
            return Err(Error::new(Kind::Unavailable, "it takes no more than one message"));
        }
        updates.extend(answer.update);
    }
    Ok(updates)
}

/// All pods and containers in messages that are small enough.
fn chunks(pods: &[PodSandbox], containers: &[Container]) -> Vec<SynchronizeRequest> {
    let mut all = Vec::new();
    let mut next = SynchronizeRequest::default();
    let mut size = 0;
    let mut make_room = |next: &mut SynchronizeRequest, bytes: usize| {
        if size > 0 && size + bytes > CHUNK {
            all.push(SynchronizeRequest { more: true, ..std::mem::take(next) });
            size = 0;
        }
        size += bytes;
    };
    for pod in pods {
        make_room(&mut next, pod.encoded_len() + 8);
        next.pods.push(pod.clone());
    }
    for container in containers {
        make_room(&mut next, container.encoded_len() + 8);
        next.containers.push(container.clone());
    }
    all.push(next);
    all
}

fn failure(error: CallError) -> Error {
    match error {
        CallError::Refused(Status { message, .. }) => Error::new(Kind::Unavailable, message),
        CallError::TooLarge => Error::new(Kind::Exhausted, "the message is too large"),
        CallError::Broken(error) => error,
    }
}

/// Serves the plugin's own calls, one after the other, until it goes.
async fn serve(
    connection: Arc<Connection>,
    mut incoming: mpsc::Receiver<Incoming>,
    registered: oneshot::Sender<RegisterPluginRequest>,
    runtime: Arc<dyn Runtime>,
) {
    let mut registered = Some(registered);
    while let Some(Incoming { stream, request }) = incoming.recv().await {
        let Request { service, method, payload, .. } = request;
        let answer = match (service.as_str(), method.as_str()) {
            (SERVICE, "RegisterPlugin") => register(&payload, &mut registered),
            (SERVICE, "UpdateContainers") if registered.is_none() => {
                update(&payload, &runtime).await
            }
            (SERVICE, "UpdateContainers") => Err(Error::wrong_state("register first")),
            _ => Err(Error::new(Kind::Unsupported, format!("{service}/{method} is not known"))),
        };
        let response = match answer {
            Ok(payload) => Response { status: None, payload },
            Err(error) => {
                let code = match error.kind() {
                    Kind::InvalidArgument => code::INVALID_ARGUMENT,
                    Kind::Unsupported => code::UNIMPLEMENTED,
                    Kind::NotFound
                    | Kind::AlreadyExists
                    | Kind::WrongState
                    | Kind::Busy
                    | Kind::Exhausted
                    | Kind::Unavailable
                    | Kind::Denied
                    | Kind::Forbidden
                    | Kind::Timeout
                    | Kind::Cancelled
                    | Kind::Internal => code::UNKNOWN,
                };
                let status = Some(Status { code, message: error.chain() });
                Response { status, payload: Vec::new() }
            }
        };
        connection.reply(stream, &response).await;
    }
}

fn register(
    payload: &[u8],
    registered: &mut Option<oneshot::Sender<RegisterPluginRequest>>,
) -> Result<Vec<u8>> {
    let request: RegisterPluginRequest = wire::decode(payload, "RegisterPlugin")?;
    check_name(&request.plugin_idx, &request.plugin_name)?;
    let waiting = registered.take().ok_or_else(|| Error::wrong_state("registered already"))?;
    // Nobody waits any more when it came too late; the connection is about to be closed then.
    let _ = waiting.send(request);
    Ok(Vec::new())
}

/// # Errors
/// `InvalidArgument` unless the index is of two digits and the name of plain characters.
pub(super) fn check_name(index: &str, name: &str) -> Result<()> {
    if index.len() != 2 || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::invalid(format!("plugin index {index:?} is not two digits")));
    }
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
    if name.is_empty() || name.len() > 255 || !name.bytes().all(plain) {
        let shown: String = name.chars().take(80).collect();
        return Err(Error::invalid(format!(
            "plugin name {shown:?} is not of letters, digits and _.+-"
        )));
    }
    Ok(())
}

async fn update(payload: &[u8], runtime: &Arc<dyn Runtime>) -> Result<Vec<u8>> {
    let request: UpdateContainersRequest = wire::decode(payload, "UpdateContainers")?;
    let UpdateContainersRequest { update, evict } = request;
    let failed = runtime.update(update, evict).await;
    Ok(UpdateContainersResponse { failed }.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_has_two_digits_and_a_plain_name() {
        assert!(check_name("00", "a-b_c.d+1").is_ok());
        for (index, name) in [("0", "a"), ("000", "a"), ("0a", "a"), ("00", ""), ("00", "a/b")] {
            assert_eq!(check_name(index, name).unwrap_err().kind(), Kind::InvalidArgument);
        }
    }

    #[test]
    fn a_synchronization_is_cut_into_messages_that_fit() {
        let large = |id: u32| Container {
            id: id.to_string(),
            env: vec!["x".repeat(1 << 20)],
            ..Default::default()
        };
        let pods = [PodSandbox { id: "p".into(), ..Default::default() }];
        let containers: Vec<Container> = (0..9).map(large).collect();

        let messages = chunks(&pods, &containers);

        assert!(messages.iter().all(|it| it.encoded_len() <= wire::LARGEST_MESSAGE));
        let more: Vec<bool> = messages.iter().map(|it| it.more).collect();
        assert_eq!(more, [true, true, false]);
        assert_eq!(messages.iter().flat_map(|it| &it.pods).count(), 1);
        let ids: Vec<&str> =
            messages.iter().flat_map(|it| &it.containers).map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
        assert_eq!(chunks(&[], &[]), [SynchronizeRequest::default()]);
    }
}
