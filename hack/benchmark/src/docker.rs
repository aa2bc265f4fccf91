//! Docker's commands on two engines: the same client for both, and ours beside it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;

use crate::client::Engine;
use crate::record::Record;
use crate::statistics::median;
use crate::usage::Usage;
use crate::{Doing, Result, Sides, memory};

#[derive(Args, Clone)]
pub(crate) struct Options {
    #[command(flatten)]
    sides: Sides,
    /// Docker's client.
    #[arg(long)]
    docker: PathBuf,
    /// Our own; without it the peer is compared with itself.
    #[arg(long)]
    cais: Option<PathBuf>,
    /// Measured commands of each kind and engine.
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// Idle time before each command. Back to back, the kernel would hide waits for RCU.
    #[arg(long, default_value_t = 50)]
    gap_ms: u64,
    /// Size of the log that is streamed, in MB.
    #[arg(long, default_value_t = 100)]
    log_mb: usize,
    /// Containers that run while memory is read.
    #[arg(long, default_value_t = 20)]
    standing: usize,
}

const WARM_UP: usize = 3;
const TALKER: &str = "bench-log";
const TARGET: &str = "bench-exec";

/// Docker's client with both engines, and our own with ours.
struct Clients<'a> {
    docker: [Client<'a>; 2],
    cais: Option<Client<'a>>,
}

/// A client program that talks to one engine.
pub(crate) struct Client<'a> {
    pub(crate) program: &'a Path,
    pub(crate) engine: &'a Engine,
}

pub(crate) async fn compare(options: Options) -> Result<()> {
    let names = [options.sides.ours.name.clone(), options.sides.peer.name.clone()];
    let mut record = Record::new("Docker's commands", names, options.sides.note.clone());
    record.parameter("rounds", options.rounds);
    record.parameter("gap", format!("{} ms", options.gap_ms));
    record.parameter("log", format!("{} MB in lines of 100 bytes", options.log_mb));
    let engines = [&options.sides.ours, &options.sides.peer];
    let usages = [Usage::follow(engines[0])?, Usage::follow(engines[1])?];
    let docker = engines.map(|engine| Client { program: &options.docker, engine });
    let cais =
        options.cais.as_deref().map(|program| Client { program, engine: &options.sides.ours });
    let clients = Clients { docker, cais };
    for client in &clients.docker {
        let version = client.output(&["version", "--format", "{{.Server.Version}}"])?;
        record.notes.push(format!("{}: {}", client.engine.name, version.trim()));
    }
    alone(&mut record, &options, &clients).await?;
    lives(&mut record, &options, &clients).await?;
    execs(&mut record, &options, &clients).await?;
    logs(&mut record, &options, &clients).await?;
    stand(&mut record, &options, &clients, &usages).await?;
    record.print();
    record.write(&options.sides.out)
}

/// What the client programs take without any engine: no engine can make a command faster than that.
async fn alone(record: &mut Record, options: &Options, clients: &Clients<'_>) -> Result<()> {
    for client in clients.docker.first().into_iter().chain(&clients.cais) {
        let mut took = Vec::new();
        for _ in 0..options.rounds {
            took.push(client.time(&["--version"], options.gap_ms).await?);
        }
        let name = client.program.file_name().unwrap_or_default().display();
        record.notes.push(format!("`{name} --version` takes {:.1} ms, median", median(&took)));
    }
    Ok(())
}

/// `run --rm IMAGE true`, with both engines in turn.
async fn lives(record: &mut Record, options: &Options, clients: &Clients<'_>) -> Result<()> {
    let words = ["run", "--rm", &options.sides.image, "true"];
    alternate(record, options, "run", &words, clients).await
}

/// `exec CONTAINER true`.
async fn execs(record: &mut Record, options: &Options, clients: &Clients<'_>) -> Result<()> {
    for client in &clients.docker {
        client.output(&["run", "-d", "--name", TARGET, &options.sides.image, "sleep", "3600"])?;
    }
    alternate(record, options, "exec", &["exec", TARGET, "true"], clients).await?;
    for client in &clients.docker {
        client.output(&["rm", "-f", TARGET])?;
    }
    Ok(())
}

/// The command with the peer, with ours, and with our own client, one after the other.
async fn alternate(
    record: &mut Record,
    options: &Options,
    name: &str,
    words: &[&str],
    clients: &Clients<'_>,
) -> Result<()> {
    let own = format!("cais {name}");
    for round in 0..WARM_UP + options.rounds {
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let took = clients.docker[side].time(words, options.gap_ms).await?;
            if round < WARM_UP {
                continue;
            }
            record.add(side, name, took);
            match (side, &clients.cais) {
                (0, Some(cais)) => record.add(0, &own, cais.time(words, options.gap_ms).await?),
                (1, Some(_)) => record.add(1, &own, took),
                _ => {}
            }
        }
    }
    record.compare(&format!("docker {}", words.join(" ")), "ms", name);
    if clients.cais.is_some() {
        record.compare(&format!("cais {}, against docker's", words.join(" ")), "ms", &own);
    }
    Ok(())
}

/// `logs` of a container that has ended.
async fn logs(record: &mut Record, options: &Options, clients: &Clients<'_>) -> Result<()> {
    let line = "x".repeat(99);
    let talk = format!("yes {line} | head -c {}", options.log_mb * 1_000_000);
    for client in &clients.docker {
        client.output(&["run", "-d", "--name", TALKER, &options.sides.image, "sh", "-c", &talk])?;
        client.output(&["wait", TALKER])?;
        let size = client.output(&["logs", TALKER])?.len();
        if size != options.log_mb * 1_000_000 {
            return Err(format!("{}: a log of {size} bytes", client.engine.name).into());
        }
    }
    let rounds = Options { rounds: 5, ..options.clone() };
    alternate(record, &rounds, "logs", &["logs", TALKER], clients).await?;
    let mut speed = |what: &str, sample: &str| {
        let [ours, peer] =
            [0, 1].map(|side| options.log_mb as f64 * 1e3 / median(&record.sample(side, sample)));
        record.row(what.to_owned(), "MB/s", ours, peer);
    };
    speed("docker logs", "logs");
    if clients.cais.is_some() {
        speed("cais logs, against docker's", "cais logs");
    }
    for client in &clients.docker {
        client.output(&["rm", "-f", TALKER])?;
    }
    Ok(())
}

/// Memory while a number of containers run.
async fn stand(
    record: &mut Record,
    options: &Options,
    clients: &Clients<'_>,
    usages: &[Usage; 2],
) -> Result<()> {
    let mut sums = [0.0; 2];
    for ((client, usage), sum) in clients.docker.iter().zip(usages).zip(&mut sums) {
        let mut standing = Vec::new();
        for _ in 0..options.standing {
            let id = client.output(&["run", "-d", &options.sides.image, "sleep", "3600"])?;
            standing.push(id.trim().to_owned());
        }
        crate::lives::idle(Duration::from_secs(3)).await;
        let memory = memory::read(usage, client.engine.pid, options.standing)?;
        let mut groups = vec![("the daemon's program".to_owned(), &memory.daemon)];
        groups.extend(memory.helpers.iter().map(|(name, group)| (format!("`{name}`"), group)));
        for (name, group) in groups {
            *sum += group.pss as f64 / 1024.0;
            record.notes.push(format!(
                "{} with {} containers: {} processes of {name}, {} KiB PSS together",
                client.engine.name, options.standing, group.processes, group.pss,
            ));
        }
        for id in standing {
            client.output(&["rm", "-f", &id])?;
        }
    }
    let what = format!("PSS of all its processes with {} containers", options.standing);
    record.row(what, "MiB", sums[0], sums[1]);
    Ok(())
}

impl Client<'_> {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(words).stdin(Stdio::null());
        command.env("DOCKER_HOST", format!("unix://{}", self.engine.socket.display()));
        command
    }

    /// What it says; it must succeed.
    pub(crate) fn output(&self, words: &[&str]) -> Result<String> {
        let output = self.command(words).output().doing(self.program.display())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}: {}: {said}", self.engine.name, words.join(" ")).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Milliseconds from the client's start to its end. What it says is thrown away.
    pub(crate) async fn time(&self, words: &[&str], gap_ms: u64) -> Result<f64> {
        crate::lives::idle(Duration::from_millis(gap_ms)).await;
        let mut command = self.command(words);
        command.stdout(Stdio::null());
        let before = std::time::Instant::now();
        let status = command.status().doing(self.program.display())?;
        let took = before.elapsed();
        if !status.success() {
            return Err(format!("{}: {}: {status}", self.engine.name, words.join(" ")).into());
        }
        Ok(took.as_secs_f64() * 1e3)
    }
}
