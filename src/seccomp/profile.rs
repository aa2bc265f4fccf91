//! Profile files, in the form that Docker, containerd and CRI-O read: the OCI runtime spec's
//! `seccomp` object with Docker's conditions (`includes`, `excludes`, `archMap`).

use serde::Deserialize;

use super::arch::Arch;
use super::rule::{Action, Comparison, Operator, Rules};
use crate::error::{Error, Kind, Result};

/// A file as it is written. Keys that we do not know are ignored, as others do: profiles carry
/// comments and vendors' additions.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    default_action: String,
    default_errno_ret: Option<i32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    arch_map: Vec<ArchMap>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    listener_path: String,
    #[serde(default)]
    syscalls: Vec<Group>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    #[serde(default)]
    names: Vec<String>,
    /// The form of profiles before 2018.
    #[serde(default)]
    name: String,
    action: String,
    errno_ret: Option<i32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    #[serde(default)]
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// What conditions are asked about.
#[derive(Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub(super) has_capability: &'a dyn Fn(&str) -> bool,
    /// Version and patch level of the running kernel.
    pub(super) kernel: (u32, u32),
}

impl Profile {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::invalid(format!("not a seccomp profile: {error}")))
    }

    /// What holds under these circumstances.
    ///
    /// # Errors
    /// `InvalidArgument` naming what is unknown or out of range; `Unsupported` for actions that
    /// need a listening program.
    pub(super) fn resolve(&self, circumstances: Circumstances<'_>) -> Result<Rules> {
        if !self.listener_path.is_empty() {
            return Err(Error::new(Kind::Unsupported, "listenerPath is not supported"));
        }
        let default = action(&self.default_action, self.default_errno_ret)?;
        let unknown = match default {
            Action::Errno(libc::EPERM) if self.default_errno_ret.is_none() => {
                Some(Action::Errno(libc::ENOSYS))
            }
            Action::Allow
            | Action::Errno(_)
            | Action::KillProcess
            | Action::KillThread
            | Action::Trap
            | Action::Log
            | Action::Trace(_) => None,
        };
        let mut rules = Rules {
            arches: self.arches(),
            default,
            unknown,
            calls: std::collections::BTreeMap::new(),
            flags: flags(&self.flags)?,
        };
        for group in &self.syscalls {
            if group.applies(circumstances, &rules.arches) {
                group.add_to(&mut rules)?;
            }
        }
        Ok(rules)
    }

    fn arches(&self) -> Vec<Arch> {
        let native = Arch::native();
        let mapped = self.arch_map.iter().filter(|map| {
            Arch::parse(&map.architecture).is_some_and(|arch| native.first() == Some(&arch))
        });
        let mapped = mapped.flat_map(|map| {
            std::iter::once(&map.architecture).chain(map.sub_architectures.iter().flatten())
        });
        let mut arches: Vec<Arch> = Vec::new();
        for name in self.architectures.iter().chain(mapped) {
            if let Some(arch) = Arch::parse(name)
                && native.contains(&arch)
                && !arches.contains(&arch)
            {
                arches.push(arch);
            }
        }
        // A profile that names none means the machine's own.
        if arches.is_empty() { native.into_iter().take(1).collect() } else { arches }
    }
}

impl Group {
    fn applies(&self, circumstances: Circumstances<'_>, arches: &[Arch]) -> bool {
        let has = |arch: &String| Arch::parse(arch).is_some_and(|arch| arches.contains(&arch));
        let included = self.includes.as_ref().is_none_or(|it| {
            it.caps.iter().flatten().all(|name| (circumstances.has_capability)(name))
                && it.arches.as_ref().is_none_or(|them| them.is_empty() || them.iter().any(has))
                && it.min_kernel.as_deref().is_none_or(|min| circumstances.kernel >= version(min))
        });
        let excluded = self.excludes.as_ref().is_some_and(|it| {
            it.caps.iter().flatten().any(|name| (circumstances.has_capability)(name))
                || it.arches.iter().flatten().any(has)
                || it.min_kernel.as_deref().is_some_and(|min| circumstances.kernel >= version(min))
        });
        included && !excluded
    }

    fn add_to(&self, rules: &mut Rules) -> Result<()> {
        let action = action(&self.action, self.errno_ret)?;
        let arguments = self.args.as_deref().unwrap_or_default();
        let comparisons = arguments.iter().map(comparison).collect::<Result<Vec<_>>>()?;
        let old_form = (!self.name.is_empty()).then_some(&self.name);
        for name in self.names.iter().chain(old_form) {
            rules.add(name, comparisons.clone(), action);
        }
        Ok(())
    }
}

fn action(name: &str, errno: Option<i32>) -> Result<Action> {
    match name {
        "SCMP_ACT_ALLOW" => Ok(Action::Allow),
        "SCMP_ACT_ERRNO" => Ok(Action::Errno(errno.unwrap_or(libc::EPERM))),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(Action::KillThread),
        "SCMP_ACT_KILL_PROCESS" => Ok(Action::KillProcess),
        "SCMP_ACT_TRAP" => Ok(Action::Trap),
        "SCMP_ACT_LOG" => Ok(Action::Log),
        "SCMP_ACT_TRACE" => {
            let message = u16::try_from(errno.unwrap_or(libc::EPERM));
            message.map(Action::Trace).map_err(|_| Error::invalid("errnoRet is out of range"))
        }
        "SCMP_ACT_NOTIFY" => Err(Error::new(Kind::Unsupported, "SCMP_ACT_NOTIFY is not supported")),
        other => Err(Error::invalid(format!("{other:?} is not a seccomp action"))),
    }
}

fn comparison(argument: &Argument) -> Result<Comparison> {
    if argument.index > 5 {
        return Err(Error::invalid(format!("argument index {} is not 0 to 5", argument.index)));
    }
    let (operator, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (Operator::Equal, argument.value),
        "SCMP_CMP_NE" => (Operator::NotEqual, argument.value),
        "SCMP_CMP_LT" => (Operator::Less, argument.value),
        "SCMP_CMP_LE" => (Operator::LessOrEqual, argument.value),
        "SCMP_CMP_GT" => (Operator::Greater, argument.value),
        "SCMP_CMP_GE" => (Operator::GreaterOrEqual, argument.value),
        // Here `value` is the mask and `valueTwo` what the masked argument must be.
        "SCMP_CMP_MASKED_EQ" => {
            (Operator::MaskedEqual { mask: argument.value }, argument.value_two & argument.value)
        }
        other => return Err(Error::invalid(format!("{other:?} is not a seccomp comparison"))),
    };
    Ok(Comparison { argument: argument.index, operator, value })
}

fn flags(names: &[String]) -> Result<u32> {
    let mut flags = 0;
    for name in names {
        // linux/seccomp.h
        flags |= match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => 1,
            "SECCOMP_FILTER_FLAG_LOG" => 2,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 4,
            other => return Err(Error::invalid(format!("{other:?} is not a seccomp flag"))),
        };
    }
    Ok(flags)
}

/// `4.8` or `4.8.0-rc1` as (4, 8); what cannot be read is the oldest.
pub(super) fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
