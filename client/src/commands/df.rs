//! `system df`.

use clap::Args;

use super::{images, ps, volume};
use crate::Cais;
use crate::client::Path;
use crate::error::Result;
use crate::json::Value;
use crate::table::{Format, Kind, Row, ellipsis, short_id};
use crate::{output, reference, units};

/// Show disk usage
#[derive(Debug, Args)]
pub(crate) struct Df {
    /// Format output using 'table', 'json' or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

const KIND: Kind = Kind {
    type_name: "*formatter.diskUsageImagesContext",
    heads: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    table: "{{.Type}}\\t{{.TotalCount}}\\t{{.Active}}\\t{{.Size}}\\t{{.Reclaimable}}",
};

impl Df {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let used = cais.client.read(Path::new(&["system", "df"]))?;
        if self.verbose {
            return verbose(&used);
        }
        let format = Format::choose(&self.format, &KIND)?;
        format.print(
            &KIND,
            vec![images_row(&used), containers_row(&used), volumes_row(&used), cache_row(&used)],
        )
    }
}

fn row(kind: &str, counts: (usize, usize), size: i64, reclaimable: i64) -> Row {
    let share = if size > 0 { format!(" ({}%)", reclaimable * 100 / size) } else { String::new() };
    vec![
        ("Type", kind.into()),
        ("TotalCount", counts.0.to_string().into()),
        ("Active", counts.1.to_string().into()),
        ("Size", images::longer(size).into()),
        ("Reclaimable", format!("{}{share}", images::longer(reclaimable)).into()),
    ]
}

fn images_row(used: &Value) -> Row {
    let images = used["Images"].items();
    let is_used = |image: &&Value| image["Containers"].integer() > 0;
    let size = used["LayersSize"].integer();
    // What is shared cannot be had back while one that shares it is used.
    let in_use: i64 = images
        .iter()
        .filter(is_used)
        .map(|image| match (image["Size"].integer(), image["SharedSize"].integer()) {
            (-1, _) | (_, -1) => 0,
            (size, shared) => size - shared,
        })
        .sum();
    row("Images", (images.len(), images.iter().filter(is_used).count()), size, size - in_use)
}

fn containers_row(used: &Value) -> Row {
    let containers = used["Containers"].items();
    let is_active = |it: &&Value| matches!(it["State"].text(), "running" | "paused" | "restarting");
    let sum = |all: bool| -> i64 {
        containers.iter().filter(|it| all || !is_active(it)).map(|it| it["SizeRw"].integer()).sum()
    };
    row(
        "Containers",
        (containers.len(), containers.iter().filter(is_active).count()),
        sum(true),
        sum(false),
    )
}

fn volumes_row(used: &Value) -> Row {
    let volumes = used["Volumes"].items();
    let is_used = |it: &&Value| it["UsageData"]["RefCount"].integer() > 0;
    let sum = |all: bool| -> i64 {
        let counted = volumes.iter().filter(|it| all || !is_used(it));
        counted.map(|it| it["UsageData"]["Size"].integer().max(0)).sum()
    };
    row(
        "Local Volumes",
        (volumes.len(), volumes.iter().filter(is_used).count()),
        sum(true),
        sum(false),
    )
}

fn cache_row(used: &Value) -> Row {
    let records = used["BuildCache"].items();
    let is_used = |it: &&Value| it["InUse"].is_true();
    let sum = |all: bool| -> i64 {
        let counted = records.iter().filter(|it| !it["Shared"].is_true() && (all || !is_used(it)));
        counted.map(|it| it["Size"].integer()).sum()
    };
    row(
        "Build Cache",
        (records.len(), records.iter().filter(is_used).count()),
        sum(true),
        sum(false),
    )
}

fn verbose(used: &Value) -> Result<()> {
    let image_kind = Kind {
        table: "{{.Repository}}\\t{{.Tag}}\\t{{.ID}}\\t{{.CreatedSince}}\\t{{.Size}}\\t{{.SharedSize}}\\t{{.UniqueSize}}\\t{{.Containers}}",
        ..images::KIND
    };
    let rows = used["Images"].items().iter().map(image_row).collect();
    output::raw(&format!(
        "Images space usage:\n\n{}",
        Format::choose("", &image_kind)?.text(&image_kind, rows)?
    ))?;
    let container_kind = Kind {
        table: "{{.ID}}\\t{{.Image}}\\t{{.Command}}\\t{{.LocalVolumes}}\\t{{.Size}}\\t{{.RunningFor}}\\t{{.Status}}\\t{{.Names}}",
        ..ps::KIND
    };
    let rows = used["Containers"].items().iter().map(container_row).collect();
    let text = Format::choose("", &container_kind)?.text(&container_kind, rows)?;
    output::raw(&format!("\nContainers space usage:\n\n{text}"))?;
    let volume_kind = Kind { table: "{{.Name}}\\t{{.Links}}\\t{{.Size}}", ..volume::KIND };
    let rows = used["Volumes"].items().iter().map(volume::row).collect();
    let text = Format::choose("", &volume_kind)?.text(&volume_kind, rows)?;
    output::raw(&format!("\nLocal Volumes space usage:\n\n{text}"))?;
    let caches = used["BuildCache"].items();
    let size: i64 = caches.iter().map(|it| it["Size"].integer()).sum();
    let head = "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED";
    output::line(&format!("\nBuild cache usage: {}\n\n{head}", units::short_size(size)))
}

fn image_row(image: &Value) -> Row {
    let name = image["RepoTags"].items().first().map_or("<none>", |it| it.text());
    let (repository, tag) = reference::split(name);
    images::row(image, [repository, tag.unwrap_or("<none>"), "<none>"], true)
}

fn container_row(container: &Value) -> Row {
    let mounts =
        container["Mounts"].items().iter().filter(|it| it["Type"].text() == "volume").count();
    vec![
        ("ID", short_id(container["Id"].text()).into()),
        ("Image", container["Image"].text().into()),
        ("Command", ps::quoted(&ellipsis(container["Command"].text(), 20)).into()),
        ("LocalVolumes", mounts.to_string().into()),
        ("Size", units::short_size(container["SizeRw"].integer()).into()),
        ("RunningFor", units::ago(container["Created"].integer()).into()),
        ("Status", container["Status"].text().into()),
        (
            "Names",
            container["Names"]
                .items()
                .first()
                .map_or("", |it| it.text().trim_start_matches('/'))
                .into(),
        ),
    ]
}
