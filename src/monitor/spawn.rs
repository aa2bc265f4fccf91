//! Starting monitors.
//!
//! The program is copied once per daemon into a sealed memory file, and every monitor runs from
//! that: its pages are shared, nothing on disk can be swapped for it, and no container that gets
//! hold of `/proc/PID/exe` can write to it. The daemon has many threads, so it must not fork and
//! then run its own code: the standard library's spawn does it in one step (`posix_spawn`), which
//! needs the standard streams to be the only descriptors that are passed.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags};

use super::client::with_address;
use crate::error::{Context, Error, Result};

const NAME: &str = "cais-monitor";

/// The monitor's program, in memory.
#[derive(Debug)]
pub(crate) struct Program {
    sealed: OwnedFd,
}

/// A running monitor, child of this process.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

impl Program {
    /// Loads the program from `configured`, or from beside the running one.
    pub(crate) fn load(configured: Option<&Path>) -> Result<Self> {
        let path = match configured {
            Some(path) => path.to_owned(),
            None => beside_ourselves()?,
        };
        Self::seal(&path).with_context(|| format!("load {}", path.display()))
    }

    fn seal(path: &Path) -> io::Result<Self> {
        let mut source = File::open(path)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create(NAME, flags | MemfdFlags::EXEC)
            // Before Linux 6.3 the flag does not exist and every one may be executed.
            .or_else(|_| rustix::fs::memfd_create(NAME, flags))?;
        let mut memory = File::from(memory);
        io::copy(&mut source, &mut memory)?;
        memory.flush()?;
        rustix::fs::fchmod(&memory, Mode::from_raw_mode(0o511))?;
        seal_for_good(&memory)?;
        // A file that somebody holds open for writing cannot be executed.
        let again = format!("/proc/self/fd/{}", memory.as_raw_fd());
        let sealed = rustix::fs::open(again, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        drop(memory);
        Ok(Self { sealed })
    }

    /// Starts a monitor on a listening socket. `pod` is shown by `ps`; without `errors` the
    /// monitor complains where this process does.
    pub(crate) fn spawn(
        &self,
        listener: OwnedFd,
        pod: &str,
        errors: Option<OwnedFd>,
    ) -> Result<Spawned> {
        let child = Command::new(format!("/proc/self/fd/{}", self.sealed.as_raw_fd()))
            .arg0(NAME)
            .arg(pod)
            .env_clear()
            .stdin(Stdio::from(listener))
            .stdout(Stdio::null())
            .stderr(errors.map_or_else(Stdio::inherit, Stdio::from))
            .spawn()
            .context("start the monitor")?;
        let raw = i32::try_from(child.id()).context("start the monitor")?;
        let pid = Pid::from_raw(raw).context("start the monitor")?;
        // It is our child and nobody has waited for it: the number is its own.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .context("open the monitor's pidfd")?;
        Ok(Spawned { pid: raw, pidfd })
    }
}

/// Forbids every further change of a memory file.
///
/// The kernel refuses it as busy while anybody else has hold of one of its pages, as memory compaction has for a
/// moment (`memfd_wait_for_pins` in Linux' `mm/memfd.c` waits 150 ms itself), so it is asked again, [`PINNED`] at most.
fn seal_for_good(memory: &File) -> rustix::io::Result<()> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let asked = Instant::now();
    loop {
        match rustix::fs::fcntl_add_seals(memory, seals) {
            Err(Errno::BUSY) if asked.elapsed() < PINNED => {}
            done => return done,
        }
    }
}

/// How long a page of the monitor's program may be in somebody else's hands.
const PINNED: Duration = Duration::from_secs(10);

/// Makes the socket a monitor listens on; a leftover at `path` is replaced.
pub(crate) fn listen(path: &Path) -> Result<OwnedFd> {
    let make = || -> io::Result<OwnedFd> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // The mode of the socket file is that of the descriptor, less the umask.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
        with_address(path, |address| rustix::net::bind(&socket, address))?;
        rustix::net::listen(&socket, 128)?;
        Ok(socket)
    };
    make().with_context(|| format!("listen at {}", path.display()))
}

/// Waits for the end of a process; one that is our child is reaped.
pub(crate) async fn exited(pidfd: OwnedFd) -> Result<()> {
    let watched = crate::sys::readiness::watch(pidfd, tokio::io::Interest::READABLE)
        .context("watch a process")?;
    let _ = watched.readable().await.context("wait for a process")?;
    let id = rustix::process::WaitId::PidFd(watched.get_ref().as_fd());
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG;
    // Of a daemon before us, and so not our child to wait for.
    let _ = rustix::process::waitid(id, options);
    Ok(())
}

fn beside_ourselves() -> Result<PathBuf> {
    let own = std::fs::read_link("/proc/self/exe").context("find our own program")?;
    match own.parent() {
        Some(directory) => Ok(directory.join(NAME)),
        None => Err(Error::internal("our own program has no directory")),
    }
}
