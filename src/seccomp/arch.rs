//! Architectures and the numbers of their calls; the tables are those of crate `syscalls`.

use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X86,
    Aarch64,
    Arm,
}

impl Arch {
    /// Those whose programs this machine runs, its own first.
    pub(super) fn native() -> Vec<Self> {
        if cfg!(target_arch = "aarch64") {
            vec![Self::Aarch64, Self::Arm]
        } else {
            vec![Self::X86_64, Self::X86]
        }
    }

    /// From the names of OCI (`SCMP_ARCH_X86_64`) and of Docker's conditions (`amd64`).
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "SCMP_ARCH_X86_64" | "amd64" => Some(Self::X86_64),
            "SCMP_ARCH_X86" | "x86" | "386" => Some(Self::X86),
            "SCMP_ARCH_AARCH64" | "arm64" => Some(Self::Aarch64),
            "SCMP_ARCH_ARM" | "arm" => Some(Self::Arm),
            _ => None,
        }
    }

    /// `AUDIT_ARCH_*` of linux/audit.h: what `seccomp_data.arch` holds.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    pub(super) fn number(self, name: &str) -> Option<u32> {
        let id = match self {
            Self::X86_64 => syscalls::x86_64::Sysno::from_str(name).ok()?.id(),
            Self::X86 => syscalls::x86::Sysno::from_str(name).ok()?.id(),
            Self::Aarch64 => syscalls::aarch64::Sysno::from_str(name).ok()?.id(),
            Self::Arm => syscalls::arm::Sysno::from_str(name).ok()?.id(),
        };
        u32::try_from(id).ok()
    }

    /// The highest number in our table. ARM's private calls, far above, do not count.
    pub(super) fn highest(self) -> u32 {
        let last = match self {
            Self::X86_64 => syscalls::x86_64::Sysno::last().id(),
            Self::X86 => syscalls::x86::Sysno::last().id(),
            Self::Aarch64 => syscalls::aarch64::Sysno::last().id(),
            Self::Arm => 0x000f_ffff,
        };
        last.unsigned_abs()
    }

    #[cfg(test)]
    pub(super) fn names(self) -> Vec<&'static str> {
        match self {
            Self::X86_64 => syscalls::x86_64::Sysno::iter().map(|it| it.name()).collect(),
            Self::X86 => syscalls::x86::Sysno::iter().map(|it| it.name()).collect(),
            Self::Aarch64 => syscalls::aarch64::Sysno::iter().map(|it| it.name()).collect(),
            Self::Arm => syscalls::arm::Sysno::iter().map(|it| it.name()).collect(),
        }
    }
}
