//! A client's files on their way to us: the receiver of fsutil's protocol.
//!
//! ```text
//!   client ── STAT, STAT, …, STAT without a file ─▶      every file in order; its place is its number
//!          ◀────────── REQ number ────────────────       the content of one is wanted
//!          ── DATA number, …, DATA without bytes ─▶
//!          ◀─ FIN ─▶                                     all is there
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cais_proto::buildkit::filesync::file_sync_client::FileSyncClient;
use cais_proto::buildkit::filesync::packet::PacketType;
use cais_proto::buildkit::filesync::{Packet, Stat};
use futures_util::FutureExt;
use rustix::fs::FileType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::{Request, Streaming};

use super::errors::failed_call;
use super::session::Session;
use super::wire::Caller;
use crate::builder::{Entry, Synced, goes_along};
use crate::error::{Context, Error, Kind, Result};

const METHOD: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// What was not written yet: so many batches of packets that came together. Most packets are small, and a thread that is woken for
/// each would do little else.
const BACKLOG: usize = 4;
const BATCH: usize = 256;
/// Content in a batch, in bytes; its last packet may go beyond.
const BATCH_CONTENT: usize = 1 << 20;

/// Of one packet, in bytes, and of the content in it. Clients send 32 KiB at a time.
const LARGEST_PACKET: usize = 4 << 20;
const LARGEST_CONTENT: usize = 1 << 20;

/// Files whose content comes at the same time: clients send four.
const MOST_OPEN: usize = 64;

/// Files of one directory.
const MOST_FILES: u32 = 2_000_000;

/// Bits of Go's `os.FileMode`.
const GO_KINDS: u32 = GO_DIRECTORY | GO_SYMLINK | GO_DEVICE | GO_FIFO | GO_SOCKET | GO_IRREGULAR;
pub(super) const GO_DIRECTORY: u32 = 1 << 31;
pub(super) const GO_SYMLINK: u32 = 1 << 27;
pub(super) const GO_DEVICE: u32 = 1 << 26;
pub(super) const GO_FIFO: u32 = 1 << 25;
const GO_SOCKET: u32 = 1 << 24;
pub(super) const GO_CHARACTER: u32 = 1 << 21;
const GO_IRREGULAR: u32 = 1 << 19;
pub(super) const GO_BITS: [(u32, u32); 3] =
    [(1 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000)];

/// Which files of a directory are wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// As the client calls the directory.
    pub(super) directory: String,
    /// Patterns of `.dockerignore`.
    pub(super) excludes: Vec<String>,
    /// These alone, with what links among them lead to; none: all.
    pub(super) follow: Vec<String>,
}

/// Brings a tree in step with a client's directory. `received` counts bytes meanwhile.
///
/// # Errors
/// What is wrong with the client's files, or with what it says of them. The tree is of no use then.
pub(super) async fn receive(
    session: &Session,
    wanted: &Wanted,
    synced: Synced,
    received: &Arc<AtomicU64>,
) -> Result<Synced> {
    if !session.offers(METHOD) {
        return Err(Error::invalid("no local sources enabled"));
    }
    let (outgoing, packets) = mpsc::unbounded_channel();
    let mut request = Request::new(UnboundedReceiverStream::new(packets));
    put(request.metadata_mut(), "dir-name", std::slice::from_ref(&wanted.directory))?;
    put(request.metadata_mut(), "exclude-patterns", &wanted.excludes)?;
    put(request.metadata_mut(), "followpaths", &wanted.follow)?;
    let mut client = FileSyncClient::with_origin(session.caller(), Caller::origin())
        .max_decoding_message_size(LARGEST_PACKET);
    let context = || format!("transfer of {}", wanted.directory);
    let answer = client.diff_copy(request).await;
    let mut incoming = answer.map_err(|status| failed_call(&status)).with_context(context)?;
    let (batches, mut taken) = mpsc::channel::<Vec<Packet>>(BACKLOG);
    let mut receiver = Receiver::new(synced, outgoing);
    let writing = tokio::task::spawn_blocking(move || {
        while let Some(batch) = taken.blocking_recv() {
            batch.into_iter().try_for_each(|packet| receiver.take(packet))?;
        }
        receiver.finish()
    });
    let read = hand_over(incoming.get_mut(), &batches, received).await;
    drop(batches);
    let written = writing.await.context("write a client's files")?;
    read.with_context(context)?;
    written.with_context(context)
}

/// Gathers what has come, until the last packet.
async fn hand_over(
    incoming: &mut Streaming<Packet>,
    batches: &mpsc::Sender<Vec<Packet>>,
    received: &AtomicU64,
) -> Result<()> {
    let mut is_over = false;
    while !is_over {
        let mut next = Some(incoming.message().await);
        let (mut batch, mut content) = (Vec::new(), 0);
        while let Some(packet) = next.take() {
            let Some(packet) = packet.map_err(|status| failed_call(&status))? else {
                is_over = true;
                break;
            };
            content += packet.data.len();
            is_over = packet.r#type() == PacketType::PacketFin;
            batch.push(packet);
            if !is_over && batch.len() < BATCH && content < BATCH_CONTENT {
                next = incoming.message().now_or_never();
            }
        }
        received.fetch_add(content as u64, Ordering::Relaxed);
        // Who writes tells why nothing more is wanted.
        if batches.send(batch).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// As BuildKit writes lists into metadata: percent-encoded when there is more than ASCII.
fn put(metadata: &mut MetadataMap, key: &'static str, values: &[String]) -> Result<()> {
    let is_plain = |text: &String| text.bytes().all(|byte| (b' '..0x7f).contains(&byte));
    let is_encoded = !values.iter().all(is_plain);
    for value in values {
        let text = match is_encoded {
            true => form_urlencoded::byte_serialize(value.as_bytes()).collect(),
            false => value.clone(),
        };
        let text = MetadataValue::try_from(text).context("metadata").kind(Kind::InvalidArgument)?;
        metadata.append(key, text);
    }
    if is_encoded {
        let key = MetadataKey::from_bytes(format!("{key}-encoded").as_bytes());
        metadata.insert(key.context("metadata")?, MetadataValue::from_static("1"));
    }
    Ok(())
}

/// For a thread that may block.
struct Receiver {
    synced: Synced,
    outgoing: mpsc::UnboundedSender<Packet>,
    /// Of the next file.
    number: u32,
    /// Whose content was asked for, and as far as it is there.
    asked: HashMap<u32, (Entry, Option<File>)>,
    open: usize,
    is_told: bool,
    is_answered: bool,
    is_over: bool,
}

impl Receiver {
    fn new(synced: Synced, outgoing: mpsc::UnboundedSender<Packet>) -> Self {
        Self {
            synced,
            outgoing,
            number: 0,
            asked: HashMap::new(),
            open: 0,
            is_told: false,
            is_answered: false,
            is_over: false,
        }
    }

    fn take(&mut self, packet: Packet) -> Result<()> {
        match packet.r#type() {
            PacketType::PacketErr => {
                let text = String::from_utf8_lossy(&packet.data).into_owned();
                return Err(Error::invalid(format!("error from sender: {text}")));
            }
            PacketType::PacketStat if self.is_told => {
                return Err(Error::invalid("a file after the last one"));
            }
            PacketType::PacketStat => match packet.stat {
                Some(stat) => self.told(stat)?,
                None => self.is_told = true,
            },
            PacketType::PacketData => self.content(packet.id, &packet.data)?,
            PacketType::PacketFin => self.is_over = true,
            PacketType::PacketReq => {
                return Err(Error::invalid("a sender that asks for files"));
            }
        }
        if self.is_told && self.asked.is_empty() && !self.is_answered {
            self.is_answered = true;
            self.send(Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() });
        }
        Ok(())
    }

    fn told(&mut self, stat: Stat) -> Result<()> {
        let number = self.number;
        if number >= MOST_FILES {
            return Err(Error::invalid(format!("there are more than {MOST_FILES} files")));
        }
        self.number = number + 1;
        let entry = entry(stat);
        if self.synced.take(entry.clone())? {
            self.asked.insert(number, (entry, None));
            let kind = PacketType::PacketReq.into();
            self.send(Packet { r#type: kind, id: number, ..Packet::default() });
        }
        Ok(())
    }

    fn content(&mut self, number: u32, data: &[u8]) -> Result<()> {
        let unasked = || Error::invalid(format!("invalid file request {number}"));
        let (entry, open) = self.asked.get_mut(&number).ok_or_else(unasked)?;
        if data.len() > LARGEST_CONTENT {
            return Err(Error::invalid("too much content in one packet"));
        }
        if open.is_none() {
            if self.open >= MOST_OPEN {
                return Err(Error::invalid("too many files at the same time"));
            }
            *open = Some(self.synced.open(entry)?);
            self.open += 1;
        }
        let file = open.as_mut().context("no file is open")?;
        if !data.is_empty() {
            return file.write_all(data).with_context(|| format!("write {}", entry.path.display()));
        }
        self.synced.close(entry, file)?;
        self.asked.remove(&number);
        self.open -= 1;
        Ok(())
    }

    /// Who does not listen any more is seen by the reader.
    fn send(&self, packet: Packet) {
        let _ = self.outgoing.send(packet);
    }

    fn finish(mut self) -> Result<Synced> {
        if !self.is_over {
            return Err(Error::new(Kind::Cancelled, "it was broken off"));
        }
        if !self.is_told || !self.asked.is_empty() {
            return Err(Error::invalid("it ended before all was there"));
        }
        self.synced.finish()?;
        Ok(self.synced)
    }
}

fn entry(stat: Stat) -> Entry {
    let mode = stat.mode;
    let kind = match mode & GO_KINDS {
        0 => FileType::RegularFile,
        GO_DIRECTORY => FileType::Directory,
        GO_SYMLINK => FileType::Symlink,
        GO_FIFO => FileType::Fifo,
        GO_DEVICE if mode & GO_CHARACTER != 0 => FileType::CharacterDevice,
        GO_DEVICE => FileType::BlockDevice,
        _ => FileType::Unknown,
    };
    let bits = GO_BITS.iter().filter(|(go, _)| mode & go != 0).map(|(_, unix)| unix);
    let number = |number: i64| u32::try_from(number).unwrap_or_default();
    let attributes = stat.xattrs.into_iter().filter(|(name, _)| goes_along(kind, name));
    Entry {
        path: stat.path.into(),
        kind,
        mode: (mode & 0o777) | bits.sum::<u32>(),
        size: stat.size,
        modified: stat.mod_time,
        link: stat.linkname,
        device: (number(stat.devmajor), number(stat.devminor)),
        attributes: attributes.map(|(name, value)| (name, value.to_vec())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ImageStore, Settings};

    fn file(name: &str) -> Packet {
        let stat = Stat { path: name.to_owned(), mode: 0o644, ..Stat::default() };
        Packet { stat: Some(stat), ..end() }
    }

    fn end() -> Packet {
        Packet { r#type: PacketType::PacketStat.into(), ..Packet::default() }
    }

    fn data(id: u32, size: usize) -> Packet {
        let data = vec![b'x'; size].into();
        Packet { r#type: PacketType::PacketData.into(), id, data, ..Packet::default() }
    }

    fn fin() -> Packet {
        Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() }
    }

    #[tokio::test]
    async fn a_sender_keeps_to_the_order_and_the_bounds() {
        let receive = |packets: Vec<Packet>| {
            let temp = tempfile::tempdir().unwrap();
            let store = ImageStore::open(temp.path(), Settings::default()).unwrap();
            let (outgoing, _listening) = mpsc::unbounded_channel();
            let mut receiver = Receiver::new(Synced::begin(&store).unwrap(), outgoing);
            packets.into_iter().try_for_each(|packet| receiver.take(packet))?;
            receiver.finish().map(|_| ())
        };
        receive(vec![file("a"), end(), data(0, 3), data(0, 0), fin()]).unwrap();
        receive(vec![end(), fin()]).unwrap();
        for (why, packets) in [
            ("all was there", vec![fin()]),
            ("all was there", vec![file("a"), end(), data(0, 3), fin()]),
            ("broken off", vec![file("a"), end(), data(0, 0)]),
            ("after the last", vec![file("a"), end(), file("b")]),
            ("request 1", vec![file("a"), end(), data(1, 0)]),
            ("too much content", vec![file("a"), end(), data(0, LARGEST_CONTENT + 1)]),
        ] {
            let error = receive(packets).unwrap_err().chain();
            assert!(error.contains(why), "{error}");
        }
        let count = u32::try_from(MOST_OPEN).unwrap();
        let names = (0..=count).map(|number| file(&format!("f{number}")));
        let begun = names.chain((0..=count).map(|number| data(number, 1))).collect();
        assert!(receive(begun).unwrap_err().chain().contains("too many files"));
    }

    #[test]
    fn attributes_that_are_never_set_are_not_kept() {
        let attributes = ["user.a", "security.capability", "security.selinux", "trusted.x"];
        let xattrs: std::collections::BTreeMap<_, _> =
            attributes.map(|name| (name.to_owned(), vec![1].into())).into();
        let kept = entry(Stat { xattrs: xattrs.clone(), ..Stat::default() }).attributes;
        assert_eq!(kept.into_keys().collect::<Vec<_>>(), ["security.capability", "user.a"]);
        assert!(
            entry(Stat { xattrs, mode: GO_DIRECTORY, ..Stat::default() }).attributes.is_empty()
        );
    }

    #[test]
    fn modes_are_those_of_go() {
        for (go, kind, mode) in [
            (0o640, FileType::RegularFile, 0o640),
            (GO_DIRECTORY | 1 << 20 | 0o777, FileType::Directory, 0o1777),
            (GO_SYMLINK | 0o777, FileType::Symlink, 0o777),
            (1 << 23 | 0o755, FileType::RegularFile, 0o4755),
            (GO_DEVICE | GO_CHARACTER | 0o600, FileType::CharacterDevice, 0o600),
            (GO_DEVICE | 0o600, FileType::BlockDevice, 0o600),
            (GO_IRREGULAR, FileType::Unknown, 0),
        ] {
            let entry = entry(Stat { mode: go, ..Stat::default() });
            assert_eq!((entry.kind, entry.mode), (kind, mode), "{go:o}");
        }
    }

    #[test]
    fn patterns_that_are_no_ascii_are_encoded() {
        let mut metadata = MetadataMap::new();
        put(&mut metadata, "followpaths", &["a b".to_owned()]).unwrap();
        put(&mut metadata, "exclude-patterns", &["x/ü".to_owned(), "a b".to_owned()]).unwrap();
        assert_eq!(metadata.get("followpaths").unwrap(), "a b");
        let patterns: Vec<_> = metadata.get_all("exclude-patterns").iter().collect();
        assert_eq!(patterns, ["x%2F%C3%BC", "a+b"]);
        assert_eq!(metadata.get("exclude-patterns-encoded").unwrap(), "1");
        assert!(metadata.get("followpaths-encoded").is_none());
    }
}
