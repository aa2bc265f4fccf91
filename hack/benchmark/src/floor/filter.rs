//! A filter of the size that engines load by default: about 350 numbers allowed, the others refused.

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, sock_filter,
};

/// Ranges that are refused: mounts, modules, clocks, swap, kexec, keys, bpf, perf and the like.
const REFUSED: [(u32, u32); 13] = [
    (134, 139),
    (153, 156),
    (159, 159),
    (161, 180),
    (212, 212),
    (235, 237),
    (246, 250),
    (256, 256),
    (279, 279),
    (298, 298),
    (303, 304),
    (320, 323),
    (428, 433),
];

const ARCH_X86_64: u32 = 0xc000_003e;

pub(super) fn program() -> Vec<sock_filter> {
    let load = |offset| instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
    let mut program = vec![
        load(4),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, ARCH_X86_64, 1, 0),
        instruction(BPF_RET | BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        load(0),
    ];
    for (first, last) in REFUSED {
        // Below the range: on to the next one. Above it likewise; within it, refuse.
        program.push(instruction(BPF_JMP | BPF_JGE | BPF_K, first, 0, 2));
        program.push(instruction(BPF_JMP | BPF_JGE | BPF_K, last + 1, 1, 0));
        program.push(instruction(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0));
    }
    program.push(instruction(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0));
    program
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}
