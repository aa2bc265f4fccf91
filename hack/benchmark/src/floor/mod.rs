//! The floor: the system calls of one pod with one container, hard-coded, without an engine.
//!
//! ```text
//!   parent                                    child (new net, mount, pid, ipc, uts)
//!     cgroups with limits, overlay
//!     clone3 ─────────────────────────────────▶ join cgroups, mounts, pivot_root
//!     veth: bridge ↔ the child's netns ───────▶ address, route; capabilities, filter
//!     end of the pipe: started ◀─────────────── execve /bin/true
//!     wait, remove cgroups and the layer
//! ```
//! No monitor, no records, no log, no gRPC: what is left is the kernel's price. Forks, so it runs without threads.

mod filter;
mod host;
mod inside;
mod network;

use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use self::host::Groups;
use self::inside::Inside;
use self::network::Route;
use crate::record::Record;
use crate::statistics::{median, percentile};
use crate::sys::Clone;
use crate::{Doing, Result, sys};

#[derive(Args)]
pub(crate) struct Options {
    /// The root file system, with /bin/true; it is not changed.
    #[arg(long)]
    rootfs: PathBuf,
    /// An empty directory on the disk where engines keep writable layers.
    #[arg(long)]
    scratch: PathBuf,
    #[arg(long, default_value_t = 100)]
    pods: usize,
    #[arg(long, default_value_t = 50)]
    gap_ms: u64,
    /// The record of `start` to compare with.
    #[arg(long)]
    start: Option<PathBuf>,
    #[arg(long)]
    out: PathBuf,
}

const NAMESPACES: i32 = libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

pub(crate) fn measure(options: &Options) -> Result<()> {
    let host = Host::prepare(options)?;
    let gap = Duration::from_millis(options.gap_ms);
    let sides = ["with gaps", "in a burst"].map(str::to_owned);
    let mut record = Record::new("The floor: one pod in bare system calls", sides, Vec::new());
    record.parameter("pods", options.pods);
    record.parameter("gap", format!("{} ms", options.gap_ms));
    for (side, gap) in [(0, gap), (1, Duration::ZERO)] {
        for number in 0..options.pods {
            idle(gap);
            let cpu = sys::cpu_seconds();
            let Life { start, end } = host.pod(side * options.pods + number)?;
            record.add(side, "start", start.as_secs_f64() * 1e3);
            record.add(side, "end", end.as_secs_f64() * 1e3);
            record.add(side, "cpu", (sys::cpu_seconds() - cpu) * 1e3);
        }
    }
    drop(host);
    for (name, sample) in [("start", "start"), ("wait and remove", "end"), ("CPU time", "cpu")] {
        let [gaps, burst] = [0, 1].map(|side| record.sample(side, sample));
        record.row(format!("{name}, median"), "ms", median(&gaps), median(&burst));
        record.row(format!("{name}, p99"), "ms", percentile(&gaps, 99), percentile(&burst, 99));
    }
    if let Some(path) = &options.start {
        compare(&mut record, &Record::read(path)?);
    }
    record.print();
    for note in &record.notes {
        println!("{note}");
    }
    record.write(&options.out)
}

fn compare(record: &mut Record, started: &Record) {
    let floor = median(&record.sample(0, "start"));
    for (side, name) in started.sides.iter().enumerate() {
        let start = median(&started.sample(side, "start"));
        record.notes.push(format!(
            "{name} starts a pod in {start:.2} ms: {:.2} times the floor of {floor:.2} ms",
            start / floor
        ));
    }
}

struct Life {
    /// Until the program runs.
    start: Duration,
    /// From its start until nothing is left but what the kernel frees by itself.
    end: Duration,
}

/// What all pods share.
struct Host {
    groups: Groups,
    route: Route,
    bridge: String,
    bridge_index: u32,
    rootfs: PathBuf,
    scratch: PathBuf,
}

impl Host {
    fn prepare(options: &Options) -> Result<Self> {
        let number = std::process::id();
        let groups = Groups::find(format!("cais-floor-{number}"))?;
        groups.make_parent()?;
        let route = Route::open()?;
        let bridge = format!("cfloor{number}");
        route.add_bridge(&bridge)?;
        let bridge_index = network::index_of(&bridge)?;
        // The child changes its directory before it uses them.
        let absolute = |path: &Path| std::path::absolute(path).doing(path.display());
        let (rootfs, scratch) = (absolute(&options.rootfs)?, absolute(&options.scratch)?);
        fs::create_dir_all(scratch.join("attach")).doing(scratch.display())?;
        for name in ["hosts", "hostname", "resolv.conf"] {
            fs::File::create(scratch.join(name)).doing(name)?;
        }
        Ok(Self { groups, route, bridge, bridge_index, rootfs, scratch })
    }

    fn pod(&self, number: usize) -> Result<Life> {
        let (pod, layer) = (number.to_string(), self.scratch.join(format!("layer-{number}")));
        let before = Instant::now();
        let joins = self.groups.make(&pod)?;
        let overlay = host::overlay(&self.rootfs, &layer)?;
        let (linked, link) = pipe_with(PipeFlags::CLOEXEC).doing("pipe")?;
        let (executed, failure) = pipe_with(PipeFlags::CLOEXEC).doing("pipe")?;
        let (pid, pidfd) = match sys::clone3(NAMESPACES).doing("clone3")? {
            Clone::Child => {
                let inside = Inside {
                    groups: &self.groups,
                    joins: &joins,
                    overlay: overlay.as_fd(),
                    attach: &self.scratch.join("attach"),
                    etc: &self.scratch,
                    linked: linked.as_fd(),
                    address: Ipv4Addr::new(10, 212, (number >> 8) as u8, (number & 255) as u8),
                    gateway: Ipv4Addr::new(10, 212, 255, 254),
                };
                fail_in_child(inside::become_container(&inside), &failure)
            }
            Clone::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop(failure);
        let netns = fs::File::open(format!("/proc/{pid}/ns/net")).doing("open the netns")?;
        let veth = format!("cf{}v{number}", std::process::id());
        self.route.add_veth(&veth, self.bridge_index, netns.as_fd())?;
        drop(netns);
        rustix::io::write(&link, b"1").doing("tell the child")?;
        // The pipe's other end closes by execve, or says why not.
        let mut error = String::new();
        fs::File::from(executed).read_to_string(&mut error).doing("read the pipe")?;
        let start = before.elapsed();
        drop(overlay);
        let end = Instant::now();
        let ended = self.wait(&pidfd);
        if !error.is_empty() {
            return Err(format!("in the child: {error}").into());
        }
        ended?;
        self.groups.remove(&pod)?;
        fs::remove_dir_all(&layer).doing(layer.display())?;
        Ok(Life { start, end: end.elapsed() })
    }

    fn wait(&self, pidfd: &OwnedFd) -> Result<()> {
        let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).doing("wait")?;
        match status.and_then(|status| status.exit_status()) {
            Some(0) => Ok(()),
            other => Err(format!("/bin/true ended with {other:?}").into()),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.route.delete(&self.bridge);
        self.groups.remove_parent();
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

fn fail_in_child(result: Result<()>, failure: &OwnedFd) -> ! {
    if let Err(error) = result {
        let _ = rustix::io::write(failure, error.to_string().as_bytes());
    }
    sys::exit_now(0)
}

#[expect(clippy::disallowed_methods, reason = "the idle time is part of what is measured")]
fn idle(time: Duration) {
    std::thread::sleep(time);
}
