//! What a filter is made from: for one set of capabilities, with nothing conditional left but the
//! arguments of a call.

use std::collections::BTreeMap;

use super::arch::Arch;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) arches: Vec<Arch>,
    /// For calls that no rule names.
    pub(super) default: Action,
    /// For numbers above all that we know of: programs take ENOSYS for "an older kernel" and fall
    /// back, and EPERM for a refusal.
    pub(super) unknown: Option<Action>,
    /// By name: cases in order, the first one that holds decides.
    pub(super) calls: BTreeMap<String, Vec<(Vec<Comparison>, Action)>>,
    /// `SECCOMP_FILTER_FLAG_*`
    pub(super) flags: u32,
}

impl Rules {
    pub(super) fn add(&mut self, name: &str, comparisons: Vec<Comparison>, action: Action) {
        let cases = self.calls.entry(name.to_owned()).or_default();
        if comparisons.is_empty() {
            // What holds always makes all that follows, and what is narrower, idle.
            cases.retain(|(_, other)| *other != action);
        }
        let decided = cases.iter().any(|(comparisons, _)| comparisons.is_empty());
        if !decided {
            cases.push((comparisons, action));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Errno(i32),
    KillProcess,
    KillThread,
    Trap,
    Log,
    Trace(u16),
}

impl Action {
    /// `SECCOMP_RET_*` with its data.
    pub(super) fn value(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            // The kernel itself caps an errno at 4095.
            Self::Errno(errno) => 0x0005_0000 | (errno.unsigned_abs() & 0xfff),
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Log => 0x7ffc_0000,
            Self::Trace(message) => 0x7ff0_0000 | u32::from(message),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Comparison {
    /// 0 to 5.
    pub(super) argument: u8,
    pub(super) operator: Operator,
    pub(super) value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    MaskedEqual { mask: u64 },
}

impl Comparison {
    #[cfg(test)]
    pub(super) fn holds(&self, arguments: &[u64; 6]) -> bool {
        let argument = arguments[usize::from(self.argument)];
        match self.operator {
            Operator::Equal => argument == self.value,
            Operator::NotEqual => argument != self.value,
            Operator::Less => argument < self.value,
            Operator::LessOrEqual => argument <= self.value,
            Operator::Greater => argument > self.value,
            Operator::GreaterOrEqual => argument >= self.value,
            Operator::MaskedEqual { mask } => argument & mask == self.value,
        }
    }
}
