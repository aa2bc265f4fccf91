//! `pull` and `push`.

use std::io;

use clap::Args;

use crate::client::Path;
use crate::error::{Failure, Result};
use crate::http::{Payload, Response};
use crate::{Cais, output, progress, reference};

/// Download an image from a registry
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image verification; nothing is verified in this way
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, default_value = "")]
    platform: String,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

/// Refuses what names one tag and means all, and says which tag is meant where none is named.
fn check(image: &str, all_tags: bool, quiet: bool) -> Result<()> {
    reference::check(image).map_err(Failure::new)?;
    let tag = reference::split(image).1;
    if all_tags && tag.is_some() {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    if tag.is_none() && !all_tags && !quiet {
        output::line("Using default tag: latest")?;
    }
    Ok(())
}

/// A pull, for those verbs that need an image too.
pub(crate) struct Pulling<'a> {
    pub(crate) image: &'a str,
    pub(crate) platform: &'a str,
    pub(crate) all_tags: bool,
}

impl Pulling<'_> {
    /// The stream of its progress.
    pub(crate) fn begin(&self, cais: &Cais) -> Result<Response> {
        let (name, tag) = reference::split(self.image);
        let mut path = Path::new(&["images", "create"])
            .with("fromImage", name)
            .with_text("platform", self.platform);
        if !self.all_tags {
            path = path.with("tag", tag.unwrap_or("latest"));
        }
        cais.client.call("POST", path, Payload::None, cais.registry_auth(self.image)?)
    }
}

/// A push, for those verbs that do more than that.
pub(crate) struct Pushing<'a> {
    pub(crate) image: &'a str,
    pub(crate) platform: &'a str,
    pub(crate) all_tags: bool,
}

impl Pushing<'_> {
    /// The stream of its progress.
    pub(crate) fn begin(&self, cais: &Cais) -> Result<Response> {
        let (name, tag) = reference::split(self.image);
        let mut path = Path::new(&["images", name, "push"]).with_text("platform", self.platform);
        if !self.all_tags {
            path = path.with("tag", tag.unwrap_or("latest"));
        }
        cais.client.call("POST", path, Payload::None, cais.registry_auth(self.image)?)
    }
}

impl Pull {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        check(&self.image, self.all_tags, self.quiet)?;
        let pulling =
            Pulling { image: &self.image, platform: &self.platform, all_tags: self.all_tags };
        let reply = pulling.begin(cais)?;
        if self.quiet {
            progress::quietly(reply.body)?;
        } else {
            progress::show(reply.body, &mut io::stdout(), |_| {})?;
        }
        let name = reference::canonical(&self.image);
        output::line(if self.all_tags { reference::split(&name).0 } else { &name })
    }
}

/// Upload an image to a registry
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image signing; nothing is signed in this way
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    /// Push a platform-specific manifest as a single-platform image to the registry
    #[arg(long, default_value = "")]
    platform: String,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
}

impl Push {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        check(&self.image, self.all_tags, self.quiet)?;
        let pushing =
            Pushing { image: &self.image, platform: &self.platform, all_tags: self.all_tags };
        let reply = pushing.begin(cais)?;
        if !self.quiet {
            return progress::show(reply.body, &mut io::stdout(), |_| {});
        }
        progress::quietly(reply.body)?;
        output::line(&reference::canonical(&self.image))
    }
}
