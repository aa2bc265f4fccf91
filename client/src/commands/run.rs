//! `run` and `create`.

use std::io::{self, IsTerminal, Write};

use clap::Args;

use super::lifecycle::Waiting;
use crate::attached::{self, Blocked, End, Streams, Target};
use crate::client::Path;
use crate::create::{Flags, Surroundings};
use crate::error::{Context, Failure, Result};
use crate::output::notice;
use crate::{Cais, output, reference, terminal};

/// Create and run a new container from an image
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    flags: Flags,
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, default_value = "")]
    detach_keys: String,
    /// Proxy received signals to the process
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    /// Everything behind the image belongs to the command
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    words: Vec<String>,
}

/// Create a new container
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    flags: Flags,
    /// Everything behind the image belongs to the command
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    words: Vec<String>,
}

impl Create {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let maker = Maker { cais, flags: &self.flags, words: &self.words, is_detached: false };
        let body = maker.body().map_err(|it| usage(cais, "create", &it))?;
        output::line(&maker.create(&body)?)
    }
}

/// An error of what was typed.
fn usage(cais: &Cais, verb: &str, what: &str) -> Failure {
    let name = cais.program.name();
    // What clap would have found, had it known the value's language.
    if what.starts_with("invalid argument ") {
        return Failure::new(format!(
            "{what}\n\nUsage:  {name} {verb} [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun '{name} {verb} --help' for more information"
        ))
        .with_code(125);
    }
    with_help(cais, verb, what).with_code(125)
}

fn with_help(cais: &Cais, verb: &str, what: &str) -> Failure {
    let name = cais.program.name();
    Failure::new(format!("{name}: {what}\n\nRun '{name} {verb} --help' for more information"))
}

/// An error of the start: its code says whether the program is missing, cannot be run, or never had its turn.
fn start_failure(cais: &Cais, failure: &Failure) -> Failure {
    let text = &failure.message;
    let code = if text.contains("executable file not found")
        || text.contains("no such file or directory")
    {
        127
    } else if text.contains("permission denied") || text.contains("is a directory") {
        126
    } else {
        125
    };
    with_help(cais, "run", text).with_code(code)
}

/// What a flag says of a variable goes before.
fn add_proxies(variables: &mut Vec<serde_json::Value>, proxies: &[(String, &str)]) {
    for (name, value) in proxies {
        let is_it = |it: &serde_json::Value| {
            it.as_str().and_then(|it| it.split('=').next()) == Some(name.as_str())
        };
        if !variables.iter().any(is_it) {
            variables.push(format!("{name}={value}").into());
        }
    }
}

struct Maker<'a> {
    cais: &'a Cais,
    flags: &'a Flags,
    words: &'a [String],
    is_detached: bool,
}

impl Maker<'_> {
    fn image(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn body(&self) -> std::result::Result<serde_json::Value, String> {
        let around = Surroundings { is_detached: self.is_detached, console: terminal::size() };
        let words = self.words.get(1..).unwrap_or_default();
        let mut body = self.flags.body(self.image(), words, around)?;
        let config = self.cais.config_or_none();
        let proxies = config.proxies(&self.cais.client.host.to_string());
        if let Some(members) = body.as_object_mut().filter(|_| !proxies.is_empty()) {
            let variables = members.entry("Env").or_insert_with(|| serde_json::json!([]));
            if let Some(variables) = variables.as_array_mut() {
                add_proxies(variables, &proxies);
            }
        }
        Ok(body)
    }

    /// The id of the new container. An image that is missing is pulled first.
    fn create(&self, body: &serde_json::Value) -> Result<String> {
        reference::check(self.image()).map_err(Failure::new)?;
        let cidfile = CidFile::open(&self.flags.cidfile)?;
        match self.flags.pull.as_str() {
            "always" => self.pull()?,
            "missing" | "never" | "" => {}
            other => {
                let what = format!(
                    "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
                );
                return Err(Failure::new(what).with_code(125));
            }
        }
        let made = match self.post(body) {
            Err(failure)
                if failure.is_not_found()
                    && self.lacks_image(&failure)
                    && self.flags.pull != "never" =>
            {
                if !self.flags.quiet {
                    notice(&format!(
                        "Unable to find image '{}' locally",
                        reference::tagged(self.image())
                    ));
                }
                self.pull()?;
                self.post(body)?
            }
            other => other?,
        };
        for warning in made["Warnings"].items() {
            notice(&format!("WARNING: {}", warning.text()));
        }
        let id = made["Id"].text().to_owned();
        if let Some(file) = cidfile {
            file.write(&id)?;
        }
        Ok(id)
    }

    fn lacks_image(&self, failure: &Failure) -> bool {
        failure.message.contains("No such image")
            || failure.message.contains("does not provide the specified platform")
            || failure.message.contains(&format!("image {}", self.image()))
    }

    fn post(&self, body: &serde_json::Value) -> Result<crate::json::Value> {
        let path = Path::new(&["containers", "create"])
            .with_text("name", &self.flags.name)
            .with_text("platform", &self.flags.platform);
        self.cais.client.post_json(path, body)
    }

    fn pull(&self) -> Result<()> {
        let pull = super::pull::Pulling {
            image: self.image(),
            platform: &self.flags.platform,
            all_tags: false,
        };
        let reply = pull.begin(self.cais)?;
        if self.flags.quiet {
            crate::progress::quietly(reply.body)
        } else {
            crate::progress::show(reply.body, &mut io::stderr(), |_| {})
        }
    }
}

impl Run {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        if self.detach && !self.flags.attach.is_empty() {
            let what = "conflicting options: cannot specify both --attach and --detach";
            return Err(Failure::new(what));
        }
        let maker =
            Maker { cais, flags: &self.flags, words: &self.words, is_detached: self.detach };
        let body = maker.body().map_err(|it| usage(cais, "run", &it))?;
        let attached = self.flags.attached(self.detach).map_err(|it| usage(cais, "run", &it))?;
        let is_terminal = self.flags.tty;
        if attached.stdin && is_terminal && !io::stdin().is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let keys = cais.detach_keys(&self.detach_keys)?;
        let attaches = attached.stdin || attached.stdout || attached.stderr;
        let blocked = attaches.then(|| {
            Blocked::block(
                is_terminal && io::stdout().is_terminal(),
                self.sig_proxy && !is_terminal,
            )
        });
        let id = maker.create(&body).map_err(|it| start_failure(cais, &it))?;
        if !attaches {
            self.start(cais, &id)?;
            return output::line(&id);
        }
        let connection = cais.client.upgrade(attached.path(&id, &self.detach_keys), None)?;
        let condition = if self.flags.rm { "removed" } else { "next-exit" };
        let waiting = Waiting::begin(cais, &id, condition)?;
        if let Err(failure) = self.start(cais, &id) {
            drop(connection);
            // It is removed when it could not be started, too.
            if self.flags.rm {
                let _ = waiting.status();
            }
            return Err(failure);
        }
        if let Some(blocked) = blocked {
            blocked.serve(&cais.client, Target::Container(id));
        }
        let streams = Streams { takes_stdin: attached.stdin, is_terminal, keys };
        match attached::copy(connection, streams)? {
            End::Detached => Ok(()),
            End::Closed => ended(waiting.status()?),
        }
    }

    fn start(&self, cais: &Cais, id: &str) -> Result<()> {
        cais.client
            .post(Path::new(&["containers", id, "start"]))
            .map_err(|it| start_failure(cais, &it))
    }
}

/// The container's exit code becomes the program's.
pub(crate) fn ended(status: i64) -> Result<()> {
    match u8::try_from(status) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::exit(code)),
        // Of a shell's view only the low byte remains.
        Err(_) => Err(Failure::exit(u8::try_from(status & 0xff).unwrap_or(1))),
    }
}

/// The file of `--cidfile`. One that has nothing in it at the end is removed.
struct CidFile<'a> {
    path: &'a str,
    file: std::fs::File,
    is_written: bool,
}

impl<'a> CidFile<'a> {
    fn open(path: &'a str) -> Result<Option<Self>> {
        if path.is_empty() {
            return Ok(None);
        }
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
        match opened {
            Ok(file) => Ok(Some(Self { path, file, is_written: false })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let what = "make sure the other container isn't running or delete";
                Err(Failure::new(format!("container ID file found, {what} {path}")))
            }
            Err(error) => Err(Failure::new(format!(
                "failed to create the container ID file: open {path}: {}",
                crate::error::reason(&error)
            ))),
        }
    }

    fn write(mut self, id: &str) -> Result<()> {
        let written = self.file.write_all(id.as_bytes());
        self.is_written = written.is_ok();
        written.context("failed to write the container ID to the file")
    }
}

impl Drop for CidFile<'_> {
    fn drop(&mut self) {
        if !self.is_written {
            let _ = std::fs::remove_file(self.path);
        }
    }
}
