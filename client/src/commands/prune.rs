//! The prunes, which ask first.

use std::io::{self, BufRead, Write};

use clap::Args;

use super::filters;
use crate::Cais;
use crate::client::Path;
use crate::error::Result;
use crate::json::Value;
use crate::{output, units};

/// Remove what is not used
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_parser = super::filter)]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Remove what is not used, or all of it
#[derive(Debug, Args)]
pub(crate) struct PruneAll {
    /// Remove all unused ones: of images, not just dangling ones; of volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    prune: Prune,
}

/// Remove build cache
#[derive(Debug, Args)]
pub(crate) struct PruneBuilds {
    #[command(flatten)]
    prune: PruneAll,
    #[command(flatten)]
    room: Room,
}

/// How much of it stays
#[derive(Debug, Args)]
struct Room {
    /// Amount of disk space always allowed to keep for cache
    #[arg(long, alias = "keep-storage", value_name = "BYTES", value_parser = units::parse_bytes)]
    reserved_space: Option<i64>,
    /// Maximum amount of disk space allowed to keep for cache
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    max_used_space: Option<i64>,
    /// Target amount of free disk space after pruning
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    min_free_space: Option<i64>,
}

/// Remove unused data
#[derive(Debug, Args)]
pub(crate) struct PruneSystem {
    #[command(flatten)]
    prune: PruneAll,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Containers,
    Networks,
    Volumes,
    Images,
    BuildCache,
}

/// What was removed, and how many bytes that gave back.
struct Removed {
    text: String,
    bytes: i64,
}

impl Prune {
    /// Containers or networks.
    pub(crate) fn run(&self, cais: &Cais, subject: Subject) -> Result<()> {
        let warning = match subject {
            Subject::Networks => {
                "This will remove all custom networks not used by at least one container."
            }
            _ => "This will remove all stopped containers.",
        };
        if !self.is_confirmed(warning)? {
            return Ok(());
        }
        let removed = subject.prune(cais, &self.filter, false)?;
        if subject == Subject::Networks {
            return if removed.text.is_empty() { Ok(()) } else { output::line(&removed.text) };
        }
        report(&removed)
    }

    fn is_confirmed(&self, warning: &str) -> Result<bool> {
        if self.force { Ok(true) } else { confirm(&format!("WARNING! {warning}")) }
    }
}

impl PruneAll {
    /// Images or volumes.
    pub(crate) fn run(&self, cais: &Cais, subject: Subject) -> Result<()> {
        self.run_with(cais, subject, &[])
    }

    /// With what else the call is to say.
    fn run_with(&self, cais: &Cais, subject: Subject, more: &[(&str, Option<i64>)]) -> Result<()> {
        let warning = match (subject, self.all) {
            (Subject::Volumes, true) => {
                "This will remove all local volumes not used by at least one container."
            }
            (Subject::Volumes, false) => {
                "This will remove anonymous local volumes not used by at least one container."
            }
            (Subject::BuildCache, true) => "This will remove all build cache.",
            (Subject::BuildCache, false) => "This will remove all dangling build cache.",
            (_, true) => {
                "This will remove all images without at least one container associated to them."
            }
            (_, false) => "This will remove all dangling images.",
        };
        if !self.prune.is_confirmed(warning)? {
            return Ok(());
        }
        report(&subject.prune_with(cais, &self.prune.filter, self.all, more)?)
    }
}

impl PruneBuilds {
    /// What builds left.
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let Room { reserved_space, max_used_space, min_free_space } = self.room;
        let room = [
            ("reserved-space", reserved_space),
            // As daemons before API 1.48 call it.
            ("keep-storage", reserved_space),
            ("max-used-space", max_used_space),
            ("min-free-space", min_free_space),
        ];
        self.prune.run_with(cais, Subject::BuildCache, &room)
    }
}

impl PruneSystem {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let filter = &self.prune.prune.filter;
        if self.volumes && filter.iter().any(|it| it.starts_with("until=")) {
            let what = "ERROR: The \"until\" filter is not supported with \"--volumes\"";
            return Err(crate::error::Failure::new(what));
        }
        if !self.prune.prune.force && !confirm(&self.warning())? {
            return Ok(());
        }
        let mut subjects = vec![Subject::Containers, Subject::Networks];
        if self.volumes {
            subjects.push(Subject::Volumes);
        }
        subjects.push(Subject::Images);
        let mut bytes = 0;
        for subject in subjects {
            // Of volumes, only anonymous ones go here.
            let all = self.prune.all && subject == Subject::Images;
            let removed = subject.prune(cais, filter, all)?;
            bytes += removed.bytes;
            if !removed.text.is_empty() {
                output::line(&removed.text)?;
            }
        }
        output::line(&format!("Total reclaimed space: {}", super::images::longer(bytes)))
    }

    fn warning(&self) -> String {
        let mut lines =
            vec!["all stopped containers", "all networks not used by at least one container"];
        if self.volumes {
            lines.push("all anonymous volumes not used by at least one container");
        }
        lines.push(if self.prune.all {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        });
        let mut text = "WARNING! This will remove:\n".to_owned();
        for line in lines {
            text.push_str(&format!("  - {line}\n"));
        }
        let filter = &self.prune.prune.filter;
        if !filter.is_empty() {
            text.push_str("\n  Items to be pruned will be filtered with:\n");
            for line in filter {
                text.push_str(&format!("  - {line}\n"));
            }
        }
        text
    }
}

impl Subject {
    fn prune(self, cais: &Cais, filter: &[String], all: bool) -> Result<Removed> {
        self.prune_with(cais, filter, all, &[])
    }

    fn prune_with(
        self,
        cais: &Cais,
        filter: &[String],
        all: bool,
        more: &[(&str, Option<i64>)],
    ) -> Result<Removed> {
        let mut filter = filter.to_vec();
        let (kind, head, key) = match self {
            Self::Containers => ("containers", "Deleted Containers:\n", "ContainersDeleted"),
            Self::Networks => ("networks", "Deleted Networks:\n", "NetworksDeleted"),
            Self::Volumes => ("volumes", "Deleted Volumes:\n", "VolumesDeleted"),
            Self::Images => ("images", "Deleted Images:\n", "ImagesDeleted"),
            Self::BuildCache => ("build", "Deleted build cache objects:\n", "CachesDeleted"),
        };
        match self {
            Self::Images => filter.push(format!("dangling={}", !all)),
            Self::Volumes if all => filter.push("all=1".to_owned()),
            _ => {}
        }
        let mut path = Path::new(&[kind, "prune"])
            .with_flag("all", self == Self::BuildCache && all)
            .with_text("filters", &filters(&filter)?);
        for (name, number) in more {
            if let Some(number) = number {
                path = path.with_text(name, &number.to_string());
            }
        }
        let reply = cais.client.post_json(path, &serde_json::json!({}))?;
        let mut text = String::new();
        for entry in reply[key].items() {
            if text.is_empty() {
                text.push_str(head);
            }
            text.push_str(&entry_text(entry));
            text.push('\n');
        }
        Ok(Removed { text, bytes: reply["SpaceReclaimed"].integer() })
    }
}

fn entry_text(entry: &Value) -> String {
    match (entry.member("Untagged"), entry.member("Deleted")) {
        (Some(name), _) if !name.text().is_empty() => format!("untagged: {}", name.text()),
        (_, Some(id)) => format!("deleted: {}", id.text()),
        _ => entry.text().to_owned(),
    }
}

fn report(removed: &Removed) -> Result<()> {
    if !removed.text.is_empty() {
        output::line(&removed.text)?;
    }
    output::line(&format!("Total reclaimed space: {}", super::images::longer(removed.bytes)))
}

/// Whether the user says yes. Anything else is a no.
fn confirm(warning: &str) -> Result<bool> {
    {
        let mut out = io::stdout().lock();
        write!(out, "{warning}\nAre you sure you want to continue? [y/N] ")?;
        out.flush()?;
    }
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
