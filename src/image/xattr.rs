//! Extended attributes of open files, xattr(7). Most files have none, and few are long: the first
//! question is asked with little room.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, Result};

const ROOM: usize = 256;
/// Of a value and of a list: `XATTR_SIZE_MAX`, `XATTR_LIST_MAX`.
const LARGEST: usize = 64 << 10;

/// None where the file system has none.
pub(crate) fn names(file: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let list = match whole(|room| rustix::fs::flistxattr(file, room)) {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| CString::new(name).ok()).collect())
}

pub(crate) fn value(file: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>> {
    whole(|room| rustix::fs::fgetxattr(file, name, room))
}

fn whole(ask: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut small = [0; ROOM];
    match ask(&mut small) {
        Ok(length) => Ok(small.get(..length).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; LARGEST];
            let length = ask(&mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::XattrFlags;

    use super::*;

    #[test]
    fn short_and_long_ones_are_read_whole() {
        let file = tempfile::tempfile_in(".").unwrap();
        assert_eq!(names(file.as_fd()), Ok(vec![]));
        let long = vec![b'x'; 2 * ROOM];
        for (name, value) in [(c"user.short", b"1".as_slice()), (c"user.long", &long)] {
            rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()).unwrap();
        }
        let mut found = names(file.as_fd()).unwrap();
        found.sort();
        assert_eq!(found, [c"user.long".to_owned(), c"user.short".to_owned()]);
        assert_eq!(value(file.as_fd(), c"user.short"), Ok(b"1".to_vec()));
        assert_eq!(value(file.as_fd(), c"user.long"), Ok(long));
        assert_eq!(value(file.as_fd(), c"user.none"), Err(Errno::NODATA));
    }
}
