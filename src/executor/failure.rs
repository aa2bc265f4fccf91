//! Why something failed: [`Fault`] inside a step, [`Failure`] once the step is known.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Why a request failed: small enough to come out of a half-made child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// What was being done, in the words of the steps table: `mount /data`.
    pub(crate) step: String,
    pub(crate) errno: Option<i32>,
    pub(crate) detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    /// The plan cannot work as written.
    Invalid,
    /// No such container or exec here.
    NotFound,
    /// Not in this state.
    WrongState,
    /// The program to execute does not exist in the container (exit code 127).
    CommandNotFound,
    /// It exists but cannot be executed (exit code 126).
    CommandNotExecutable,
    Internal,
}

/// Why a step failed, before it is known which step it was.
#[derive(Debug)]
pub(crate) struct Fault {
    kind: FailureKind,
    /// Which of several: `/data`, `setgroups`.
    about: Option<String>,
    errno: Option<Errno>,
    detail: String,
}

impl Fault {
    pub(crate) fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { kind, about: None, errno: None, detail: detail.into() }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(FailureKind::Invalid, detail)
    }

    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(FailureKind::Internal, detail)
    }

    #[must_use]
    pub(crate) fn about(mut self, about: impl Into<String>) -> Self {
        let about = about.into();
        self.about = Some(match self.about {
            Some(inner) => format!("{about}: {inner}"),
            None => about,
        });
        self
    }

    #[must_use]
    pub(crate) fn about_path(self, path: &[u8]) -> Self {
        self.about(String::from_utf8_lossy(path))
    }

    #[must_use]
    pub(crate) fn with_errno(mut self, errno: Errno) -> Self {
        self.errno = Some(errno);
        self
    }

    pub(crate) fn into_failure(self, step: &str) -> Failure {
        Failure {
            kind: self.kind,
            step: match self.about {
                Some(about) => format!("{step} {about}"),
                None => step.to_owned(),
            },
            errno: self.errno.map(Errno::raw_os_error),
            detail: self.detail,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Failure {}

/// A failure of a process that did a part of the work.
impl From<Failure> for Fault {
    fn from(Failure { kind, step, errno, detail }: Failure) -> Self {
        Self { kind, about: Some(step), errno: errno.map(Errno::from_raw_os_error), detail }
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        let detail = std::io::Error::from(errno).to_string();
        Self { kind: FailureKind::Internal, about: None, errno: Some(errno), detail }
    }
}

/// Names the object of a failed call: `.about("setgroups")`, `.about_path(path)`.
pub(crate) trait About<T> {
    fn about(self, what: &str) -> Result<T, Fault>;
    fn about_path(self, path: &[u8]) -> Result<T, Fault>;
}

impl<T, E: Into<Fault>> About<T> for Result<T, E> {
    fn about(self, what: &str) -> Result<T, Fault> {
        self.map_err(|error| error.into().about(what))
    }

    fn about_path(self, path: &[u8]) -> Result<T, Fault> {
        self.map_err(|error| error.into().about(String::from_utf8_lossy(path)))
    }
}

impl Failure {
    /// What a shell would exit with when it cannot run a command.
    pub(crate) fn exit_code(&self) -> i32 {
        match self.kind {
            FailureKind::CommandNotFound => 127,
            FailureKind::CommandNotExecutable => 126,
            FailureKind::Invalid
            | FailureKind::NotFound
            | FailureKind::WrongState
            | FailureKind::Internal => 128,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_step_and_its_object() {
        let failure = Fault::from(Errno::NOTDIR).about("/data").into_failure("mount");
        assert_eq!(failure.step, "mount /data");
        assert_eq!(failure.errno, Some(libc::ENOTDIR));
        assert!(failure.detail.contains("Not a directory"), "{}", failure.detail);
    }
}
