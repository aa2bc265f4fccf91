//! Lives of pods: how long each call takes, what a life costs, what a pod keeps.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::client::Client;
use crate::execs::Trace;
use crate::record::Record;
use crate::statistics::{mean, median};
use crate::usage::Usage;
use crate::{Result, Sides, memory};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    sides: Sides,
    /// Measured lives of each engine.
    #[arg(long, default_value_t = 100)]
    pods: usize,
    /// Idle time before each start and each stop. Back to back, the kernel would hide waits for RCU.
    #[arg(long, default_value_t = 50)]
    gap_ms: u64,
    /// Pods that run at once while memory is read.
    #[arg(long, default_value_t = 50)]
    standing: usize,
    /// A mounted tracefs, to count executed programs.
    #[arg(long)]
    tracefs: Option<PathBuf>,
}

const WARM_UP: usize = 3;
const TRACED: usize = 10;

struct Side {
    client: Client,
    usage: Usage,
}

pub(crate) async fn compare(options: Options) -> Result<()> {
    let Options { sides, pods, gap_ms, standing, tracefs } = options;
    let gap = Duration::from_millis(gap_ms);
    let names = [sides.ours.name.clone(), sides.peer.name.clone()];
    let mut record = Record::new("Pod start and stop", names, sides.note);
    record.parameter("pods", pods);
    record.parameter("gap", format!("{gap_ms} ms"));
    record.parameter("image", &sides.image);
    let mut pair = [
        Side {
            usage: Usage::follow(&sides.ours)?,
            client: Client::connect(sides.ours, &sides.image).await?,
        },
        Side {
            usage: Usage::follow(&sides.peer)?,
            client: Client::connect(sides.peer, &sides.image).await?,
        },
    ];
    for side in &mut pair {
        let version = side.client.version().await?;
        record.notes.push(format!("{}: {version}", side.client.engine.name));
        side.client.pull().await?;
        for _ in 0..WARM_UP {
            let started = side.client.start_pod().await?;
            side.client.end_pod(started.pod).await?;
        }
    }
    for block in 0..pods.div_ceil(2) {
        for side in [0, 1, 1, 0] {
            live(&mut record, side, &mut pair[side], gap).await?;
        }
        if block % 10 == 9 {
            eprintln!("{} of {pods} pods each", 2 * (block + 1));
        }
    }
    calls(&mut record);
    stand(&mut record, &mut pair, standing).await?;
    if let Some(tracefs) = tracefs {
        executions(&mut record, &mut pair, &tracefs).await?;
    }
    record.print();
    record.write(&sides.out)
}

/// One life; its samples go into the record.
async fn live(record: &mut Record, side: usize, of: &mut Side, gap: Duration) -> Result<()> {
    let before = of.usage.seconds()?;
    let started = of.client.start_pod().await?;
    idle(gap).await;
    let (stop, remove) = of.client.end_pod(started.pod).await?;
    // In the gap an engine does what it put off: it counts for this life.
    idle(gap).await;
    let cpu = of.usage.seconds()? - before;
    let samples = [
        ("RunPodSandbox", started.run),
        ("CreateContainer", started.create),
        ("StartContainer", started.start),
        ("start", started.run + started.create + started.start),
        ("StopPodSandbox", stop),
        ("RemovePodSandbox", remove),
        ("stop", stop + remove),
    ];
    for (name, time) in samples {
        record.add(side, name, time.as_secs_f64() * 1e3);
    }
    record.add(side, "cpu", cpu * 1e3);
    Ok(())
}

fn calls(record: &mut Record) {
    record.compare("start: Run + Create + Start", "ms", "start");
    record.compare("stop: Stop + Remove", "ms", "stop");
    let calls = [
        "RunPodSandbox",
        "CreateContainer",
        "StartContainer",
        "StopPodSandbox",
        "RemovePodSandbox",
    ];
    for call in calls {
        record.compare(call, "ms", call);
    }
    let [ours, peer] = [0, 1].map(|side| mean(&record.sample(side, "cpu")));
    record.row("CPU time per pod life, mean".into(), "ms", ours, peer);
}

/// Memory while a number of pods stand.
async fn stand(record: &mut Record, pair: &mut [Side; 2], pods: usize) -> Result<()> {
    let mut read = Vec::new();
    for side in pair.iter_mut() {
        let mut standing = Vec::new();
        let mut start = Vec::new();
        for _ in 0..pods {
            let started = side.client.start_pod().await?;
            start.push((started.run + started.create + started.start).as_secs_f64() * 1e3);
            standing.push(started.pod);
        }
        idle(Duration::from_secs(2)).await;
        let memory = memory::read(&side.usage, side.client.engine.pid, pods)?;
        for pod in standing {
            side.client.end_pod(pod).await?;
        }
        for (name, group) in &memory.helpers {
            record.notes.push(format!(
                "{}: {} processes `{name}` with {pods} pods, {} KiB private and {} KiB PSS each",
                side.client.engine.name,
                group.processes,
                group.private / group.processes.max(1) as u64,
                group.pss / group.processes.max(1) as u64,
            ));
        }
        read.push((memory, median(&start)));
    }
    if let [(ours, ours_start), (peer, peer_start)] = read.as_slice() {
        let (a, b) = (ours.private_per_pod(), peer.private_per_pod());
        record.row("private memory of helpers per pod".into(), "KiB", a, b);
        let (a, b) = (ours.daemon.pss as f64 / 1024.0, peer.daemon.pss as f64 / 1024.0);
        record.row(format!("daemon PSS with {pods} pods"), "MiB", a, b);
        record.row("start without gaps, median".into(), "ms", *ours_start, *peer_start);
    }
    Ok(())
}

async fn executions(
    record: &mut Record,
    pair: &mut [Side; 2],
    tracefs: &std::path::Path,
) -> Result<()> {
    let mut per_pod = [0.0; 2];
    for (side, per_pod) in pair.iter_mut().zip(&mut per_pod) {
        let trace = Trace::of(tracefs, &side.usage.processes()?)?;
        for _ in 0..TRACED {
            let started = side.client.start_pod().await?;
            side.client.end_pod(started.pod).await?;
        }
        idle(Duration::from_millis(500)).await;
        let programs = trace.count()?;
        *per_pod = programs.values().sum::<usize>() as f64 / TRACED as f64;
        let listed: Vec<String> =
            programs.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let name = &side.client.engine.name;
        record.notes.push(format!("{name}: executed in {TRACED} pods: {}", listed.join(", ")));
    }
    record.row("programs executed per pod life".into(), "", per_pod[0], per_pod[1]);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the idle time is part of what is measured")]
pub(crate) async fn idle(time: Duration) {
    tokio::time::sleep(time).await;
}
