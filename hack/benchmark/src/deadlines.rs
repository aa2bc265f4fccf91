//! The four calls that kubeadm gives two seconds each, while the engine pulls and creates as much as it can.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Args;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::{Client, Engine};
use crate::record::Record;
use crate::statistics::per_mille;
use crate::{Result, Sides};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    sides: Sides,
    /// Images that are pulled at once: this name with the numbers from 1 on. When all are there, they are removed and
    /// pulled again.
    #[arg(long)]
    pulled: String,
    /// How many.
    #[arg(long, default_value_t = 50)]
    pulls: usize,
    /// Containers that are created at once. When all are there, they are removed and created again.
    #[arg(long, default_value_t = 200)]
    creates: usize,
    /// Pods that they are in.
    #[arg(long, default_value_t = 20)]
    pods: usize,
    /// Measured calls of each kind.
    #[arg(long, default_value_t = 1000)]
    calls: usize,
    /// Those of the peer, which has no promise to keep and may take many times as long.
    #[arg(long, default_value_t = 50)]
    peer_calls: usize,
}

const CALLS: [&str; 4] = ["Status", "ImageStatus", "StopPodSandbox", "RemovePodSandbox"];

/// Clients that make pods to be ended.
const MAKERS: usize = 10;

/// What the load did while calls were measured.
#[derive(Default)]
struct Done {
    pulls: AtomicUsize,
    creates: AtomicUsize,
}

pub(crate) async fn compare(options: Options) -> Result<()> {
    let Options { sides, pulled, pulls, creates, pods, calls, peer_calls } = options;
    let peer_calls = peer_calls.min(calls);
    let names = [sides.ours.name.clone(), sides.peer.name.clone()];
    let mut record = Record::new("kubeadm's calls under load", names, sides.note);
    record.parameter("pulls at once", pulls);
    record.parameter("creates at once", creates);
    record.parameter("calls", format!("{calls}, of the peer {peer_calls}"));
    record.parameter("image", &sides.image);
    let images: Vec<String> = (1..=pulls).map(|number| format!("{pulled}{number}")).collect();
    for (side, (engine, calls)) in
        [(sides.ours, calls), (sides.peer, peer_calls)].into_iter().enumerate()
    {
        let mut client = Client::connect(engine.clone(), &sides.image).await?;
        let version = client.version().await?;
        client.pull().await?;
        let done = Arc::new(Done::default());
        let mut standing = Standing::start(engine.clone(), &sides.image, pods).await?;
        let load = async {
            tokio::try_join!(
                pull_for_ever(&engine, &images, &done),
                standing.create_for_ever(creates, &done)
            )
        };
        // The load ends only by an error, or when enough is measured.
        let measured = tokio::select! {
            measured = measure(&mut record, side, &mut client, calls) => measured,
            failed = load => failed.map(|(never, _)| match never {}),
        };
        standing.fall().await?;
        remove(&engine, &images).await?;
        measured?;
        let (pulls, creates) =
            (done.pulls.load(Ordering::Relaxed), done.creates.load(Ordering::Relaxed));
        record.notes.push(format!(
            "{}: {version}; {pulls} pulls and {creates} creates were done meanwhile",
            engine.name
        ));
    }
    for call in CALLS {
        record.compare(call, "ms", call);
        let [ours, peer] = [0, 1].map(|side| record.sample(side, call));
        let mut row = |what: &str, rank: usize| {
            let what = format!("{call}, {what}");
            record.row(what, "ms", per_mille(&ours, rank), per_mille(&peer, rank));
        };
        // Of fewer than a thousand it is the largest.
        row("p99.9", 999);
        row("largest", 1000);
    }
    record.print();
    record.write(&sides.out)
}

/// A pod each time, for what can be stopped and removed once only. Their starts are not measured: among so much else
/// each takes a second, so several clients make them ahead.
async fn measure(
    record: &mut Record,
    side: usize,
    client: &mut Client,
    calls: usize,
) -> Result<()> {
    let (made, mut pods) = mpsc::channel(MAKERS);
    let mut makers = JoinSet::new();
    for maker in 0..MAKERS {
        let mut client = client.another().await?;
        client.set_apart(&format!("ended-{maker}"));
        let made = made.clone();
        makers.spawn(async move {
            for _ in (maker..calls).step_by(MAKERS) {
                let started = client.start_pod().await?;
                made.send(started.pod).await?;
            }
            Result::Ok(())
        });
    }
    drop(made);
    let mut number = 0;
    while let Some(pod) = pods.recv().await {
        let mut add = |call: &str, took: Duration| record.add(side, call, took.as_secs_f64() * 1e3);
        add("Status", client.status().await?);
        add("ImageStatus", client.image_status().await?);
        let (stop, remove) = client.end_pod(pod).await?;
        add("StopPodSandbox", stop);
        add("RemovePodSandbox", remove);
        number += 1;
        if number % 100 == 0 {
            eprintln!("{}: {number} of {calls}", client.engine.name);
        }
    }
    all(makers).await
}

async fn pull_for_ever(engine: &Engine, images: &[String], done: &Arc<Done>) -> Result<Infallible> {
    loop {
        let mut pulls = JoinSet::new();
        for image in images {
            let mut client = Client::connect(engine.clone(), image).await?;
            let done = Arc::clone(done);
            pulls.spawn(async move {
                client.pull().await?;
                done.pulls.fetch_add(1, Ordering::Relaxed);
                Result::Ok(())
            });
        }
        all(pulls).await?;
        remove(engine, images).await?;
    }
}

async fn remove(engine: &Engine, images: &[String]) -> Result<()> {
    for image in images {
        Client::connect(engine.clone(), image).await?.remove_image().await?;
    }
    Ok(())
}

async fn all(mut calls: JoinSet<Result<()>>) -> Result<()> {
    while let Some(call) = calls.join_next().await {
        call??;
    }
    Ok(())
}

/// Pods that containers are created in, each with a connection of its own.
struct Standing {
    pods: Vec<(Client, String)>,
    round: usize,
}

impl Standing {
    async fn start(engine: Engine, image: &str, pods: usize) -> Result<Self> {
        let mut standing = Self { pods: Vec::new(), round: 0 };
        for number in 0..pods {
            let mut client = Client::connect(engine.clone(), image).await?;
            client.set_apart(&format!("load-{number}"));
            let started = client.start_pod().await?;
            standing.pods.push((client, started.pod));
        }
        Ok(standing)
    }

    async fn create_for_ever(&mut self, creates: usize, done: &Arc<Done>) -> Result<Infallible> {
        loop {
            self.round += 1;
            let mut calls = JoinSet::new();
            for number in 0..creates {
                let (client, pod) = &self.pods[number % self.pods.len()];
                let (mut client, pod, done) = (client.clone(), pod.clone(), Arc::clone(done));
                let name = format!("made-{}-{number}", self.round);
                calls.spawn(async move {
                    let container = client.create_container(&pod, &name).await?;
                    done.creates.fetch_add(1, Ordering::Relaxed);
                    client.remove_container(container).await
                });
            }
            all(calls).await?;
        }
    }

    async fn fall(self) -> Result<()> {
        for (mut client, pod) in self.pods {
            client.end_pod(pod).await?;
        }
        Ok(())
    }
}
