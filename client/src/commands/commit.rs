//! `commit`.

use clap::Args;

use crate::client::Path;
use crate::error::Result;
use crate::{Cais, output, reference};

/// Create a new image from a container's changes
#[derive(Debug, Args)]
pub(crate) struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, default_value = "")]
    author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long)]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, default_value = "")]
    message: String,
    /// Pause container during commit
    #[arg(short, long, default_value = "true")]
    pause: bool,
    /// Or a service, where it is one of compose
    pub(crate) container: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

impl Commit {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let (repository, tag) = self.reference.as_deref().map_or(("", None), reference::split);
        let mut path = Path::new(&["commit"])
            .with("container", &self.container)
            .with_text("repo", repository)
            .with_text("tag", tag.unwrap_or_default())
            .with_text("comment", &self.message)
            .with_text("author", &self.author);
        for change in &self.change {
            path = path.with("changes", change);
        }
        if !self.pause {
            path = path.with("pause", "0");
        }
        let made = cais.client.post_json(path, &serde_json::json!({}))?;
        output::line(made["Id"].text())
    }
}
