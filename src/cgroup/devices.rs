//! Which device nodes may be opened and made.
//!
//! v1 has two files, one to forbid everything and one to allow again. v2 runs a small program of
//! ours at each access ([`program`]).

use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::controller::Controller;
use super::{Cgroup, file, program};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::bpf;

/// One thing that is allowed; what no rule allows is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRule {
    pub(crate) device: DeviceType,
    /// `None`: every one.
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: DeviceAccess,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeviceType {
    Character,
    Block,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceAccess {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) mknod: bool,
}

impl DeviceAccess {
    pub(crate) const ALL: Self = Self { read: true, write: true, mknod: true };

    /// Reads a set of the letters `r`, `w`, `m`.
    pub(crate) fn parse(field: &str, text: &str) -> Result<Self> {
        let mut access = Self { read: false, write: false, mknod: false };
        for letter in text.chars() {
            match letter {
                'r' => access.read = true,
                'w' => access.write = true,
                'm' => access.mknod = true,
                _ => {
                    let shown: String = text.chars().take(20).collect();
                    return Err(Error::invalid(format!(
                        "{field}: {shown:?} has other letters than r, w and m"
                    )));
                }
            }
        }
        if text.is_empty() {
            return Err(Error::invalid(format!("{field}: empty, expected some of r, w and m")));
        }
        Ok(access)
    }

    /// The set as [`parse`](Self::parse) reads it.
    pub(super) fn letters(self) -> String {
        let Self { read, write, mknod } = self;
        let all = [(read, 'r'), (write, 'w'), (mknod, 'm')];
        all.iter().filter(|it| it.0).map(|it| it.1).collect()
    }
}

impl DeviceRule {
    /// The v1 line: `c 1:3 rwm`.
    fn line(&self) -> String {
        let letter = match self.device {
            DeviceType::Character => 'c',
            DeviceType::Block => 'b',
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |it| it.to_string());
        format!("{letter} {}:{} {}", number(self.major), number(self.minor), self.access.letters())
    }
}

impl Cgroup {
    /// Denies all devices but those that `rules` name.
    pub(super) fn set_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        if let Some((hierarchy, dir)) = self.controller(Controller::Devices) {
            let lines = rules.iter().map(|rule| ("devices.allow", rule.line()));
            for (name, line) in [("devices.deny", "a".to_owned())].into_iter().chain(lines) {
                file::write(dir, name, &line)
                    .with_context(|| self.what(hierarchy, &format!("write {line:?} to {name}")))?;
            }
            return Ok(());
        }
        let Some((hierarchy, dir)) = self.unified() else {
            let text = "cgroup: no way to restrict devices on this machine";
            return Err(Error::new(Kind::Unsupported, text));
        };
        attach(dir, rules).with_context(|| self.what(hierarchy, "restrict devices"))
    }
}

/// The v2 way. The program goes with the directory.
pub(super) fn attach(dir: &OwnedFd, rules: &[DeviceRule]) -> Result<()> {
    let program = bpf::load_device_program(&program::compile(rules)).context("load a program")?;
    bpf::attach_device_program(dir.as_fd(), program.as_fd()).context("attach the program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_reads_as_the_kernel_expects() {
        let rule = DeviceRule {
            device: DeviceType::Character,
            major: Some(136),
            minor: None,
            access: DeviceAccess::parse("permissions", "rw").unwrap(),
        };
        assert_eq!(rule.line(), "c 136:* rw");
        for bad in ["", "rx", "RW", "r w"] {
            let error = DeviceAccess::parse("devices[0].permissions", bad).unwrap_err();
            assert!(error.to_string().starts_with("devices[0].permissions: "), "{error}");
        }
    }
}
