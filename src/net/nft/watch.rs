//! Notices that somebody deleted tables: a reload of the host's firewall takes ours along.

use std::time::Duration;

use crate::error::Result;
use crate::net::netlink::{Notices, Protocol};

const GROUP_NFTABLES: u32 = 7;
const DELETE_TABLE: u16 = (10 << 8) | 2;
/// How long a thread may outlive what it watches for.
const LOOK_UP: Duration = Duration::from_secs(60);

/// Calls `check` after each deletion of any table, our own replacements included, until it returns
/// false. Watches the calling thread's network namespace, on a thread of its own that sleeps in
/// the kernel.
pub(crate) fn spawn(mut check: impl FnMut(Wake) -> bool + Send + 'static) -> Result<()> {
    let notices = Notices::open(Protocol::Netfilter, GROUP_NFTABLES, LOOK_UP)?;
    let watch = move || {
        loop {
            let wake = match notices.next() {
                Ok(kinds) if kinds.contains(&DELETE_TABLE) => Wake::Deleted,
                Ok(kinds) if !kinds.is_empty() => continue,
                Ok(_) => Wake::Idle,
                // Overrun: what was missed may have been a deletion.
                Err(rustix::io::Errno::NOBUFS) => Wake::Deleted,
                Err(errno) => {
                    tracing::warn!(%errno, "nftables is not watched any more");
                    return;
                }
            };
            if !check(wake) {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("nft-watch".to_owned());
    match thread.spawn(watch) {
        Ok(_) => Ok(()),
        Err(error) => Err(crate::error::Error::internal(format!("start a thread: {error}"))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    Deleted,
    Idle,
}
