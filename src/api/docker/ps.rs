//! The list of containers, of both doors.

use std::ops::RangeInclusive;
use std::sync::Arc;

use regex::Regex;

use super::call::Call;
use super::containers::{self, Found};
use super::convert::{container as convert, health};
use super::query::{Filters, check_names, has_labels, wanted};
use super::reply::{self, Answer};
use super::wire::container::Summary;
use super::{Door, images};
use crate::engine::Sight;
use crate::engine::container::phase::Phase;
use crate::engine::standalone::record::State;
use crate::error::{Error, Result};
use crate::image::Image;

const FILTERS: [&str; 14] = [
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name",
    "network", "publish", "since", "status", "volume",
];

/// As they are called in a filter and in the list.
const STATES: [&str; 7] =
    ["created", "restarting", "running", "removing", "paused", "exited", "dead"];

pub(super) async fn list(door: &Door, call: &Call) -> Answer {
    let filters = call.query.filters()?;
    check_names(&filters, &FILTERS)?;
    let limit = call.query.number::<i64>("limit")?.filter(|limit| *limit > 0);
    let narrowed = Narrowed::of(door, &filters)?;
    let is_all = call.query.switch("all")
        || limit.is_some()
        || ["status", "exited"].iter().any(|name| !wanted(&filters, name).is_empty());
    let mut rows = all(door)?;
    rows.retain(|row| (is_all || row.is_up()) && narrowed.keeps(row));
    // The newest first; within a second by the time that is not shown.
    rows.sort_by_key(|row| std::cmp::Reverse(row.created_at));
    if let Some(limit) = limit {
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let mut summaries: Vec<Summary> = rows.into_iter().map(|row| row.summary).collect();
    if call.query.switch("size") {
        for summary in &mut summaries {
            measure(door, summary).await;
        }
    }
    reply::json(&summaries)
}

/// What the container wrote, and that with its image; of those that are ours to measure.
pub(super) async fn measure(door: &Door, summary: &mut Summary) {
    let Ok(found) = door.engine.standalone(&summary.id) else { return };
    let record = found.record();
    let written = door.engine.writable_size(&record.id).await;
    let image = door.engine.images().resolve(&record.image_id).map_or(0, |image| image.size);
    summary.size_rw = Some(written);
    summary.size_root_fs = Some(written + image);
}

/// A row, and what filters look at beside it.
struct Row {
    summary: Summary,
    /// Nanoseconds since the epoch.
    created_at: i64,
    exit_code: Option<i32>,
    health: &'static str,
}

impl Row {
    fn is_up(&self) -> bool {
        matches!(self.summary.state, "running" | "paused" | "restarting")
    }

    /// Without the slash in front.
    fn name(&self) -> &str {
        let name = self.summary.names.first().map(String::as_str).unwrap_or_default();
        name.strip_prefix('/').unwrap_or(name)
    }
}

fn all(door: &Door) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for container in door.engine.standalones() {
        let record = container.record();
        rows.push(Row {
            summary: convert::summary(&door.engine, &record)?,
            created_at: record.created_at,
            exit_code: matches!(record.state, State::Exited { .. }).then(|| record.exit_code()),
            health: health::name(&record),
        });
    }
    for record in door.engine.containers(Sight::Own) {
        rows.push(Row {
            summary: convert::pod_summary(&door.engine, &record),
            created_at: record.created_at,
            exit_code: match &record.phase {
                Phase::Exited(end) => Some(end.code),
                Phase::Created { .. } | Phase::Running { .. } => None,
            },
            health: "none",
        });
    }
    Ok(rows)
}

struct Narrowed<'a> {
    filters: &'a Filters,
    names: Vec<Regex>,
    images: Vec<Arc<Image>>,
    before: Option<i64>,
    since: Option<i64>,
    exited: Vec<i32>,
    publish: Vec<Ports>,
    expose: Vec<Ports>,
}

/// `80`, `80/udp`, `8000-9000/tcp`
struct Ports {
    numbers: RangeInclusive<u16>,
    protocol: String,
}

impl Ports {
    fn parse(text: &str) -> Option<Self> {
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let numbers = first.parse().ok()?..=last.parse().ok()?;
        (!numbers.is_empty()).then(|| Self { numbers, protocol: protocol.to_owned() })
    }

    fn has(&self, number: Option<u16>, protocol: &str) -> bool {
        self.protocol == protocol && number.is_some_and(|number| self.numbers.contains(&number))
    }
}

impl<'a> Narrowed<'a> {
    fn of(door: &Door, filters: &'a Filters) -> Result<Self> {
        let created = |filter: &str| -> Result<Option<i64>> {
            let name = wanted(filters, filter).first();
            name.map(|name| {
                Ok(match containers::find(door, name)? {
                    Found::Standalone(found) => found.record().created_at,
                    Found::Pod(found) => found.created_at,
                })
            })
            .transpose()
        };
        for status in wanted(filters, "status") {
            if !STATES.contains(&status.as_str()) {
                return Err(Error::invalid(format!("invalid filter 'status={status}'")));
            }
        }
        let pattern = |name: &String| {
            Regex::new(name).map_err(|_| Error::invalid(format!("invalid filter 'name={name}'")))
        };
        let code = |text: &String| {
            text.parse().map_err(|_| Error::invalid(format!("invalid filter 'exited={text}'")))
        };
        let ports = |name: &str| -> Result<Vec<Ports>> {
            let refuse = |text: &str| Error::invalid(format!("invalid filter '{name}={text}'"));
            let parse = |text: &String| Ports::parse(text).ok_or_else(|| refuse(text));
            wanted(filters, name).iter().map(parse).collect()
        };
        // An image that is not there is nobody's ancestor.
        let images =
            wanted(filters, "ancestor").iter().filter_map(|it| images::find(door, it).ok());
        Ok(Self {
            filters,
            names: wanted(filters, "name").iter().map(pattern).collect::<Result<_>>()?,
            images: images.collect(),
            before: created("before")?,
            since: created("since")?,
            exited: wanted(filters, "exited").iter().map(code).collect::<Result<_>>()?,
            publish: ports("publish")?,
            expose: ports("expose")?,
        })
    }

    fn keeps(&self, row: &Row) -> bool {
        let summary = &row.summary;
        let any = |name: &str, holds: &dyn Fn(&str) -> bool| {
            let values = wanted(self.filters, name);
            values.is_empty() || values.iter().any(|value| holds(value))
        };
        // A port that is published or one that is exposed is enough.
        let has_port = summary.ports.iter().any(|port| {
            self.publish.iter().any(|ports| ports.has(port.public_port, port.kind))
                || self.expose.iter().any(|ports| ports.has(Some(port.private_port), port.kind))
        });
        any("id", &|id| summary.id.starts_with(id))
            && (self.names.is_empty() || self.names.iter().any(|it| names(it, row)))
            && any("status", &|status| status == summary.state)
            && any("health", &|health| health == row.health)
            && any("is-task", &|is_task| matches!(is_task, "false" | "0"))
            && any("network", &|wanted| {
                let networks = &summary.network_settings.networks;
                networks
                    .iter()
                    .any(|(name, it)| name == wanted || it.network_id.starts_with(wanted))
            })
            && any("volume", &|place| {
                summary.mounts.iter().any(|it| {
                    it.source == place
                        || it.destination == place
                        || it.name.as_deref() == Some(place)
                })
            })
            && (has_port || (self.publish.is_empty() && self.expose.is_empty()))
            && (wanted(self.filters, "ancestor").is_empty()
                || self.images.iter().any(|image| summary.image_id == image.id.to_string()))
            && has_labels(&summary.labels, wanted(self.filters, "label"))
            && self.before.is_none_or(|before| row.created_at < before)
            && self.since.is_none_or(|since| row.created_at > since)
            && (self.exited.is_empty()
                || row.exit_code.is_some_and(|code| self.exited.contains(&code)))
    }
}

/// With and without the slash in front.
fn names(pattern: &Regex, row: &Row) -> bool {
    pattern.is_match(row.name()) || pattern.is_match(&format!("/{}", row.name()))
}
