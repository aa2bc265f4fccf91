//! What the machine offers, looked up once.

use crate::apparmor;
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
        Ok(Self {
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            capabilities: capabilities.permitted.bits(),
            has_apparmor: apparmor::is_enabled(),
            has_selinux: std::fs::metadata("/sys/fs/selinux/enforce").is_ok(),
        })
    }

    /// True when a user namespace can be made at all; an administrator may forbid it.
    pub(crate) fn has_user_namespaces() -> bool {
        let limit = std::fs::read_to_string("/proc/sys/user/max_user_namespaces");
        limit.is_ok_and(|limit| limit.trim() != "0")
    }
}
