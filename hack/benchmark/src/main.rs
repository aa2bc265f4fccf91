//! Times container engines through one CRI client or Docker's, and the bare system calls of a pod beside them.
//!
//! `start`, `standing`, `pull`, `docker`, `build` and `compose` alternate between two engines, so that a drift of the machine meets
//! both; `deadlines` loads one after the other. `floor` runs a hard-coded sequence of system calls for one pod: what no engine can undercut. Each writes a
//! record with its raw samples; `report` turns records into tables. `hack/bench` prepares the engines.

mod builds;
mod client;
mod compose;
mod deadlines;
mod docker;
mod execs;
mod floor;
mod lives;
mod memory;
mod pull;
mod raw;
mod record;
mod report;
mod standing;
mod statistics;
mod sys;
mod usage;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

type Failure = Box<dyn Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

/// Says what was being done when something failed.
trait Doing<T> {
    fn doing(self, what: impl std::fmt::Display) -> Result<T>;
}

impl<T, E: std::fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl std::fmt::Display) -> Result<T> {
        self.map_err(|error| format!("{what}: {error}").into())
    }
}

#[derive(Parser)]
#[command(name = "cais-bench", about = "Times container engines side by side")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pod lives: run, create, start, stop, remove.
    Start(lives::Options),
    /// Lists, statistics and commands while many containers stand.
    Standing(standing::Options),
    /// kubeadm's calls while the engine pulls and creates.
    Deadlines(deadlines::Options),
    /// Pull and unpack of one image.
    Pull(pull::Options),
    /// Commands of Docker's client, and of ours.
    Docker(docker::Options),
    /// Builds by docker's own build client.
    Build(builds::Options),
    /// Compose projects, by docker compose and by ours.
    Compose(compose::Options),
    /// The system calls of one pod, without an engine.
    Floor(floor::Options),
    /// Appends tables of the records to a document.
    Report(report::Options),
}

/// The two engines and where the record goes; common to all but `floor`.
#[derive(Args, Clone)]
struct Sides {
    /// NAME,SOCKET,PID,LOG-DIRECTORY of the engine in question.
    #[arg(long)]
    ours: client::Engine,
    /// The same of the engine to compare with.
    #[arg(long)]
    peer: client::Engine,
    /// The image, as both engines know it.
    #[arg(long)]
    image: String,
    /// Facts to keep in the record, such as versions of other programs.
    #[arg(long)]
    note: Vec<String>,
    /// The record to write.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Start(options) => in_tokio(lives::compare(options)),
        Command::Standing(options) => in_tokio(standing::compare(options)),
        Command::Deadlines(options) => in_tokio(deadlines::compare(options)),
        Command::Pull(options) => in_tokio(pull::compare(options)),
        Command::Docker(options) => in_tokio(docker::compare(options)),
        Command::Build(options) => in_tokio(builds::compare(options)),
        Command::Compose(options) => in_tokio(compose::compare(options)),
        // Forks, so there must be no second thread: no tokio.
        Command::Floor(options) => floor::measure(&options),
        Command::Report(options) => report::append(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cais-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread: the client must take as little as possible from the engines.
fn in_tokio(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
