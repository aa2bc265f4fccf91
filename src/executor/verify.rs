//! Reading back what was applied: a confinement that is silently absent must not start.
//!
//! One file tells all of it, and reading it needs only calls that every program needs, so that a
//! filter loaded early does not get in the way.

use std::os::fd::AsFd;

use rustix::fs::OFlags;

use super::failure::Fault;
use super::plan::Process;
use super::procfs::read_all;
use super::steps::Init;

/// While we are root and have proc at hand.
pub(super) fn open_status(init: &mut Init<'_>) -> Result<(), Fault> {
    init.status = Some(init.around.proc.open("self/status", OFlags::RDONLY)?);
    Ok(())
}

pub(super) fn confinement(init: &mut Init<'_>) -> Result<(), Fault> {
    let status = read_status(init)?;
    let mode = match init.process.seccomp {
        Some(_) if !init.process.no_new_privileges => SeccompMode::Filter,
        Some(_) | None => SeccompMode::Any,
    };
    check(&status, init.process, mode)
}

/// A filter that was loaded last.
pub(super) fn seccomp(init: &mut Init<'_>) -> Result<(), Fault> {
    if init.process.seccomp.is_none() {
        return Ok(());
    }
    check(&read_status(init)?, init.process, SeccompMode::Filter)
}

/// The kernel makes the text anew for a read from the start.
fn read_status(init: &Init<'_>) -> Result<String, Fault> {
    let Some(status) = &init.status else { return Err(Fault::internal("no status")) };
    rustix::fs::seek(status, rustix::fs::SeekFrom::Start(0))?;
    let mut text = Vec::new();
    read_all(status.as_fd(), &mut text)?;
    String::from_utf8(text).map_err(|_| Fault::internal("the status is not text"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SeccompMode {
    Any,
    Filter,
}

fn check(status: &str, process: &Process, mode: SeccompMode) -> Result<(), Fault> {
    let mut groups = process.user.groups.clone();
    groups.sort_unstable();
    groups.dedup();
    let four = |id: u32| vec![id; 4];
    expect_ids(status, "Uid", &four(process.user.uid))?;
    expect_ids(status, "Gid", &four(process.user.gid))?;
    expect_ids(status, "Groups", &groups)?;
    let wanted = process.capabilities;
    for (name, mask) in [
        ("CapInh", wanted.inheritable),
        ("CapPrm", wanted.permitted),
        ("CapEff", wanted.effective),
        ("CapBnd", wanted.bounding),
        ("CapAmb", wanted.ambient),
    ] {
        let actual = field(status, name)?;
        // More than asked for is a hole. Less happens to a daemon that is confined itself, and
        // for the permitted set capset would have refused it.
        if u64::from_str_radix(actual, 16).is_ok_and(|actual| actual & !mask == 0) {
            continue;
        }
        return Err(Fault::internal(format!("{name} is {actual} and should be {mask:016x}")));
    }
    if process.no_new_privileges {
        expect(status, "NoNewPrivs", "1")?;
    }
    if mode == SeccompMode::Filter {
        expect(status, "Seccomp", "2")?;
    }
    Ok(())
}

fn expect_ids(status: &str, name: &str, wanted: &[u32]) -> Result<(), Fault> {
    let mut actual: Vec<u32> = Vec::new();
    for word in field(status, name)?.split_ascii_whitespace() {
        actual.push(word.parse().map_err(|_| Fault::internal(format!("{name} is unreadable")))?);
    }
    if name == "Groups" {
        actual.sort_unstable();
        actual.dedup();
    }
    if actual == wanted {
        Ok(())
    } else {
        Err(Fault::internal(format!("{name} is {actual:?} and should be {wanted:?}")))
    }
}

fn expect(status: &str, name: &str, wanted: &str) -> Result<(), Fault> {
    let actual = field(status, name)?;
    if actual == wanted {
        Ok(())
    } else {
        Err(Fault::internal(format!("{name} is {actual} and should be {wanted}")))
    }
}

fn field<'a>(status: &'a str, name: &str) -> Result<&'a str, Fault> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
        .ok_or_else(|| Fault::internal(format!("the status has no {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::plan::{Capabilities, User};

    const STATUS: &str = "Name:\tx\nUid:\t5\t5\t5\t5\nGid:\t6\t6\t6\t6\nGroups:\t9 7 \n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000400\nCapEff:\t0000000000000400\n\
        CapBnd:\t0000000000000400\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t0\n";

    fn process() -> Process {
        Process {
            args: vec![],
            env: vec![],
            cwd: b"/".to_vec().into(),
            user: User { uid: 5, gid: 6, groups: vec![7, 9], umask: None },
            capabilities: Capabilities {
                bounding: 0x400,
                effective: 0x400,
                permitted: 0x400,
                inheritable: 0,
                ambient: 0,
            },
            rlimits: vec![],
            no_new_privileges: true,
            seccomp: None,
            apparmor: None,
            selinux: None,
            oom_score_adj: None,
            terminal: None,
        }
    }

    #[test]
    fn a_status_as_planned_passes() {
        check(STATUS, &process(), SeccompMode::Any).unwrap();
    }

    #[test]
    fn every_difference_is_found() {
        for (from, to) in [
            ("Uid:\t5\t5\t5\t5", "Uid:\t5\t5\t0\t5"),
            ("Gid:\t6", "Gid:\t0"),
            ("Groups:\t9 7 ", "Groups:\t9 7 0 "),
            ("CapInh:\t0000000000000000", "CapInh:\t0000000000000001"),
            ("CapPrm:\t0000000000000400", "CapPrm:\t0000000000000c00"),
            ("CapBnd:\t0000000000000400", "CapBnd:\t000001ffffffffff"),
            ("CapAmb:\t0000000000000000", "CapAmb:\t0000000000000400"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
        ] {
            let status = STATUS.replace(from, to);
            assert_ne!(status, STATUS, "{from}");
            assert!(check(&status, &process(), SeccompMode::Any).is_err(), "{to}");
        }
        assert!(check(STATUS, &process(), SeccompMode::Filter).is_err());
    }
}
