//! The allocator of a process that must stay small.

/// Makes freed memory go back to the kernel early, and keeps the heap in one arena.
pub(crate) fn keep_small() {
    const TRIM_THRESHOLD: libc::c_int = 16 * 1024;
    const TOP_PAD: libc::c_int = 4 * 1024;
    const MMAP_THRESHOLD: libc::c_int = 64 * 1024;
    // SAFETY: mallopt changes tunables only, and no other thread exists to race with.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TOP_PAD, TOP_PAD) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD) };
}

/// Gives free pages anywhere in the heap back to the kernel.
pub(crate) fn release_free_pages() {
    // SAFETY: malloc_trim has no precondition; live allocations stay where they are.
    unsafe { libc::malloc_trim(0) };
}
