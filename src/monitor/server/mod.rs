//! The per-pod process: one thread, one loop, nothing that waits for one thing only.
//!
//! It is the parent of the pod's containers, lives in the pod's namespaces, holds their streams,
//! logs and descriptors, and answers clients (`protocol`). It never looks at the host: everything
//! from there comes as a descriptor. It goes on without clients, and without its socket's path.
//!
//! ```text
//!            ┌ clients.rs   frames in and out
//! poller ────┼ children.rs  half-made children, starts, exits
//! (epoll)    ├ streams.rs   output → log.rs, attach.rs
//!            └ requests.rs  one function per request; pod.rs, kill.rs, exits.rs, criu.rs do the work
//! ```
//!
//! A request that must wait for a child is answered when the child speaks; meanwhile the loop
//! serves everybody else. Each such wait has a deadline.

mod attach;
mod children;
mod clients;
mod criu;
mod ends;
mod exits;
mod kill;
mod log;
mod oom;
mod pod;
mod poller;
mod requests;
mod start;
mod streams;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::executor::procfs::Procfs;
use crate::sys;
use children::{Container, Exec};
use clients::{Caller, Client};
use criu::CriuRun;
use pod::{NameSockets, PodState};
use poller::{Happened, Key, Poller, READ, Source};
use streams::{Io, READ_SIZE};

/// Everything the process knows.
pub(super) struct Server {
    poller: Poller,
    listener: OwnedFd,
    signals: SignalFd,
    clients: BTreeMap<Key, Client>,
    containers: BTreeMap<Key, Container>,
    execs: BTreeMap<Key, Exec>,
    criu_runs: BTreeMap<Key, CriuRun>,
    pod: PodState,
    names: NameSockets,
    last_key: Key,
    input: Vec<u8>,
    batch: Vec<u8>,
    /// Output has flowed since memory was last given back.
    warm: bool,
    /// Its own score before it was lowered: what containers get that ask for none.
    oom_score_adj: i32,
    /// Who is to be told when everything is dead, and until when that is waited for.
    stopping: Option<(Caller, Instant)>,
}

/// How long buffers are kept for more output.
const COOL_AFTER: Duration = Duration::from_secs(1);

/// Serves the socket on standard input until it is told to stop.
pub(super) fn run() -> Result<()> {
    let listener = settle()?;
    let mut server = Server::new(listener)?;
    server.serve().context("wait for events")
}

/// Makes an ordinary process one that outlives whoever started it. The listening socket moves from
/// standard input to a descriptor above it.
fn settle() -> Result<OwnedFd> {
    sys::memory::keep_small();
    let listener = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .context("take the listening socket")?;
    let mode = rustix::fs::Mode::empty();
    let null =
        rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, mode).context("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("replace standard input")?;
    drop(null);
    // A new session: no terminal's signals. Fails for a leader, which has that already.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"cais-monitor");
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .context("become non-dumpable")?;
    for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        sys::signal::ignore(signal).context("ignore signals")?;
    }
    // Whatever the daemon leaked is not ours; standard error is where faults go.
    let listener_number = {
        use std::os::fd::AsRawFd;
        listener.as_raw_fd().unsigned_abs()
    };
    if listener_number > 3 {
        sys::process::close_range(3, listener_number - 1).context("close descriptors")?;
    }
    sys::process::close_range(listener_number + 1, u32::MAX).context("close descriptors")?;
    // Orphans of containers without a PID namespace of their own come here to be reaped.
    sys::process::become_subreaper().context("become a subreaper")?;
    Ok(listener)
}

impl Server {
    fn new(listener: OwnedFd) -> Result<Self> {
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        children.thread_block().context("block SIGCHLD")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&children, flags).context("open a signalfd")?;

        let mut poller = Poller::new().context("create the epoll instance")?;
        attach::set_nonblocking(&listener).context("prepare the listening socket")?;
        poller.add(&listener, READ, Source::Listener).context("watch the socket")?;
        poller.add(signals.as_fd(), READ, Source::Signals).context("watch children")?;
        Ok(Self {
            poller,
            listener,
            signals,
            clients: BTreeMap::new(),
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            criu_runs: BTreeMap::new(),
            pod: PodState::None,
            names: NameSockets::default(),
            last_key: 0,
            input: vec![0; READ_SIZE],
            batch: Vec::new(),
            warm: false,
            oom_score_adj: protect_from_oom(),
            stopping: None,
        })
    }

    fn serve(&mut self) -> Result<(), Errno> {
        loop {
            let now = Instant::now();
            let deadline = self.next_deadline().map(|at| at.saturating_duration_since(now));
            let cooling = self.warm.then_some(COOL_AFTER);
            let happened = self.poller.wait(deadline.into_iter().chain(cooling).min())?;
            if happened.is_empty() && cooling.is_some() {
                self.cool();
            }
            for happened in happened {
                self.dispatch(happened);
            }
            self.expire();
            if self.has_stopped() {
                return Ok(());
            }
        }
    }

    /// Nothing has happened for a while: the buffers of busy times go.
    fn cool(&mut self) {
        self.batch = Vec::new();
        self.warm = false;
        sys::memory::release_free_pages();
    }

    fn dispatch(&mut self, happened: Happened) {
        let Happened { source, writable, closed } = happened;
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.reap(),
            Source::Client(key) => self.client_ready(key, writable),
            Source::Handshake(child) => self.listen(child),
            Source::Output(key, stream) => {
                self.warm = true;
                if let Some((container, mut io)) = self.container_io(key) {
                    container.streams.pump(&mut io, stream);
                }
                self.finish_if_drained(key);
            }
            Source::Memory(key) => {
                if let Some(oom) = self.containers.get_mut(&key).and_then(|it| it.oom.as_mut()) {
                    oom.heard();
                }
            }
            Source::Stdin(key) => {
                if let Some((container, io)) = self.container_io(key) {
                    container.streams.stdin_ready(io.poller);
                }
            }
            Source::Sink(key, client, stream) => {
                if let Some((container, io)) = self.container_io(key) {
                    container.streams.sink_ready(io.poller, client, stream, closed);
                }
            }
            Source::Input(key, client) => {
                if let Some((container, mut io)) = self.container_io(key) {
                    container.streams.input_ready(&mut io, client);
                }
            }
        }
    }

    /// A container together with what its streams need of the rest.
    fn container_io(&mut self, key: Key) -> Option<(&mut Container, Io<'_>)> {
        let container = self.containers.get_mut(&key)?;
        let io = Io { poller: &mut self.poller, input: &mut self.input, batch: &mut self.batch };
        Some((container, io))
    }

    fn new_key(&mut self) -> Key {
        self.last_key = self.last_key.wrapping_add(1);
        self.last_key
    }
}

/// Lowers the score as far as is allowed and returns what it was.
fn protect_from_oom() -> i32 {
    let Ok(proc) = Procfs::of_host() else { return 0 };
    let mut text = Vec::new();
    let _ = proc.read("self/oom_score_adj", &mut text);
    let before = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
    let _ = proc.write("self/oom_score_adj", b"-999");
    before.unwrap_or(0)
}

/// Nanoseconds since the epoch.
fn now() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Something that no client can be told.
fn complain(text: &str) {
    let line = format!("cais-monitor: {text}\n");
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
}

fn complain_of(error: &Error) {
    complain(&error.chain());
}
