//! The process part of a spec.

use oci_spec::runtime::{PosixRlimit, PosixRlimitType, Spec};
use serde_bytes::ByteBuf;

use super::bytes_of;
use crate::engine::spec::{Bundle, capability_mask};
use crate::error::{Context, Error, Result};
use crate::executor::plan::{Capabilities, Process, Rlimit, TerminalSize, User};

pub(super) fn read(spec: &Spec, bundle: &Bundle) -> Result<Process> {
    let process = spec.process().as_ref().context("the spec has no process")?;
    let args: Vec<ByteBuf> =
        process.args().iter().flatten().map(|arg| ByteBuf::from(arg.as_bytes())).collect();
    if args.is_empty() {
        return Err(Error::invalid("no command specified"));
    }
    let size = process.console_size();
    let side = |length: u64| u16::try_from(length).unwrap_or(u16::MAX);
    let terminal = process.terminal().unwrap_or(false).then(|| TerminalSize {
        width: size.map_or(0, |size| side(size.width())),
        height: size.map_or(0, |size| side(size.height())),
    });
    let user = process.user();
    let rlimit = |limit: &PosixRlimit| {
        let resource = resource(limit.typ())?;
        Ok(Rlimit { resource, soft: limit.soft(), hard: limit.hard() })
    };
    let rlimits = process.rlimits().iter().flatten().map(rlimit);
    Ok(Process {
        args,
        env: bundle.env.iter().map(|line| ByteBuf::from(line.as_slice())).collect(),
        cwd: bytes_of(process.cwd()),
        user: User {
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask(),
        },
        capabilities: capabilities(process),
        rlimits: rlimits.collect::<Result<_>>()?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        seccomp: bundle.filter.clone(),
        apparmor: process.apparmor_profile().clone(),
        selinux: process.selinux_label().clone(),
        oom_score_adj: process.oom_score_adj(),
        terminal,
    })
}

/// The process of an exec: confined as the container's first one, with a command of its own.
pub(crate) fn exec(
    first: &Process,
    args: &[impl AsRef<[u8]>],
    terminal: Option<TerminalSize>,
) -> Result<Process> {
    let has_nul = |arg: &[u8]| arg.contains(&0);
    if args.first().is_none_or(|arg| arg.as_ref().is_empty()) {
        return Err(Error::invalid("cmd: is empty"));
    }
    if args.iter().any(|arg| has_nul(arg.as_ref())) {
        return Err(Error::invalid("cmd: has a NUL byte"));
    }
    let mut env = first.env.clone();
    if terminal.is_some() && !env.iter().any(|line| line.starts_with(b"TERM=")) {
        env.push(ByteBuf::from(b"TERM=xterm"));
    }
    let args = args.iter().map(|arg| ByteBuf::from(arg.as_ref())).collect();
    Ok(Process { args, env, terminal, ..first.clone() })
}

fn capabilities(process: &oci_spec::runtime::Process) -> Capabilities {
    let Some(sets) = process.capabilities() else { return Capabilities::default() };
    Capabilities {
        bounding: capability_mask(sets.bounding().as_ref()),
        effective: capability_mask(sets.effective().as_ref()),
        permitted: capability_mask(sets.permitted().as_ref()),
        inheritable: capability_mask(sets.inheritable().as_ref()),
        ambient: capability_mask(sets.ambient().as_ref()),
    }
}

/// The kernel's numbers, the same on every architecture we run on.
const RESOURCES: [PosixRlimitType; 16] = [
    PosixRlimitType::RlimitCpu,
    PosixRlimitType::RlimitFsize,
    PosixRlimitType::RlimitData,
    PosixRlimitType::RlimitStack,
    PosixRlimitType::RlimitCore,
    PosixRlimitType::RlimitRss,
    PosixRlimitType::RlimitNproc,
    PosixRlimitType::RlimitNofile,
    PosixRlimitType::RlimitMemlock,
    PosixRlimitType::RlimitAs,
    PosixRlimitType::RlimitLocks,
    PosixRlimitType::RlimitSigpending,
    PosixRlimitType::RlimitMsgqueue,
    PosixRlimitType::RlimitNice,
    PosixRlimitType::RlimitRtprio,
    PosixRlimitType::RlimitRttime,
];

pub(crate) fn resource_type(number: u32) -> Option<PosixRlimitType> {
    RESOURCES.get(usize::try_from(number).ok()?).copied()
}

fn resource(kind: PosixRlimitType) -> Result<u32> {
    let number = RESOURCES.iter().position(|known| *known == kind);
    number.and_then(|number| u32::try_from(number).ok()).context("resource limit")
}
