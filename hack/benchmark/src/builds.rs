//! Builds of two engines, by docker's own build client: each the same directory with the same words.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use crate::client::Engine;
use crate::record::Record;
use crate::{Doing, Result};

#[derive(Args)]
pub(crate) struct Options {
    /// NAME,SOCKET,PID,- of the engine in question.
    #[arg(long)]
    ours: Engine,
    /// The same of the engine to compare with.
    #[arg(long)]
    peer: Engine,
    /// Docker's client.
    #[arg(long)]
    docker: PathBuf,
    /// buildx, as a program of its own.
    #[arg(long)]
    buildx: PathBuf,
    /// The image, as both engines know it.
    #[arg(long)]
    image: String,
    /// Measured builds of each kind and engine.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A directory for contexts.
    #[arg(long)]
    scratch: PathBuf,
    /// Facts to keep in the record, such as versions of other programs.
    #[arg(long)]
    note: Vec<String>,
    /// The record to write.
    #[arg(long)]
    out: PathBuf,
}

const STEPS: usize = 40;
/// Idle time before each build. Back to back, the kernel would hide waits for RCU.
const GAP: Duration = Duration::from_millis(200);
const NAME: &str = "bench-build";
/// The command tells, in the image, when its last byte was written: seconds since boot, in hundredths.
const LARGE: &str =
    "RUN head -c 1000000000 /dev/urandom > /large && cut -d' ' -f1 /proc/uptime > /ended\n";

struct Build {
    row: &'static str,
    sample: &'static str,
    context: PathBuf,
    words: &'static [&'static str],
}

pub(crate) async fn compare(options: Options) -> Result<()> {
    let names = [options.ours.name.clone(), options.peer.name.clone()];
    let mut record = Record::new("Builds", names, options.note.clone());
    record.parameter("rounds", options.rounds);
    record.parameter("client", "docker buildx build");
    let from = format!("FROM {}\n", options.image);
    let mut steps = from.clone();
    for number in 1..STEPS {
        let _ = writeln!(steps, "RUN echo {number} > /{number}");
    }
    let builds = [
        Build {
            row: "nothing changed: 40 steps, a context of 10,000 files",
            sample: "no-op",
            context: context(
                &options.scratch.join("no-op"),
                &format!("{steps}COPY files /files\n"),
                10_000,
            )?,
            words: &[],
        },
        Build {
            row: "40 commands, nothing cached",
            sample: "commands",
            context: context(
                &options.scratch.join("commands"),
                &format!("{from}{}", "RUN true\n".repeat(STEPS)),
                0,
            )?,
            words: &["--no-cache"],
        },
        Build {
            row: "COPY of 20,000 files, nothing cached",
            sample: "copy",
            context: context(
                &options.scratch.join("copy"),
                &format!("{from}COPY files /files\n"),
                20_000,
            )?,
            words: &["--no-cache"],
        },
    ];
    let engines = [&options.ours, &options.peer];
    for build in &builds {
        // The first one fills caches, of whoever has one.
        for round in 0..=options.rounds {
            for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let took = run(&options, engines[side], &build.context, build.words).await?;
                if round > 0 {
                    record.add(side, build.sample, took.as_secs_f64() * 1e3);
                }
            }
        }
        record.compare(build.row, "ms", build.sample);
    }
    let large = context(&options.scratch.join("large"), &format!("{from}{LARGE}"), 0)?;
    for round in 0..options.rounds.min(3) {
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            run(&options, engines[side], &large, &["--no-cache"]).await?;
            let answered = uptime(&fs::read_to_string("/proc/uptime")?)?;
            let words = ["run", "--rm", NAME, "cat", "/ended"];
            let ended = uptime(&output(&options.docker, engines[side], &words)?)?;
            record.add(side, "large", (answered - ended) * 1e3);
        }
    }
    record.compare(
        "from the end of a command that made a layer of 1 GB to the image",
        "ms",
        "large",
    );
    record.notes.push("the last row has a resolution of 10 ms".to_owned());
    for engine in engines {
        output(&options.docker, engine, &["builder", "prune", "--all", "--force"])?;
        output(&options.docker, engine, &["rmi", "--force", NAME])?;
    }
    fs::remove_dir_all(&options.scratch)?;
    record.print();
    record.write(&options.out)
}

/// A directory with a Dockerfile and so many small files below `files`.
fn context(directory: &Path, dockerfile: &str, files: usize) -> Result<PathBuf> {
    fs::create_dir_all(directory)?;
    write(&directory.join("Dockerfile"), dockerfile)?;
    for number in 0..files {
        let below = directory.join(format!("files/{}", number / 200));
        if number % 200 == 0 {
            fs::create_dir_all(&below)?;
        }
        let text = format!("{number}\n").repeat(1 + number % 300);
        write(&below.join(number.to_string()), &text)?;
    }
    Ok(directory.to_owned())
}

/// Nobody reads it meanwhile.
fn write(path: &Path, text: &str) -> Result<()> {
    Ok(fs::File::create(path)?.write_all(text.as_bytes())?)
}

async fn run(
    options: &Options,
    engine: &Engine,
    context: &Path,
    words: &[&str],
) -> Result<Duration> {
    crate::lives::idle(GAP).await;
    let mut command = Command::new(&options.buildx);
    command
        .args(["build", "--quiet", "--provenance=false", "--tag", NAME])
        .args(words)
        .arg(context);
    let before = Instant::now();
    let said = finish(command, engine)?;
    let took = before.elapsed();
    if !said.starts_with("sha256:") {
        return Err(format!("{}: no image but {said:?}", engine.name).into());
    }
    Ok(took)
}

fn output(program: &Path, engine: &Engine, words: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(words);
    finish(command, engine)
}

fn finish(mut command: Command, engine: &Engine) -> Result<String> {
    command.stdin(Stdio::null()).env("DOCKER_HOST", format!("unix://{}", engine.socket.display()));
    let output = command.output().doing(format!("{command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {command:?}: {said}", engine.name).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn uptime(text: &str) -> Result<f64> {
    let seconds = text.split_whitespace().next().unwrap_or_default();
    seconds.parse().doing(format!("{text:?} is no time"))
}
