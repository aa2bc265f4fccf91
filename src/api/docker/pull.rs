//! Pulling, told as it goes.
//!
//! The words are what other programs look for: `Pull complete`, `Downloaded newer image`. An error
//! after the head went out travels as the last message.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;

use super::Door;
use super::call::Call;
use super::convert::{credentials, platform};
use super::reply::{self, Answer};
use super::wire::image::{Detail, Message};
use crate::engine::actions::ImageAct;
use crate::error::{Error, Result};
use crate::image::progress::{LayerProgress, LayerState};
use crate::image::pull::Pull;
use crate::image::reference::Reference;
use crate::image::{Image, ImageId};

/// How often a client hears how far a pull is.
const PERIOD: Duration = Duration::from_millis(100);

/// Messages that a slow client has not read yet.
const BACKLOG: usize = 64;

pub(super) fn pull(door: &Door, call: &Call) -> Answer {
    let name = call.query.text("fromImage").unwrap_or_default();
    let reference = match call.query.text("tag") {
        Some(digest) if digest.contains(':') => format!("{name}@{digest}"),
        Some(tag) => format!("{name}:{tag}"),
        None => name.to_owned(),
    };
    let reference = Reference::parse(&reference)?;
    platform::check_pull(call.query.text("platform"))?;
    let credentials = credentials::of(&call.headers)?;
    let before = door.engine.images().resolve(&reference.to_string());
    let pull = door.engine.images().begin_pull(reference.clone(), credentials);
    let (messages, outgoing) = mpsc::channel(BACKLOG);
    let teller = Teller { door: door.clone(), reference, before, messages, told: HashMap::new() };
    // The pull itself goes on without its listener; this task ends with either.
    tokio::spawn(teller.tell(pull));
    Ok(reply::stream("application/json", lines(ReceiverStream::new(outgoing))))
}

/// One message per line, as Go's clients write and read them.
pub(super) fn lines(
    messages: impl Stream<Item = Message> + Send + 'static,
) -> impl Stream<Item = Bytes> + Send + 'static {
    messages.map(|message| {
        // These messages are texts and numbers: there is nothing in them that JSON has not.
        let mut line = serde_json::to_vec(&message).unwrap_or_default();
        line.extend_from_slice(b"\r\n");
        Bytes::from(line)
    })
}

/// Nobody listens any more.
struct Gone;

struct Teller {
    door: Door,
    reference: Reference,
    /// What had the name.
    before: Option<std::sync::Arc<Image>>,
    messages: mpsc::Sender<Message>,
    /// What was last said of each layer.
    told: HashMap<usize, (LayerState, u64)>,
}

impl Teller {
    async fn tell(mut self, pull: Pull) {
        let followed = self.follow(&pull).await;
        // Told also when its client did not wait for it.
        let id = match &followed {
            Ok(ended) => ended.as_ref().ok().cloned(),
            Err(Gone) => pull.done().await.ok(),
        };
        if let Some(id) = id {
            self.door.engine.image_done(&id, ImageAct::Pull(&self.reference));
        }
        // A client that is gone has nobody to tell.
        let _ = match followed {
            Ok(Ok(id)) => self.done(&id).await,
            Ok(Err(error)) => self.failed(&error).await,
            Err(Gone) => Ok(()),
        };
    }

    async fn follow(&mut self, pull: &Pull) -> Result<Result<ImageId>, Gone> {
        let tag = self.reference.tag().map(str::to_owned);
        let (_, repository) = (self.reference.registry(), self.reference.repository());
        let status = format!("Pulling from {repository}");
        let id = tag.or_else(|| self.reference.digest().map(ToString::to_string));
        self.say(Message { status: Some(status), id, ..Message::default() }).await?;
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let done = pull.done();
        tokio::pin!(done);
        loop {
            let ended = tokio::select! {
                ended = &mut done => Some(ended),
                _ = ticks.tick() => None,
                () = self.messages.closed() => return Err(Gone),
            };
            for (index, layer) in pull.layers().iter().enumerate() {
                self.tell_layer(index, layer).await?;
            }
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    async fn tell_layer(&mut self, index: usize, layer: &LayerProgress) -> Result<(), Gone> {
        let now = (layer.state(), layer.received());
        let told = self.told.insert(index, now);
        if told == Some(now) {
            return Ok(());
        }
        let is_new = told.is_none_or(|(state, _)| state != now.0);
        if told.is_none() && now.0 != LayerState::Present {
            self.say_of(layer, "Pulling fs layer", None).await?;
        }
        match now.0 {
            LayerState::Waiting => Ok(()),
            LayerState::Present => self.say_of(layer, "Already exists", None).await,
            LayerState::Fetching => {
                self.say_of(layer, "Downloading", Some((now.1, layer.size))).await
            }
            LayerState::Done if is_new => {
                self.say_of(layer, "Download complete", None).await?;
                self.say_of(layer, "Pull complete", None).await
            }
            LayerState::Done => Ok(()),
        }
    }

    async fn say_of(
        &self,
        layer: &LayerProgress,
        status: &str,
        bytes: Option<(u64, u64)>,
    ) -> Result<(), Gone> {
        let id = layer.digest.hex().get(..12).unwrap_or_default().to_owned();
        let detail = bytes
            .map(|(current, total)| Detail { current: Some(current), total: Some(total) })
            .unwrap_or_default();
        self.say(Message {
            status: Some(status.to_owned()),
            progress: bytes.map(|(current, total)| format!("{current}/{total} bytes")),
            detail: Some(detail),
            id: Some(id),
            ..Message::default()
        })
        .await
    }

    async fn done(&self, id: &ImageId) -> Result<(), Gone> {
        let image = self.door.engine.images().resolve(&id.to_string());
        let prefix = format!("{}@", self.reference.name());
        let digests = image.iter().flat_map(|image| &image.digests);
        // The newest stands last.
        let digest = digests.filter_map(|name| name.strip_prefix(&prefix)).next_back();
        if let Some(digest) = digest {
            self.say_status(format!("Digest: {digest}")).await?;
        }
        let name = self.reference.familiar();
        let is_same = self.before.as_ref().is_some_and(|before| before.id == *id);
        let what = if is_same { "Image is up to date" } else { "Downloaded newer image" };
        self.say_status(format!("Status: {what} for {name}")).await
    }

    async fn failed(&self, error: &Error) -> Result<(), Gone> {
        tracing::info!(image = %self.reference, error = error.chain(), "pull failed");
        self.say(Message::failure(error.chain())).await
    }

    async fn say_status(&self, status: String) -> Result<(), Gone> {
        self.say(Message { status: Some(status), ..Message::default() }).await
    }

    async fn say(&self, message: Message) -> Result<(), Gone> {
        self.messages.send(message).await.map_err(|_| Gone)
    }
}
