//! The calls that a node makes all day: lists and statistics of many containers, and short commands in one of them.

use std::time::{Duration, Instant};

use clap::Args;

use crate::client::Client;
use crate::record::Record;
use crate::statistics::mean;
use crate::usage::Usage;
use crate::{Doing, Result, Sides, lives};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    sides: Sides,
    /// Pods that stand.
    #[arg(long, default_value_t = 50)]
    pods: usize,
    /// Running containers of each.
    #[arg(long, default_value_t = 10)]
    containers: usize,
    /// Measured calls of each kind and engine.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Idle time before each call: kubelet lists once a second.
    #[arg(long, default_value_t = 20)]
    gap_ms: u64,
}

struct Side {
    client: Client,
    usage: Usage,
    pods: Vec<String>,
    /// The container that commands are run in.
    target: String,
}

/// What is called: the row's name, and the sample's.
const CALLS: [(&str, &str); 6] = [
    ("Version", "version"),
    ("ListPodSandbox", "pods"),
    ("ListContainers", "containers"),
    ("ListContainerStats", "container stats"),
    ("ListPodSandboxStats", "pod stats"),
    ("ExecSync /bin/true", "exec"),
];

pub(crate) async fn compare(options: Options) -> Result<()> {
    let Options { sides, pods, containers, rounds, gap_ms } = options;
    let names = [sides.ours.name.clone(), sides.peer.name.clone()];
    let mut record = Record::new("Lists, statistics and commands", names, sides.note);
    record.parameter("pods", pods);
    record.parameter("containers", pods * containers);
    record.parameter("rounds", rounds);
    record.parameter("gap", format!("{gap_ms} ms"));
    record.parameter("image", &sides.image);
    let mut pair = [
        stand(&mut record, sides.ours, &sides.image, pods, containers).await?,
        stand(&mut record, sides.peer, &sides.image, pods, containers).await?,
    ];
    let gap = Duration::from_millis(gap_ms);
    for round in 0..rounds {
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            calls(&mut record, side, &mut pair[side], gap).await?;
        }
    }
    for (name, sample) in CALLS {
        record.compare(name, "ms", sample);
        let cpu = format!("{sample} cpu");
        let [ours, peer] = [0, 1].map(|side| mean(&record.sample(side, &cpu)));
        record.row(format!("{name}, CPU time, mean"), "ms", ours, peer);
    }
    record.compare("ListContainers + ListContainerStats", "ms", "look");
    for side in pair {
        side.fall().await?;
    }
    record.print();
    record.write(&sides.out)
}

async fn stand(
    record: &mut Record,
    engine: crate::client::Engine,
    image: &str,
    pods: usize,
    containers: usize,
) -> Result<Side> {
    let usage = Usage::follow(&engine)?;
    let mut client = Client::connect(engine, image).await?;
    let version = client.version().await?;
    record.notes.push(format!("{}: {version}", client.engine.name));
    client.pull().await?;
    let mut side = Side { client, usage, pods: Vec::new(), target: String::new() };
    for _ in 0..pods {
        let started = side.client.start_pod().await?;
        for number in 1..containers {
            side.client.add_container(&started.pod, number).await?;
        }
        side.target = started.container;
        side.pods.push(started.pod);
    }
    eprintln!("{}: {pods} pods with {containers} containers each stand", side.client.engine.name);
    lives::idle(Duration::from_secs(2)).await;
    let counted = side.client.list_container_stats().await?;
    if counted < pods * containers {
        let name = &side.client.engine.name;
        return Err(format!("{name}: statistics of {counted} containers only").into());
    }
    Ok(side)
}

async fn calls(record: &mut Record, number: usize, side: &mut Side, gap: Duration) -> Result<()> {
    let mut look = 0.0;
    for (_, sample) in CALLS {
        lives::idle(gap).await;
        let cpu = side.usage.seconds()?;
        let before = Instant::now();
        match sample {
            "version" => side.client.version().await?.len(),
            "pods" => side.client.list_pods().await?,
            "containers" => side.client.list_containers().await?,
            "container stats" => side.client.list_container_stats().await?,
            "pod stats" => side.client.list_pod_stats().await?,
            _ => side.client.exec_true(&side.target).await?,
        };
        let took = before.elapsed();
        let cpu = side.usage.seconds()? - cpu;
        let took = took.as_secs_f64() * 1e3;
        record.add(number, sample, took);
        if matches!(sample, "containers" | "container stats") {
            look += took;
        }
        record.add(number, &format!("{sample} cpu"), cpu * 1e3);
    }
    record.add(number, "look", look);
    Ok(())
}

impl Side {
    async fn fall(mut self) -> Result<()> {
        for pod in std::mem::take(&mut self.pods) {
            self.client.end_pod(pod).await.doing("end the standing pods")?;
        }
        Ok(())
    }
}
