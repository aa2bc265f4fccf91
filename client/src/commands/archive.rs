//! Images and containers as archives: `save`, `load`, `export`, `import`.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};

use cais_dockerfile::Platform;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::client::Path;
use crate::error::{Context, Failure, Result};
use crate::http::{Payload, Response};
use crate::{Cais, output, progress, reference};

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(Debug, Args)]
pub(crate) struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, default_value = "")]
    output: String,
    /// Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, default_value = "")]
    platform: String,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Save {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        refuse_terminal(&self.output, "save")?;
        let path = self
            .images
            .iter()
            .fold(Path::new(&["images", "get"]), |path, it| path.with("names", it))
            .with_text("platform", &platform(&self.platform)?);
        write_archive(cais.client.get(path)?, &self.output)
    }
}

/// Export a container's filesystem as a tar archive
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, default_value = "")]
    output: String,
    pub(crate) container: String,
}

impl Export {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        refuse_terminal(&self.output, "export")?;
        write_archive(
            cais.client.get(Path::new(&["containers", &self.container, "export"]))?,
            &self.output,
        )
    }
}

/// Cache mounts of builds, as archives for another node
#[derive(Debug, Subcommand)]
pub(crate) enum CacheVerb {
    Export(ExportCache),
    Import(ImportCache),
}

impl CacheVerb {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        match self {
            Self::Export(it) => it.run(cais),
            Self::Import(it) => it.run(cais),
        }
    }
}

/// Export a cache mount as a tar archive
#[derive(Debug, Args)]
pub(crate) struct ExportCache {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, default_value = "")]
    output: String,
    /// The id that commands have for it, or its own one in lists
    #[arg(value_name = "ID")]
    id: String,
}

impl ExportCache {
    fn run(&self, cais: &Cais) -> Result<()> {
        refuse_terminal(&self.output, "export")?;
        let path = Path::new(&["build", "cache"]).with("id", &self.id);
        write_archive(cais.client.get(path)?, &self.output)
    }
}

/// Create a cache mount from a tar archive
#[derive(Debug, Args)]
pub(crate) struct ImportCache {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, default_value = "")]
    input: String,
    /// The id that commands will have for it
    #[arg(value_name = "ID")]
    id: String,
}

impl ImportCache {
    fn run(&self, cais: &Cais) -> Result<()> {
        let mut input = Input::new(&self.input, "import")?;
        let path = Path::new(&["build", "cache"]).with("id", &self.id);
        cais.client.call("PUT", path, Payload::Archive(&mut input), Vec::new()).map(drop)
    }
}

fn refuse_terminal(file: &str, verb: &str) -> Result<()> {
    if file.is_empty() && output::is_terminal() {
        let what =
            format!("cowardly refusing to {verb} to a terminal. Use the -o flag or redirect");
        return Err(Failure::new(what));
    }
    Ok(())
}

/// To a file beside the one that is meant, until it is whole.
fn write_archive(mut reply: Response, file: &str) -> Result<()> {
    if file.is_empty() {
        io::copy(&mut reply.body, &mut io::stdout().lock())?;
        return Ok(());
    }
    // What is no plain file, as a pipe or /dev/null, cannot be replaced.
    if fs::metadata(file).is_ok_and(|it| !it.is_file()) {
        let mut target =
            File::options().write(true).open(file).context(format_args!("open {file}"))?;
        return io::copy(&mut reply.body, &mut target).map(drop).context(file);
    }
    let beside = format!("{file}.{}", std::process::id());
    let written = File::create(&beside)
        .and_then(|mut target| io::copy(&mut reply.body, &mut target))
        .and_then(|_| fs::rename(&beside, file));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.context(file)
}

/// Load an image from a tar archive or STDIN
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, default_value = "")]
    input: String,
    /// Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, default_value = "")]
    platform: String,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

/// As these two calls have it: `{"os":"linux","architecture":"arm64"}` for `linux/arm64`.
fn platform(text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let Platform { os, architecture, variant, .. } =
        Platform::parse(text).context("invalid platform")?;
    Ok(json!({ "os": os, "architecture": architecture, "variant": variant }).to_string())
}

impl Load {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let mut input = Input::new(&self.input, "load")?;
        let is_quiet = self.quiet || !output::is_terminal();
        let path = Path::new(&["images", "load"])
            .with("quiet", if is_quiet { "1" } else { "0" })
            .with_text("platform", &platform(&self.platform)?);
        let reply = cais.client.call("POST", path, Payload::Archive(&mut input), Vec::new())?;
        progress::show(reply.body, &mut io::stdout(), |_| {})
    }
}

/// Import the contents from a tarball to create a filesystem image
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long)]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, default_value = "")]
    message: String,
    /// Set platform if server is multi-platform capable
    #[arg(long, default_value = "")]
    platform: String,
    #[arg(value_name = "file|URL|-")]
    source: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

impl Import {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let is_url = self.source.starts_with("http://") || self.source.starts_with("https://");
        let (repository, tag) = self.reference.as_deref().map_or(("", None), reference::split);
        let mut path = Path::new(&["images", "create"])
            .with("fromSrc", if is_url { &self.source } else { "-" })
            .with_text("message", &self.message)
            .with_text("repo", repository)
            .with_text("tag", tag.unwrap_or_default())
            .with_text("platform", &self.platform);
        for change in &self.change {
            path = path.with("changes", change);
        }
        let mut input = match self.source.as_str() {
            "-" => Input::Standard(io::stdin()),
            _ if is_url => Input::Nothing,
            file => Input::open(file)?,
        };
        let reply = cais.client.call("POST", path, Payload::Archive(&mut input), Vec::new())?;
        progress::show(reply.body, &mut io::stdout(), |_| {})
    }
}

enum Input {
    Nothing,
    Standard(io::Stdin),
    File(File),
}

impl Input {
    /// Standard input, if no file is named.
    fn new(file: &str, verb: &str) -> Result<Self> {
        if !file.is_empty() {
            return Self::open(file);
        }
        if io::stdin().is_terminal() {
            return Err(Failure::new(format!("requested {verb} from stdin, but stdin is empty")));
        }
        Ok(Self::Standard(io::stdin()))
    }

    fn open(file: &str) -> Result<Self> {
        File::open(file).map(Self::File).context(format_args!("open {file}"))
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Nothing => Ok(0),
            Self::Standard(stdin) => stdin.read(buffer),
            Self::File(file) => file.read(buffer),
        }
    }
}
