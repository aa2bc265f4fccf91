//! `seccomp(2)`: loading a ready-made classic BPF program.

use rustix::io::Errno;

use super::checked;

/// Bytes of one `struct sock_filter`.
const INSTRUCTION: usize = 8;

/// Loads `program`, an array of `struct sock_filter`, for the calling process.
pub(crate) fn load_filter(program: &[u8], flags: u32) -> Result<(), Errno> {
    let count = program.len() / INSTRUCTION;
    if count == 0 || !program.len().is_multiple_of(INSTRUCTION) {
        return Err(Errno::INVAL);
    }
    let len = u16::try_from(count).map_err(|_| Errno::INVAL)?;
    let header = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the kernel copies `len` instructions of 8 bytes, which `program` holds (checked
    // above), needs no alignment for it, and only reads.
    let returned = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const header)
    };
    checked(returned).map(drop)
}
