//! Pull and unpack of one image, and what it takes until its data is on the disk.

use std::fs::File;
use std::path::PathBuf;
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
    /// Measured pulls of each engine.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A directory on the file system where both keep their images.
    #[arg(long)]
    disk: PathBuf,
}

pub(crate) async fn compare(options: Options) -> Result<()> {
    let Options { sides, rounds, disk } = options;
    let disk = File::open(&disk).doing(disk.display())?;
    let names = [sides.ours.name.clone(), sides.peer.name.clone()];
    let mut record = Record::new("Pull and unpack", names, sides.note);
    record.parameter("rounds", rounds);
    record.parameter("image", &sides.image);
    let usages = [Usage::follow(&sides.ours)?, Usage::follow(&sides.peer)?];
    let mut clients = [
        Client::connect(sides.ours, &sides.image).await?,
        Client::connect(sides.peer, &sides.image).await?,
    ];
    for client in &mut clients {
        let version = client.version().await?;
        record.notes.push(format!("{}: {version}", client.engine.name));
        // Also reads the registry's blobs into the page cache, for both.
        client.pull().await?;
        client.remove_image().await?;
    }
    for round in 0..rounds {
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            settle(&disk).await?;
            let before = usages[side].seconds()?;
            let pull = clients[side].pull().await?;
            let cpu = usages[side].seconds()? - before;
            let synced = Instant::now();
            rustix::fs::syncfs(&disk).doing("sync the disk")?;
            let sync = synced.elapsed();
            clients[side].remove_image().await?;
            record.add(side, "pull", pull.as_secs_f64());
            record.add(side, "durable", (pull + sync).as_secs_f64());
            record.add(side, "cpu", cpu);
            eprintln!(
                "{}: {:.2} s, then {:.2} s of sync",
                record.sides[side],
                pull.as_secs_f64(),
                sync.as_secs_f64()
            );
        }
    }
    record.compare("pull and unpack", "s", "pull");
    record.compare("pull, unpack and sync the disk after it", "s", "durable");
    let [ours, peer] = [0, 1].map(|side| mean(&record.sample(side, "cpu")));
    record.row("CPU time of a pull, mean".into(), "s", ours, peer);
    record.notes.push(SYNC.to_owned());
    record.print();
    record.write(&sides.out)
}

const SYNC: &str = "The first row ends with the engine's answer. Cais syncs what it unpacked before it answers; containerd syncs each \
     compressed blob and its database, but nothing that it unpacked. The second row adds a sync of the whole file \
     system, made by the benchmark right after the answer, for both.";

/// Leaves no work of the last round to this one.
async fn settle(disk: &File) -> Result<()> {
    rustix::fs::syncfs(disk).doing("sync the disk")?;
    lives::idle(Duration::from_millis(500)).await;
    Ok(())
}
