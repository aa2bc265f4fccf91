//! `tag` and `rmi`.

use clap::Args;

use crate::client::Path;
use crate::error::{Failure, Result};
use crate::{Cais, output, reference};

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(Debug, Args)]
pub(crate) struct Tag {
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

impl Tag {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        if self.target.contains('@') {
            return Err(Failure::new("refusing to create a tag with a digest reference"));
        }
        reference::check(&self.target).map_err(|it| {
            Failure::new(format!(
                "Error parsing reference: {:?} is not a valid repository/tag: {it}",
                self.target
            ))
        })?;
        let (repository, tag) = reference::split(&self.target);
        let path = Path::new(&["images", &self.source, "tag"])
            .with("repo", repository)
            .with("tag", tag.unwrap_or("latest"));
        cais.client.post(path)
    }
}

/// Remove one or more images
#[derive(Debug, Args)]
pub(crate) struct Rmi {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Rmi {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let mut failures = Vec::new();
        let mut is_bad = false;
        for image in &self.images {
            let path = Path::new(&["images", image])
                .with_flag("force", self.force)
                .with_flag("noprune", self.no_prune);
            match cais.client.delete(path) {
                Ok(removed) => {
                    for entry in removed.items() {
                        let line = match entry.member("Deleted") {
                            Some(id) => format!("Deleted: {}", id.text()),
                            None => format!("Untagged: {}", entry["Untagged"].text()),
                        };
                        output::line(&line)?;
                    }
                }
                Err(failure) => {
                    is_bad |= !failure.is_not_found();
                    failures.push(failure.message);
                }
            }
        }
        if failures.is_empty() {
            return Ok(());
        }
        let message = failures.join("\n");
        // With force, what is not there is as good as removed.
        if self.force && !is_bad {
            output::notice(&message);
            return Ok(());
        }
        Err(Failure::new(message))
    }
}
