//! Builds of two engines, by docker's own build client: each the same directory with the same words. By our own client against
//! buildah, too, which is its own engine.

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
    /// buildah, to be compared with our own client.
    #[arg(long, requires = "cais")]
    buildah: Option<PathBuf>,
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

/// As much that can be compressed: copies of a program, of which gzip sees one at a time.
const PROGRAMS: &str =
    "RUN mkdir /programs && for n in $(seq 1300); do cp /bin/busybox /programs/$n; done\n";

const BUILDX: &[&str] = &["build", "--quiet", "--provenance=false"];
const CAIS: &[&str] = &["build", "--quiet"];
/// Each step is kept, as the others do by themselves; what a command may have of the network is as with them.
const BUILDAH: &[&str] = &["build", "--quiet", "--layers"];

const AGAINST_BUILDAH: &str = "cais build, against buildah";

struct Build {
    row: &'static str,
    sample: &'static str,
    context: PathBuf,
    words: &'static [&'static str],
}

/// Clients of no other engine than theirs.
struct Own<'a> {
    cais: Option<Client<'a>>,
    /// Its engine is of no meaning.
    buildah: Option<Client<'a>>,
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
    let own = Own {
        cais: options.cais.as_deref().map(|program| Client { program, engine: engines[0] }),
        buildah: options.buildah.as_deref().map(|program| Client { program, engine: engines[1] }),
    };
    for build in &builds {
        measure(&mut record, options.rounds, build, &buildx, &own).await?;
    }
    large(&mut record, &options, &from, [&buildx, &docker], &own).await?;
    if let Some(buildah) = &own.buildah {
        record.notes.push("buildah builds with `--layers`, so that it keeps each step".to_owned());
        buildah.output(&["rmi", "--all", "--force"])?;
    }
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
    own: &Own<'_>,
) -> Result<()> {
    let built = context(&options.scratch.join("large"), &format!("{from}{LARGE}"), 0)?;
    let programs = context(&options.scratch.join("programs"), &format!("{from}{PROGRAMS}"), 0)?;
    let shown = ["run", "--rm", NAME, "cat", "/ended"];
    for round in 0..options.rounds.min(3) {
        for turn in turns(round) {
            match turn {
                Turn::Buildx(side) => {
                    let took =
                        to_image(&buildx[side], BUILDX, &built, || docker[side].output(&shown));
                    record.add(side, "large", took.await?);
                    record.add(side, "push", push(&docker[side], &options.registry).await?);
                    run(&buildx[side], BUILDX, &programs, &["--no-cache"]).await?;
                    let took = push(&docker[side], &options.registry).await?;
                    record.add(side, "push programs", took);
                }
                Turn::Own => {
                    let Own { cais: Some(cais), buildah: Some(buildah) } = own else { continue };
                    let took = to_image(cais, CAIS, &built, || docker[0].output(&shown));
                    record.add(0, "buildah large", took.await?);
                    let took = to_image(buildah, BUILDAH, &built, || read_ended(buildah));
                    record.add(1, "buildah large", took.await?);
                }
            }
        }
    }
    let row = "from the end of a command that made a layer of 1 GB to the image";
    record.compare(row, "ms", "large");
    if own.buildah.is_some() {
        record.compare(&format!("{row}: {AGAINST_BUILDAH}"), "ms", "buildah large");
    }
    let row = "compressed with gzip, to a registry that has nothing of it";
    record.compare(&format!("docker push of a layer of 1 GB of noise, {row}"), "ms", "push");
    let programs = format!("docker push of a layer of 1 GB of programs, {row}");
    record.compare(&programs, "ms", "push programs");
    Ok(())
}

/// Milliseconds from the end of the command to that of the build; `ended` reads in the image when that was.
async fn to_image(
    client: &Client<'_>,
    build: &[&str],
    context: &Path,
    ended: impl Fn() -> Result<String>,
) -> Result<f64> {
    run(client, build, context, &["--no-cache"]).await?;
    let answered = uptime(&fs::read_to_string("/proc/uptime")?)?;
    Ok((answered - uptime(&ended()?)?) * 1e3)
}

fn read_ended(buildah: &Client<'_>) -> Result<String> {
    let container = buildah.output(&["from", "--quiet", "--pull-never", NAME])?;
    let ended = buildah.output(&["run", container.trim(), "cat", "/ended"])?;
    buildah.output(&["rm", container.trim()])?;
    Ok(ended)
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

/// Whose turn it is.
#[derive(Clone, Copy)]
enum Turn {
    /// With one of the two engines.
    Buildx(usize),
    /// Each with its own.
    Own,
}

/// Of one round. A drift of the machine meets all alike.
fn turns(round: usize) -> [Turn; 3] {
    let mut turns = [Turn::Buildx(0), Turn::Own, Turn::Buildx(1)];
    if round % 2 == 1 {
        turns.reverse();
    }
    turns
}

/// Builds of one kind by buildx with both engines, by our client with ours, against buildx with the peer, and by buildah.
async fn measure(
    record: &mut Record,
    rounds: usize,
    build: &Build,
    buildx: &[Client<'_>; 2],
    own: &Own<'_>,
) -> Result<()> {
    let Build { row, sample, context, words } = build;
    let [of_cais, of_buildah] = ["cais", "buildah"].map(|client| format!("{client} {sample}"));
    let mut of_client = Vec::new();
    // The first one fills caches, of whoever has one.
    for round in 0..=rounds {
        let mut took: Vec<(usize, &str, Duration)> = Vec::new();
        for turn in turns(round) {
            match turn {
                Turn::Buildx(side) => {
                    let before = children()?;
                    let time = run(&buildx[side], BUILDX, context, words).await?;
                    if round > 0 {
                        of_client.push(children()? - before);
                    }
                    took.push((side, sample, time));
                    if side == 1 {
                        took.push((1, &of_cais, time));
                    }
                }
                Turn::Own => {
                    let Some(cais) = &own.cais else { continue };
                    let time = run(cais, CAIS, context, words).await?;
                    took.push((0, &of_cais, time));
                    let Some(buildah) = &own.buildah else { continue };
                    took.push((0, &of_buildah, time));
                    took.push((1, &of_buildah, run(buildah, BUILDAH, context, words).await?));
                }
            }
        }
        if round > 0 {
            for (side, sample, time) in took {
                record.add(side, sample, time.as_secs_f64() * 1e3);
            }
        }
    }
    record.compare(row, "ms", sample);
    if own.cais.is_some() {
        record.compare(&format!("{row}: cais build, against buildx"), "ms", &of_cais);
    }
    if own.buildah.is_some() {
        record.compare(&format!("{row}: {AGAINST_BUILDAH}"), "ms", &of_buildah);
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
    // buildah tells the digest alone.
    let id = said.trim().trim_start_matches("sha256:");
    if id.len() != 64 || id.contains(|it: char| !it.is_ascii_hexdigit()) {
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
