//! The body of a reply, without its framing, and the framing of what is sent.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};

use super::{Idle, Stream, invalid};

pub(crate) struct Body {
    /// None: the reply has ended, and the connection is another's.
    reader: Option<BufReader<Stream>>,
    rest: Rest,
    /// Where the connection goes when the reply has ended, if it can be used again.
    idle: Option<Idle>,
}

/// What is still to come.
enum Rest {
    Bytes(u64),
    /// Of this chunk; the next one has a head of its own. `None` before the first.
    Chunk(Option<u64>),
    UntilClosed,
}

impl Body {
    pub(super) fn new(
        reader: BufReader<Stream>,
        method: &str,
        status: u16,
        headers: &[(String, String)],
        idle: Option<&Idle>,
    ) -> Self {
        let header = |name| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let rest = if method == "HEAD" || matches!(status, 204 | 304) {
            Rest::Bytes(0)
        } else if header("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
            Rest::Chunk(None)
        } else if let Some(length) = header("content-length").and_then(|it| it.parse().ok()) {
            Rest::Bytes(length)
        } else {
            Rest::UntilClosed
        };
        let is_closed = header("connection").is_some_and(|it| it.eq_ignore_ascii_case("close"));
        let idle = idle.filter(|_| !is_closed).cloned();
        let mut body = Self { reader: Some(reader), rest, idle };
        body.end();
        body
    }

    /// Gives the connection away if nothing is left of the reply.
    fn end(&mut self) {
        if matches!(self.rest, Rest::Bytes(0))
            && let (Some(idle), Some(reader)) = (&self.idle, self.reader.take())
        {
            idle.put(reader);
        }
    }

    fn reader(&mut self) -> io::Result<&mut BufReader<Stream>> {
        self.reader.as_mut().ok_or_else(|| ErrorKind::NotConnected.into())
    }

    fn next_chunk(&mut self, is_first: bool) -> io::Result<u64> {
        let mut line = String::new();
        let reader = self.reader()?;
        if !is_first {
            reader.read_line(&mut line)?;
            line.clear();
        }
        if reader.read_line(&mut line)? == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the reply ends in its middle"));
        }
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16)
            .map_err(|_| invalid("the size of a chunk is no number"))?;
        if size == 0 {
            // Fields after the body, of no interest, and the empty line that ends them.
            let mut field = String::new();
            while reader.read_line(&mut field)? > 2 {
                field.clear();
            }
        }
        Ok(size)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = match self.rest {
            Rest::UntilClosed => return self.reader()?.read(buffer),
            Rest::Bytes(left) => left,
            Rest::Chunk(Some(left)) if left > 0 => left,
            Rest::Chunk(left) => {
                let size = self.next_chunk(left.is_none())?;
                self.rest = if size == 0 { Rest::Bytes(0) } else { Rest::Chunk(Some(size)) };
                self.end();
                size
            }
        };
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.reader()?.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the reply ends in its middle"));
        }
        let left = left - read as u64;
        self.rest = match self.rest {
            Rest::Chunk(_) => Rest::Chunk(Some(left)),
            Rest::Bytes(_) | Rest::UntilClosed => Rest::Bytes(left),
        };
        self.end();
        Ok(read)
    }
}

/// Everything that is read, in chunks. Inside of what it gives is why the other side did not take it.
///
/// # Errors
/// It cannot be read to its end, and is sent without one.
pub(super) fn write_chunks(
    stream: &mut impl Write,
    reader: &mut dyn Read,
) -> io::Result<io::Result<()>> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let chunk = [format!("{read:x}\r\n").as_bytes(), &buffer[..read], b"\r\n"].concat();
        let written = stream.write_all(&chunk);
        if read == 0 || written.is_err() {
            return Ok(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some bytes, then an error.
    struct Breaks(&'static [u8]);

    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("unreadable")),
                read => Ok(read),
            }
        }
    }

    #[test]
    fn only_what_was_read_to_its_end_is_ended() {
        let mut sent = Vec::new();
        write_chunks(&mut sent, &mut &b"abc"[..]).unwrap().unwrap();
        assert_eq!(sent, b"3\r\nabc\r\n0\r\n\r\n");
        sent.clear();
        let error = write_chunks(&mut sent, &mut Breaks(b"abc")).unwrap_err();
        assert_eq!(error.to_string(), "unreadable");
        assert_eq!(sent, b"3\r\nabc\r\n");
    }
}
