//! Frames of a process without a terminal: a head of eight bytes says which stream and how much.

use std::io::{self, ErrorKind, Read, Write};

const HEAD: usize = 8;

/// Copies each frame to the stream that it names, until there are no more.
///
/// # Errors
/// A frame of stream 3 is the daemon's word that it failed.
pub(crate) fn copy_frames(reader: &mut impl Read) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut err = io::stderr().lock();
    copy_to(reader, &mut out, &mut err)
}

/// The same, to writers of one's own.
pub(crate) fn copy_to(
    reader: &mut impl Read,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<()> {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let mut head = [0; HEAD];
        if !read_head(reader, &mut head)? {
            return Ok(());
        }
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        let mut failure = Vec::new();
        while left > 0 {
            let most = left.min(buffer.len());
            let read = match reader.read(&mut buffer[..most]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            left -= read;
            match head[0] {
                0 | 1 => out.write_all(&buffer[..read])?,
                2 => err.write_all(&buffer[..read])?,
                _ => failure.extend_from_slice(&buffer[..read]),
            }
        }
        out.flush()?;
        if !failure.is_empty() {
            let words = String::from_utf8_lossy(&failure).trim_end().to_owned();
            return Err(io::Error::other(format!("error from daemon in stream: {words}")));
        }
    }
}

/// Whether there was one: the end may come between two frames only.
fn read_head(reader: &mut impl Read, head: &mut [u8; HEAD]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < HEAD {
        match reader.read(&mut head[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap();
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend(text.bytes());
        bytes
    }

    #[test]
    fn frames_go_to_their_streams() {
        let bytes = [frame(1, "a"), frame(2, "b"), frame(1, ""), frame(1, "c")].concat();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        copy_to(&mut bytes.as_slice(), &mut out, &mut err).unwrap();
        assert_eq!((out.as_slice(), err.as_slice()), (&b"ac"[..], &b"b"[..]));
    }

    #[test]
    fn a_cut_frame_and_the_daemons_word_are_errors() {
        let cut = &frame(1, "abc")[..9];
        let mut nowhere = (Vec::new(), Vec::new());
        let error = copy_to(&mut &cut[..], &mut nowhere.0, &mut nowhere.1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        let error =
            copy_to(&mut frame(3, "no").as_slice(), &mut nowhere.0, &mut nowhere.1).unwrap_err();
        assert_eq!(error.to_string(), "error from daemon in stream: no");
    }
}
