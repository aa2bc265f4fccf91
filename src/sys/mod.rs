//! System calls that neither rustix nor nix wraps, or wraps too narrowly: the only unsafe code.
//!
//! One function per call; descriptors go in borrowed and come out owned; errors are the kernel's
//! numbers, because the layers above report them to people and to the daemon.
//!
//! | file | calls |
//! |---|---|
//! | `bpf` | `bpf`, for device programs |
//! | `clone` | `clone3`, `_exit` |
//! | `mount` | `mount_setattr` |
//! | `mountinfo` | none: how `/proc/PID/mountinfo` writes paths |
//! | `namespace` | `unshare` |
//! | `process` | `pidfd_send_signal`, `kill`, `prlimit`, `PR_SET_CHILD_SUBREAPER` |
//! | `readiness` | none: tokio's registration of a descriptor |
//! | `seccomp` | `seccomp(SECCOMP_SET_MODE_FILTER)` |
//! | `signal` | dispositions and the mask |
//! | `socket` | `ioctl(SIOCOUTQ)` |
//! | `memory` | the allocator's thresholds |

#![expect(unsafe_code, reason = "this module is where the crate keeps it")]

pub(crate) mod bpf;
pub(crate) mod capability;
pub(crate) mod clone;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod mountinfo;
pub(crate) mod namespace;
pub(crate) mod process;
pub(crate) mod readiness;
pub(crate) mod seccomp;
pub(crate) mod signal;
pub(crate) mod socket;

use rustix::io::Errno;

/// Turns the C convention of -1 and `errno` into a result.
fn checked(returned: libc::c_long) -> Result<libc::c_long, Errno> {
    if returned == -1 { Err(last_errno()) } else { Ok(returned) }
}

fn last_errno() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Errno::from_raw_os_error(raw)
}
