use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use ::tar::{EntryType, Header};
use bytes::Bytes;
use tempfile::TempDir;

use super::*;

/// An archive in the making; the `tar` crate checks nothing here that hostile input needs.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn member(
        mut self,
        name: &[u8],
        kind: EntryType,
        data: &[u8],
        set: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        set(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.member(name.as_bytes(), EntryType::Regular, data, |_| {})
    }

    fn directory(self, name: &str) -> Self {
        self.member(name.as_bytes(), EntryType::Directory, b"", |_| {})
    }

    fn link(self, name: &str, kind: EntryType, target: &str) -> Self {
        self.member(name.as_bytes(), kind, b"", |header| {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        })
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
            let length = (1..6).map(|digits| body.len() + digits);
            let length =
                length.into_iter().find(|n| n.to_string().len() + body.len() == *n).unwrap();
            data.extend_from_slice(length.to_string().as_bytes());
            data.extend_from_slice(&body);
        }
        self.member(b"pax", EntryType::XHeader, &data, |_| {})
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Feeds a blob in small odd pieces.
fn try_unpack(blob: &[u8], diff_id: &Digest, files: &Path, limits: Limits) -> Result<Unpacked> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (send, receive) = tokio::sync::mpsc::channel(2);
        let blob = blob.to_vec();
        tokio::spawn(async move {
            for (index, piece) in blob.chunks(1009).enumerate() {
                let first = if index == 0 { 1 } else { 0 };
                for part in [&piece[..first], &piece[first..]] {
                    if send.send(Piece::Bytes(Bytes::copy_from_slice(part))).await.is_err() {
                        return;
                    }
                }
            }
            let _ = send.send(Piece::End).await;
        });
        unpack(Blob::new(receive), &Arc::new(files.to_owned()), diff_id, limits).await
    })
}

fn unpack_tar(archive: &[u8]) -> (TempDir, Result<Unpacked>) {
    let temp = tempfile::tempdir().unwrap();
    let result = try_unpack(archive, &Digest::of(archive), temp.path(), Limits::default());
    (temp, result)
}

fn refusal(archive: &[u8]) -> String {
    let (_temp, result) = unpack_tar(archive);
    let error = result.expect_err("the archive was taken");
    assert_eq!(error.kind(), Kind::InvalidArgument, "{}", error.chain());
    error.chain()
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0_u8; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    Some(value[..length].to_vec())
}

#[test]
fn every_kind_of_member_comes_out_as_it_went_in() {
    const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let long = format!("dir/{}", "n".repeat(200));
    let archive = Tar::default()
        .member(b"./", EntryType::Directory, b"", |header| header.set_mode(0o711))
        .directory("dir")
        .pax(&[("mtime", b"1234567890.123456789"), ("SCHILY.xattr.user.note", b"a=b\n")])
        .file("dir/file", b"content")
        .member(b"dir/setuid", EntryType::Regular, b"#!", |header| {
            header.set_mode(0o4755);
            header.set_uid(123_456);
            header.set_gid(7);
        })
        .pax(&[("uid", b"4000000000"), ("SCHILY.xattr.security.capability", CAPABILITY)])
        .file("dir/capable", b"")
        .link("dir/hard", EntryType::Link, "dir/file")
        .link("dir/soft", EntryType::Symlink, "/outside/../x")
        .member(b"dir/fifo", EntryType::Fifo, b"", |_| {})
        .member(b"dir/null", EntryType::Char, b"", |header| {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        })
        .pax(&[("path", long.as_bytes())])
        .file("short", b"long name")
        .member(b"sticky", EntryType::Directory, b"", |header| header.set_mode(0o2777))
        .file("sticky/plain", b"")
        .end();
    let (temp, result) = unpack_tar(&archive);
    let unpacked = result.unwrap();
    let stat = |name: &str| std::fs::symlink_metadata(temp.path().join(name)).unwrap();

    assert_eq!(stat("").permissions().mode() & 0o7777, 0o711);
    assert!(unpacked.describes_root && unpacked.implied.is_empty());
    assert_eq!(stat("dir").mtime(), 1_000_000_000);
    let file = stat("dir/file");
    assert_eq!((file.mtime(), file.mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!((file.nlink(), file.ino()), (2, stat("dir/hard").ino()));
    assert_eq!(std::fs::read(temp.path().join("dir/file")).unwrap(), b"content");
    let setuid = stat("dir/setuid");
    assert_eq!((setuid.mode() & 0o7777, setuid.uid(), setuid.gid()), (0o4755, 123_456, 7));
    assert_eq!(stat("dir/capable").uid(), 4_000_000_000);
    assert_eq!(xattr(&temp.path().join("dir/capable"), "security.capability").unwrap(), CAPABILITY);
    assert_eq!(
        std::fs::read_link(temp.path().join("dir/soft")).unwrap(),
        Path::new("/outside/../x")
    );
    assert!(stat("dir/fifo").file_type().is_fifo());
    assert_eq!(stat("dir/null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(std::fs::read(temp.path().join(&long)).unwrap(), b"long name");
    assert_eq!(stat("sticky").mode() & 0o7777, 0o2777);
    assert_eq!(stat("sticky/plain").mode() & 0o7777, 0o644);
}

#[test]
fn gnu_long_names_and_sparse_files_are_read() {
    let name = format!("d/{}", "x".repeat(180));
    let mut sparse = Header::new_gnu();
    {
        let gnu = sparse.as_gnu_mut().unwrap();
        gnu.sparse[0].offset[..11].copy_from_slice(b"00000001000");
        gnu.sparse[0].numbytes[..11].copy_from_slice(b"00000000004");
        gnu.realsize[..11].copy_from_slice(b"00000010000");
    }
    let archive = Tar::default()
        .member(b"././@LongLink", EntryType::GNULongName, format!("{name}\0").as_bytes(), |_| {})
        .file("cut", b"long")
        .member(b"././@LongLink", EntryType::GNULongLink, format!("{name}\0").as_bytes(), |_| {})
        .link("hard", EntryType::Link, "cut")
        .member(b"sparse", EntryType::GNUSparse, b"data", |header| {
            header.as_mut_bytes()[386..512].copy_from_slice(&sparse.as_bytes()[386..512]);
        })
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"posix"),
            ("GNU.sparse.realsize", b"1000"),
        ])
        .file("GNUSparseFile.0/posix", &[&b"1\n10\n3\n"[..], &[0; 505], b"abc"].concat())
        .end();
    let (temp, result) = unpack_tar(&archive);
    result.unwrap();

    assert_eq!(std::fs::read(temp.path().join(&name)).unwrap(), b"long");
    assert_eq!(std::fs::read(temp.path().join("hard")).unwrap(), b"long");
    let mut expected = vec![0; 0o10000];
    expected[0o1000..0o1004].copy_from_slice(b"data");
    assert_eq!(std::fs::read(temp.path().join("sparse")).unwrap(), expected);
    let mut expected = vec![0; 1000];
    expected[10..13].copy_from_slice(b"abc");
    assert_eq!(std::fs::read(temp.path().join("posix")).unwrap(), expected);
}

#[test]
fn gzip_members_zstd_and_plain_give_the_same_layer() {
    let archive = Tar::default().directory("d").file("d/f", &[7; 5000]).end();
    let (first, rest) = archive.split_at(700);
    let members = [gzip(first), gzip(rest)].concat();
    let frames = [zstd::encode_all(first, 3).unwrap(), zstd::encode_all(rest, 3).unwrap()].concat();
    for blob in [archive.clone(), gzip(&archive), members, frames] {
        let temp = tempfile::tempdir().unwrap();
        let diff_id = Digest::of(&archive);
        let unpacked = try_unpack(&blob, &diff_id, temp.path(), Limits::default()).unwrap();
        assert_eq!(unpacked.diff_id, diff_id);
        assert_eq!(std::fs::read(temp.path().join("d/f")).unwrap(), [7; 5000]);
    }
}

#[test]
fn whiteouts_become_those_of_overlayfs_in_any_order() {
    let archive = Tar::default()
        .directory("etc")
        .file("etc/.wh.gone", b"")
        .directory("opaque")
        .file("opaque/new", b"")
        .file("opaque/.wh..wh..opq", b"")
        .file(".wh.before", b"")
        .directory("before")
        .file("before/kept", b"")
        .directory("after")
        .file("after/kept", b"")
        .file(".wh.after", b"")
        .file("both", b"mine")
        .file(".wh.both", b"")
        .file(".wh..wh.plnk/1.2", b"")
        .end();
    let (temp, result) = unpack_tar(&archive);
    result.unwrap();
    let at = |name: &str| temp.path().join(name);

    let gone = std::fs::symlink_metadata(at("etc/gone")).unwrap();
    assert!(gone.file_type().is_char_device());
    assert_eq!(gone.rdev(), 0);
    for name in ["opaque", "before", "after"] {
        assert_eq!(xattr(&at(name), "trusted.overlay.opaque").unwrap(), b"y", "{name}");
    }
    assert!(at("before/kept").exists() && at("after/kept").exists() && at("opaque/new").exists());
    assert_eq!(xattr(&at("etc"), "trusted.overlay.opaque"), None);
    assert_eq!(std::fs::read(at("both")).unwrap(), b"mine");
    assert!(!at(".wh..wh.plnk").exists());
}

#[test]
fn a_later_member_takes_the_place_of_an_earlier_one() {
    let archive = Tar::default()
        .directory("a")
        .file("a/deep", b"1")
        .file("a", b"file now")
        .file("b", b"1")
        .directory("b")
        .file("b/x", b"2")
        .file("b/x", b"3")
        .link("c", EntryType::Symlink, "b")
        .file("c/y", b"through the link")
        .end();
    let (temp, result) = unpack_tar(&archive);
    result.unwrap();
    assert_eq!(std::fs::read(temp.path().join("a")).unwrap(), b"file now");
    assert_eq!(std::fs::read(temp.path().join("b/x")).unwrap(), b"3");
    assert_eq!(std::fs::read(temp.path().join("b/y")).unwrap(), b"through the link");
}

#[test]
fn hostile_members_are_refused_by_name() {
    let canary = tempfile::tempdir().unwrap();
    let outside = canary.path().to_str().unwrap();
    let up = format!("{}{outside}", "../".repeat(20));
    let cases: [(&str, Tar); 11] = [
        ("/abs", Tar::default().file("/abs", b"x")),
        ("../up", Tar::default().file("../up", b"x")),
        ("a/../../up", Tar::default().file("a/../../up", b"x")),
        ("passwd", Tar::default().link("passwd", EntryType::Link, "../../etc/passwd")),
        ("passwd", Tar::default().link("passwd", EntryType::Link, "/etc/passwd")),
        (".wh.", Tar::default().file(".wh.", b"")),
        (".wh..", Tar::default().file("a/.wh..", b"")),
        ("whiteout", Tar::default().member(b"whiteout", EntryType::Char, b"", |_| {})),
        ("self", Tar::default().link("self", EntryType::Link, "self")),
        ("file/x", Tar::default().file("file", b"").file("file/x", b"")),
        ("odd", Tar::default().member(b"odd", EntryType::new(b'M'), b"", |_| {})),
    ];
    for (name, archive) in cases {
        let chain = refusal(&archive.end());
        assert!(chain.contains(name), "{name}: {chain}");
    }

    // Links are followed inside the layer only.
    for target in [outside, up.as_str()] {
        let archive = Tar::default()
            .link("way", EntryType::Symlink, target)
            .file("way/out", b"x")
            .file("way/.wh.canary", b"")
            .file("way/.wh..wh..opq", b"");
        let (temp, _) = unpack_tar(&archive.end());
        assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0);
        drop(temp);
    }
    assert_eq!(xattr(canary.path(), "trusted.overlay.opaque"), None);
}

#[test]
fn broken_archives_are_refused() {
    let whole = Tar::default().directory("d").file("d/f", &[1; 3000]).end();
    assert!(refusal(&whole[..1800]).contains("cut short"));
    assert!(refusal(&whole[..700]).contains("cut short"));
    // Two blocks of headers, 3000 bytes, no padding and no end.
    assert!(refusal(&whole[..2 * 512 + 2999]).contains("cut short"));
    unpack_tar(&whole[..2 * 512 + 3000]).1.unwrap();
    let garbage = [&whole[..], b"more"].concat();
    assert!(refusal(&garbage).contains("goes on after its end"));
    let mut flipped = whole.clone();
    flipped[600] ^= 1;
    assert!(refusal(&flipped).contains("checksum"));

    let temp = tempfile::tempdir().unwrap();
    let other = Digest::of(b"other");
    let error = try_unpack(&whole, &other, temp.path(), Limits::default()).unwrap_err();
    assert!(error.chain().contains(&other.to_string()), "{}", error.chain());

    let diff_id = Digest::of(&whole);
    let mut blob = gzip(&whole);
    let middle = blob.len() / 2;
    blob[middle] ^= 0xff;
    let error = try_unpack(&blob, &diff_id, temp.path(), Limits::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{}", error.chain());
    let blob = [gzip(&whole), b"tail".to_vec()].concat();
    assert!(
        try_unpack(&blob, &diff_id, tempfile::tempdir().unwrap().path(), Limits::default())
            .is_err()
    );
    let (_temp, error) = unpack_tar(b"\xfd7zXZ\0 and so on");
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.chain().contains("xz"), "{}", error.chain());
}

#[test]
fn bombs_stop_at_their_limits() {
    let zeros = vec![0_u8; 80 << 20];
    let archive = Tar::default().file("zeros", &zeros).end();
    let temp = tempfile::tempdir().unwrap();
    let bomb = zstd::encode_all(archive.as_slice(), 3).unwrap();
    let error =
        try_unpack(&bomb, &Digest::of(&archive), temp.path(), Limits::default()).unwrap_err();
    assert!(error.chain().contains("decompression bomb"), "{}", error.chain());

    let few = Limits { entries: 2, bytes: 10 << 10, ..Limits::default() };
    let many = Tar::default().file("a", b"").file("b", b"").file("c", b"").end();
    let temp = tempfile::tempdir().unwrap();
    let error = try_unpack(&many, &Digest::of(&many), temp.path(), few).unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted, "{}", error.chain());

    let mut header = Header::new_gnu();
    header.as_gnu_mut().unwrap().realsize[..11].copy_from_slice(b"77777777777");
    let hole = Tar::default()
        .member(b"hole", EntryType::GNUSparse, b"", |hole| {
            hole.as_mut_bytes()[386..512].copy_from_slice(&header.as_bytes()[386..512]);
        })
        .end();
    let error = try_unpack(&hole, &Digest::of(&hole), temp.path(), few).unwrap_err();
    assert!(error.chain().contains("hole"), "{}", error.chain());
}

#[test]
fn a_download_that_breaks_off_is_not_a_layer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let archive = Tar::default().file("f", b"x").end();
    let temp = tempfile::tempdir().unwrap();
    let error = runtime.block_on(async {
        let (send, receive) = tokio::sync::mpsc::channel(2);
        send.send(Piece::Bytes(Bytes::copy_from_slice(&archive))).await.unwrap();
        drop(send);
        let directory = Arc::new(temp.path().to_owned());
        unpack(Blob::new(receive), &directory, &Digest::of(&archive), Limits::default()).await
    });
    assert!(error.is_err());
}

#[test]
fn directories_left_out_take_after_the_layers_below() {
    let base = Tar::default()
        .member(b"srv", EntryType::Directory, b"", |header| {
            header.set_mode(0o1770);
            header.set_uid(1000);
        })
        .directory("srv/hidden")
        .end();
    let middle = Tar::default().file("srv/.wh.hidden", b"").end();
    let top = Tar::default().file("srv/hidden/f", b"").file("new/f", b"").end();
    let (base, _) = unpack_tar(&base);
    let (middle, unpacked) = unpack_tar(&middle);
    let below = [base.path().to_owned()];
    fill_implied(middle.path(), &below, &unpacked.unwrap().implied).unwrap();
    let (top, unpacked) = unpack_tar(&top);
    let implied = unpacked.unwrap().implied;
    assert_eq!(implied, [&b"new"[..], b"srv", b"srv/hidden"]);

    let below = [base.path().to_owned(), middle.path().to_owned()];
    fill_implied(top.path(), &below, &implied).unwrap();
    let stat = |name: &str| std::fs::symlink_metadata(top.path().join(name)).unwrap();
    assert_eq!((stat("srv").mode() & 0o7777, stat("srv").uid()), (0o1770, 1000));
    assert_eq!(stat("srv").mtime(), 1_000_000_000);
    assert_eq!(stat("srv/hidden").mode() & 0o7777, 0o755);
    assert_eq!(stat("new").mode() & 0o7777, 0o755);
}
