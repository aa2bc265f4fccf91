//! Listening to what the kernel tells about changes.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recvfrom};

use super::{Header, Protocol};
use crate::error::{Context, Result};

/// What the kernel tells everybody who asked to be told.
#[derive(Debug)]
pub(crate) struct Notices(OwnedFd);

impl Notices {
    /// Joins a multicast group in the calling thread's network namespace.
    pub(crate) fn open(protocol: Protocol, group: u32, patience: Duration) -> Result<Self> {
        let mut socket = netlink_sys::Socket::new(protocol.number()).context("open netlink")?;
        socket.bind_auto().context("bind a netlink socket")?;
        socket.add_membership(group).context("join a netlink group")?;
        let fd = socket.as_fd().try_clone_to_owned().context("keep the netlink socket")?;
        let timeout = rustix::net::sockopt::Timeout::Recv;
        rustix::net::sockopt::set_socket_timeout(&fd, timeout, Some(patience))
            .context("set the netlink socket's timeout")?;
        Ok(Self(fd))
    }

    /// Waits for the next datagram and returns the kinds of its messages; none after the patience.
    pub(crate) fn next(&self) -> Result<Vec<u16>, Errno> {
        let mut buffer = [0; 8192];
        match recvfrom(&self.0, &mut buffer, RecvFlags::empty()) {
            Ok((_, filled, _)) => {
                let mut kinds = Vec::new();
                let mut rest = buffer.get(..filled.min(buffer.len())).unwrap_or_default();
                while let Some(header) = Header::read(rest) {
                    kinds.push(header.kind);
                    rest = rest.get(header.padded()..).unwrap_or_default();
                }
                Ok(kinds)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Vec::new()),
            Err(errno) => Err(errno),
        }
    }
}
