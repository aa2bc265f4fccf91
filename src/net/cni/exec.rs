//! Executing one plugin: what it is given, how long it may take, and what its answer may be.
//!
//! A plugin is a program of the operator that runs as root, so it is found in the configured
//! directories only, must be writable by root alone, gets an environment made from scratch, and
//! runs in a process group of its own that is killed when it takes too long, says too much, or
//! the call is given up.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::error::{Context, Error, Kind, Result};

const LARGEST_ANSWER: u64 = 1024 * 1024;
/// Of what a plugin says in words, an error repeats this much.
const LONGEST_MESSAGE: usize = 2000;
/// After the plugin's exit, a process it left behind may hold the pipes open for this long.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Check,
    Delete,
    Version,
    Status,
    Collect,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Delete => "DEL",
            Self::Version => "VERSION",
            Self::Status => "STATUS",
            Self::Collect => "GC",
        }
    }
}

/// Where plugins are, and how long one may take.
#[derive(Debug, Clone)]
pub(crate) struct Plugins {
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) timeout: Duration,
}

/// What the plugin is told through its environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    pub(crate) container_id: String,
    /// Empty when the namespace is gone.
    pub(crate) netns: String,
    pub(crate) interface: String,
    pub(crate) arguments: String,
}

/// A plugin's own words for a failure.
#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

impl Plugins {
    /// The program for a plugin type: the first executable of that name.
    pub(crate) fn find(&self, kind: &str) -> Result<PathBuf> {
        for directory in &self.directories {
            let path = directory.join(kind);
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
                continue;
            }
            // It runs as root: who may write it may do everything.
            if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
                let message =
                    format!("CNI plugin {} must be writable by root only", path.display());
                return Err(Error::new(Kind::Denied, message));
            }
            return Ok(path);
        }
        let searched: Vec<_> = self.directories.iter().map(|d| d.display().to_string()).collect();
        let message = format!("CNI plugin {kind} is not in {}", searched.join(" or "));
        Err(Error::wrong_state(message))
    }

    /// Runs the plugin and returns what it wrote to its standard output.
    pub(crate) async fn run(
        &self,
        kind: &str,
        verb: Verb,
        subject: &Subject,
        input: &[u8],
    ) -> Result<Vec<u8>> {
        let program = self.find(kind)?;
        let describe = || format!("CNI plugin {kind} {}", verb.as_str());
        let child = self.command(&program, verb, subject).spawn();
        let mut group = Group::of(child.kind(Kind::Unavailable).with_context(describe)?);
        let talked = tokio::time::timeout(self.timeout, group.talk(input)).await;
        match talked {
            Ok(answer) => answer.and_then(Answer::judge).with_context(describe),
            Err(_) => {
                let message = format!("no answer within {:?}; it was killed", self.timeout);
                Err(Error::new(Kind::Timeout, message)).with_context(describe)
            }
        }
    }

    fn command(&self, program: &Path, verb: Verb, subject: &Subject) -> Command {
        let mut command = Command::new(program);
        let joined: Vec<_> = self.directories.iter().map(|d| d.as_os_str()).collect();
        command
            .env_clear()
            // Plugins that call `iptables` or `nft` look for it by name.
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", verb.as_str())
            .env("CNI_PATH", joined.join(std::ffi::OsStr::new(":")))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if !matches!(verb, Verb::Version | Verb::Status | Verb::Collect) {
            command
                .env("CNI_CONTAINERID", &subject.container_id)
                .env("CNI_NETNS", &subject.netns)
                .env("CNI_IFNAME", &subject.interface)
                .env("CNI_ARGS", &subject.arguments);
        }
        command
    }
}

struct Answer {
    status: std::process::ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Answer {
    fn judge(self) -> Result<Vec<u8>> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let message = match serde_json::from_slice::<Failure>(&self.stdout) {
            Ok(failure) if !failure.msg.is_empty() => {
                let details = match failure.details.as_str() {
                    "" => String::new(),
                    details => format!(" ({details})"),
                };
                format!("{}{details}, code {}", failure.msg, failure.code)
            }
            Ok(_) | Err(_) => {
                let said = String::from_utf8_lossy(&self.stderr);
                format!("{}, without an error in CNI's form: {}", self.status, said.trim())
            }
        };
        Err(Error::new(Kind::Unavailable, readable(&message)))
    }
}

/// The plugin and its descendants; killed together when this is dropped before its exit.
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, leader }
    }

    async fn talk(&mut self, input: &[u8]) -> Result<Answer> {
        let stdin = self.child.stdin.take();
        let stdout = self.child.stdout.take().context("the plugin has no standard output")?;
        let stderr = self.child.stderr.take().context("the plugin has no standard error")?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let write = async move {
            if let Some(mut stdin) = stdin {
                // One that does not read its input is judged by its answer.
                let _ = stdin.write_all(input).await;
            }
            Ok(())
        };
        let status = {
            let talk =
                async { tokio::try_join!(write, read(stdout, &mut out), read(stderr, &mut err)) };
            tokio::pin!(talk);
            tokio::select! {
                talked = &mut talk => {
                    talked?;
                    self.child.wait().await
                }
                status = self.child.wait() => {
                    match tokio::time::timeout(LINGER, &mut talk).await {
                        Ok(talked) => drop(talked?),
                        Err(_) => self.kill(),
                    }
                    status
                }
            }
        };
        let status = status.context("wait for the plugin")?;
        // It has been waited for: its number may soon be somebody else's.
        self.leader = None;
        Ok(Answer { status, stdout: out, stderr: err })
    }

    fn kill(&self) {
        if let Some(leader) = self.leader {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn read(stream: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> Result<()> {
    stream.take(LARGEST_ANSWER + 1).read_to_end(into).await.context("read the answer")?;
    if into.len() as u64 > LARGEST_ANSWER {
        return Err(Error::new(Kind::Unavailable, "the answer is longer than 1 MiB"));
    }
    Ok(())
}

/// Text of a stranger for an error message: one line, no control bytes, not too long.
fn readable(text: &str) -> String {
    text.chars().take(LONGEST_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
