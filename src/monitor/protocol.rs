//! What daemon, stream server and monitor say to each other. Types only; framing is in `wire`.
//!
//! A client connects, says [`Request::Hello`], and sends requests; each gets one reply with the
//! same sequence number. Reports come unasked to clients that subscribed, and about an exec to the
//! client that started it.
//!
//! ```text
//! client                                   monitor
//!   Hello{version}              ──▶
//!                               ◀──          Welcome
//!   SetUpPod{plan} + fds        ──▶          namespaces, /dev/shm, sysctls
//!                               ◀──          PodReady
//!   OpenSocket{Netlink}         ──▶
//!                               ◀──          Socket + fd (in the pod's network namespace)
//!   Create{container, plan}+fds ──▶          clone, mounts, … the child waits before execve
//!                               ◀──          Created{pid}
//!   Start{container}            ──▶          execve
//!                               ◀──          Started
//!                               ◀──          Report::Exited
//! ```

use serde::{Deserialize, Serialize};

pub(crate) use crate::executor::failure::{Failure, FailureKind};
use crate::executor::plan::{
    ContainerPlan, CriuPlan, ExecPlan, PodPlan, TerminalSize, UserNamespace,
};
use crate::id::{ContainerId, ExecId};

/// Raised when an older peer could misunderstand a message; added fields do not raise it.
pub(crate) const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) sequence: u32,
    pub(crate) request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Hello {
        version: u32,
    },
    /// From now on this connection gets [`Report`]s about containers.
    Subscribe,
    SetUpPod(Box<PodPlan>),
    /// Open a socket in the pod's network namespace and pass it back.
    OpenSocket(SocketKind),
    /// Pass out a user namespace with these numbers, for mounts to be mapped by: the pod's own when
    /// it has the same.
    OpenUserNamespace(UserNamespace),
    /// Pass out the pod's `/dev/shm` as a detached mount, for another pod to have it too.
    OpenShm,
    Create {
        container: ContainerId,
        plan: Box<ContainerPlan>,
    },
    Start {
        container: ContainerId,
    },
    Kill {
        container: ContainerId,
        signal: i32,
        scope: KillScope,
    },
    /// Forget an exited or never started container; kills the latter.
    Delete {
        container: ContainerId,
    },
    Exec(Box<ExecPlan>),
    /// Signal an exec and, for [`KillScope::All`], every process it started.
    KillExec {
        exec: ExecId,
        signal: i32,
        scope: KillScope,
    },
    /// Join a running container's streams; descriptors come with the reply, in the order stdin,
    /// stdout, stderr of those asked for (with a terminal: one for both directions).
    Attach {
        container: ContainerId,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    Resize {
        container: ContainerId,
        size: TerminalSize,
    },
    /// Go on writing to the one descriptor sent along.
    ReopenLog {
        container: ContainerId,
    },
    /// Run CRIU for a container: one that runs to be dumped, one that waits for its start to be
    /// replaced by what is restored. Answered when CRIU has ended.
    Criu {
        container: ContainerId,
        plan: Box<CriuPlan>,
    },
    List,
    /// Kill what runs, and exit.
    Shutdown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SocketKind {
    /// `NETLINK_ROUTE`.
    Route,
    /// `NETLINK_NETFILTER`.
    Netfilter,
    TcpV4,
    TcpV6,
    /// Bound to 127.0.0.11 and a port that the kernel chose. The monitor keeps it: each call gets a
    /// duplicate of the same one, and what waits in it outlives who reads it.
    NamesUdp,
    /// The same for TCP; it listens.
    NamesTcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KillScope {
    /// The first process only.
    Init,
    /// Every process of the container's cgroup, or of the exec.
    All,
}

/// Everything a monitor sends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Reply { sequence: u32, result: Result<Reply, Failure> },
    Report(Report),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Welcome {
        version: u32,
    },
    Done,
    PodReady {
        /// PID 1 of a shared PID namespace, as the host sees it.
        init: Option<i32>,
    },
    /// One descriptor comes along.
    Socket,
    /// One descriptor comes along.
    UserNamespace,
    /// One descriptor comes along.
    Shm,
    Created {
        pid: i32,
    },
    Started {
        /// Nanoseconds since the epoch.
        at: i64,
    },
    /// Descriptors come along: those piped of stdin, stdout, stderr; or the terminal's master.
    ExecStarted {
        pid: i32,
    },
    /// Descriptors come along as [`Request::Attach`] says.
    Attached,
    Containers(Vec<ContainerState>),
    /// How CRIU ended; whether that is a success is in the status.
    CriuEnded {
        status: ExitStatus,
        /// The first process of the container that was restored, stopped until it is started.
        restored: Option<i32>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerState {
    pub(crate) container: ContainerId,
    pub(crate) state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    Created { pid: i32 },
    Running { pid: i32, started_at: i64 },
    Exited(Exit),
}

/// How a process ended. Also the content of the exit record on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    /// Nanoseconds since the epoch; `None`: it never ran the user's program.
    pub(crate) started_at: Option<i64>,
    /// Nanoseconds since the epoch.
    pub(crate) finished_at: i64,
    /// The kernel killed a process of this container for its memory limit.
    pub(crate) oom_killed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ExitStatus {
    Code(i32),
    Signal(i32),
}

impl ExitStatus {
    /// The number a shell would show: the code, or 128 + signal.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    Exited { container: ContainerId, exit: Exit },
    ExecExited { exec: ExecId, status: ExitStatus },
}
