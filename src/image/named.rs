//! Members of an archive under the very name that they are given.
//!
//! The crate leaves a leading `./` out. Docker's client counts on it: in what it copies from `DIRECTORY/.` it puts the new
//! name in the place of the first `.`, and finds one in the middle of `a.txt` otherwise.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::{Builder, EntryType, Header};

/// What a header has room for; longer names go before it in an entry of their own, as GNU tar has it.
const ROOM: usize = 100;
const LONG_NAME: u8 = b'L';
const LONG_LINK: u8 = b'K';

pub(super) fn append<W: Write>(
    builder: &mut Builder<W>,
    header: &mut Header,
    path: &Path,
    data: impl Read,
) -> io::Result<()> {
    if !path.starts_with(".") {
        return builder.append_data(header, path, data);
    }
    name(builder, header, path)?;
    header.set_cksum();
    builder.append(header, data)
}

pub(super) fn append_link<W: Write>(
    builder: &mut Builder<W>,
    header: &mut Header,
    path: &Path,
    target: &Path,
) -> io::Result<()> {
    if !path.starts_with(".") {
        return builder.append_link(header, path, target);
    }
    let target = target.as_os_str().as_bytes();
    if target.len() > ROOM {
        long(builder, LONG_LINK, target)?;
    }
    put(&mut header.as_old_mut().linkname, target);
    append(builder, header, path, io::empty())
}

fn name<W: Write>(builder: &mut Builder<W>, header: &mut Header, path: &Path) -> io::Result<()> {
    let name = path.as_os_str().as_bytes();
    if name.len() > ROOM {
        long(builder, LONG_NAME, name)?;
    }
    put(&mut header.as_old_mut().name, name);
    Ok(())
}

fn long<W: Write>(builder: &mut Builder<W>, kind: u8, text: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    put(&mut header.as_old_mut().name, b"././@LongLink");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(text.len() as u64 + 1);
    header.set_entry_type(EntryType::new(kind));
    header.set_cksum();
    builder.append(&header, text.chain(&b"\0"[..]))
}

/// As much as there is room for.
fn put(field: &mut [u8; ROOM], text: &[u8]) {
    *field = [0; ROOM];
    for (place, byte) in field.iter_mut().zip(text) {
        *place = *byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_to_the_byte() {
        let long = format!("./{}/{}", "d".repeat(120), "f".repeat(90));
        let header = |kind| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            header
        };
        let mut builder = Builder::new(Vec::new());
        for path in ["./", "./a.txt", ".hidden", "plain/a", long.as_str()] {
            let mut header = header(EntryType::Regular);
            append(&mut builder, &mut header, Path::new(path), io::empty()).unwrap();
        }
        for (path, target) in [("./link", "../x/./y"), ("./far", long.as_str()), ("bare", "/x")] {
            let mut header = header(EntryType::Symlink);
            append_link(&mut builder, &mut header, Path::new(path), Path::new(target)).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut archive = tar::Archive::new(&bytes[..]);
        let found = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (text(&entry.path_bytes()), entry.link_name_bytes().map(|it| text(&it)))
        });
        let plain = |name: &str| (name.to_owned(), None);
        let link = |name: &str, target: &str| (name.to_owned(), Some(target.to_owned()));
        let expected = [
            plain("./"),
            plain("./a.txt"),
            plain(".hidden"),
            plain("plain/a"),
            plain(&long),
            link("./link", "../x/./y"),
            link("./far", &long),
            link("bare", "/x"),
        ];
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}
