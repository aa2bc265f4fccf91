//! `images`.

use clap::Args;

use super::filters;
use crate::Cais;
use crate::client::Path;
use crate::error::Result;
use crate::json::Value;
use crate::reference;
use crate::table::{Format, Kind, Row, short_id};
use crate::{output, table, units};

/// List images
#[derive(Debug, Args)]
pub(crate) struct Images {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_parser = super::filter)]
    filter: Vec<String>,
    /// Format output using 'table', 'json' or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// List multi-platform images as a tree (EXPERIMENTAL)
    #[arg(long, conflicts_with_all = ["quiet", "no_trunc", "digests", "format"])]
    tree: bool,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

const TABLE: &str = "{{.Repository}}\\t{{.Tag}}\\t{{.ID}}\\t{{.CreatedSince}}\\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str =
    "{{.Repository}}\\t{{.Tag}}\\t{{.Digest}}\\t{{.ID}}\\t{{.CreatedSince}}\\t{{.Size}}";

pub(super) const KIND: Kind = Kind {
    type_name: "*formatter.imageContext",
    heads: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
    table: TABLE,
};

const NONE: &str = "<none>";

impl Images {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let kind = Kind { table: if self.digests { TABLE_WITH_DIGESTS } else { TABLE }, ..KIND };
        let config;
        let asked = match self.format.as_str() {
            _ if self.quiet => "{{.ID}}",
            "" => {
                config = cais.config()?;
                config.text("imagesFormat")
            }
            asked => asked,
        };
        let format = Format::choose(asked, &kind)?;
        let mut wanted = self.filter.clone();
        wanted.extend(self.reference.iter().map(|it| format!("reference={it}")));
        let path = Path::new(&["images", "json"])
            .with_flag("all", self.all)
            .with_flag("manifests", self.tree)
            .with_text("filters", &filters(&wanted)?);
        let listed = cais.client.read(path)?;
        if self.tree {
            return output::raw(&tree(listed.items()));
        }
        let shows_digests = self.digests || format.names("Digest");
        let rows =
            listed.items().iter().flat_map(|image| rows(image, shows_digests, !self.no_trunc));
        format.print(&kind, rows.collect())
    }
}

/// Each image with its names, and below them what it has for each platform.
fn tree(images: &[Value]) -> String {
    let mut lines = vec!["IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tIN USE".to_owned()];
    let line = |name: &str, id: &str, sizes: [i64; 2], is_used: bool| {
        let [disk, content] = sizes.map(units::short_size);
        format!("{name}\t{}\t{disk}\t{content}\t{}", short_id(id), if is_used { "yes" } else { "" })
    };
    for image in images {
        let manifests = image["Manifests"].items();
        let content = manifests.iter().map(|it| it["Size"]["Content"].integer()).sum();
        let is_used = image["Containers"].integer() > 0;
        let sizes = [image["Size"].integer(), content];
        let names = image["RepoTags"].items();
        for name in names {
            lines.push(line(name.text(), image["Id"].text(), sizes, is_used));
        }
        if names.is_empty() {
            lines.push(line("<untagged>", image["Id"].text(), sizes, is_used));
        }
        for (at, manifest) in manifests.iter().enumerate() {
            let branch = if at + 1 == manifests.len() { "└─" } else { "├─" };
            let platform = &manifest["ImageData"]["Platform"];
            let parts = [&platform["os"], &platform["architecture"], &platform["variant"]];
            let parts: Vec<&str> =
                parts.into_iter().map(Value::text).filter(|it| !it.is_empty()).collect();
            let sizes = ["Total", "Content"].map(|key| manifest["Size"][key].integer());
            let is_used = !manifest["ImageData"]["Containers"].items().is_empty();
            let name = format!("{branch} {}", parts.join("/"));
            lines.push(line(&name, manifest["ID"].text(), sizes, is_used));
        }
    }
    table::aligned(&lines)
}

/// A row for each name of the image; of one without a name, one of `<none>`.
fn rows(image: &Value, shows_digests: bool, truncates: bool) -> Vec<Row> {
    let named = |key: &str, separator: char| -> Vec<(String, String)> {
        let names = image[key].items().iter().filter_map(|it| it.text().rsplit_once(separator));
        names
            .filter(|(name, _)| *name != NONE)
            .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
            .collect()
    };
    let tags: Vec<_> = image["RepoTags"]
        .items()
        .iter()
        .filter_map(|it| match reference::split(it.text()) {
            (name, Some(tag)) if name != NONE => Some((name.to_owned(), tag.to_owned())),
            _ => None,
        })
        .collect();
    let digests = named("RepoDigests", '@');
    let mut made = Vec::new();
    let digests_of = |repository: &str| -> Vec<String> {
        let own = digests.iter().filter(|(name, _)| name == repository);
        own.map(|it| it.1.clone()).collect()
    };
    for (repository, tag) in &tags {
        let digests = if shows_digests { digests_of(repository) } else { Vec::new() };
        if digests.is_empty() {
            made.push(row(image, [repository, tag, NONE], truncates));
        }
        made.extend(digests.iter().map(|digest| row(image, [repository, tag, digest], truncates)));
    }
    for (repository, digest) in &digests {
        if !tags.iter().any(|(name, _)| name == repository) {
            let digest = if shows_digests { digest } else { NONE };
            made.push(row(image, [repository, NONE, digest], truncates));
        }
    }
    if made.is_empty() {
        made.push(row(image, [NONE; 3], truncates));
    }
    made
}

pub(super) fn row(image: &Value, [repository, tag, digest]: [&str; 3], truncates: bool) -> Row {
    let id = image["Id"].text();
    let created = image["Created"].integer();
    let size = units::short_size(image["Size"].integer());
    let known = |key: &str, show: fn(i64) -> String| match image.member(key).map(Value::integer) {
        None | Some(-1) => "N/A".to_owned(),
        Some(number) => show(number),
    };
    let unique = match image.member("SharedSize").map(Value::integer) {
        None | Some(-1) => "N/A".to_owned(),
        Some(shared) => longer(image["Size"].integer() - shared),
    };
    vec![
        ("ID", if truncates { short_id(id) } else { id.to_owned() }.into()),
        ("Repository", repository.into()),
        ("Tag", tag.into()),
        ("Digest", digest.into()),
        ("CreatedSince", units::ago(created).into()),
        ("CreatedAt", units::local_time(created).into()),
        ("Size", size.into()),
        ("Containers", known("Containers", |it| it.to_string()).into()),
        ("VirtualSize", longer(image["Size"].integer()).into()),
        ("SharedSize", known("SharedSize", longer).into()),
        ("UniqueSize", unique.into()),
    ]
}

/// With four digits, as everything but the size has.
pub(super) fn longer(bytes: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    units::size(bytes as f64, 4)
}
