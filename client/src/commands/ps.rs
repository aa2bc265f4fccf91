//! `ps`.

use clap::Args;

use super::{filters, ports};
use crate::Cais;
use crate::client::Path;
use crate::error::Result;
use crate::json::Value;
use crate::table::{Format, Kind, Row, ellipsis, short_id};
use crate::units;

/// List containers
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_parser = super::filter)]
    filter: Vec<String>,
    /// Format output using 'table', 'json' or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, default_value = "-1")]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

const TABLE: &str =
    "{{.ID}}\\t{{.Image}}\\t{{.Command}}\\t{{.RunningFor}}\\t{{.Status}}\\t{{.Ports}}\\t{{.Names}}";
const TABLE_WITH_SIZE: &str = "{{.ID}}\\t{{.Image}}\\t{{.Command}}\\t{{.RunningFor}}\\t{{.Status}}\\t{{.Ports}}\\t{{.Names}}\\t{{.Size}}";

pub(super) const KIND: Kind = Kind {
    type_name: "*formatter.ContainerContext",
    heads: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ],
    table: TABLE,
};

impl Ps {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let kind = Kind { table: if self.size { TABLE_WITH_SIZE } else { TABLE }, ..KIND };
        let config;
        let asked = match self.format.as_str() {
            _ if self.quiet => "{{.ID}}",
            "" => {
                config = cais.config()?;
                config.text("psFormat")
            }
            asked => asked,
        };
        let format = Format::choose(asked, &kind)?;
        // Sizes are computed for a template that shows them. The word "json" is none for docker, though it shows all.
        let shows_size = !self.quiet && asked != "json" && format.uses("Size");
        let last = if self.latest && self.last == -1 { 1 } else { self.last };
        let mut path = Path::new(&["containers", "json"])
            .with_flag("all", self.all || last > 0)
            .with_flag("size", self.size || shows_size)
            .with_text("filters", &filters(&self.filter)?);
        if last > 0 {
            path = path.with("limit", &last.to_string());
        }
        let listed = cais.client.read(path)?;
        format.print(&kind, listed.items().iter().map(|it| self.row(it)).collect())
    }

    fn row(&self, container: &Value) -> Row {
        let truncates = !self.no_trunc;
        let id = container["Id"].text();
        let command = container["Command"].text();
        let command = if truncates { ellipsis(command, 20) } else { command.to_owned() };
        let created = container["Created"].integer();
        let mounts = container["Mounts"].items();
        let local = mounts.iter().filter(|it| it["Driver"].text() == "local").count();
        let mounts = mounts.iter().map(|mount| {
            let name = mount["Name"].text();
            let shown = if name.is_empty() { mount["Source"].text() } else { name };
            if truncates { ellipsis(shown, 15) } else { shown.to_owned() }
        });
        let networks = container["NetworkSettings"]["Networks"].members();
        let mut networks: Vec<_> = networks.iter().map(|it| it.0.as_str()).collect();
        networks.sort_unstable();
        vec![
            ("ID", if truncates { short_id(id) } else { id.to_owned() }.into()),
            ("Names", names(container, truncates).into()),
            ("Image", image(container, truncates).into()),
            ("Command", quoted(&command).into()),
            ("CreatedAt", units::local_time(created).into()),
            ("RunningFor", units::ago(created).into()),
            ("Ports", ports::cell(&container["Ports"]).into()),
            ("State", container["State"].text().into()),
            ("Status", container["Status"].text().into()),
            ("Size", size(container).into()),
            ("Labels", labels(&container["Labels"]).into()),
            ("Label", container["Labels"].clone()),
            ("Mounts", mounts.collect::<Vec<_>>().join(",").into()),
            ("LocalVolumes", local.to_string().into()),
            ("Networks", networks.join(",").into()),
            ("Platform", container["ImageManifestDescriptor"]["platform"].clone()),
        ]
    }
}

fn names(container: &Value, truncates: bool) -> String {
    let names = container["Names"].items().iter().map(|it| it.text().trim_start_matches('/'));
    // A link's name has the name of the other one before it.
    names.filter(|it| !truncates || !it.contains('/')).collect::<Vec<_>>().join(",")
}

fn image(container: &Value, truncates: bool) -> String {
    let image = container["Image"].text();
    if image.is_empty() {
        return "<no image>".to_owned();
    }
    if !truncates {
        return image.to_owned();
    }
    let id = short_id(container["ImageID"].text());
    if id == short_id(image) {
        return id;
    }
    // A name with a tag needs no digest.
    match image.split_once('@') {
        Some((name, _)) if crate::reference::split(name).1.is_some() => name.to_owned(),
        _ => image.to_owned(),
    }
}

fn size(container: &Value) -> String {
    let own = units::short_size(container["SizeRw"].integer());
    match container["SizeRootFs"].integer() {
        0 => own,
        all => format!("{own} (virtual {})", units::short_size(all)),
    }
}

/// `a=b,c=d`, by key.
pub(crate) fn labels(labels: &Value) -> String {
    let mut labels: Vec<_> =
        labels.members().iter().map(|(key, value)| format!("{key}={}", value.text())).collect();
    labels.sort_unstable();
    labels.join(",")
}

/// As Go quotes a text.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
