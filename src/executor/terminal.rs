//! A pseudo-terminal of the container's own devpts, as controlling terminal and streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::OpenTreeFlags;
use rustix::pty::OpenptFlags;

use super::failure::{About, Fault};
use super::mounts;
use super::plan::{TargetKind, TerminalSize};
use super::root::Root;
use super::steps::Init;

const DEVPTS_MAGIC: i64 = 0x1cd1;
const PTMX: (u32, u32) = (5, 2);

/// Runs inside the container's root, whose content may be hostile for an exec: the node is checked
/// to be the multiplexer of a devpts, and its peer is taken from it and not by name.
pub(super) fn attach(init: &mut Init<'_>) -> Result<(), Fault> {
    let slash = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let root = Root::new(slash.as_fd());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = root.open(b"/dev/pts/ptmx", flags).about("/dev/pts/ptmx")?;
    check_multiplexer(master.as_fd())?;

    rustix::pty::unlockpt(&master).about("unlock")?;
    let peer_flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let peer = rustix::pty::ioctl_tiocgptpeer(&master, peer_flags).about("peer")?;
    if let Some(size) = init.process.terminal {
        resize(peer.as_fd(), size).about("size")?;
    }
    let user = &init.process.user;
    if user.uid != 0 {
        // The group stays the one that devpts was mounted with (tty).
        rustix::fs::fchown(&peer, Some(Uid::from_raw(user.uid)), None::<Gid>).about("chown")?;
    }
    rustix::process::ioctl_tiocsctty(&peer).about("controlling terminal")?;
    if init.container.is_some() {
        bind_console(root, &master).about("/dev/console")?;
    }
    rustix::stdio::dup2_stdin(&peer)?;
    rustix::stdio::dup2_stdout(&peer)?;
    rustix::stdio::dup2_stderr(&peer)?;
    init.master = Some(master);
    Ok(())
}

fn check_multiplexer(master: BorrowedFd<'_>) -> Result<(), Fault> {
    let stat = rustix::fs::fstat(master)?;
    let number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let is_node =
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && number == PTMX;
    if is_node && rustix::fs::fstatfs(master)?.f_type == DEVPTS_MAGIC {
        Ok(())
    } else {
        Err(Fault::internal("/dev/pts/ptmx is not a pseudo-terminal multiplexer"))
    }
}

/// The terminal of the first process is the container's console.
fn bind_console(root: Root<'_>, master: &OwnedFd) -> Result<(), Fault> {
    let name = rustix::pty::ptsname(master, Vec::new())?;
    let node = root.find(name.as_bytes())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = rustix::mount::open_tree(&node, "", flags)?;
    let target = root.make_target(b"/dev/console", TargetKind::File)?;
    mounts::attach(mount.as_fd(), target.as_fd())
}

/// Tells the terminal how many rows and columns its viewer has.
pub(crate) fn resize(
    terminal: BorrowedFd<'_>,
    size: TerminalSize,
) -> Result<(), rustix::io::Errno> {
    let size = rustix::termios::Winsize {
        ws_row: size.height,
        ws_col: size.width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size)
}
