//! What a monitor and a child that is not yet the user's program say to each other.
//!
//! ```text
//! monitor                       init                         exec
//!   clone3            ──▶       namespaces, mounts, …
//!                     ◀──       (in a user namespace: Forked, pidfd of the init proper)
//!                     ◀──       Ready (+ terminal master)    Ready (+ terminal master)
//!   Start (one byte)  ──▶       seccomp, execve              execve
//!                     ◀──       end of stream: it runs       end of stream: it runs
//! ```
//!
//! At any point the child may send Failed instead, and exits. The socket closes on `execve`, so
//! its end without a failure means that the program runs (or that the child was killed, which the
//! monitor learns from its exit).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use super::failure::{Failure, Fault};

#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// Everything is set up.
    Ready {
        /// What did not go as planned but does not matter enough to fail.
        notes: Vec<String>,
    },
    /// The process that comes along as a pidfd, a child of the monitor's too, goes on instead.
    Forked,
    Failed(Failure),
}

/// What the monitor hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Ready {
        notes: Vec<String>,
        terminal: Option<OwnedFd>,
    },
    /// Another process is the child from now on.
    Forked {
        pidfd: OwnedFd,
    },
    Failed(Failure),
    /// The child executes the program, or is dead.
    Closed,
    /// Nothing yet.
    Silence,
}

/// The monitor's end and the child's end. Messages keep their bounds.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let kind = SocketType::SEQPACKET;
    rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

/// Takes the next word without waiting.
pub(crate) fn hear(socket: BorrowedFd<'_>, scratch: &mut [u8]) -> Heard {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = {
        let mut into = [IoSliceMut::new(scratch)];
        rustix::net::recvmsg(socket, &mut into, &mut control, flags)
    };
    let length = match received {
        Ok(received) => received.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return Heard::Silence,
        Err(_) => return Heard::Closed,
    };
    if length == 0 {
        return Heard::Closed;
    }
    let mut passed = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            passed = fds.next();
        }
    }
    let unreadable = |why: &str| {
        let fault = Fault::internal(format!("its report cannot be read: {why}"));
        Heard::Failed(fault.into_failure("set up the process"))
    };
    match rmp_serde::from_slice(scratch.get(..length).unwrap_or_default()) {
        Ok(Word::Ready { notes }) => Heard::Ready { notes, terminal: passed },
        Ok(Word::Forked) => match passed {
            Some(pidfd) => Heard::Forked { pidfd },
            None => unreadable("no process came along"),
        },
        Ok(Word::Failed(failure)) => Heard::Failed(failure),
        Err(error) => unreadable(&error.to_string()),
    }
}

/// Blocks until a child that needs nobody else is ready, or has failed.
pub(super) fn wait_ready(socket: BorrowedFd<'_>) -> Result<(), Fault> {
    let mut scratch = [0_u8; 4096];
    loop {
        let mut ready = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut ready, None))?;
        match hear(socket, &mut scratch) {
            Heard::Ready { .. } => return Ok(()),
            Heard::Silence => {}
            Heard::Failed(failure) => return Err(failure.into()),
            Heard::Closed | Heard::Forked { .. } => {
                return Err(Fault::internal("the process died before it was ready"));
            }
        }
    }
}

/// Lets a waiting init go on.
pub(crate) fn send_start(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::net::send(socket, &[1], SendFlags::NOSIGNAL).map(drop)
}

pub(super) fn report_ready(
    link: BorrowedFd<'_>,
    notes: Vec<String>,
    terminal: Option<&OwnedFd>,
) -> Result<(), Fault> {
    send(link, &Word::Ready { notes }, terminal)
}

pub(super) fn report_forked(link: BorrowedFd<'_>, pidfd: &OwnedFd) -> Result<(), Fault> {
    send(link, &Word::Forked, Some(pidfd))
}

/// The last thing a failing child does; nobody is left to tell if it cannot.
pub(super) fn report_failure(link: BorrowedFd<'_>, failure: Failure) {
    let _ = send(link, &Word::Failed(failure), None);
}

fn send(link: BorrowedFd<'_>, word: &Word, passed: Option<&OwnedFd>) -> Result<(), Fault> {
    let bytes = rmp_serde::to_vec_named(word).map_err(|e| Fault::internal(e.to_string()))?;
    let passed: Vec<BorrowedFd<'_>> = passed.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !passed.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&passed));
    }
    rustix::net::sendmsg(link, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Blocks until the monitor says so. Its death is an error: the container must not start then.
pub(super) fn wait_for_start(link: BorrowedFd<'_>) -> Result<(), Fault> {
    let mut byte = [0_u8; 1];
    loop {
        match rustix::io::read(link, &mut byte) {
            Ok(0) => return Err(Fault::internal("the monitor is gone")),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// True when the other end is closed, that is, when the monitor died.
pub(super) fn is_orphaned(link: BorrowedFd<'_>) -> bool {
    let mut byte = [0_u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(link, &mut byte[..], flags), Ok((_, 0)))
}
