//! Compose projects on two engines: brought up, up already, and taken down by docker compose, and by ours beside it.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::docker::Client;
use crate::record::Record;
use crate::statistics::median;
use crate::{Result, Sides};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    sides: Sides,
    /// docker compose, as a program of its own.
    #[arg(long)]
    compose: PathBuf,
    /// Our own client; without it the peer is compared with itself.
    #[arg(long)]
    cais: Option<PathBuf>,
    /// Measured lives of each project and engine.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Idle time before each command. Back to back, the kernel would hide waits for RCU.
    #[arg(long, default_value_t = 200)]
    gap_ms: u64,
    /// A directory for the files of the projects.
    #[arg(long)]
    scratch: PathBuf,
}

const SERVICES: usize = 10;

/// What is measured of a project, in the order of its life.
const ACTS: [(&str, &[&str]); 3] = [
    ("up -d", &["up", "-d"]),
    ("up -d of what is up", &["up", "-d"]),
    ("down", &["down", "-t", "0"]),
];

/// A client, and the words before those of compose.
struct Program<'a> {
    client: Client<'a>,
    before: &'static [&'static str],
}

pub(crate) async fn compare(options: Options) -> Result<()> {
    let names = [options.sides.ours.name.clone(), options.sides.peer.name.clone()];
    let mut record = Record::new("Compose projects", names, options.sides.note.clone());
    record.parameter("rounds", options.rounds);
    record.parameter("gap", format!("{} ms", options.gap_ms));
    let of = |program, engine, before| Program { client: Client { program, engine }, before };
    let engines = [&options.sides.ours, &options.sides.peer];
    let theirs = engines.map(|engine| of(&options.compose, engine, &[]));
    let ours = options.cais.as_deref().map(|it| of(it, engines[0], &["compose"]));
    record.parameter("client", theirs[1].client.output(&["version"])?.trim());
    let (mut alone, config) = (Vec::new(), project(&options, 1)?);
    for _ in 0..=options.rounds {
        let words = ["-f", config.to_str().ok_or("a file that is no text")?, "config", "--quiet"];
        alone.push(theirs[1].client.time(&words, options.gap_ms).await?);
    }
    record.notes.push(format!(
        "docker compose takes {:.1} ms, median, to read such a file (`config --quiet`), without a daemon",
        median(&alone)
    ));
    for (what, instances) in [("10 services", 1), ("50 instances of 10 services", 5)] {
        let file = project(&options, instances)?;
        let sample = |client: &str, act: &str| format!("{client} {act}, {what}");
        // The first one fills caches, of whoever has one.
        for round in 0..=options.rounds {
            for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let took = life(&options, &theirs[side], &file, instances).await?;
                let own = match (side, &ours) {
                    (0, Some(ours)) => Some(life(&options, ours, &file, instances).await?),
                    (_, Some(_)) => Some(took),
                    (_, None) => None,
                };
                if round == 0 {
                    continue;
                }
                for (at, (act, _)) in ACTS.iter().enumerate() {
                    record.add(side, &sample("docker compose", act), took[at]);
                    if let Some(own) = own {
                        record.add(side, &sample("cais compose", act), own[at]);
                    }
                }
            }
        }
        for (act, _) in ACTS {
            let name = sample("docker compose", act);
            record.compare(&name, "ms", &name);
            if ours.is_some() {
                let name = sample("cais compose", act);
                record.compare(&format!("{name}, against docker compose"), "ms", &name);
            }
        }
    }
    fs::remove_dir_all(&options.scratch)?;
    record.print();
    record.write(&options.sides.out)
}

/// Milliseconds of each act of a project's life.
async fn life(
    options: &Options,
    program: &Program<'_>,
    file: &Path,
    instances: usize,
) -> Result<[f64; ACTS.len()]> {
    let file = file.to_str().ok_or("a file that is no text")?;
    let words = |act: &[&'static str]| -> Vec<&str> {
        [program.before, &["-p", "bench", "-f"]]
            .concat()
            .into_iter()
            .chain([file])
            .chain(act.iter().copied())
            .collect()
    };
    let mut took = [0.0; ACTS.len()];
    for (took, (act, own)) in took.iter_mut().zip(ACTS) {
        *took = program.client.time(&words(own), options.gap_ms).await?;
        let running = program.client.output(&words(&["ps", "-q"]))?.lines().count();
        let wanted = if act == "down" { 0 } else { SERVICES * instances };
        if running != wanted {
            return Err(format!(
                "{}: {running} containers after {act}",
                program.client.engine.name
            )
            .into());
        }
    }
    Ok(took)
}

/// What the containers do is end at once.
fn project(options: &Options, instances: usize) -> Result<PathBuf> {
    fs::create_dir_all(&options.scratch)?;
    let path = options.scratch.join(format!("{instances}.yaml"));
    let mut text = "services:\n".to_owned();
    for number in 0..SERVICES {
        let image = &options.sides.image;
        let _ = writeln!(
            text,
            "  s{number}: {{image: {image:?}, pull_policy: never, command: sleep 3600, stop_signal: SIGKILL, scale: {instances}}}"
        );
    }
    fs::File::create(&path)?.write_all(text.as_bytes())?;
    Ok(path)
}
