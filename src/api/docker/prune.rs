//! Making room, and where it went.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::call::Call;
use super::convert::{container, image, time, volume};
use super::images::users;
use super::query::{Filters, check_names, wanted};
use super::reply::{self, Answer};
use super::wire::image::Removed;
use super::{Door, ps};
use crate::builder::Cached;
use crate::error::{Context, Error, Result};
use crate::image::LayerKey;

/// What may go, by its labels and its age.
pub(super) struct Passing {
    filters: Filters,
    /// Nanoseconds since the epoch; made before.
    pub(super) until: Option<i64>,
}

impl Passing {
    pub(super) fn of(call: &Call, known: &[&str]) -> Result<Self> {
        let filters = call.query.filters()?;
        check_names(&filters, known)?;
        let until = match wanted(&filters, "until") {
            [] => None,
            [text] => Some(
                time::until(text)
                    .ok_or_else(|| Error::invalid(format!("invalid filter 'until={text}'")))?,
            ),
            _ => return Err(Error::invalid("more than one until filter specified")),
        };
        Ok(Self { filters, until })
    }

    fn passes(&self, labels: &BTreeMap<String, String>, made_at: i64) -> bool {
        volume::passes_labels(labels, &self.filters) && self.until.is_none_or(|it| made_at < it)
    }
}

pub(super) async fn containers(door: &Door, call: &Call) -> Answer {
    let passing = Passing::of(call, &["label", "label!", "until"])?;
    let (removed, bytes) = door
        .engine
        .prune_containers(&|record| {
            passing.passes(&record.config.container.labels, record.created_at)
        })
        .await?;
    let ids: Vec<String> = removed.iter().map(ToString::to_string).collect();
    reply::json(&json!({ "ContainersDeleted": some(ids), "SpaceReclaimed": bytes }))
}

/// Those without a tag, or all that no container has.
pub(super) async fn images(door: &Door, call: &Call) -> Answer {
    let passing = Passing::of(call, &["dangling", "label", "label!", "until"])?;
    let all = match wanted(&passing.filters, "dangling").first().map(String::as_str) {
        None | Some("1" | "true") => false,
        Some("0" | "false") => true,
        Some(other) => return Err(Error::invalid(format!("invalid filter 'dangling=[{other}]'"))),
    };
    let (removals, bytes) = door
        .engine
        .prune_images(&|found| {
            let made_at = image::created(found).saturating_mul(1_000_000_000);
            (all || found.tags.is_empty()) && passing.passes(&found.config.labels, made_at)
        })
        .await?;
    let removed: Vec<Removed> = removals.into_iter().flat_map(image::removed).collect();
    reply::json(&json!({ "ImagesDeleted": some(removed), "SpaceReclaimed": bytes }))
}

/// An empty list is `null`, as programs in Go write it.
pub(super) fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

/// What takes how much, each in the shape of its list.
pub(super) async fn usage(door: &Door, call: &Call) -> Answer {
    let kinds = call.query.texts("type");
    let known = ["container", "image", "volume", "build-cache"];
    if let Some(kind) = kinds.iter().find(|kind| !known.contains(kind)) {
        return Err(Error::invalid(format!("unknown object type: {kind}")));
    }
    let is_wanted = |kind: &str| kinds.is_empty() || kinds.contains(&kind);
    let mut all = serde_json::Map::new();
    let needs_cached = is_wanted("image") || is_wanted("build-cache");
    let cached = if needs_cached { door.builder.cached().await? } else { Vec::new() };
    if is_wanted("image") {
        // What builds left is told of by itself, and once.
        let layers = cached.iter().filter(|row| !row.kind.is_mutable());
        let left: u64 = layers.map(Cached::own_size).sum();
        let bytes = door.engine.images().usage().bytes.saturating_sub(left);
        all.insert("LayersSize".to_owned(), json!(bytes));
        all.insert("Images".to_owned(), image_usage(door)?);
    }
    if is_wanted("container") {
        all.insert("Containers".to_owned(), container_usage(door).await?);
    }
    if is_wanted("volume") {
        all.insert("Volumes".to_owned(), volume_usage(door).await?);
    }
    if is_wanted("build-cache") {
        all.insert("BuildCache".to_owned(), super::build::usage(cached));
    }
    reply::json(&Value::Object(all))
}

fn image_usage(door: &Door) -> Result<Value> {
    let images = door.engine.images().list();
    let mut owners: HashMap<&LayerKey, usize> = HashMap::new();
    for key in images.iter().flat_map(|image| &image.layers) {
        *owners.entry(key).or_default() += 1;
    }
    let users = users(door);
    let mut rows = Vec::new();
    for found in &images {
        let mut row = image::summary(found);
        let sizes = door.engine.images().layer_sizes(found);
        let layers = found.layers.iter().zip(sizes);
        let shared = layers.filter(|(key, _)| owners.get(key).is_some_and(|count| *count > 1));
        row.shared_size =
            i64::try_from(shared.map(|(_, (_, size))| size).sum::<u64>()).unwrap_or(i64::MAX);
        let own = users.get(&row.id).map_or(0, Vec::len);
        row.containers = i64::try_from(own).unwrap_or(i64::MAX);
        rows.push(row);
    }
    serde_json::to_value(rows).context("write the reply")
}

async fn container_usage(door: &Door) -> Result<Value> {
    let mut rows = Vec::new();
    for found in door.engine.standalones() {
        let record = found.record();
        let mut row = container::summary(&door.engine, &record)?;
        ps::measure(door, &mut row).await;
        rows.push(row);
    }
    serde_json::to_value(rows).context("write the reply")
}

async fn volume_usage(door: &Door) -> Result<Value> {
    let mut rows = Vec::new();
    for found in door.engine.volumes() {
        let name = &found.record.name;
        let row = volume::shown(&door.engine, &found);
        let mut row = serde_json::to_value(row).context("write the reply")?;
        row["UsageData"] = json!({
            "Size": door.engine.volume_size(name).await,
            "RefCount": door.engine.volume_users(name),
        });
        rows.push(row);
    }
    Ok(Value::Array(rows))
}
