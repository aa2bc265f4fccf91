//! Header blocks: name and value pairs, deflated with the dictionary of the SPDY/3 specification.
//!
//! All blocks of one direction form one zlib stream, so each must be inflated, in order, even if
//! nobody wants it. What we send ourselves is stored, not compressed: our replies carry no
//! headers, and a compressor would cost a quarter of a megabyte for each session.

use std::sync::LazyLock;

use flate2::{Decompress, FlushDecompress};

use super::frame::Malformed;

/// Inflated bytes of one block; a client's are below one kilobyte.
const BLOCK_LIMIT: usize = 64 << 10;
const COUNT_LIMIT: u32 = 256;
/// The longest run of a stored deflate block.
const STORED_LIMIT: usize = 0xffff;

/// <https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>, 2.6.10.1: first these
/// words, each behind its length, then the tail as it stands.
const DICTIONARY_WORDS: &str = "options head post put delete trace accept accept-charset \
    accept-encoding accept-language accept-ranges age allow authorization cache-control \
    connection content-base content-encoding content-language content-length content-location \
    content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location \
    max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server \
    te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get \
    status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin";
const DICTIONARY_TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412\
    413414415416417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently\
    400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not \
    Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 \
    Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,\
    deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

pub(super) static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::with_capacity(1423);
    for word in DICTIONARY_WORDS.split_whitespace() {
        put_text(&mut bytes, &word.replace('_', " "));
    }
    bytes.extend_from_slice(DICTIONARY_TAIL.as_bytes());
    bytes
});

/// The headers of a stream, in the order they came; names are lower-case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(pub(crate) Vec<(String, String)>);

impl Headers {
    /// The first value of a header; `name` is written in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        value.split('\0').next()
    }
}

/// Reads the blocks of one direction of a connection.
pub(super) struct Inflater {
    zlib: Decompress,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { zlib: Decompress::new(true) }
    }

    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, Malformed> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let before = self.zlib.total_in();
            let result = self.zlib.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.zlib.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            match result {
                Ok(flate2::Status::StreamEnd) => {
                    return Err(Malformed("the zlib stream of the headers ended"));
                }
                Ok(flate2::Status::Ok | flate2::Status::BufError) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib
                        .set_dictionary(&DICTIONARY)
                        .map_err(|_| Malformed("a foreign header dictionary"))?;
                    continue;
                }
                Err(_) => return Err(Malformed("headers that do not inflate")),
            }
            if plain.len() < plain.capacity() {
                // Room was left over, so all input is used up.
                return Ok(plain);
            }
            if plain.len() >= BLOCK_LIMIT {
                return Err(Malformed("a header block of more than 64 KiB"));
            }
            plain.reserve(plain.len());
        }
    }
}

fn parse(plain: &[u8]) -> Result<Headers, Malformed> {
    let mut rest = plain;
    let count = take_length(&mut rest)?;
    if count > COUNT_LIMIT {
        return Err(Malformed("more than 256 headers"));
    }
    let mut headers = Headers::default();
    for _ in 0..count {
        let name = take_text(&mut rest)?.to_ascii_lowercase();
        if name.is_empty() || headers.get(&name).is_some() {
            return Err(Malformed("an empty or a repeated header name"));
        }
        let value = take_text(&mut rest)?;
        headers.0.push((name, value));
    }
    if rest.is_empty() { Ok(headers) } else { Err(Malformed("bytes after the last header")) }
}

fn take_length(rest: &mut &[u8]) -> Result<u32, Malformed> {
    let (length, after) = rest.split_first_chunk().ok_or(Malformed("a cut header block"))?;
    *rest = after;
    Ok(u32::from_be_bytes(*length))
}

fn take_text(rest: &mut &[u8]) -> Result<String, Malformed> {
    let length = usize::try_from(take_length(rest)?).unwrap_or(usize::MAX);
    let (text, after) = rest.split_at_checked(length).ok_or(Malformed("a cut header block"))?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| Malformed("a header that is not UTF-8"))
}

/// Writes the blocks of one direction of a connection.
#[derive(Default)]
pub(super) struct Deflater {
    started: bool,
}

impl Deflater {
    pub(super) fn write(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = Vec::new();
        put_length(&mut plain, headers.0.len());
        for (name, value) in &headers.0 {
            put_text(&mut plain, name);
            put_text(&mut plain, value);
        }
        let mut block = Vec::with_capacity(plain.len() + 16);
        if !self.started {
            self.started = true;
            // RFC 1950: deflate with a 32 KiB window, no dictionary, checked header.
            block.extend_from_slice(&[0x78, 0x01]);
        }
        // The empty block at the end is what a flush looks like: some inflaters hand out what they
        // have only then.
        for piece in plain.chunks(STORED_LIMIT).chain([&[][..]]) {
            let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
            // RFC 1951, 3.2.4: a stored block that is not the last one.
            block.push(0);
            block.extend_from_slice(&length.to_le_bytes());
            block.extend_from_slice(&(!length).to_le_bytes());
            block.extend_from_slice(piece);
        }
        block
    }
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_length(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
pub(super) mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    /// A compressor as other implementations have it.
    pub(in super::super) struct Peer(Compress);

    impl Peer {
        pub(in super::super) fn new() -> Self {
            let mut zlib = Compress::new(Compression::best(), true);
            zlib.set_dictionary(&DICTIONARY).unwrap();
            Self(zlib)
        }

        pub(in super::super) fn write(&mut self, plain: &[u8]) -> Vec<u8> {
            let mut block = Vec::with_capacity(plain.len() + 1024);
            self.0.compress_vec(plain, &mut block, FlushCompress::Sync).unwrap();
            block
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        Headers(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    fn plain(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_length(&mut bytes, pairs.len());
        for (name, value) in pairs {
            put_text(&mut bytes, name);
            put_text(&mut bytes, value);
        }
        bytes
    }

    #[test]
    fn the_dictionary_has_the_checksum_of_the_specification() {
        let mut zlib = Compress::new(Compression::fast(), true);
        assert_eq!(DICTIONARY.len(), 1423);
        assert_eq!(zlib.set_dictionary(&DICTIONARY).unwrap(), 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_of_a_compressing_peer_are_read_one_after_another() {
        let (mut peer, mut inflater) = (Peer::new(), Inflater::new());
        for kind in ["error", "stdin", "stdout"] {
            let block = peer.write(&plain(&[("streamtype", kind), ("port", "80")]));
            let read = inflater.read(&block).unwrap();
            assert_eq!(read, headers(&[("streamtype", kind), ("port", "80")]));
        }
    }

    #[test]
    fn our_own_blocks_are_read_back_by_any_inflater() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::new());
        for sent in [headers(&[]), headers(&[("a", "b")]), headers(&[("long", &"x".repeat(9000))])]
        {
            assert_eq!(inflater.read(&deflater.write(&sent)).unwrap(), sent);
        }
    }

    #[test]
    fn a_small_block_that_inflates_to_megabytes_is_refused() {
        let bomb = Peer::new().write(&plain(&[("a", &"x".repeat(4 << 20))]));
        assert!(bomb.len() < 16 << 10);
        assert!(Inflater::new().read(&bomb).is_err());
    }

    #[test]
    fn lengths_beyond_the_block_and_repeated_names_are_refused() {
        for wrong in [
            vec![0xff; 4],
            vec![0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],
            plain(&[("a", "1"), ("A", "2")]),
            [plain(&[]), vec![0]].concat(),
        ] {
            assert!(Inflater::new().read(&Peer::new().write(&wrong)).is_err(), "{wrong:?}");
        }
    }
}
