//! Finding CRIU and having a pod's monitor run it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, MemfdFlags};

use crate::engine::Shared;
use crate::engine::container::Container;
use crate::engine::pod::Pod;
use crate::error::{Context, Error, Kind, Result};
use crate::executor::plan::{CriuPlan, CriuTask, Fd};
use crate::monitor::protocol::{ExitStatus, Reply, Request};

/// For a daemon without `PATH`, and for the programs that CRIU itself calls.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many of the last errors in CRIU's log are told.
const TOLD: usize = 3;

/// The program, found.
#[derive(Debug)]
pub(super) struct Criu {
    program: PathBuf,
    path: Vec<u8>,
}

/// One run: what is done, where its log goes, and the descriptors beyond the two of every run.
pub(super) struct Run<'a> {
    pub(super) verb: &'a str,
    pub(super) args: Vec<Vec<u8>>,
    pub(super) images: &'a Path,
    /// Gets `VERB.log` and what else CRIU writes beside images.
    pub(super) work: &'a Path,
    pub(super) patience: Duration,
    pub(super) task: CriuTask,
    /// The first of them is the plan's [`FIRST_OWN`].
    pub(super) descriptors: Vec<OwnedFd>,
}

/// The descriptor index after those of every run.
pub(super) const FIRST_OWN: u32 = 2;

impl Criu {
    /// # Errors
    /// `WrongState` when there is none.
    pub(super) fn find(shared: &Shared) -> Result<Self> {
        let configured = &shared.config.checkpoint.criu;
        let path = std::env::var_os("PATH").filter(|path| !path.is_empty());
        let path = path.unwrap_or_else(|| DEFAULT_PATH.into());
        let program = if configured.is_absolute() {
            Some(configured.clone()).filter(|program| is_program(program))
        } else {
            std::env::split_paths(&path)
                .map(|directory| directory.join(configured))
                .find(|program| program.is_absolute() && is_program(program))
        };
        match program {
            Some(program) => Ok(Self { program, path: path.as_bytes().to_vec() }),
            None => Err(Error::wrong_state(format!(
                "checkpoint and restore need CRIU, and there is no program {}: install criu, or \
                 set checkpoint.criu in the configuration",
                configured.display()
            ))),
        }
    }

    /// Writes what the processes of a frozen container are, and leaves them frozen.
    pub(super) async fn dump(
        &self,
        shared: &Shared,
        (pod, container): (&Pod, &Container),
        (images, work): (&Path, &Path),
        patience: Duration,
    ) -> Result<()> {
        let record = container.record();
        let pid = record.phase.pid().ok_or_else(|| container.is_not("running", &record.phase))?;
        let freezer = shared.cgroups.open(&record.cgroup)?.freezer()?;
        let mut args = words(&["--tree", &pid.to_string(), "--leave-running", "--freeze-cgroup"]);
        args.push(freezer.directory.into_os_string().into_encoded_bytes());
        // What it takes a moment to seize is frozen already; this bounds a process that is stuck.
        args.extend(words(&["--timeout", &patience.as_secs().clamp(1, 60).to_string()]));
        for mount in super::mountinfo::of_process(pid)?.external() {
            args.extend([b"--external".to_vec(), mount.key_of_dump()]);
        }
        let run = Run {
            verb: "dump",
            args,
            images,
            work,
            patience,
            task: CriuTask::Dump { switch: Fd(FIRST_OWN), thawed: freezer.thawed.to_owned() },
            descriptors: vec![freezer.switch],
        };
        self.run(pod, container, run).await.map(drop)
    }

    /// Runs CRIU in a pod. Returns the number of the restored process, if that was the task.
    pub(super) async fn run(
        &self,
        pod: &Pod,
        container: &Container,
        run: Run<'_>,
    ) -> Result<Option<i32>> {
        let Run { verb, args, images, work, patience, task, descriptors } = run;
        let log = format!("{verb}.log");
        let mut all = vec![self.program.as_os_str().as_bytes().to_vec(), verb.into()];
        for (option, path) in [("--images-dir", images), ("--work-dir", work)] {
            all.extend([option.into(), path.as_os_str().as_bytes().to_vec()]);
        }
        // Cgroups are ours to make and join; connections of before would lead nowhere.
        all.extend(words(&["--log-file", &log, "--manage-cgroups=ignore", "--tcp-close"]));
        all.extend(words(&["--file-locks", "--ext-unix-sk", "--network-lock", "skip"]));
        all.extend(args);
        let output = rustix::fs::memfd_create("criu", MemfdFlags::CLOEXEC).context("memfd")?;
        let host_mounts = File::open("/proc/self/ns/mnt").context("open our mount namespace")?;
        let plan = CriuPlan {
            args: all.into_iter().map(Into::into).collect(),
            env: vec![[b"PATH=", &self.path[..]].concat().into()],
            host_mounts: Fd(0),
            output: Fd(1),
            patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
            task,
        };
        let mut fds = vec![host_mounts.into(), output.try_clone().context("duplicate")?];
        fds.extend(descriptors);
        let request = Request::Criu { container: container.id.clone(), plan: Box::new(plan) };
        let what = || format!("{verb} container {}", container.record().config.name);
        let (reply, _) = pod.monitor()?.call(request, fds).await.with_context(what)?;
        let Reply::CriuEnded { status, restored } = reply else {
            return Err(Error::internal(format!("the monitor answered {reply:?} to Criu")));
        };
        match status {
            ExitStatus::Code(0) => Ok(restored),
            ExitStatus::Signal(libc::SIGKILL) => {
                Err(Error::new(Kind::Timeout, "criu was killed: it took too long"))
                    .with_context(what)
            }
            ExitStatus::Code(_) | ExitStatus::Signal(_) => {
                let told = last_errors(&work.join(&log), output);
                let code = status.code();
                Err(Error::internal(format!("criu ended with {code}: {told}"))).with_context(what)
            }
        }
    }
}

pub(super) fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

/// What CRIU complained of, in its log or, when it did not get as far, on its standard error.
fn last_errors(log: &Path, output: OwnedFd) -> String {
    let mut text = std::fs::read(log).unwrap_or_default();
    if !has_error(&text) {
        let mut output = File::from(output);
        let _ = output.rewind().and_then(|()| output.read_to_end(&mut text));
    }
    let text = String::from_utf8_lossy(&text);
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("Error ")).collect();
    let mut told = if errors.is_empty() { text.lines().collect() } else { errors };
    told.drain(..told.len().saturating_sub(TOLD));
    told.join("; ")
}

fn has_error(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).contains("Error ")
}

/// Whether a name can be one component of a path.
pub(super) fn is_component(name: &str) -> bool {
    !name.contains(['/', '\0']) && Path::new(name).file_name() == Some(OsStr::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output_with(text: &str) -> OwnedFd {
        let output = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&output, text.as_bytes()).unwrap();
        output.try_clone().unwrap()
    }

    #[test]
    fn the_last_errors_of_the_log_are_told_or_what_was_printed() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("dump.log");
        assert_eq!(last_errors(&log, output_with("sh: no such program\n")), "sh: no such program");
        let text = "Warn 1\nError (a) 1\nError (b) 2\nfine\nError (c) 3\nError (d) 4\n";
        crate::store::atomic::Directory::open(
            directory.path(),
            crate::store::atomic::Durability::UntilReboot,
        )
        .and_then(|directory| directory.replace("dump.log", text.as_bytes()))
        .unwrap();
        let told = last_errors(&log, output_with("printed"));
        assert_eq!(told, "Error (b) 2; Error (c) 3; Error (d) 4");
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_no_component() {
        for name in ["", ".", "..", "a/b", "/a", "a\0b", "a/"] {
            assert!(!is_component(name), "{name:?}");
        }
        assert!(is_component("main-1.x"));
    }
}
