//! One daemon per directory.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, test_kill_process};

use crate::error::{Context, Error, Kind, Result};

/// Held as long as the value lives; the kernel drops it with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock or says who holds it.
    ///
    /// A daemon that was killed while it started a program leaves the lock to that child until its `execve`, so a
    /// holder that no longer lives is waited for, [`LAST_CHILD`] at most.
    ///
    /// # Errors
    /// `Busy` if a living process holds it.
    pub(crate) fn acquire(path: &Path) -> Result<Self> {
        let context = || format!("lock {}", path.display());
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .with_context(context)?;
        let asked = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(errno).with_context(context),
            }
            let holder = holder(&file);
            if lives(&holder) || asked.elapsed() > LAST_CHILD {
                return Err(Error::new(
                    Kind::Busy,
                    format!("{} is locked by process {holder}", path.display()),
                ));
            }
            #[expect(clippy::disallowed_methods, reason = "flock(2) has no deadline of its own")]
            std::thread::sleep(Duration::from_millis(5));
        }
        file.set_len(0).with_context(context)?;
        writeln!(file, "{}", std::process::id()).with_context(context)?;
        Ok(Self { _file: file })
    }
}

/// How long the child of a killed daemon may take to its `execve` on a busy machine.
const LAST_CHILD: Duration = Duration::from_secs(10);

/// What the holder wrote of itself: its process number, or nothing while it is just taking the lock.
fn holder(file: &File) -> String {
    let mut written = [0; 32];
    // Only for the message and the patience: without it the refusal still stands.
    let read = file.read_at(&mut written, 0).unwrap_or(0);
    String::from_utf8_lossy(&written[..read]).trim().to_owned()
}

/// A holder that did not write its number yet counts as living.
fn lives(holder: &str) -> bool {
    holder.parse().ok().and_then(Pid::from_raw).is_none_or(|pid| test_kill_process(pid).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the child's time is what is waited for")]
    fn a_child_of_a_killed_holder_is_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let held = Lock::acquire(&path).unwrap();
        std::fs::write(&path, gone.id().to_string()).unwrap();
        let child = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(held);
        });

        Lock::acquire(&path).unwrap();
        child.join().unwrap();
    }

    #[test]
    fn the_second_one_is_told_who_holds_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let held = Lock::acquire(&path).unwrap();

        let error = Lock::acquire(&path).unwrap_err();
        assert_eq!(error.kind(), Kind::Busy);
        assert!(error.chain().contains(&std::process::id().to_string()), "{}", error.chain());

        drop(held);
        Lock::acquire(&path).unwrap();
    }
}
