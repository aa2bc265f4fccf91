//! Files on their way to a client: the sender of fsutil's protocol ([`super::transfer`] tells of it).

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cais_proto::buildkit::filesync::packet::PacketType;
use cais_proto::buildkit::filesync::{FilesClient, Packet, Stat};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::errors::failed_call;
use super::session::Session;
use super::transfer::{GO_BITS, GO_CHARACTER, GO_DEVICE, GO_DIRECTORY, GO_FIFO, GO_SYMLINK};
use super::wire::{Caller, LARGEST_MESSAGE};
use crate::engine::files::open_below;
use crate::error::{Context, Error, Result};
use crate::image::pack::{self, Tree};

/// Packets that are not on their way yet.
const BACKLOG: usize = 64;
const PIECE: usize = 32 << 10;

/// Sends trees to the place that the client has for this exporter. `open` may block; it has them in the order of their names.
pub(super) async fn send(
    session: &Session,
    exporter: tonic::metadata::MetadataValue<tonic::metadata::Ascii>,
    open: impl FnOnce() -> Result<Vec<Tree>> + Send + 'static,
) -> Result<()> {
    let (packets, outgoing) = mpsc::channel(BACKLOG);
    // What is asked for waits until all was told.
    let (wanted, asked) = mpsc::unbounded_channel();
    let mut request = Request::new(ReceiverStream::new(outgoing));
    request.metadata_mut().insert(super::export::EXPORTER, exporter);
    let writing = tokio::task::spawn_blocking(move || {
        Sender { packets, files: Vec::new(), links: HashMap::new() }.run(&open()?, asked)
    });
    let reading = async move {
        let mut client = FilesClient::new(session.caller(), Caller::origin(), LARGEST_MESSAGE);
        let answer = client.diff_copy(request).await.map_err(|status| failed_call(&status))?;
        let mut incoming = answer.into_inner();
        while let Some(packet) = incoming.message().await.map_err(|status| failed_call(&status))? {
            match packet.r#type() {
                PacketType::PacketErr => {
                    let text = String::from_utf8_lossy(&packet.data).into_owned();
                    return Err(Error::invalid(format!("error from receiver: {text}")));
                }
                // Who sends tells why it is gone.
                PacketType::PacketReq => drop(wanted.send(Some(packet.id))),
                PacketType::PacketFin => drop(wanted.send(None)),
                PacketType::PacketStat | PacketType::PacketData => {
                    return Err(Error::invalid("a receiver that sends files"));
                }
            }
        }
        Ok(())
    };
    let (read, written) = tokio::join!(reading, writing);
    read?;
    written.context("send files")?
}

/// For a thread that may block.
struct Sender {
    packets: mpsc::Sender<Packet>,
    /// By their numbers; `None` for what has no content.
    files: Vec<Option<Content>>,
    /// The first names of files that have several, by device and inode.
    links: HashMap<(u64, u64), String>,
}

/// In which tree a file is, and where: below its root, or by its place among those that the tree does not have itself.
enum Content {
    File(usize, PathBuf),
    More(usize, usize),
}

impl Sender {
    fn run(
        mut self,
        trees: &[Tree],
        mut asked: mpsc::UnboundedReceiver<Option<u32>>,
    ) -> Result<()> {
        for (number, tree) in trees.iter().enumerate() {
            // No two of them have a file in common.
            self.links.clear();
            if !tree.name.as_os_str().is_empty() {
                self.files.push(None);
                let path = tree.name.to_string_lossy().into_owned();
                let stat = Stat { path, mode: GO_DIRECTORY | 0o755, ..Stat::default() };
                self.say(PacketType::PacketStat, Packet { stat: Some(stat), ..Packet::default() })?;
            }
            self.directory(tree.root.as_fd(), (number, tree), Path::new(""))?;
        }
        self.say(PacketType::PacketStat, Packet::default())?;
        while let Some(number) = asked.blocking_recv() {
            match number {
                Some(number) => self.content(trees, number)?,
                None => return self.say(PacketType::PacketFin, Packet::default()),
            }
        }
        Err(Error::invalid("the client broke it off"))
    }

    fn directory(
        &mut self,
        directory: BorrowedFd<'_>,
        (number, tree): (usize, &Tree),
        path: &Path,
    ) -> Result<()> {
        let more = if path.as_os_str().is_empty() { tree.more.as_slice() } else { &[] };
        let place_of =
            |name: &CStr| more.iter().position(|(more, _)| more.as_bytes() == name.to_bytes());
        let context = || format!("list /{}", path.display());
        let mut names = pack::names(directory).with_context(context)?;
        names.retain(|name| place_of(name).is_none());
        for (name, _) in more {
            names.push(CString::new(name.as_str()).with_context(context)?);
        }
        names.sort();
        for name in names {
            if let Some(place) = place_of(&name) {
                self.tell_more((number, tree), place)?;
                continue;
            }
            let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            let context = || format!("read /{}", path.display());
            let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.with_context(context)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Socket {
                continue;
            }
            let link = if kind == FileType::Symlink {
                let link = rustix::fs::readlinkat(directory, &name, Vec::new());
                link.with_context(context)?.to_string_lossy().into_owned()
            } else {
                String::new()
            };
            self.tell((number, &tree.name), &path, (kind, &stat, link))?;
            if kind == FileType::Directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = rustix::fs::openat(directory, &name, flags, Mode::empty());
                self.directory(below.with_context(context)?.as_fd(), (number, tree), &path)?;
            }
        }
        Ok(())
    }

    fn tell(
        &mut self,
        (number, above): (usize, &Path),
        path: &Path,
        (kind, stat, mut link): (FileType, &rustix::fs::Stat, String),
    ) -> Result<()> {
        let shown = above.join(path).to_string_lossy().into_owned();
        if kind == FileType::RegularFile && stat.st_nlink > 1 {
            let file = (stat.st_dev, stat.st_ino);
            let first = self.links.entry(file).or_insert_with(|| shown.clone());
            if *first != shown {
                link.clone_from(first);
            }
        }
        let has_content = kind == FileType::RegularFile && link.is_empty();
        self.files.push(has_content.then(|| Content::File(number, path.to_owned())));
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        let device = if is_device { stat.st_rdev } else { 0 };
        let stat = Stat {
            path: shown,
            mode: go_mode(kind, stat.st_mode),
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: if has_content { stat.st_size } else { 0 },
            mod_time: stat
                .st_mtime
                .saturating_mul(1_000_000_000)
                .saturating_add(i64::try_from(stat.st_mtime_nsec).unwrap_or_default()),
            linkname: link,
            devmajor: rustix::fs::major(device).into(),
            devminor: rustix::fs::minor(device).into(),
            ..Stat::default()
        };
        self.say(PacketType::PacketStat, Packet { stat: Some(stat), ..Packet::default() })
    }

    /// A file that the tree does not have itself.
    fn tell_more(&mut self, (number, tree): (usize, &Tree), place: usize) -> Result<()> {
        let Some((name, content)) = tree.more.get(place) else { return Ok(()) };
        self.files.push(Some(Content::More(number, place)));
        let stat = Stat {
            path: tree.name.join(name).to_string_lossy().into_owned(),
            mode: 0o600,
            size: i64::try_from(content.len()).unwrap_or(i64::MAX),
            mod_time: i64::try_from(tree.time).unwrap_or(i64::MAX).saturating_mul(1_000_000_000),
            ..Stat::default()
        };
        self.say(PacketType::PacketStat, Packet { stat: Some(stat), ..Packet::default() })
    }

    fn content(&self, trees: &[Tree], number: u32) -> Result<()> {
        let missing = || Error::invalid(format!("invalid file id {number}"));
        let file = self.files.get(number as usize).and_then(Option::as_ref).ok_or_else(missing)?;
        let (Content::File(tree, _) | Content::More(tree, _)) = file;
        let tree = trees.get(*tree).ok_or_else(missing)?;
        match file {
            Content::File(_, path) => self.file(tree, path, number),
            Content::More(_, place) => {
                let (_, content) = tree.more.get(*place).ok_or_else(missing)?;
                content.chunks(PIECE).chain([&[][..]]).try_for_each(|piece| {
                    let data = bytes::Bytes::copy_from_slice(piece);
                    self.say(
                        PacketType::PacketData,
                        Packet { id: number, data, ..Packet::default() },
                    )
                })
            }
        }
    }

    fn file(&self, tree: &Tree, path: &Path, number: u32) -> Result<()> {
        let context = || format!("read /{}", path.display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file = File::from(open_below(&tree.root, path, flags).with_context(context)?);
        let mut buffer = vec![0; PIECE];
        loop {
            let count = file.read(&mut buffer).with_context(context)?;
            let data = bytes::Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
            // One without bytes is the end.
            self.say(PacketType::PacketData, Packet { id: number, data, ..Packet::default() })?;
            if count == 0 {
                return Ok(());
            }
        }
    }

    fn say(&self, kind: PacketType, packet: Packet) -> Result<()> {
        let packet = Packet { r#type: kind.into(), ..packet };
        let sent = self.packets.blocking_send(packet);
        sent.map_err(|_| Error::invalid("the client broke it off"))
    }
}

/// As Go's `os.FileMode`.
fn go_mode(kind: FileType, mode: u32) -> u32 {
    let kind = match kind {
        FileType::Directory => GO_DIRECTORY,
        FileType::Symlink => GO_SYMLINK,
        FileType::Fifo => GO_FIFO,
        FileType::CharacterDevice => GO_DEVICE | GO_CHARACTER,
        FileType::BlockDevice => GO_DEVICE,
        FileType::RegularFile | FileType::Socket | FileType::Unknown => 0,
    };
    let bits = GO_BITS.iter().filter(|(_, unix)| mode & unix != 0).map(|(go, _)| go);
    kind | (mode & 0o777) | bits.sum::<u32>()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_is_told_in_order_and_its_content_sent_when_asked_for() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        std::fs::create_dir(at("a")).unwrap();
        let mut file = File::create(at("a/x")).unwrap();
        std::io::Write::write_all(&mut file, b"content").unwrap();
        std::fs::hard_link(at("a/x"), at("b")).unwrap();
        std::fs::set_permissions(at("a/x"), PermissionsExt::from_mode(0o4750)).unwrap();
        File::create(at("a.b")).unwrap();
        symlink("a/x", at("c")).unwrap();
        let (packets, mut told) = mpsc::channel(100);
        let (wanted, asked) = mpsc::unbounded_channel();
        for number in [Some(1), None] {
            wanted.send(number).unwrap();
        }
        let tree = |name: &str| Tree {
            root: File::open(temp.path()).unwrap().into(),
            name: name.into(),
            more: Vec::new(),
            time: 0,
        };
        let sender = |packets| Sender { packets, files: Vec::new(), links: HashMap::new() };
        sender(packets).run(&[tree("")], asked).unwrap();

        let mut told: Vec<Packet> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        let ends = told.split_off(5);
        let stats: Vec<_> = told.into_iter().map(|packet| packet.stat.unwrap()).collect();
        let seen: Vec<_> =
            stats.iter().map(|stat| (stat.path.as_str(), stat.linkname.as_str())).collect();
        assert_eq!(seen, [("a", ""), ("a/x", ""), ("a.b", ""), ("b", "a/x"), ("c", "a/x")]);
        assert_eq!(stats[1].mode, 1 << 23 | 0o750);
        assert_eq!((stats[0].mode & GO_DIRECTORY, stats[1].size), (GO_DIRECTORY, 7));
        let ends: Vec<_> = ends.iter().map(|it| (it.r#type(), it.data.as_ref())).collect();
        let expected: [(PacketType, &[u8]); 4] = [
            (PacketType::PacketStat, b""),
            (PacketType::PacketData, b"content"),
            (PacketType::PacketData, b""),
            (PacketType::PacketFin, b""),
        ];
        assert_eq!(ends, expected);

        // Two of them, each in a directory of its own.
        let (packets, mut told) = mpsc::channel(100);
        let (wanted, asked) = mpsc::unbounded_channel();
        for number in [Some(8), None] {
            wanted.send(number).unwrap();
        }
        let trees = [tree("one"), tree("two")];
        sender(packets).run(&trees, asked).unwrap();
        let told: Vec<Packet> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        let paths = told.iter().filter_map(|packet| Some(packet.stat.as_ref()?.path.as_str()));
        let names = ["", "/a", "/a/x", "/a.b", "/b", "/c"];
        let expected = ["one", "two"].iter().flat_map(|it| names.map(|name| format!("{it}{name}")));
        assert!(paths.eq(expected), "{told:?}");
        assert!(told.iter().any(|packet| packet.id == 8 && packet.data.as_ref() == b"content"));

        // With more than it has, and with another file in the place of its own.
        let (packets, mut told) = mpsc::channel(100);
        let (wanted, asked) = mpsc::unbounded_channel();
        for number in [Some(2), Some(4), None] {
            wanted.send(number).unwrap();
        }
        let more = [("a.b", "other"), ("bb", "more")];
        let more = more.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into();
        sender(packets).run(&[Tree { more, time: 7, ..tree("") }], asked).unwrap();
        let told: Vec<Packet> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        let stats: Vec<_> = told.iter().filter_map(|packet| packet.stat.as_ref()).collect();
        let paths: Vec<_> = stats.iter().map(|stat| stat.path.as_str()).collect();
        assert_eq!(paths, ["a", "a/x", "a.b", "b", "bb", "c"]);
        assert_eq!((stats[2].size, stats[2].mod_time, stats[4].mode), (5, 7_000_000_000, 0o600));
        let sent = |number| {
            let own = told.iter().filter(move |packet| packet.id == number);
            own.flat_map(|packet| packet.data.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!((sent(2), sent(4)), (b"other".to_vec(), b"more".to_vec()));
    }
}
