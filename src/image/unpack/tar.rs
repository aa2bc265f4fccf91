//! Tar archives, read as strictly as is safe: one member, one meaning.
//!
//! Our own reader because layers are hostile input: every size has a cap before memory is taken,
//! extended headers are split by their stated length (values may hold any byte, as
//! `security.capability` does), and what two programs could read differently is refused. Knows
//! v7, ustar, GNU (long names, sparse) and PAX (with all three GNU sparse forms).

use std::io::BufRead;

use super::header::{self, BLOCK, Header};
use super::pax::{Pax, SparseMap};
use super::sparse::{Segment, pairs, sparse};
use crate::error::{Context, Error, Kind as ErrorKind, Result};

const LONGEST_PATH: u64 = 4096;
const LARGEST_EXTENSION: u64 = 1 << 20;
const MOST_SEGMENTS: usize = 1 << 16;

/// One member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Permission bits and the three special ones.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File {
        size: u64,
    },
    /// A file of `size` whose data in the archive belongs to the listed segments.
    Sparse {
        size: u64,
        segments: Vec<Segment>,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    HardLink {
        target: Vec<u8>,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// Seconds since the epoch and nanoseconds on top.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// What a member's headers together say about its content.
struct Body {
    size: u64,
    link: Vec<u8>,
    sparse: Option<SparseMap>,
}

/// Reads an archive member by member from a stream.
pub(super) struct Archive<R> {
    stream: R,
    /// Bytes of the current member's data that nobody read.
    unread: u64,
    /// Zeros after them up to the next block.
    padding: u64,
}

impl<R: BufRead> Archive<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, unread: 0, padding: 0 }
    }

    pub(super) fn into_stream(self) -> R {
        self.stream
    }

    /// The next member, or `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        let mut long_path = None;
        let mut long_link = None;
        let mut pax: Option<Pax> = None;
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                if long_path.is_some() || long_link.is_some() || pax.is_some() {
                    return Err(Error::invalid("the archive ends after an extended header"));
                }
                return Ok(None);
            };
            match header.type_flag() {
                b'L' => set_once(&mut long_path, self.text(&header)?)?,
                b'K' => set_once(&mut long_link, self.text(&header)?)?,
                b'x' => {
                    let records = self.extension(&header, LARGEST_EXTENSION)?;
                    set_once(&mut pax, Pax::parse(&records)?)?;
                }
                // Describes the archive, such as the commit it was made from. No engine lets it
                // change members.
                b'g' => {
                    self.extension(&header, LARGEST_EXTENSION)?;
                }
                _ => {
                    let pax = pax.unwrap_or_default();
                    return self.entry(&header, long_path, long_link, pax).map(Some);
                }
            }
        }
    }

    /// Hands out the data of the current member in pieces, until `length` bytes are read.
    pub(super) fn read(
        &mut self,
        mut length: u64,
        mut sink: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        length = length.min(self.unread);
        while length > 0 {
            let bytes = fill(&mut self.stream)?;
            let count = bytes.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            sink(bytes.get(..count).unwrap_or_default())?;
            self.stream.consume(count);
            length -= count as u64;
            self.unread -= count as u64;
        }
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<()> {
        self.read(u64::MAX, |_| Ok(()))?;
        while self.padding > 0 {
            let bytes = self.stream.fill_buf().context("read archive")?;
            if bytes.is_empty() {
                // Docker's client fills up no last member: the Dockerfile that it adds to a context from elsewhere.
                self.padding = 0;
            }
            let count = bytes.len().min(usize::try_from(self.padding).unwrap_or(usize::MAX));
            self.stream.consume(count);
            self.padding -= count as u64;
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let bytes = self.stream.fill_buf().context("read archive")?;
            if bytes.is_empty() {
                // Some writers leave out the two closing blocks.
                return if filled == 0 { Ok(None) } else { Err(cut_short()) };
            }
            let count = bytes.len().min(rest.len());
            for (to, from) in rest.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.stream.consume(count);
            filled += count;
        }
        Ok(Some(block))
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Header::parse(block).map(Some);
        }
        // The end: only zeros may follow, or another reader could see other members.
        loop {
            let bytes = self.stream.fill_buf().context("read archive")?;
            let count = bytes.len();
            if count == 0 {
                return Ok(None);
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(Error::invalid("the archive goes on after its end"));
            }
            self.stream.consume(count);
        }
    }

    fn begin_data(&mut self, size: u64) {
        self.unread = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// The whole data of an extended header.
    fn extension(&mut self, header: &Header, limit: u64) -> Result<Vec<u8>> {
        let size = header.size()?;
        if size > limit {
            return Err(Error::invalid(format!("an extended header of {size} bytes is too large")));
        }
        self.begin_data(size);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        self.read(size, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn text(&mut self, header: &Header) -> Result<Vec<u8>> {
        let mut text = self.extension(header, LONGEST_PATH + 1)?;
        while text.last() == Some(&0) {
            text.pop();
        }
        Ok(text)
    }

    fn entry(
        &mut self,
        header: &Header,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        pax: Pax,
    ) -> Result<Entry> {
        let path = pax.path.or(long_path).unwrap_or_else(|| header.path());
        let shown = shown(&path);
        let context = || format!("member {shown}");
        let size = match pax.size {
            Some(size) => size,
            None => header.size().with_context(context)?,
        };
        let link = pax.link_path.or(long_link).unwrap_or_else(|| header.link().to_vec());
        let body = Body { size, link, sparse: pax.sparse };
        let kind = self.kind(header, &path, body).with_context(context)?;
        let owner = |stated: Option<u64>, field: Result<u64>| {
            let id = stated.map_or(field, Ok)?;
            // The last number is "no change" to chown(2).
            u32::try_from(id)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| Error::invalid(format!("owner {id} is out of range")))
        };
        let path = pax.sparse_name.unwrap_or(path);
        Ok(Entry {
            path,
            kind,
            mode: header.mode().with_context(context)?,
            uid: owner(pax.uid, header.uid()).with_context(context)?,
            gid: owner(pax.gid, header.gid()).with_context(context)?,
            mtime: match pax.mtime {
                Some(mtime) => mtime,
                None => Time { seconds: header.mtime().with_context(context)?, nanoseconds: 0 },
            },
            xattrs: pax.xattrs,
        })
    }

    fn kind(&mut self, header: &Header, path: &[u8], body: Body) -> Result<Kind> {
        let Body { size, link, sparse } = body;
        let flag = header.type_flag();
        if sparse.is_some() && !matches!(flag, b'0' | 0) {
            return Err(Error::invalid("only a file can be sparse"));
        }
        let device = || header.device();
        Ok(match flag {
            // Before ustar a trailing slash was all that told a directory.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => {
                self.begin_data(size);
                match sparse {
                    Some(map) => self.pax_sparse(size, map)?,
                    None => Kind::File { size },
                }
            }
            b'1' => Kind::HardLink { target: link },
            b'2' => Kind::Symlink { target: link },
            b'3' => {
                let (major, minor) = device()?;
                Kind::CharDevice { major, minor }
            }
            b'4' => {
                let (major, minor) = device()?;
                Kind::BlockDevice { major, minor }
            }
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => self.gnu_sparse(header, size)?,
            other => {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("type {:?} is not known", char::from(other)),
                ));
            }
        })
    }

    fn gnu_sparse(&mut self, header: &Header, size: u64) -> Result<Kind> {
        let mut segments = Vec::new();
        let mut is_extended = header.sparse_segments(&mut segments)?;
        while is_extended {
            let block = self.block()?.ok_or_else(cut_short)?;
            is_extended = header::extended_segments(&block, &mut segments)?;
            if segments.len() > MOST_SEGMENTS {
                return Err(Error::invalid("the sparse file has too many segments"));
            }
        }
        self.begin_data(size);
        sparse(header.real_size()?, segments, size)
    }

    fn pax_sparse(&mut self, size: u64, map: SparseMap) -> Result<Kind> {
        match map {
            SparseMap::Listed { real_size, segments } => sparse(real_size, segments, size),
            SparseMap::InData { real_size } => {
                let segments = self.map_in_data()?;
                sparse(real_size, segments, self.unread)
            }
        }
    }

    /// GNU's form 1.0: decimal numbers on lines, the count first, filled up to a block.
    fn map_in_data(&mut self) -> Result<Vec<Segment>> {
        let mut text = Vec::new();
        let mut numbers: Vec<u64> = Vec::new();
        let malformed = || Error::invalid("the map of the sparse file is malformed");
        loop {
            if self.unread < BLOCK as u64 {
                return Err(malformed());
            }
            self.read(BLOCK as u64, |piece| {
                text.extend_from_slice(piece);
                Ok(())
            })?;
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let number = header::decimal(text.get(..end).unwrap_or_default());
                numbers.push(number.ok_or_else(malformed)?);
                text.drain(..=end);
                let count = numbers.first().copied().unwrap_or_default();
                if count > MOST_SEGMENTS as u64 {
                    return Err(Error::invalid("the sparse file has too many segments"));
                }
                if numbers.len() as u64 == 1 + 2 * count {
                    return Ok(pairs(numbers.get(1..).unwrap_or_default()));
                }
            }
            if text.len() > 32 {
                return Err(malformed());
            }
        }
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::invalid("a member has two extended headers of one kind")),
    }
}

fn fill<R: BufRead>(stream: &mut R) -> Result<&[u8]> {
    let bytes = stream.fill_buf().context("read archive")?;
    if bytes.is_empty() { Err(cut_short()) } else { Ok(bytes) }
}

fn cut_short() -> Error {
    Error::invalid("the archive is cut short")
}

/// A member's path for an error message.
pub(super) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path.get(..300).unwrap_or(path)).into_owned();
    format!("{text:?}")
}
