//! What the machine offers, looked up once.

use std::fs::read_to_string;

use crate::error::{Context, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) hostname: String,
    /// What the daemon may give: its own permitted set. A daemon in a container has not all.
    pub(crate) capabilities: u64,
    pub(crate) has_apparmor: bool,
    pub(crate) has_selinux: bool,
}

impl Host {
    pub(crate) fn probe() -> Result<Self> {
        let capabilities = rustix::thread::capabilities(None).context("read our capabilities")?;
        let flag = |path: &str, yes: &str| read_to_string(path).is_ok_and(|it| it.trim() == yes);
        Ok(Self {
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            capabilities: capabilities.permitted.bits(),
            has_apparmor: flag("/sys/module/apparmor/parameters/enabled", "Y"),
            has_selinux: std::fs::metadata("/sys/fs/selinux/enforce").is_ok(),
        })
    }

    /// True when a user namespace can be made at all; an administrator may forbid it.
    pub(crate) fn has_user_namespaces() -> bool {
        let limit = read_to_string("/proc/sys/user/max_user_namespaces");
        limit.is_ok_and(|limit| limit.trim() != "0")
    }

    /// True when a profile of this name is loaded.
    pub(super) fn has_apparmor_profile(&self, name: &str) -> bool {
        let list = read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
        list.lines().any(|line| line.rsplit_once(" (").is_some_and(|(known, _)| known == name))
    }
}
