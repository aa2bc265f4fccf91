//! Building, told as it goes, and what builds leave to be found again.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Door;
use super::build_lines::Lines;
use super::build_steps::Steps;
use super::call::Call;
use super::convert::{build as convert, time};
use super::lent::Lender;
use super::peer::Peer;
use super::prune::{Passing, some};
use super::pull::lines;
use super::query::wanted;
use super::reply::{self, Answer};
use super::wire::image::Message;
use crate::api::buildkit::allows_insecure;
use crate::builder::{
    Address, Cached, ContextUpload, DOCKERFILE, Event, FetchedContext, Filter, Options, Prune,
    Room, Sent,
};
use crate::error::{Error, Kind, Result};

/// What a slow client has not read yet.
const BACKLOG: usize = 64;
/// Messages of a quiet build, for the case that it fails.
const MOST_KEPT: usize = 128;

/// The body is the context, unless the client says where else it is. What is wrong with the request or the Dockerfile is an error of the
/// call; what comes later is the last message.
pub(super) async fn build(door: &Door, call: Call) -> Answer {
    let gateway = door.engine.node_network().map(|(_, gateway, _)| gateway);
    let options = convert::options(&call.query, gateway);
    let credentials = convert::registry_config(&call.headers);
    let lent = door.sessions.of(&call.query);
    // Our own addition to the call, with BuildKit's words.
    let allowed = allows_insecure(&call.query.texts("allow"), door.engine.entitlements());
    let address = convert::address(&call.query);
    let directory = convert::directory(&call.query);
    let is_quiet = call.query.switch("q");
    let is_by_steps = call.query.text("progress") == Some("steps");
    let is_telling_removals = call.query.text("rm").is_none() || call.query.switch("rm");
    let peer = call.peer.clone();
    let context = receive(door, call).await?;
    let (mut options, credentials, (lent, named)) = (options?, credentials?, lent?);
    options.named = named;
    options.allows_insecure = allowed?;
    let mut told = Lines::new(options.tags.clone(), is_telling_removals);
    let context = match address? {
        None => context.finish().await?,
        Some(address) => {
            let FetchedContext { context, is_dockerfile } =
                fetch(door, address, peer, &options).await?;
            if is_dockerfile {
                options.dockerfile = DOCKERFILE.to_owned();
            }
            context
        }
    };
    let files = match directory? {
        None => context.clone(),
        Some(directory) => door.builder.context_in_place(&context, directory).await?,
    };
    let sent = Sent { context: files, credentials };
    let (builder, keeps_git) = (door.builder.clone(), options.keeps_git());
    let client = Arc::new(Lender { sent, lent, builder, keeps_git });
    let prepared = door.builder.prepare_sent(context, client, options).await?;
    let (events, received) = mpsc::channel(BACKLOG);
    // It ends when nobody listens to it any more.
    prepared.start(events);
    let events = ReceiverStream::new(received);
    if is_quiet {
        return Ok(reply::stream("application/json", lines(quiet(events, told))));
    }
    if is_by_steps {
        let mut steps = Steps::default();
        let messages = events.flat_map(move |event| stream::iter(steps.take(event)));
        return Ok(reply::stream("application/json", lines(messages)));
    }
    let messages = events.flat_map(move |event| stream::iter(told.take(event)));
    Ok(reply::stream("application/json", lines(messages)))
}

/// A context from elsewhere, as long as the client waits for it.
async fn fetch(
    door: &Door,
    address: Address,
    peer: Option<Peer>,
    options: &Options,
) -> Result<FetchedContext> {
    tokio::select! {
        fetched = door.builder.fetch_context(address, options.keeps_git()) => fetched,
        () = Peer::gone_if_known(peer) => Err(Error::new(Kind::Cancelled, "the client is gone")),
    }
}

/// The body to its end, whatever is wrong with it: a client that is still sending hears of nothing.
pub(super) async fn receive(door: &Door, call: Call) -> Result<ContextUpload> {
    let upload = door.builder.begin_context()?;
    let mut pieces = call.into_pieces();
    let mut is_wanted = true;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        is_wanted = is_wanted && upload.push(piece).await;
    }
    Ok(upload)
}

/// The id and nothing else; the last messages, if it comes to nothing.
fn quiet(
    events: impl Stream<Item = Event> + Send + 'static,
    mut told: Lines,
) -> impl Stream<Item = Message> + Send + 'static {
    let mut kept = VecDeque::new();
    events.flat_map(move |event| {
        let image = match &event {
            Event::Ended(Ok(image)) => Some(format!("{image}\n")),
            Event::Ended(Err(_)) | Event::Planned(_) | Event::Step(..) => None,
        };
        let is_over = matches!(event, Event::Ended(_));
        kept.extend(told.take(event));
        // The end of it tells why.
        kept.drain(..kept.len().saturating_sub(MOST_KEPT));
        stream::iter(match (image, is_over) {
            (Some(id), _) => vec![Message { stream: Some(id), ..Message::default() }],
            (None, true) => std::mem::take(&mut kept).into(),
            (None, false) => Vec::new(),
        })
    })
}

/// What of a row a client may ask for; [`Filter`] knows what it means.
const FIELDS: [&str; 6] = ["id", "type", "description", "inuse", "shared", "private"];

pub(super) async fn prune(door: &Door, call: &Call) -> Answer {
    let known = [&["until", "unused-for"][..], &FIELDS].concat();
    let passing = Passing::of(call, &known)?;
    let filters = call.query.filters()?;
    let until = match filters.get("unused-for").map(Vec::as_slice) {
        None | Some([]) => passing.until,
        Some([text]) => Some(
            time::until(text)
                .ok_or_else(|| Error::invalid(format!("invalid filter 'unused-for={text}'")))?,
        ),
        Some(_) => return Err(Error::invalid("more than one unused-for filter specified")),
    };
    let mut filter = Filter::default();
    for field in FIELDS {
        match wanted(&filters, field) {
            [] => {}
            [value] => filter.add(field, value)?,
            _ => return Err(Error::invalid(format!("more than one {field} filter specified"))),
        }
    }
    let bytes = |key: &str| Ok::<u64, Error>(call.query.number(key)?.unwrap_or_default());
    // Older clients call it by another name.
    let reserved = bytes("reserved-space")?.max(bytes("keep-storage")?);
    let room = Room { reserved, most: bytes("max-used-space")?, free: bytes("min-free-space")? };
    if filters.keys().all(|key| ["until", "unused-for"].contains(&key.as_str())) {
        door.buildkit.forget_contexts(until);
    }
    let prune = Prune { all: call.query.switch("all"), until, filter, room };
    let (gone, bytes) = door.builder.prune(&prune).await?;
    let ids = gone.into_iter().map(|row| row.id).collect();
    reply::json(&json!({ "CachesDeleted": some(ids), "SpaceReclaimed": bytes }))
}

/// Our own: the files of a cache mount as an archive.
pub(super) async fn export_cache(door: &Door, call: &Call) -> Answer {
    let pieces = door.builder.export_cache(call.query.text("id").unwrap_or_default()).await?;
    Ok(reply::fallible_stream("application/x-tar", pieces))
}

/// Our own: a new cache mount from such an archive, the body.
pub(super) async fn import_cache(door: &Door, call: Call) -> Answer {
    let upload = door.builder.begin_cache(call.query.text("id").unwrap_or_default()).await?;
    let mut pieces = call.into_pieces();
    while let Some(piece) = pieces.next().await {
        if !upload.push(piece?).await {
            break;
        }
    }
    upload.finish().await?;
    Ok(reply::empty(StatusCode::CREATED))
}

/// The rows of `system df`.
pub(super) fn usage(rows: Vec<Cached>) -> Value {
    let rows = rows.into_iter().map(|row| {
        json!({
            "ID": row.id,
            "Parents": null,
            "Type": row.kind.name(),
            "Description": row.description,
            "InUse": row.in_use,
            "Shared": row.is_shared,
            "Size": row.size,
            "CreatedAt": time::text(row.created_at),
            "LastUsedAt": time::text(row.used_at),
            "UsageCount": row.uses,
        })
    });
    Value::Array(rows.collect())
}
