//! Signals and sizes for a process of a container.

use nix::sys::signal::{SigSet, Signal};

use crate::client::{Client, Path};
use crate::terminal;

/// What a user or a supervisor sends to a program that stands for another one.
const PROXIED: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGCONT,
    Signal::SIGTSTP,
];

/// What ends this program, and must not leave the terminal raw.
const ENDING: &[Signal] = &[Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// Whose size and signals they are.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Container(String),
    Exec(String),
}

impl Target {
    fn resize(&self, client: &Client) -> bool {
        let Some((rows, columns)) = terminal::size() else { return true };
        let (kind, id) = match self {
            Self::Container(id) => ("containers", id),
            Self::Exec(id) => ("exec", id),
        };
        let path = Path::new(&[kind, id, "resize"]);
        client.post(path.with("h", &rows.to_string()).with("w", &columns.to_string())).is_ok()
    }
}

/// Signals that wait from here on. Before the first thread is made, and before the process that they are for.
#[derive(Debug)]
pub(crate) struct Blocked {
    set: SigSet,
    has_terminal: bool,
}

impl Blocked {
    /// With a terminal, sizes and what would leave it raw; without, all signals that are to be passed on.
    pub(crate) fn block(has_terminal: bool, proxies: bool) -> Self {
        let mut set = SigSet::empty();
        let signals = match (has_terminal, proxies) {
            (true, _) => ENDING,
            (false, true) => PROXIED,
            (false, false) => &[],
        };
        for signal in signals {
            set.add(*signal);
        }
        if has_terminal {
            set.add(Signal::SIGWINCH);
        }
        // The set is a valid one, so the call cannot fail.
        let _ = set.thread_block();
        Self { set, has_terminal }
    }

    /// Serves them in a thread, from the start of the process on.
    pub(crate) fn serve(self, client: &Client, target: Target) {
        if self.set == SigSet::empty() {
            return;
        }
        let client = client.clone();
        std::thread::spawn(move || self.run(&client, &target));
    }

    fn run(&self, client: &Client, target: &Target) {
        if self.has_terminal {
            first_size(client, target);
        }
        while let Ok(signal) = self.set.wait() {
            if signal == Signal::SIGWINCH {
                target.resize(client);
            } else if self.has_terminal {
                terminal::restore();
                end_by(signal);
            } else if let Target::Container(id) = target {
                let name = signal.as_str().trim_start_matches("SIG");
                let _ = client.post(Path::new(&["containers", id, "kill"]).with("signal", name));
            }
        }
    }
}

/// Ctrl-C and its like, for a program that ends in its own time. They wait from here on: before the first thread is made.
#[derive(Debug)]
pub(crate) struct Interrupts(SigSet);

impl Interrupts {
    pub(crate) fn block() -> Self {
        let set = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        // The set is a valid one, so the call cannot fail.
        let _ = set.thread_block();
        Self(set)
    }

    /// Tells of each, from a thread of its own, for as long as somebody listens.
    pub(crate) fn serve(self, mut tell: impl FnMut() -> bool + Send + 'static) {
        std::thread::spawn(move || while self.0.wait().is_ok() && tell() {});
    }
}

/// The process may not be ready to have a size yet.
fn first_size(client: &Client, target: &Target) {
    const TRIES: u32 = 10;
    for attempt in 1..=TRIES {
        if target.resize(client) {
            return;
        }
        pause(10 * attempt);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the daemon has no call that waits until a process can have a size"
)]
fn pause(millis: u32) {
    std::thread::sleep(std::time::Duration::from_millis(millis.into()));
}

/// As the signal would have ended the program.
#[expect(clippy::exit, reason = "the main thread waits for a stream that may never end")]
fn end_by(signal: Signal) -> ! {
    std::process::exit(128 + signal as i32)
}
