//! Cais: one container engine behind two front doors.
//!
//! | module | owns |
//! |---|---|
//! | `error`, `id` | the words every layer shares |
//! | `api` | front doors: requests in, answers out |
//! | `builder` | Dockerfiles into images |
//! | `engine` | decisions: what pods, containers and images are and may do |
//! | `monitor` | the per-pod process and its wire |
//! | `executor` | the kernel work |
//! | `cgroup` | control groups |
//! | `apparmor` | profiles of the kernel, and our own |
//! | `seccomp` | system call filters |
//! | `net` | the pods' network |
//! | `dns` | names of containers, answered inside their networks |
//! | `image` | images: registries, layers, mounts |
//! | `nri` | plugins of the node that adjust pods and containers |
//! | `store` | records on disk |
//! | `streaming` | exec, attach and port-forward sessions, in a process of their own |

mod api;
mod apparmor;
mod builder;
mod cgroup;
mod config;
mod daemon;
mod dns;
mod engine;
mod error;
mod executor;
mod id;
mod image;
mod monitor;
mod net;
mod nri;
mod seccomp;
mod store;
mod streaming;
mod sys;

/// Runs a monitor on the socket that is its standard input. Returns its exit code.
pub fn run_monitor() -> std::process::ExitCode {
    exit_code("cais-monitor", monitor::run())
}

/// Runs `caisd` with the arguments of this process. Returns its exit code.
pub fn run_daemon() -> std::process::ExitCode {
    exit_code("caisd", daemon::run())
}

fn exit_code(program: &str, result: error::Result<()>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            let line = format!("{program}: {}\n", error.chain());
            let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
            std::process::ExitCode::FAILURE
        }
    }
}
