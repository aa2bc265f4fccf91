//! Pushing, told as it goes, and whether a registry takes a client's credentials.

use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::interval;
use tokio_stream::wrappers::ReceiverStream;

use super::Door;
use super::call::Call;
use super::convert::credentials;
use super::pull::lines;
use super::reply::{self, Answer};
use super::wire::image::{AuthConfig, Detail, Message};
use crate::engine::actions::ImageAct;
use crate::error::{Error, Kind, Result};
use crate::image::compression::Compression;
use crate::image::offered::{self, Offered};
use crate::image::push::{self, Event, Pushed};
use crate::image::reference::Reference;
use crate::image::registry::auth::host_of;

/// How often a client hears how far a layer is.
const PERIOD: Duration = Duration::from_millis(100);

/// Messages that a slow client has not read yet.
const BACKLOG: usize = 64;

pub(super) async fn login(door: &Door, call: Call) -> Answer {
    let config: AuthConfig = call.json().await?;
    let address = config.serveraddress.clone();
    let host = match host_of(&address) {
        "" => "docker.io",
        host => host,
    };
    // Of no image in particular.
    let registry = Reference::parse(&format!("{host}/login/login"))?;
    let credentials = credentials::from_config(config)?;
    push::check(door.engine.images(), &registry, &credentials).await?;
    reply::json(&json!({ "Status": "Login Succeeded", "IdentityToken": "" }))
}

/// What the registry has, for who asks before a pull or after a push.
pub(super) async fn offered(door: &Door, name: &str, call: &Call) -> Answer {
    let reference = Reference::parse(name)?;
    let credentials = credentials::of(&call.headers)?;
    let offered = offered::look(door.engine.images(), &reference, &credentials).await?;
    let Offered { media_type, digest, size, platforms } = offered;
    reply::json(&json!({
        "Descriptor": { "mediaType": media_type, "digest": digest.to_string(), "size": size },
        "Platforms": platforms,
    }))
}

pub(super) fn push(door: &Door, name: &str, call: &Call) -> Answer {
    let name = match call.query.text("tag") {
        Some(tag) => format!("{name}:{tag}"),
        None => name.to_owned(),
    };
    let reference = Reference::parse(&name)?;
    if reference.digest().is_some() {
        return Err(Error::invalid("cannot push a digest reference"));
    }
    let familiar = reference.familiar();
    let tag = reference.tagged_name().unwrap_or_default();
    let found = door.engine.images().hold(&name).filter(|held| held.image.tags.contains(&tag));
    let held = found.ok_or_else(|| {
        Error::not_found(format!("An image does not exist locally with the tag: {familiar}"))
    })?;
    let credentials = credentials::of(&call.headers)?;
    let (engine, id) = (door.engine.clone(), held.image.id.clone());
    let store = door.engine.images().clone();
    let (messages, outgoing) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let (events, mut told) = mpsc::channel(1);
        let teller = Teller { messages };
        let to = (&reference, &credentials);
        let pushed = tokio::select! {
            pushed = push::push(&store, (held, Compression::GZIP), to, &events) => pushed,
            // Who hung up wants it no more.
            Err(Gone) = teller.follow(&reference, &mut told) => return,
        };
        drop(events);
        if pushed.is_ok() {
            engine.image_done(&id, ImageAct::Push(&reference));
        }
        while let Some(event) = told.recv().await {
            if teller.say(&event).await.is_err() {
                return;
            }
        }
        teller.end(&reference, pushed).await;
    });
    Ok(reply::stream("application/json", lines(ReceiverStream::new(outgoing))))
}

/// Nobody listens any more.
struct Gone;

struct Teller {
    messages: mpsc::Sender<Message>,
}

impl Teller {
    async fn follow(
        &self,
        reference: &Reference,
        events: &mut mpsc::Receiver<Event>,
    ) -> Result<(), Gone> {
        let repository = reference.name();
        self.say_status(format!("The push refers to repository [{repository}]")).await?;
        let mut ticks = interval(PERIOD);
        // Those on their way.
        let mut moving: Vec<Event> = Vec::new();
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { return Ok(()) };
                    self.say(&event).await?;
                    moving.retain(|other| other.diff_id() != event.diff_id());
                    moving.extend(event.progress().map(|_| event));
                }
                _ = ticks.tick() => {
                    for event in &moving {
                        self.say(event).await?;
                    }
                }
                () = self.messages.closed() => return Err(Gone),
            }
        }
    }

    async fn say(&self, event: &Event) -> Result<(), Gone> {
        let status = match event {
            Event::Preparing(_) => "Preparing".to_owned(),
            Event::Pushing { .. } => "Pushing".to_owned(),
            Event::Present(_) => "Layer already exists".to_owned(),
            Event::Mounted(_, from) => format!("Mounted from {from}"),
            Event::Pushed(_) => "Pushed".to_owned(),
        };
        let bytes = event.progress();
        let detail = bytes
            .map(|(current, total)| Detail { current: Some(current), total: Some(total) })
            .unwrap_or_default();
        self.send(Message {
            status: Some(status),
            id: Some(event.diff_id().hex().get(..12).unwrap_or_default().to_owned()),
            progress: bytes.map(|(current, total)| format!("{current}/{total} bytes")),
            detail: Some(detail),
            ..Message::default()
        })
        .await
    }

    async fn end(&self, reference: &Reference, pushed: Result<Pushed>) {
        // A client that is gone has nobody to tell.
        let _ = match pushed {
            Ok(pushed) => self.done(reference, &pushed).await,
            Err(error) => {
                tracing::info!(image = %reference, error = error.chain(), "push failed");
                let is_denied = error.kind() == Kind::Denied;
                let message =
                    if is_denied { format!("denied: {}", error.chain()) } else { error.chain() };
                self.send(Message::failure(message)).await
            }
        };
    }

    async fn done(&self, reference: &Reference, pushed: &Pushed) -> Result<(), Gone> {
        let Pushed { digest, size } = pushed;
        let tag = reference.tag().unwrap_or_default();
        self.say_status(format!("{tag}: digest: {digest} size: {size}")).await?;
        let aux = json!({ "Tag": tag, "Digest": digest.to_string(), "Size": size });
        let detail = Some(Detail::default());
        self.send(Message { detail, aux: Some(aux), ..Message::default() }).await
    }

    async fn say_status(&self, status: String) -> Result<(), Gone> {
        self.send(Message { status: Some(status), ..Message::default() }).await
    }

    async fn send(&self, message: Message) -> Result<(), Gone> {
        self.messages.send(message).await.map_err(|_| Gone)
    }
}
