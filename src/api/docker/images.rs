//! Images: what there is, how it is called, and how it goes.

use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;

use super::call::Call;
use super::convert::image as convert;
use super::query::{Filters, check_names, has_labels, wanted};
use super::reply::{self, Answer};
use super::wire::image::{Details, Document, OldDetails};
use super::{Door, convert::time};
use crate::engine::Sight;
use crate::error::{Context, Error, Result};
use crate::image::Image;
use crate::image::reference::Reference;

const FILTERS: [&str; 7] = ["before", "dangling", "label", "reference", "since", "until", "all"];

pub(super) fn list(door: &Door, call: &Call) -> Answer {
    let filters = call.query.filters()?;
    check_names(&filters, &FILTERS)?;
    let wanted = Wanted::of(door, &filters)?;
    let images = door.engine.images().list();
    let mut images: Vec<Image> = images.iter().filter_map(|image| wanted.seen(image)).collect();
    images.sort_by_key(|image| std::cmp::Reverse(convert::created(image)));
    let mut rows: Vec<_> = images.iter().map(convert::summary).collect();
    if call.query.switch("manifests") {
        let users = users(door);
        for (row, image) in rows.iter_mut().zip(&images) {
            let store = door.engine.images();
            let unpacked = store.layer_sizes(image).iter().map(|(_, size)| size).sum();
            let own = users.get(&row.id).map(Vec::as_slice).unwrap_or_default();
            let manifest = convert::manifest(image, &store.manifest(image)?, unpacked, own);
            row.manifests = Some(vec![manifest]);
            row.containers = i64::try_from(own.len()).unwrap_or(i64::MAX);
        }
    }
    reply::json(&rows)
}

/// The ids of containers, by those of the images that they are made from.
pub(super) fn users(door: &Door) -> HashMap<String, Vec<String>> {
    let mut users: HashMap<String, Vec<String>> = HashMap::new();
    for container in door.engine.standalones() {
        let record = container.record();
        users.entry(record.image_id.clone()).or_default().push(record.id.to_string());
    }
    for container in door.engine.containers(Sight::Own) {
        users.entry(container.image_id.clone()).or_default().push(container.id.to_string());
    }
    users
}

/// What a list is narrowed to.
struct Wanted<'a> {
    filters: &'a Filters,
    dangling: Option<bool>,
    /// Seconds; made before the first and after the second.
    before: Option<i64>,
    since: Option<i64>,
}

impl<'a> Wanted<'a> {
    fn of(door: &Door, filters: &'a Filters) -> Result<Self> {
        let named = |filter: &str| -> Result<Option<i64>> {
            let name = wanted(filters, filter).first();
            name.map(|name| Ok(convert::created(&*find(door, name)?))).transpose()
        };
        let until = match wanted(filters, "until").first() {
            Some(text) => Some(
                time::moment(text)
                    .map(time::seconds)
                    .ok_or_else(|| Error::invalid(format!("invalid filter 'until={text}'")))?,
            ),
            None => None,
        };
        let dangling = match wanted(filters, "dangling").first().map(String::as_str) {
            None => None,
            Some("1" | "true") => Some(true),
            Some("0" | "false") => Some(false),
            Some(other) => {
                return Err(Error::invalid(format!("invalid filter 'dangling=[{other}]'")));
            }
        };
        let before = named("before")?.or(until);
        Ok(Self { filters, dangling, before, since: named("since")? })
    }

    fn keeps(&self, image: &Image) -> bool {
        let at = convert::created(image);
        self.dangling.is_none_or(|dangling| image.tags.is_empty() == dangling)
            && self.before.is_none_or(|before| at < before)
            && self.since.is_none_or(|since| at > since)
            && has_labels(&image.config.labels, wanted(self.filters, "label"))
    }

    /// The image with the names that are wanted, if it is. `reference` is a pattern over the familiar
    /// name, with or without its tag.
    fn seen(&self, image: &Image) -> Option<Image> {
        let mut image = self.keeps(image).then(|| image.clone())?;
        let patterns = wanted(self.filters, "reference");
        if patterns.is_empty() {
            return Some(image);
        }
        let is_called = |name: &String| {
            let name = convert::familiar(name);
            patterns.iter().any(|pattern| matches_name(pattern, &name))
        };
        image.tags.retain(is_called);
        image.digests.retain(is_called);
        (!image.tags.is_empty() || !image.digests.is_empty()).then_some(image)
    }
}

fn matches_name(pattern: &str, name: &str) -> bool {
    let without_tag = match name.rsplit_once(['@', ':']) {
        Some((rest, tag)) if !tag.contains('/') => rest.trim_end_matches("@sha256"),
        _ => name,
    };
    matches_glob(pattern.as_bytes(), name.as_bytes())
        || matches_glob(pattern.as_bytes(), without_tag.as_bytes())
}

/// `*` and `?` do not match a slash.
fn matches_glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            let reach = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            (0..=reach).any(|skip| matches_glob(rest, text.get(skip..).unwrap_or_default()))
        }
        ([b'?', rest @ ..], [byte, more @ ..]) => *byte != b'/' && matches_glob(rest, more),
        ([one, rest @ ..], [byte, more @ ..]) => one == byte && matches_glob(rest, more),
        ([], _) | (_, []) => false,
    }
}

/// # Errors
/// `NotFound` with the words that make a client pull.
pub(super) fn find(door: &Door, name: &str) -> Result<Arc<Image>> {
    door.engine.images().resolve(name).ok_or_else(|| no_such_image(name))
}

pub(super) fn no_such_image(name: &str) -> Error {
    let shown = Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar());
    Error::not_found(format!("No such image: {shown}"))
}

pub(super) fn inspect(door: &Door, name: &str, call: &Call) -> Answer {
    let image = find(door, name)?;
    let mut document = document(door, &image)?;
    let layers = door.engine.images().layer_sizes(&image);
    let old = call.is_before(45).then(|| OldDetails {
        virtual_size: call.is_before(44).then_some(image.size),
        ..convert::old_details(&mut document)
    });
    let details = convert::details(&image, document, &layers);
    reply::json(&Details { old, ..details })
}

pub(super) fn history(door: &Door, name: &str) -> Answer {
    let image = find(door, name)?;
    let steps = document(door, &image)?.history.unwrap_or_default();
    let layers = door.engine.images().layer_sizes(&image);
    reply::json(&convert::history(&image, steps, &layers))
}

pub(super) fn document(door: &Door, image: &Image) -> Result<Document> {
    let bytes = door.engine.images().configuration(image)?;
    serde_json::from_slice(&bytes).context("read the image's configuration")
}

pub(super) async fn tag(door: &Door, name: &str, call: &Call) -> Answer {
    let image = find(door, name)?;
    let repository = call.query.text("repo").unwrap_or_default();
    let target = match call.query.text("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    };
    door.engine.tag_image(&image.id, Reference::parse(&target)?).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

pub(super) async fn remove(door: &Door, name: &str, call: &Call) -> Answer {
    let image = find(door, name)?;
    let removal = door.engine.remove_image_name(&image, name, call.query.switch("force")).await?;
    reply::json(&convert::removed(removal).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_filter_is_a_pattern_over_the_name() {
        for (pattern, name) in [
            ("busybox", "busybox:latest"),
            ("busy*", "busybox:latest"),
            ("busybox:*", "busybox:1.36"),
            ("*/*:v?", "cais/web:v1"),
            ("quay.io/a/b", "quay.io/a/b@sha256:0123"),
        ] {
            assert!(matches_name(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("busy", "busybox:latest"), ("*", "cais/web:1"), ("b?x", "b/x:1")] {
            assert!(!matches_name(pattern, name), "{pattern} {name}");
        }
    }
}
