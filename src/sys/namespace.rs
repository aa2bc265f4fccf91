//! `unshare(2)` for namespaces only.

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Leaves the namespaces named by `flags` for new ones.
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // The one flag that rustix warns of: another thread could lose its descriptors.
    let flags = flags.difference(UnshareFlags::FILES);
    // SAFETY: FILES is removed above, and no other flag makes a descriptor invalid.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
