//! What the processes of a container hold open.

use std::path::Path;

use rustix::process::Pid;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Processes {
    pub(crate) count: u64,
    pub(crate) descriptors: u64,
    pub(crate) sockets: u64,
    /// The soft limit of the first process; `None` when it is gone.
    pub(crate) open_files_limit: Option<u64>,
}

/// Of what is left of these processes by now.
pub(super) fn of(processes: &[Pid], first: Option<i32>) -> Processes {
    let mut found = Processes::default();
    for process in processes {
        let directory = format!("/proc/{}/fd", process.as_raw_nonzero());
        let Ok(entries) = Path::new(&directory).read_dir() else { continue };
        found.count += 1;
        for entry in entries.flatten() {
            found.descriptors += 1;
            let target = std::fs::read_link(entry.path());
            found.sockets += u64::from(target.is_ok_and(|it| is_socket(&it)));
        }
    }
    let limits = first.map(|pid| std::fs::read_to_string(format!("/proc/{pid}/limits")));
    found.open_files_limit = limits.and_then(|text| open_files_limit(&text.ok()?));
    found
}

/// `socket:[INODE]`
fn is_socket(target: &Path) -> bool {
    target.to_str().is_some_and(|target| target.starts_with("socket:"))
}

/// `Max open files            SOFT                 HARD                 files`
fn open_files_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_and_sockets_of_a_process_are_counted() {
        let own = rustix::process::getpid();
        let count = || of(&[own], Some(own.as_raw_nonzero().get()));
        let before = count();
        let _pair = UnixStream::pair().unwrap();
        let after = count();

        assert_eq!(after.count, 1);
        // Other tests of this process open and close meanwhile.
        assert!(after.sockets >= 2 && after.descriptors >= after.sockets, "{before:?} {after:?}");
        assert!(after.open_files_limit.is_some());
    }

    #[test]
    fn a_process_that_is_gone_counts_nothing() {
        assert_eq!(of(&[Pid::from_raw(i32::MAX).unwrap()], Some(i32::MAX)), Processes::default());
    }

    #[test]
    fn the_limit_of_open_files_is_the_soft_one() {
        let text = "Limit   Soft Limit  Hard Limit  Units\nMax open files  1024  524288  files\n";
        assert_eq!(open_files_limit(text), Some(1024));
    }
}
