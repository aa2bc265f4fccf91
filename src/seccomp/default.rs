//! The default profile: what an ordinary program needs, as a table.
//!
//! A call that no row allows gets EPERM; one that the running kernel has and we do not know of gets
//! ENOSYS. Left out on purpose: io_uring, userfaultfd, bpf, perf events, keys, kernel modules,
//! kexec, swap, quotas, handles to files, the new mount calls, and whatever makes a user namespace
//! without CAP_SYS_ADMIN: each was a way out of a container more than once.

use std::collections::BTreeMap;

use super::arch::Arch;
use super::rule::{Action, Comparison, Operator, Rules};

/// Allowed to everybody.
#[rustfmt::skip]
const ALWAYS: &[&str] = &[
    // Files: open, read, write, name, status.
    "access", "chdir", "chmod", "chown", "chown32", "close", "close_range", "copy_file_range",
    "creat", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fadvise64_64",
    "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat",
    "fcntl", "fcntl64", "fdatasync", "fgetxattr", "file_getattr", "file_setattr", "flistxattr",
    "flock", "fremovexattr",
    "fsetxattr", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate",
    "ftruncate64", "futimesat", "getcwd", "getdents", "getdents64", "getxattr", "getxattrat",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "fanotify_mark",
    "lchown", "lchown32", "lgetxattr", "link", "linkat", "listxattr", "listxattrat", "llistxattr",
    "lremovexattr", "lseek", "_llseek", "lsetxattr", "lstat", "lstat64", "mkdir", "mkdirat",
    "mknod", "mknodat", "newfstatat", "oldfstat", "oldlstat", "oldstat", "open", "openat",
    "openat2", "pread64", "preadv",
    "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readdir", "readlink",
    "readlinkat", "readv", "removexattr", "removexattrat", "rename", "renameat", "renameat2",
    "rmdir", "sendfile", "sendfile64", "setxattr", "setxattrat", "splice", "stat", "stat64",
    "statfs", "statfs64", "statx", "symlink", "symlinkat", "sync", "sync_file_range",
    "sync_file_range2", "arm_sync_file_range", "syncfs", "tee", "truncate", "truncate64",
    "umask", "unlink", "unlinkat", "utime", "utimensat", "utimensat_time64", "utimes", "vmsplice",
    "write", "writev", "ioctl", "cachestat", "statmount", "listmount", "name_to_handle_at",
    // Memory.
    "brk", "madvise", "map_shadow_stack", "membarrier", "memfd_create",
    "memfd_secret", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect",
    "mremap", "mseal", "msync", "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free",
    "pkey_mprotect", "process_madvise", "process_mrelease", "remap_file_pages",
    // Waiting for descriptors.
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "pipe", "pipe2", "poll", "ppoll",
    "ppoll_time64", "pselect6", "pselect6_time64", "select", "_newselect", "io_cancel",
    "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup",
    "io_submit",
    // Processes and threads. `clone` stands below with its flags.
    "execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_requeue",
    "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "get_robust_list",
    "get_thread_area", "getcpu", "getpgid", "getpgrp", "getpid", "getppid", "getpriority",
    "getrlimit", "getrusage", "getsid", "gettid", "ioprio_get", "ioprio_set", "kill",
    "pidfd_open", "pidfd_send_signal", "prctl", "arch_prctl", "prlimit64", "rseq",
    "restart_syscall", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
    "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval",
    "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam",
    "sched_setscheduler", "sched_yield", "seccomp", "set_robust_list", "set_thread_area",
    "set_tid_address", "set_tls", "setpgid", "setpriority", "setrlimit", "setsid", "tgkill",
    "tkill", "ugetrlimit", "uname", "vfork", "wait4", "waitid", "waitpid", "modify_ldt",
    "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "breakpoint",
    "cacheflush", "uretprobe", "riscv_flush_icache",
    "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr",
    // Identity.
    "capget", "capset", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32",
    "getgroups", "getgroups32", "getresgid", "getresgid32", "getresuid", "getresuid32", "getuid",
    "getuid32", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32",
    "setgroups", "setgroups32", "setregid", "setregid32", "setresgid", "setresgid32", "setresuid",
    "setresuid32", "setreuid", "setreuid32", "setuid", "setuid32",
    // Signals.
    "alarm", "pause", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
    "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo", "sigaction", "sigaltstack", "signal", "signalfd", "signalfd4",
    "sigpending", "sigprocmask", "sigreturn", "sigsuspend",
    // Time.
    "adjtimex", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
    "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "getitimer",
    "gettimeofday", "nanosleep", "setitimer", "time", "timer_create", "timer_delete",
    "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64",
    "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64", "times",
    // System V and POSIX IPC.
    "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
    "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd",
    "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt",
    "shmget",
    // Sockets. `socket` stands below with its families; the multiplexed call of 32-bit x86 cannot
    // be looked into, and its programs do not run without it.
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
    "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg",
    "sendto", "setsockopt", "shutdown", "socketcall", "socketpair",
    // What tells about the machine.
    "getrandom", "sysinfo",
    // Only looks at processes that the caller may trace anyway.
    "kcmp", "pidfd_getfd", "process_vm_readv", "process_vm_writev", "ptrace",
];

/// Allowed to whoever has one of the capabilities (by number, linux/capability.h).
#[rustfmt::skip]
const WITH_CAPABILITY: &[(u32, &[&str])] = &[
    // CAP_DAC_READ_SEARCH
    (2, &["open_by_handle_at"]),
    // CAP_SYS_ADMIN
    (21, &[
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick",
        "lookup_dcookie", "mount", "mount_setattr", "move_mount", "open_tree", "open_tree_attr",
        "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns",
        "syslog", "umount", "umount2", "unshare",
    ]),
    // CAP_SYS_BOOT
    (22, &["reboot"]),
    // CAP_SYS_CHROOT
    (18, &["chroot"]),
    // CAP_SYS_MODULE
    (16, &["delete_module", "finit_module", "init_module"]),
    // CAP_SYS_PACCT
    (20, &["acct"]),
    // CAP_SYS_RAWIO
    (17, &["ioperm", "iopl"]),
    // CAP_SYS_TIME
    (25, &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    // CAP_SYS_TTY_CONFIG
    (26, &["vhangup"]),
    // CAP_SYS_NICE
    (23, &[
        "get_mempolicy", "mbind", "migrate_pages", "move_pages", "set_mempolicy",
        "set_mempolicy_home_node",
    ]),
    // CAP_SYSLOG
    (34, &["syslog"]),
    // CAP_PERFMON
    (38, &["perf_event_open"]),
    // CAP_BPF
    (39, &["bpf"]),
];

const SYS_ADMIN: u32 = 21;
/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (linux/sched.h).
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
/// AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET (which needs CAP_NET_RAW anyway).
const FAMILIES: [u64; 5] = [1, 2, 10, 16, 17];
/// PER_LINUX, PER_LINUX32, UNAME26, both, and "only tell me".
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The profile for a process with these capabilities in its bounding set.
pub(super) fn rules(capabilities: u64) -> Rules {
    let mut rules = Rules {
        arches: Arch::native(),
        default: Action::Errno(libc::EPERM),
        unknown: Some(Action::Errno(libc::ENOSYS)),
        calls: BTreeMap::new(),
        flags: 0,
    };
    for name in ALWAYS {
        rules.add(name, Vec::new(), Action::Allow);
    }
    for (capability, names) in WITH_CAPABILITY {
        if capabilities & (1 << capability) != 0 {
            for name in *names {
                rules.add(name, Vec::new(), Action::Allow);
            }
        }
    }
    if capabilities & (1 << SYS_ADMIN) == 0 {
        let plain = compare(0, Operator::MaskedEqual { mask: NAMESPACE_FLAGS }, 0);
        rules.add("clone", vec![plain], Action::Allow);
        // Its flags lie behind a pointer. glibc falls back to `clone` on this answer.
        rules.add("clone3", Vec::new(), Action::Errno(libc::ENOSYS));
    }
    for family in FAMILIES {
        rules.add("socket", vec![compare(0, Operator::Equal, family)], Action::Allow);
    }
    for personality in PERSONALITIES {
        rules.add("personality", vec![compare(0, Operator::Equal, personality)], Action::Allow);
    }
    rules
}

fn compare(argument: u8, operator: Operator, value: u64) -> Comparison {
    Comparison { argument, operator, value }
}
