//! Files on their way to a client: the sender of fsutil's protocol ([`super::transfer`] tells of it).

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cais_proto::buildkit::filesync::packet::PacketType;
use cais_proto::buildkit::filesync::{FilesClient, Packet, Stat};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::errors::failed_call;
use super::session::Session;
use super::transfer::{GO_BITS, GO_CHARACTER, GO_DEVICE, GO_DIRECTORY, GO_FIFO, GO_SYMLINK};
use super::wire::{Caller, LARGEST_MESSAGE};
use crate::engine::files::open_below;
use crate::error::{Context, Error, Result};

/// Packets that are not on their way yet.
const BACKLOG: usize = 64;
const PIECE: usize = 32 << 10;

/// Sends a tree to the place that the client has for this exporter. `open` may block.
pub(super) async fn send(
    session: &Session,
    exporter: tonic::metadata::MetadataValue<tonic::metadata::Ascii>,
    open: impl FnOnce() -> Result<OwnedFd> + Send + 'static,
) -> Result<()> {
    let (packets, outgoing) = mpsc::channel(BACKLOG);
    // What is asked for waits until all was told.
    let (wanted, asked) = mpsc::unbounded_channel();
    let mut request = Request::new(ReceiverStream::new(outgoing));
    request.metadata_mut().insert(super::export::EXPORTER, exporter);
    let writing = tokio::task::spawn_blocking(move || {
        Sender { packets, root: open()?, files: Vec::new(), links: HashMap::new() }.run(asked)
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
    root: OwnedFd,
    /// By their numbers; `None` for what has no content.
    files: Vec<Option<PathBuf>>,
    /// The first names of files that have several, by device and inode.
    links: HashMap<(u64, u64), String>,
}

impl Sender {
    fn run(mut self, mut asked: mpsc::UnboundedReceiver<Option<u32>>) -> Result<()> {
        let root = self.root.try_clone().context("keep the root")?;
        self.directory(root.as_fd(), Path::new(""))?;
        self.say(PacketType::PacketStat, Packet::default())?;
        while let Some(number) = asked.blocking_recv() {
            match number {
                Some(number) => self.content(number)?,
                None => return self.say(PacketType::PacketFin, Packet::default()),
            }
        }
        Err(Error::invalid("the client broke it off"))
    }

    fn directory(&mut self, directory: BorrowedFd<'_>, path: &Path) -> Result<()> {
        let context = || format!("list /{}", path.display());
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).with_context(context)? {
            let name = entry.with_context(context)?.file_name().to_owned();
            if ![c".", c".."].contains(&name.as_c_str()) {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
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
            self.tell(&path, kind, &stat, link)?;
            if kind == FileType::Directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = rustix::fs::openat(directory, &name, flags, Mode::empty());
                self.directory(below.with_context(context)?.as_fd(), &path)?;
            }
        }
        Ok(())
    }

    fn tell(
        &mut self,
        path: &Path,
        kind: FileType,
        stat: &rustix::fs::Stat,
        mut link: String,
    ) -> Result<()> {
        let shown = path.to_string_lossy().into_owned();
        if kind == FileType::RegularFile && stat.st_nlink > 1 {
            let file = (stat.st_dev, stat.st_ino);
            let first = self.links.entry(file).or_insert_with(|| shown.clone());
            if *first != shown {
                link.clone_from(first);
            }
        }
        let has_content = kind == FileType::RegularFile && link.is_empty();
        self.files.push(has_content.then(|| path.to_owned()));
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

    fn content(&self, number: u32) -> Result<()> {
        let path = self.files.get(number as usize).and_then(Option::as_ref);
        let path = path.ok_or_else(|| Error::invalid(format!("invalid file id {number}")))?;
        let context = || format!("read /{}", path.display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file = File::from(open_below(&self.root, path, flags).with_context(context)?);
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
        let root = File::open(temp.path()).unwrap().into();
        let sender = Sender { packets, root, files: Vec::new(), links: HashMap::new() };
        sender.run(asked).unwrap();

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
    }
}
