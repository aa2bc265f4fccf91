//! `compose ps` and `ls`: what of a project is there, and which projects are.

use std::collections::BTreeMap;

use clap::{ArgAction, Args};
use serde_json::json;

use super::containers::Container;
use super::{Files, labels, others, seen};
use crate::Cais;
use crate::client::Path;
use crate::commands::{ports, ps};
use crate::error::{Failure, Result};
use crate::json::Value;
use crate::table::{self, Format, Kind, Row};
use crate::{output, units};

/// docker compose has no heads for some, and says so.
const NO_HEAD: &str = "<no value>";

const KIND: Kind = Kind {
    type_name: "*formatter.ContainerContext",
    heads: &[
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("Names", NO_HEAD),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("Project", "PROJECT"),
        ("Service", "SERVICE"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Health", NO_HEAD),
        ("ExitCode", NO_HEAD),
        ("Publishers", NO_HEAD),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", NO_HEAD),
        ("LocalVolumes", NO_HEAD),
        ("Networks", NO_HEAD),
    ],
    table: "{{.Name}}\\t{{.Image}}\\t{{.Command}}\\t{{.Service}}\\t{{.RunningFor}}\\t{{.Status}}\\t{{.Ports}}",
};

const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\n\
    status: {{.Status}}\nnames: {{.Names}}\nlabels: {{.Labels}}\nports: {{.Ports}}\n";

/// List containers
#[derive(Debug, Args)]
pub(super) struct Ps {
    /// Show all stopped containers
    #[arg(short, long)]
    all: bool,
    /// Filter services by a property: status=STATE
    #[arg(long, default_value = "", hide_default_value = true)]
    filter: String,
    /// Format output using 'table', 'json' or a Go template
    #[arg(long, default_value = "", hide_default_value = true)]
    format: String,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Include containers of services that the files do not have; --orphans=false leaves them out
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    orphans: bool,
    /// Only display IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display services
    #[arg(long)]
    services: bool,
    /// Filter services by status: created, dead, exited, paused, removing, restarting or running
    #[arg(long)]
    status: Vec<String>,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Ps {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let mut wanted = self.status.clone();
        match self.filter.split_once('=') {
            None if self.filter.is_empty() => {}
            Some(("status", state)) => wanted.push(state.to_owned()),
            _ => {
                return Err(Failure::new(format!(
                    "invalid filter {:?}: it is status=STATE",
                    self.filter
                )));
            }
        }
        let shows_all = self.all || !wanted.is_empty();
        let mut shown = others::chosen_of_all(cais, files, &self.service)?;
        if !self.orphans && self.service.is_empty() {
            let (_, project) = files.named()?;
            shown.retain(|it| project.as_ref().is_none_or(|of| of.service(&it.service).is_some()));
        }
        shown.retain(|it| shows_all || it.label(labels::ONE_OFF) == "False");
        shown.retain(|it| shows_all || matches!(it.state(), "running" | "paused" | "restarting"));
        shown.retain(|it| wanted.is_empty() || wanted.iter().any(|state| state == it.state()));
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        if self.quiet {
            return shown.iter().try_for_each(|it| output::line(&it.id));
        }
        if self.services {
            let mut names: Vec<&str> = Vec::new();
            for container in &shown {
                if !names.contains(&container.service.as_str()) {
                    names.push(&container.service);
                }
            }
            return names.into_iter().try_for_each(output::line);
        }
        let config;
        let asked = match self.format.as_str() {
            "" => {
                config = cais.config_or_none();
                config.text("psFormat")
            }
            asked => asked,
        };
        let asked = if asked == "raw" { RAW } else { asked };
        let rows = shown.iter().map(|it| self.row(it)).collect();
        // In docker compose's words, which are not docker's.
        Format::choose(asked, &KIND)?.print(&KIND, rows).map_err(|it| Failure {
            message: it.message.replacen("failed to execute template", "template parsing error", 1),
            ..it
        })
    }

    fn row(&self, container: &Container) -> Row {
        let listed = &container.listed;
        let cut = |text: &str, most| {
            if self.no_trunc { text.to_owned() } else { table::ellipsis(text, most) }
        };
        let (status, created) = (listed["Status"].text(), listed["Created"].integer());
        let mounts = listed["Mounts"].items();
        let local = mounts.iter().filter(|it| it["Driver"].text() == "local").count();
        let mounts = mounts.iter().map(|it| match it["Name"].text() {
            "" => cut(it["Source"].text(), 15),
            name => cut(name, 15),
        });
        let networks = listed["NetworkSettings"]["Networks"].members();
        let networks: Vec<&str> = networks.iter().map(|it| it.0.as_str()).collect();
        let id = if self.no_trunc { container.id.clone() } else { table::short_id(&container.id) };
        vec![
            ("ID", id.into()),
            ("Name", container.name.as_str().into()),
            ("Names", container.name.as_str().into()),
            ("Image", listed["Image"].text().into()),
            ("Command", ps::quoted(&cut(listed["Command"].text(), 20)).into()),
            ("Project", container.label(labels::PROJECT).into()),
            ("Service", container.service.as_str().into()),
            ("CreatedAt", units::local_time(created).into()),
            ("RunningFor", units::ago(created).into()),
            ("Ports", ports::cell(&listed["Ports"]).into()),
            ("State", container.state().into()),
            ("Status", status.into()),
            ("Health", health(status).into()),
            ("ExitCode", exit_code(status).into()),
            ("Publishers", publishers(listed)),
            ("Size", units::short_size(listed["SizeRw"].integer()).into()),
            ("Labels", ps::labels(&listed["Labels"]).into()),
            ("Label", listed["Labels"].clone()),
            ("Mounts", mounts.collect::<Vec<_>>().join(",").into()),
            ("LocalVolumes", local.to_string().into()),
            ("Networks", networks.join(",").into()),
        ]
    }
}

/// What stands after the state in brackets, if it is about health.
fn health(status: &str) -> &str {
    let within = status.rsplit_once('(').and_then(|(_, it)| it.strip_suffix(')'));
    match within.unwrap_or_default() {
        starting if starting.starts_with("health: ") => &starting["health: ".len()..],
        known @ ("healthy" | "unhealthy") => known,
        _ => "",
    }
}

/// Of `Exited (3) 5 minutes ago`: 3.
fn exit_code(status: &str) -> i64 {
    let rest = status.strip_prefix("Exited (").or_else(|| status.strip_prefix("Restarting ("));
    rest.and_then(|it| it.split_once(')')?.0.parse().ok()).unwrap_or(0)
}

fn publishers(listed: &Value) -> Value {
    let publisher = |it: &Value| {
        let member = |name: &str, value: Value| (name.to_owned(), value);
        Value::Object(vec![
            member("URL", it["IP"].text().into()),
            member("TargetPort", it["PrivatePort"].integer().into()),
            member("PublishedPort", it["PublicPort"].integer().into()),
            member("Protocol", it["Type"].text().into()),
        ])
    };
    Value::Array(listed["Ports"].items().iter().map(publisher).collect())
}

/// List running compose projects
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Show all stopped Compose projects
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided: name=PATTERN
    #[arg(long)]
    filter: Vec<String>,
    /// Format the output. Values: [table | json]
    #[arg(long, default_value = "table")]
    format: String,
    /// Only display project names
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    pub(super) fn run(&self, cais: &Cais) -> Result<()> {
        let is_json = seen::is_json(&self.format)?;
        let names = self.filter.iter().map(|it| named(it)).collect::<Result<Vec<_>>>()?;
        let filters = json!({ "label": [labels::PROJECT] }).to_string();
        let path = Path::new(&["containers", "json"]).with("all", "1").with("filters", &filters);
        let listed = cais.client.read(path)?;
        let mut projects: BTreeMap<&str, (BTreeMap<&str, usize>, &str)> = BTreeMap::new();
        for container in listed.items() {
            let labels = &container["Labels"];
            let (states, files) = projects.entry(labels[labels::PROJECT].text()).or_default();
            *states.entry(container["State"].text()).or_default() += 1;
            *files = labels[labels::FILES].text();
        }
        projects.retain(|_, (states, _)| self.all || states.contains_key("running"));
        projects.retain(|name, _| names.is_empty() || names.iter().any(|it| it.fits(name)));
        if self.quiet {
            return projects.keys().try_for_each(|name| output::line(name));
        }
        let rows = projects.iter().map(|(name, (states, files))| {
            let states: Vec<String> =
                states.iter().map(|(state, count)| format!("{state}({count})")).collect();
            (name, states.join(", "), files)
        });
        if is_json {
            let row = |(name, status, files)| json!({ "Name": name, "Status": status, "ConfigFiles": files });
            return output::line(&serde_json::Value::from_iter(rows.map(row)).to_string());
        }
        let mut lines = vec!["NAME\tSTATUS\tCONFIG FILES".to_owned()];
        lines.extend(rows.map(|(name, status, files)| format!("{name}\t{status}\t{files}")));
        output::raw(&table::aligned(&lines))
    }
}

/// A part of a name: from its beginning, or up to its end.
struct Pattern<'a> {
    part: &'a str,
    begins: bool,
    ends: bool,
}

impl Pattern<'_> {
    fn fits(&self, name: &str) -> bool {
        match (self.begins, self.ends) {
            (true, true) => name == self.part,
            (true, false) => name.starts_with(self.part),
            (false, true) => name.ends_with(self.part),
            (false, false) => name.contains(self.part),
        }
    }
}

/// `name=PATTERN`. Names have no characters that mean something to expressions, but for the ends.
fn named(filter: &str) -> Result<Pattern<'_>> {
    let Some((key, pattern)) = filter.split_once('=') else {
        return Err(Failure::new(format!(
            "invalid argument {filter:?} for \"--filter\" flag: bad format of filter (expected name=value)"
        )));
    };
    if key.trim().to_lowercase() != "name" {
        return Err(Failure::new(format!("invalid filter '{key}'")));
    }
    let (begins, ends) = (pattern.starts_with('^'), pattern.ends_with('$'));
    let part = pattern.strip_prefix('^').unwrap_or(pattern);
    let part = part.strip_suffix('$').unwrap_or(part);
    if part.contains(|it: char| !it.is_alphanumeric() && !matches!(it, '-' | '_')) {
        return Err(Failure::new(format!(
            "--filter {filter}: cais compose knows parts of names, ^ and $, and no other expressions"
        )));
    }
    Ok(Pattern { part, begins, ends })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_of_health_and_how_it_ended() {
        assert_eq!(health("Up 5 seconds (healthy)"), "healthy");
        assert_eq!(health("Up 5 seconds (health: starting)"), "starting");
        assert_eq!(health("Up 5 seconds (Paused)"), "");
        assert_eq!(health("Exited (3) 5 seconds ago"), "");
        assert_eq!(exit_code("Exited (137) 5 seconds ago"), 137);
        assert_eq!(exit_code("Restarting (1) 5 seconds ago"), 1);
        assert_eq!(exit_code("Up 5 seconds"), 0);
    }

    #[test]
    fn projects_are_chosen_by_parts_of_their_names() {
        let fits = |filter: &str, name: &str| named(filter).unwrap().fits(name);
        assert!(fits("name=ho", "shop") && fits("name=^sh", "shop") && fits("name=op$", "shop"));
        assert!(
            !fits("name=^ho", "shop") && !fits("name=ho$", "shop") && !fits("name=^sho$", "shop")
        );
        for wrong in ["name", "id=shop", "name=s.op", "name=(a|b)"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }
}
