//! The command line: which verb, on which daemon, under which name.

mod complete;
mod shape;
mod suggest;
mod usage;
mod verbs;

use std::ffi::OsString;

use clap::{Args, FromArgMatches, Parser};

use self::verbs::Verb;
use crate::Cais;
use crate::client::Client;
use crate::commands::contexts;
use crate::compose::Compose;
use crate::error::{Failure, Result};
use crate::host::{Host, TlsFlags};
use crate::program::Program;

/// Run containers, as with docker, on a Cais daemon
#[derive(Debug, Parser)]
#[command(name = "cais", subcommand_required = false, disable_version_flag = true)]
pub(crate) struct Cli {
    /// Location of client config files
    #[arg(long)]
    config: Option<String>,
    /// Name of the context to use; there is only "default"
    #[arg(short, long, hide = true)]
    context: Option<String>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    debug: bool,
    /// Daemon socket to connect to: unix://PATH or tcp://HOST:PORT
    #[arg(short = 'H', long)]
    host: Option<String>,
    /// Set the logging level ("debug", "info", "warn", "error", "fatal")
    #[arg(short, long, hide = true)]
    log_level: Option<String>,
    #[command(flatten)]
    tls: TlsFlags,
    /// Print version information and quit
    #[arg(short, long)]
    version: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// The tree of verbs, in the form that docker's flags have.
pub(crate) fn command(program: Program) -> clap::Command {
    shape::shaped(<Cli as clap::CommandFactory>::command())
        .name(program.name())
        .bin_name(program.name())
}

/// Called as `docker-compose`, it is `docker compose`.
fn written_out(arguments: &[OsString]) -> Vec<OsString> {
    match arguments.split_first() {
        Some((called, rest))
            if called.to_string_lossy().rsplit('/').next() == Some("docker-compose") =>
        {
            let words = ["docker", "compose"].map(OsString::from);
            words.into_iter().chain(rest.iter().cloned()).collect()
        }
        _ => arguments.to_vec(),
    }
}

/// `compose` without flags before it. To make the flags of all other verbs takes longer than most of what it does. None, too,
/// for what is wrong: the whole tree has the words for that.
fn compose_alone(arguments: &[OsString]) -> Option<Compose> {
    let (verb, rest) = arguments.get(1..)?.split_first()?;
    if verb != "compose" {
        return None;
    }
    let command = shape::shaped(Compose::augment_args(clap::Command::new("compose")));
    let words = std::iter::once(verb).chain(rest);
    Compose::from_arg_matches(&command.try_get_matches_from(words).ok()?).ok()
}

pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let arguments = &written_out(arguments);
    let called = arguments.first().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    let program = Program::of(&called);
    if let Some(compose) = compose_alone(arguments) {
        let host = Host::choose(None, TlsFlags::default(), None, program)?;
        return compose.run(&Cais { client: Client::new(host), program, config_directory: None });
    }
    let matches = match command(program).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return usage::explain(&error, arguments, program),
    };
    let cli = Cli::from_arg_matches(&matches).map_err(|it| Failure::new(it.to_string()))?;
    if cli.version {
        return crate::output::line(&crate::commands::version::line(program));
    }
    contexts::only(cli.context.as_deref().unwrap_or_default())?;
    let Some(verb) = cli.verb else { return usage::help(&mut command(program)) };
    let host = Host::choose(cli.host.as_deref(), cli.tls, cli.config.as_deref(), program)?;
    let cais = Cais { client: Client::new(host), program, config_directory: cli.config };
    verb.run(&cais)
}
