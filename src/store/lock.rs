//! One daemon per directory.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::error::{Context, Error, Kind, Result};

/// Held as long as the value lives; the kernel drops it with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock or says who holds it.
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
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Only for the message: without it the refusal still stands.
                let _ = (&mut file).take(32).read_to_string(&mut holder);
                return Err(Error::new(
                    Kind::Busy,
                    format!("{} is locked by process {}", path.display(), holder.trim()),
                ));
            }
            Err(errno) => return Err(errno).with_context(context),
        }
        file.set_len(0).with_context(context)?;
        writeln!(file, "{}", std::process::id()).with_context(context)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
