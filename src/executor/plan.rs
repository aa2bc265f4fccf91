//! What the monitor is asked to make: flat, validated, nothing optional left to fail on.
//!
//! The daemon computes a plan from an OCI runtime spec and sends it with descriptors; a plan names
//! a descriptor by its place in that list ([`Fd`]). No plan holds a host path: whatever lies on the
//! host was opened by the daemon. Paths in a plan are paths inside the container.
//!
//! The types travel between processes of different versions: a new field takes `#[serde(default)]`.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::id::{ContainerId, ExecId};

/// A descriptor, by its index among those sent along with the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fd(pub(crate) u32);

/// What a monitor sets up once, before any container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PodPlan {
    pub(crate) network: Namespace,
    pub(crate) ipc: Namespace,
    pub(crate) uts: Namespace,
    pub(crate) pid: PodPid,
    /// `None`: the pod lives in the host's user namespace. Otherwise the new namespaces of the pod
    /// and of its containers belong to one with these numbers.
    pub(crate) user: Option<UserNamespace>,
    /// Set when `uts` is [`Namespace::New`].
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    /// `net.*`, `kernel.shm*`, … as `key = value` with dots, written after the namespaces exist.
    pub(crate) sysctls: Vec<(String, String)>,
    /// Bytes of the pod's `/dev/shm` tmpfs; `None` when it has none of its own.
    pub(crate) shm_size: Option<u64>,
    /// A detached mount, another pod's `/dev/shm`, in the place of one of its own.
    #[serde(default)]
    pub(crate) shm: Option<Fd>,
    /// Directory where the monitor leaves one record per exited container.
    pub(crate) exits: Fd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Namespace {
    New,
    Host,
    /// Join the namespace that this descriptor refers to.
    Join(Fd),
}

/// What PID namespace the pod's containers may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PodPid {
    /// Each container has its own, or the host's.
    PerContainer,
    /// One for the pod: the monitor forks a PID 1 that reaps.
    Shared,
    /// That of the process behind this pidfd, which belongs to another pod.
    Joined(Fd),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserNamespace {
    pub(crate) uids: Vec<IdMapping>,
    pub(crate) gids: Vec<IdMapping>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdMapping {
    pub(crate) container: u32,
    pub(crate) host: u32,
    pub(crate) length: u32,
}

impl UserNamespace {
    /// What the host calls a user and a group of the namespace; `None` for one it does not have.
    pub(crate) fn on_host(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let of = |mappings: &[IdMapping], id: u32| {
            mappings.iter().find_map(|&IdMapping { container, host, length }| {
                let offset = id.checked_sub(container).filter(|offset| *offset < length)?;
                host.checked_add(offset)
            })
        };
        Some((of(&self.uids, uid)?, of(&self.gids, gid)?))
    }
}

/// One container: its file system, namespaces, cgroup, stdio and first process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerPlan {
    pub(crate) process: Process,
    /// A detached mount that becomes `/`.
    pub(crate) rootfs: Fd,
    pub(crate) readonly_rootfs: bool,
    /// In the order in which they are attached.
    pub(crate) mounts: Vec<Mount>,
    /// Made in `/dev` after it is mounted.
    pub(crate) devices: Vec<Device>,
    /// Symbolic links as (path, target), such as `/dev/fd` to `/proc/self/fd`.
    pub(crate) links: Vec<(ByteBuf, ByteBuf)>,
    pub(crate) masked_paths: Vec<ByteBuf>,
    pub(crate) readonly_paths: Vec<ByteBuf>,
    pub(crate) pid: ContainerPid,
    /// A cgroup namespace of its own, rooted at the container's cgroup.
    pub(crate) cgroup_namespace: bool,
    pub(crate) cgroup: CgroupJoin,
    pub(crate) stdio: Stdio,
    /// Of `/` inside the container; what a mount of its own says wins for that mount.
    #[serde(default)]
    pub(crate) rootfs_propagation: Propagation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) enum Propagation {
    #[default]
    Private,
    Slave,
    Shared,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ContainerPid {
    Own,
    /// The pod's; it must have been set up with [`PodPid::Shared`] or [`PodPid::Joined`].
    Pod,
    Host,
    /// That of another container of this pod (CRI's TARGET).
    Target(ContainerId),
}

/// How a new process gets into its cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupJoin {
    /// cgroup v2 directory, for `CLONE_INTO_CGROUP`.
    pub(crate) unified: Option<Fd>,
    /// Open `tasks` of each v1 hierarchy, write-only. The new process itself writes `0` to each while
    /// it has one thread: unlike `cgroup.procs`, that takes no lock that waits for an RCU grace period
    /// (0.1 ms instead of 8 for all of them).
    pub(crate) legacy: Vec<Fd>,
    /// `memory.events` (v2) or `memory.oom_control` (v1), to tell an OOM kill after the exit.
    pub(crate) oom_counter: Option<Fd>,
    /// An eventfd that counts up when a v1 group runs out of memory.
    #[serde(default)]
    pub(crate) oom_event: Option<Fd>,
}

/// One thing attached inside the container's root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// Absolute path inside the container; created if missing.
    pub(crate) target: ByteBuf,
    pub(crate) source: MountSource,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum MountSource {
    /// A detached mount prepared by the daemon: attributes and propagation are set already.
    Attach { mount: Fd, kind: TargetKind },
    /// A directory or file of such a mount, by a path relative to its root.
    AttachPart { mount: Fd, path: ByteBuf, kind: TargetKind },
    /// A file system made inside the container's namespaces (proc, sysfs, tmpfs, devpts, mqueue).
    New { fstype: String, options: Vec<(String, Option<String>)>, attributes: MountAttributes },
    /// The container's view of the cgroup file system: `cgroup2`, or a tmpfs with one bind per v1
    /// hierarchy, as the host has it. No hierarchies: `cgroup2`. Otherwise each is a list of
    /// controllers (`cpu,cpuacct`), a name (`name=systemd`), or `unified` on a hybrid host.
    Cgroup { hierarchies: Vec<String>, read_only: bool },
    /// The pod's shared-memory tmpfs.
    PodShm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TargetKind {
    Directory,
    File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the kernel's independent mount attributes")]
pub(crate) struct MountAttributes {
    pub(crate) read_only: bool,
    pub(crate) no_suid: bool,
    pub(crate) no_dev: bool,
    pub(crate) no_exec: bool,
    pub(crate) no_atime: bool,
    pub(crate) rel_atime: bool,
    pub(crate) strict_atime: bool,
}

/// A device node below `/dev`, or anywhere else the request names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) path: ByteBuf,
    pub(crate) kind: DeviceKind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    /// As the host counts, also in a user namespace: a node of the host's keeps its owner there.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeviceKind {
    Character,
    Block,
    Fifo,
}

/// A process to be: the same for a container's first one and for an exec, so that no path can
/// forget a part of the confinement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// At least one; the first is searched in the `PATH` of `env` when it has no slash.
    pub(crate) args: Vec<ByteBuf>,
    /// `NAME=value`, last one of a name wins already.
    pub(crate) env: Vec<ByteBuf>,
    /// Absolute; created (by the init only) when missing.
    pub(crate) cwd: ByteBuf,
    pub(crate) user: User,
    pub(crate) capabilities: Capabilities,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: Option<Seccomp>,
    pub(crate) apparmor: Option<String>,
    pub(crate) selinux: Option<String>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) terminal: Option<TerminalSize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All supplementary groups, as `setgroups(2)` takes them.
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: Option<u32>,
}

/// Capability sets as bit masks (`1 << CAP_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) struct Capabilities {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rlimit {
    /// `RLIMIT_*` number of the kernel.
    pub(crate) resource: u32,
    /// `u64::MAX` is unlimited.
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seccomp {
    /// Classic BPF: an array of `struct sock_filter` in native byte order.
    pub(crate) filter: ByteBuf,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub(crate) flags: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) struct TerminalSize {
    pub(crate) width: u16,
    pub(crate) height: u16,
}

/// Where a container's standard streams go. With a terminal, stderr does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stdio {
    pub(crate) stdin: Stdin,
    /// An open log file (append only); `None`: output is read and dropped unless attached.
    pub(crate) log: Option<Fd>,
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stdin {
    /// `/dev/null`.
    Closed,
    /// Stays open when an attached client goes.
    Open,
    /// Closed when the first attached client closes it.
    Once,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LogFormat {
    /// `<RFC 3339 time with ns> <stream> <P|F> <bytes>`, split at 16 KiB.
    Cri,
}

/// One command in a running container. Joins the namespaces and the cgroup of its init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExecPlan {
    pub(crate) id: ExecId,
    pub(crate) container: ContainerId,
    pub(crate) process: Process,
    /// Which pipes to make; with a terminal one descriptor carries all.
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// A run of CRIU, a program of the host's, for one container. It runs in the pod's namespaces and
/// the container's cgroup namespace, so that to CRIU the pod's network, IPC and host name are its
/// own; and with a private copy of the host's mounts, where the program and its files are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CriuPlan {
    /// The program's path on the host, and its arguments.
    pub(crate) args: Vec<ByteBuf>,
    pub(crate) env: Vec<ByteBuf>,
    /// The host's mount namespace.
    pub(crate) host_mounts: Fd,
    /// Standard output and error.
    pub(crate) output: Fd,
    /// Killed when it takes longer.
    pub(crate) patience_ms: u64,
    pub(crate) task: CriuTask,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum CriuTask {
    /// The container is frozen. CRIU leaves it so, also when whoever would thaw it is gone.
    Dump { switch: Fd, thawed: String },
    /// In place of the first process of a container that was made and not started.
    Restore(RestorePlan),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RestorePlan {
    /// An empty directory of the host's, by its path there: CRIU knows it by that name.
    pub(crate) stage: ByteBuf,
    /// Mount points of the container. The mount of the first shows at `0` in the stage, that of the
    /// second at `1`, and so on.
    pub(crate) mounts: Vec<ByteBuf>,
    /// Which standard streams of the container CRIU gets, from descriptor [`FIRST_STREAM`] on, in
    /// this order.
    pub(crate) streams: Vec<i32>,
    /// Where CRIU leaves the number of the restored process.
    pub(crate) results: Fd,
    /// The file there.
    pub(crate) pid_file: String,
}

/// The number under which CRIU gets the first stream.
pub(crate) const FIRST_STREAM: i32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_counted_from_its_range() {
        let uids = vec![
            IdMapping { container: 0, host: 1000, length: 10 },
            IdMapping { container: 10, host: 5000, length: 5 },
        ];
        let gids = vec![IdMapping { container: 0, host: 7, length: 1 }];
        let users = UserNamespace { uids, gids };
        assert_eq!(users.on_host(0, 0), Some((1000, 7)));
        assert_eq!(users.on_host(9, 0), Some((1009, 7)));
        assert_eq!(users.on_host(14, 0), Some((5004, 7)));
        assert_eq!(users.on_host(15, 0), None);
        assert_eq!(users.on_host(0, 1), None);
    }
}
