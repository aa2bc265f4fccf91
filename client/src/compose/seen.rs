//! Verbs that show what containers of a project are and do: images, top, stats, volumes, events, wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, Once, PoisonError};

use clap::Args;
use serde_json::json;

use super::containers::{self, at_once};
use super::{Files, labels, others};
use crate::Cais;
use crate::client::{Path, documents};
use crate::commands::lifecycle::Waiting;
use crate::commands::logs::point;
use crate::commands::run::ended;
use crate::commands::{stats, volume};
use crate::error::{Failure, Result};
use crate::json::Value;
use crate::table::Format;
use crate::{output, reference, table, units};

/// List images used by the created containers
#[derive(Debug, Args)]
pub(super) struct Images {
    /// Format the output. Values: [table | json]
    #[arg(long, default_value = "table")]
    format: String,
    /// Only display IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Images {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let mut all = others::chosen(cais, files, &self.service)?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let is_json = is_json(&self.format)?;
        let mut ids: Vec<&str> = Vec::new();
        let mut shown = Vec::new();
        let mut lines =
            vec!["CONTAINER\tREPOSITORY\tTAG\tPLATFORM\tIMAGE ID\tSIZE\tCREATED".to_owned()];
        for container in &all {
            let id = container.listed["ImageID"].text();
            let bare = id.split(':').next_back().unwrap_or_default();
            if !ids.contains(&bare) {
                ids.push(bare);
            }
            if self.quiet {
                continue;
            }
            let image = cais.client.read(Path::new(&["images", id, "json"]))?;
            let name = image["RepoTags"].items().first().map_or("", Value::text);
            let (repository, tag) = match reference::split(name) {
                ("", _) => ("", ""),
                (repository, tag) => (repository, tag.unwrap_or_default()),
            };
            let platform = [&image["Os"], &image["Architecture"], &image["Variant"]];
            let platform: Vec<&str> =
                platform.into_iter().map(Value::text).filter(|it| !it.is_empty()).collect();
            let tagged = match image["Metadata"]["LastTagTime"].text() {
                "" => NEVER,
                time => time,
            };
            shown.push(json!({
                "ID": id,
                "ContainerName": container.name,
                "Repository": repository,
                "Tag": tag,
                "Platform": platform.join("/"),
                "Size": image["Size"].integer(),
                // As docker compose has it.
                "LastTagTime": if tagged == NEVER { "1970-01-01T00:00:00Z" } else { tagged },
            }));
            let or_none = |text: &str| if text.is_empty() { "<none>" } else { text }.to_owned();
            let cells = [
                container.name.clone(),
                or_none(repository),
                or_none(tag),
                platform.join("/"),
                table::short_id(id),
                units::short_size(image["Size"].integer()),
                units::ago(units::unix_seconds(match tagged {
                    NEVER => image["Created"].text(),
                    tagged => tagged,
                })),
            ];
            lines.push(cells.join("\t"));
        }
        if self.quiet {
            return ids.iter().try_for_each(|it| output::line(it));
        }
        if is_json {
            return output::line(&serde_json::Value::from(shown).to_string());
        }
        output::raw(&table::aligned(&lines))
    }
}

/// The time of nothing.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Of a format that is no template.
pub(super) fn is_json(format: &str) -> Result<bool> {
    match format {
        "" | "table" | "pretty" => Ok(false),
        "json" => Ok(true),
        other => {
            Err(Failure::new(format!("format value {other:?} could not be parsed: parsing failed")))
        }
    }
}

/// Display the running processes
#[derive(Debug, Args)]
pub(super) struct Top {
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Top {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let mut all = others::chosen(cais, files, &self.service)?;
        all.retain(containers::Container::is_running);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let mut titles: Vec<String> = Vec::new();
        let mut rows: Vec<BTreeMap<String, String>> = Vec::new();
        for container in &all {
            let listed = cais.client.read(Path::new(&["containers", &container.id, "top"]))?;
            let own: Vec<&str> = listed["Titles"].items().iter().map(Value::text).collect();
            for title in &own {
                if !titles.iter().any(|known| known == title) {
                    titles.push((*title).to_owned());
                }
            }
            for process in listed["Processes"].items() {
                let cells = own.iter().zip(process.items());
                let mut row: BTreeMap<String, String> =
                    cells.map(|(title, it)| ((*title).to_owned(), it.text().to_owned())).collect();
                row.insert("SERVICE".to_owned(), container.service.clone());
                row.insert("#".to_owned(), container.number.to_string());
                rows.push(row);
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        // What may be long stands last.
        titles.sort_by_key(|it| it == "CMD");
        titles.splice(0..0, ["SERVICE", "#"].map(str::to_owned));
        let mut lines = vec![titles.join("\t")];
        lines.extend(rows.iter().map(|row| {
            let cell = |title: &String| row.get(title).map_or("-", String::as_str);
            titles.iter().map(cell).collect::<Vec<_>>().join("\t")
        }));
        output::raw(&table::aligned_with(&lines, 4, 2))
    }
}

/// Display a live stream of container(s) resource usage statistics
#[derive(Debug, Args)]
pub(super) struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output using 'table', 'json' or a Go template
    #[arg(long, default_value = "", hide_default_value = true)]
    format: String,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Stats {
    pub(super) fn run(self, cais: &Cais, files: &Files) -> Result<()> {
        let mut all = others::chosen(cais, files, &self.service)?;
        all.retain(|it| self.all || it.is_running());
        // Of no names at all, docker shows the whole node.
        if all.is_empty() {
            return Err(Failure::new("no container of the project is running"));
        }
        stats::Stats {
            all: self.all,
            format: self.format,
            no_stream: self.no_stream,
            no_trunc: self.no_trunc,
            containers: all.into_iter().map(|it| it.name).collect(),
        }
        .run(cais)
    }
}

/// List volumes
#[derive(Debug, Args)]
pub(super) struct Volumes {
    /// Format output using 'table', 'json' or a Go template
    #[arg(long, default_value = "", hide_default_value = true)]
    format: String,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Volumes {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let all = others::chosen(cais, files, &self.service)?;
        let mounts = all.iter().flat_map(|it| it.listed["Mounts"].items());
        let used: BTreeSet<&str> = mounts.map(|it| it["Name"].text()).collect();
        let (name, _) = files.named()?;
        let filters = json!({ "label": [format!("{}={name}", labels::PROJECT)] }).to_string();
        let listed = cais.client.read(Path::new(&["volumes"]).with("filters", &filters))?;
        let mut volumes: Vec<&Value> = listed["Volumes"].items().iter().collect();
        volumes.retain(|it| self.service.is_empty() || used.contains(it["Name"].text()));
        volumes.sort_by_key(|it| it["Name"].text());
        if self.quiet {
            return volumes.iter().try_for_each(|it| output::line(it["Name"].text()));
        }
        let format = Format::choose(&self.format, &volume::KIND)?;
        format.print(&volume::KIND, volumes.into_iter().map(volume::row).collect())
    }
}

/// Receive real time events from containers
#[derive(Debug, Args)]
pub(super) struct Events {
    /// Output events as a stream of json objects
    #[arg(long)]
    json: bool,
    /// Show all events created since timestamp
    #[arg(long, default_value = "", hide_default_value = true)]
    since: String,
    /// Stream events until this timestamp
    #[arg(long, default_value = "", hide_default_value = true)]
    until: String,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Events {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let (name, _) = files.named()?;
        let filters = json!({ "label": [format!("{}={name}", labels::PROJECT)] });
        let path = Path::new(&["events"])
            .with("filters", &filters.to_string())
            .with_text("since", &point("since", &self.since)?)
            .with_text("until", &point("until", &self.until)?);
        for event in documents(cais.client.get(path)?.body) {
            if let Some(line) = self.line(&event?) {
                output::line(&line)?;
            }
        }
        Ok(())
    }

    /// Nothing for an event that is about no container of these services.
    fn line(&self, event: &Value) -> Option<String> {
        let attributes = event["Actor"]["Attributes"].members();
        let service = event["Actor"]["Attributes"][labels::SERVICE].text();
        let is_about = event["Type"].text() == "container"
            && event["Actor"]["Attributes"][labels::ONE_OFF].text() != "True"
            && (self.service.is_empty() || self.service.iter().any(|it| it == service));
        if !is_about {
            return None;
        }
        // Compose's own labels are no news.
        let own: Vec<(&str, &str)> = attributes
            .iter()
            .filter(|(key, _)| !key.starts_with("com.docker.compose."))
            .map(|(key, it)| (key.as_str(), it.text()))
            .collect();
        let (action, id) = (event["Action"].text(), event["Actor"]["ID"].text());
        let nanos = event["timeNano"].integer();
        if !self.json {
            let own: Vec<String> = own.iter().map(|(key, it)| format!("{key}={it}")).collect();
            let time = units::local_micros(nanos);
            return Some(format!("{time} container {action} {id} ({})", own.join(", ")));
        }
        let own: serde_json::Map<String, serde_json::Value> =
            own.iter().map(|(key, it)| ((*key).to_owned(), (*it).into())).collect();
        let event = json!({
            "action": action,
            "attributes": own,
            "id": id,
            "service": service,
            "time": units::local_nanos(nanos),
            "type": "container",
        });
        Some(event.to_string())
    }
}

/// Block until containers of all (or specified) services stop.
#[derive(Debug, Args)]
pub(super) struct Wait {
    /// Drops project when the first container stops
    #[arg(long)]
    down_project: bool,
    #[arg(required = true, value_name = "SERVICE")]
    service: Vec<String>,
}

impl Wait {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let all = others::chosen(cais, files, &self.service)?;
        if all.is_empty() {
            let (name, _) = files.named()?;
            return Err(Failure::new(format!("no containers for project {name:?}")));
        }
        let last = Mutex::new(0);
        let first = Once::new();
        at_once(&all, |it| {
            let code = Waiting::begin(cais, &it.id, "")?.status()?;
            output::line(&format!("container {:?} exited with status code {code}", it.id))?;
            if !self.down_project {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = code;
                return Ok(());
            }
            // The others end with the project, and how says nothing.
            let mut outcome = Ok(());
            first.call_once(|| {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = code;
                outcome = others::Down::with_orphans().run(cais, files);
            });
            outcome
        })?;
        ended(last.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_tell_of_containers_of_the_services() {
        let event = json!({
            "Type": "container", "Action": "start", "timeNano": 1_700_000_000_123_456_789_i64,
            "Actor": { "ID": "abc", "Attributes": {
                "image": "busybox", "name": "shop-a-1", labels::SERVICE: "a", labels::PROJECT: "shop",
            } },
        });
        let event = Value::parse(event.to_string().as_bytes()).unwrap();
        let events = |json: bool, services: &[&str]| Events {
            json,
            since: String::new(),
            until: String::new(),
            service: services.iter().map(|it| (*it).to_owned()).collect(),
        };
        let line = events(false, &[]).line(&event).unwrap();
        assert!(
            line.ends_with(".123456 container start abc (image=busybox, name=shop-a-1)"),
            "{line}"
        );
        assert_eq!(events(false, &["b"]).line(&event), None);
        let line = events(true, &["a"]).line(&event).unwrap();
        assert!(
            line.starts_with(r#"{"action":"start","attributes":{"image":"busybox","#),
            "{line}"
        );
    }
}
