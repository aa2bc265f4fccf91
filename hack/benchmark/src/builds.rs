//! Builds of two engines, by docker's own build client: each the same directory with the same words.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use crate::docker::Client;
use crate::record::Record;
use crate::statistics::median;
use crate::{Doing, Result, Sides};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    sides: Sides,
    /// Docker's client.
    #[arg(long)]
    docker: PathBuf,
    /// buildx, as a program of its own.
    #[arg(long)]
    buildx: PathBuf,
    /// Our own client; without it the peer is compared with itself.
    #[arg(long)]
    cais: Option<PathBuf>,
    /// Where both engines find a registry that has nothing, each one of its own: `host:port`.
    #[arg(long)]
    registry: String,
    /// Measured builds of each kind and engine.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A directory for contexts.
    #[arg(long)]
    scratch: PathBuf,
}

const STEPS: usize = 40;
/// Idle time before each build. Back to back, the kernel would hide waits for RCU.
const GAP: Duration = Duration::from_millis(200);
const NAME: &str = "bench-build";
/// The command tells, in the image, when its last byte was written: seconds since boot, in hundredths.
const LARGE: &str =
    "RUN head -c 1000000000 /dev/urandom > /large && cut -d' ' -f1 /proc/uptime > /ended\n";

const BUILDX: &[&str] = &["build", "--quiet", "--provenance=false"];
const CAIS: &[&str] = &["build", "--quiet"];

struct Build {
    row: &'static str,
    sample: &'static str,
    context: PathBuf,
    words: &'static [&'static str],
}

pub(crate) async fn compare(options: Options) -> Result<()> {
    let names = [options.sides.ours.name.clone(), options.sides.peer.name.clone()];
    let mut record = Record::new("Builds", names, options.sides.note.clone());
    record.parameter("rounds", options.rounds);
    record.parameter("client", "docker buildx build");
    let from = format!("FROM {}\n", options.sides.image);
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
    let engines = [&options.sides.ours, &options.sides.peer];
    let buildx = engines.map(|engine| Client { program: &options.buildx, engine });
    let docker = engines.map(|engine| Client { program: &options.docker, engine });
    let cais = options.cais.as_deref().map(|program| Client { program, engine: engines[0] });
    for build in &builds {
        measure(&mut record, options.rounds, build, &buildx, cais.as_ref()).await?;
    }
    large(&mut record, &options, &from, [&buildx, &docker]).await?;
    record
        .notes
        .push("the row of 1 GB and what buildx computes are told in steps of 10 ms".to_owned());
    for client in docker {
        client.output(&["builder", "prune", "--all", "--force"])?;
        client.output(&["rmi", "--force", NAME])?;
    }
    fs::remove_dir_all(&options.scratch)?;
    record.print();
    record.write(&options.sides.out)
}

/// From the end of a command that made much to the image, and from there to a registry.
async fn large(
    record: &mut Record,
    options: &Options,
    from: &str,
    [buildx, docker]: [&[Client<'_>; 2]; 2],
) -> Result<()> {
    let built = context(&options.scratch.join("large"), &format!("{from}{LARGE}"), 0)?;
    for round in 0..options.rounds.min(3) {
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            run(&buildx[side], BUILDX, &built, &["--no-cache"]).await?;
            let answered = uptime(&fs::read_to_string("/proc/uptime")?)?;
            let words = ["run", "--rm", NAME, "cat", "/ended"];
            let ended = uptime(&docker[side].output(&words)?)?;
            record.add(side, "large", (answered - ended) * 1e3);
            record.add(side, "push", push(&docker[side], &options.registry).await?);
        }
    }
    record.compare(
        "from the end of a command that made a layer of 1 GB to the image",
        "ms",
        "large",
    );
    record.compare(
        "docker push of a layer of 1 GB, compressed with gzip, to a registry that has nothing of it",
        "ms",
        "push",
    );
    Ok(())
}

/// Milliseconds until a registry has the image. Its largest layer was just made: no registry has seen it, nor was it compressed.
async fn push(client: &Client<'_>, registry: &str) -> Result<f64> {
    let name = format!("{registry}/bench/large");
    client.output(&["tag", NAME, &name])?;
    settle().await;
    let before = Instant::now();
    client.output(&["push", "--quiet", &name])?;
    let took = before.elapsed();
    client.output(&["rmi", &name])?;
    Ok(took.as_secs_f64() * 1e3)
}

/// What was left to be written of work before is not written in the time of what comes.
async fn settle() {
    rustix::fs::sync();
    crate::lives::idle(GAP).await;
}

/// Builds of one kind by buildx with both engines, and by our client with ours, against buildx with the peer.
async fn measure(
    record: &mut Record,
    rounds: usize,
    build: &Build,
    buildx: &[Client<'_>; 2],
    cais: Option<&Client<'_>>,
) -> Result<()> {
    let own_sample = format!("cais {}", build.sample);
    let mut of_client = Vec::new();
    // The first one fills caches, of whoever has one.
    for round in 0..=rounds {
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let before = children()?;
            let took = run(&buildx[side], BUILDX, &build.context, build.words).await?;
            let busy = children()? - before;
            let own = match (side, cais) {
                (0, Some(cais)) => run(cais, CAIS, &build.context, build.words).await?,
                (_, _) => took,
            };
            if round > 0 {
                of_client.push(busy);
                record.add(side, build.sample, took.as_secs_f64() * 1e3);
                record.add(side, &own_sample, own.as_secs_f64() * 1e3);
            }
        }
    }
    record.compare(build.row, "ms", build.sample);
    let row = build.row;
    if cais.is_some() {
        record.compare(&format!("{row}: cais build, against buildx"), "ms", &own_sample);
    }
    let middle = median(&of_client);
    record.notes.push(format!("{row}: buildx itself computes for {middle} ms, median"));
    Ok(())
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
    client: &Client<'_>,
    build: &[&str],
    context: &Path,
    words: &[&str],
) -> Result<Duration> {
    settle().await;
    let context = context.to_str().ok_or("a context that is no text")?;
    let before = Instant::now();
    let said = client.output(&[build, words, &["--tag", NAME, context]].concat())?;
    let took = before.elapsed();
    if !said.starts_with("sha256:") {
        return Err(format!("{}: no image but {said:?}", client.engine.name).into());
    }
    Ok(took)
}

/// Milliseconds for which the programs that have ended computed, proc_pid_stat(5): `cutime` and `cstime`.
fn children() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may have anything in it.
    let fields: Vec<&str> =
        text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> {
        fields.get(at).ok_or("a short /proc/self/stat")?.parse().doing("cutime and cstime")
    };
    Ok((ticks(13)? + ticks(14)?) * 10.0)
}

fn uptime(text: &str) -> Result<f64> {
    let seconds = text.split_whitespace().next().unwrap_or_default();
    seconds.parse().doing(format!("{text:?} is no time"))
}
