//! Images that are made here or carried: commit, import, save, load.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};

use super::archive::receive;
use super::call::Call;
use super::containers::standalone;
use super::convert::{changes, image as convert, platform};
use super::reply::{self, Answer};
use super::wire::image::Message;
use super::{Door, images};
use crate::engine::making::About;
use crate::engine::standalone::record::Record;
use crate::error::{Context, Error, Kind, Result};
use crate::image::load::Outcome;
use crate::image::reference::Reference;

/// Keys of a container's configuration that are an image's as well.
const SETTINGS: [&str; 11] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];

pub(super) async fn commit(door: &Door, call: Call) -> Answer {
    let id = call.query.text("container").unwrap_or_default();
    let container = standalone(door, id)?;
    let record = container.record();
    let mut config = settings(door, &record)?;
    changes::apply(&mut config, &call.query.texts("changes"))?;
    let about = About {
        config: Value::Object(config),
        created_by: record.config.container.command.join(" "),
        ..about(&call)?
    };
    let with_pause = call.query.text("pause").is_none() || call.query.switch("pause");
    let made = door.engine.commit(&container, about, with_pause).await?;
    reply::created(&json!({ "Id": made.to_string() }))
}

/// The image's, with what the container has of its own.
fn settings(door: &Door, record: &Record) -> Result<Map<String, Value>> {
    let image = images::find(door, &record.image_id)?;
    let document = door.engine.images().configuration(&image)?;
    let document: Value =
        serde_json::from_slice(&document).context("read the image's configuration")?;
    let mut config = document["config"].as_object().cloned().unwrap_or_default();
    let own = record.config.request["Config"].as_object();
    let is_said = |value: &Value| !value.is_null() && value.as_str() != Some("");
    for (key, value) in own.into_iter().flatten() {
        if SETTINGS.contains(&key.as_str()) && (is_said(value) || key == "Entrypoint") {
            config.insert(key.clone(), value.clone());
        }
    }
    Ok(config)
}

fn about(call: &Call) -> Result<About> {
    let text = |key: &str| call.query.text(key).unwrap_or_default().to_owned();
    let name = match (call.query.text("repo"), call.query.text("tag")) {
        (None, _) => None,
        (Some(name), None) => Some(Reference::parse(name)?),
        (Some(name), Some(tag)) => Some(Reference::parse(&format!("{name}:{tag}"))?),
    };
    if name.as_ref().is_some_and(|name| name.digest().is_some()) {
        return Err(Error::invalid("cannot commit to digest reference"));
    }
    Ok(About { author: text("author"), comment: text("comment"), name, ..About::default() })
}

/// The body is the tree that becomes the image's only layer.
pub(super) async fn import(door: &Door, call: Call) -> Answer {
    let source = call.query.text("fromSrc").unwrap_or_default();
    if source != "-" {
        let text = "importing from another place than standard input is not supported yet";
        return Err(Error::new(Kind::Unsupported, text));
    }
    let mut config = Map::new();
    changes::apply(&mut config, &call.query.texts("changes"))?;
    let message = call.query.text("message").unwrap_or("Imported from -").to_owned();
    let about = About { config: Value::Object(config), comment: message, ..about(&call)? };
    let upload = door.engine.images().begin_layer(None)?;
    let mut pieces = call.into_pieces();
    while let Some(piece) = pieces.next().await {
        if !upload.push(piece?).await {
            break;
        }
    }
    let layer = upload.finish().await?;
    let made = door.engine.import_image(layer, about).await?;
    told([json!({ "status": made.to_string() })])
}

pub(super) async fn load(door: &Door, call: Call) -> Answer {
    let platform = call.query.text("platform").map(platform::spelled).transpose()?;
    platform::check_pull(platform.as_deref())?;
    let upload = receive(door, call).await?;
    // A bad archive is told of in the stream, as Docker does it: programs read it there.
    let outcome = door.engine.load_images(upload).await;
    let outcome = outcome.unwrap_or_else(|error| Outcome { images: vec![], error: Some(error) });
    let mut messages = Vec::new();
    for image in outcome.images {
        let named =
            image.tags.iter().map(|tag| format!("Loaded image: {}\n", convert::familiar(tag)));
        let mut lines: Vec<String> = named.collect();
        if lines.is_empty() {
            lines.push(format!("Loaded image ID: {}\n", image.id));
        }
        let message = |line| Message { stream: Some(line), ..Message::default() };
        messages.extend(lines.into_iter().map(message));
    }
    if let Some(error) = outcome.error {
        tracing::info!(error = error.chain(), "load failed");
        messages.push(Message::failure(error.chain()));
    }
    let messages: Result<Vec<Value>, _> = messages.iter().map(serde_json::to_value).collect();
    told(messages.context("write the reply")?)
}

/// One message per line, as a stream of progress has them.
fn told(messages: impl IntoIterator<Item = Value>) -> Answer {
    let lines = messages.into_iter().map(|message| Bytes::from(format!("{message}\r\n")));
    let lines: Vec<Bytes> = lines.collect();
    Ok(reply::stream("application/json", stream::iter(lines)))
}

pub(super) fn save(door: &Door, call: &Call, names: &[String]) -> Answer {
    if names.is_empty() {
        return Err(Error::invalid("no image is named"));
    }
    let platform = call.query.text("platform").map(platform::spelled).transpose()?;
    for name in names {
        if let Some(image) = door.engine.images().resolve(name) {
            platform::check_image(platform.as_deref(), &image, name)?;
        }
    }
    Ok(reply::fallible_stream("application/x-tar", door.engine.save_images(names)?))
}
