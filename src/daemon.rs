//! `caisd`: arguments, logging, and the order of start and stop.

use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::api;
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Context, Error, Result};
use crate::store::lock::Lock;
use crate::streaming;

/// The container engine's daemon.
#[derive(Debug, Parser)]
#[command(name = "caisd", version, disable_help_subcommand = true)]
struct Arguments {
    /// Configuration file; without it /etc/cais/config.toml, which need not exist.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where images and writable layers are kept [default: /var/lib/cais]
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    /// Where sockets and the state of what runs are kept [default: /run/cais]
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<PathBuf>,
    /// Socket for kubelet and crictl [default: /run/cais/cri.sock]
    #[arg(long, value_name = "PATH", global = true)]
    cri_socket: Option<PathBuf>,
    /// Socket for docker and other clients of its API [default: /run/cais/docker.sock]
    #[arg(long, value_name = "PATH", global = true)]
    docker_socket: Option<PathBuf>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", global = true)]
    log_level: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the configuration in force.
    Config,
}

/// Runs `caisd` with the arguments of this process.
pub(crate) fn run() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|first| first == "stream-server") {
        // Started by a daemon, with words of its own.
        return streaming::process::main(words);
    }
    let arguments = Arguments::parse();
    let config = effective(&arguments)?;
    match arguments.command {
        Some(Command::Config) => {
            std::io::stdout().write_all(config.to_toml()?.as_bytes()).context("print")
        }
        None => {
            start_log(&config)?;
            runtime()?.block_on(serve(config))
        }
    }
}

/// The file under the flags.
fn effective(arguments: &Arguments) -> Result<Config> {
    let mut config = Config::load(arguments.config.as_deref())?;
    if let Some(root) = &arguments.root {
        config.root.clone_from(root);
    }
    if let Some(state) = &arguments.state {
        config.state.clone_from(state);
    }
    if let Some(socket) = &arguments.cri_socket {
        config.cri.socket.clone_from(socket);
    }
    if let Some(socket) = &arguments.docker_socket {
        config.docker.socket.clone_from(socket);
    }
    if let Some(level) = &arguments.log_level {
        config.log_level.clone_from(level);
    }
    config.check()?;
    Ok(config)
}

fn start_log(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(format!("{},h2=warn,hyper=warn", config.log_level))
        .context("set up the log")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init()
        .map_err(|error| Error::internal(format!("set up the log: {error}")))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Calls are short and mostly wait for the kernel. More threads cost memory; fewer, and what is made at once could hold up
        // what ends, in a disk's journal.
        .worker_threads(6)
        .build()
        .context("start the runtime")
}

async fn serve(config: Config) -> Result<()> {
    crate::store::private_dir(&config.state)?;
    let _lock = Lock::acquire(&config.state.join("daemon.lock"))?;
    // Bound first: who connects while the pods are taken up waits in the kernel's queue.
    let listening = api::listen(&config)?;
    let engine = Engine::start(config).await?;
    tracing::info!(socket = %engine.config().cri.socket.display(), "ready");
    listening.serve(engine.clone(), stop_signal()?).await?;
    engine.shut_down().await
}

/// Resolves on SIGTERM or SIGINT: the pods go on, only the daemon ends.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
