//! An archive that is sent while it is made.

use std::io::{self, BufWriter, PipeReader, PipeWriter, Read, Write};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use tar::Builder;

use crate::error::Result;

/// Has one thread fill the archive that another sends. The end comes only behind a complete one: else reading fails, so that
/// nobody takes a part for the whole.
pub(crate) fn sent<T>(
    fill: impl FnOnce(&mut Builder<Gate<PipeWriter>>) -> io::Result<()> + Send,
    send: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let (pipe, writer) = io::pipe()?;
    let (filled, outcome) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let outcome = pack(writer, fill);
            // Who reads no more does not ask.
            let _ = filled.send(outcome);
        });
        // It is dropped at the end: who still writes learns that nobody reads.
        let mut reader = Whole { pipe, outcome, is_whole: false };
        send(&mut reader)
    })
}

/// The archive, into a writer. One that was not filled has no end either.
fn pack<W: Write>(
    writer: W,
    fill: impl FnOnce(&mut Builder<Gate<W>>) -> io::Result<()>,
) -> io::Result<()> {
    let mut builder = Builder::new(Gate(Some(BufWriter::with_capacity(64 << 10, writer))));
    let filled = fill(&mut builder);
    if filled.is_err() {
        // The builder would write an end when it is dropped.
        builder.get_mut().0 = None;
        return filled;
    }
    builder.into_inner()?.flush()
}

/// A writer that can be closed before who uses it is through.
pub(crate) struct Gate<W: Write>(Option<BufWriter<W>>);

impl<W: Write> Gate<W> {
    fn open(&mut self) -> io::Result<&mut BufWriter<W>> {
        self.0.as_mut().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl<W: Write> Write for Gate<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open()?.flush()
    }
}

/// What comes through the pipe, if all of it did.
struct Whole {
    pipe: PipeReader,
    outcome: Receiver<io::Result<()>>,
    is_whole: bool,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.pipe.read(buffer)?;
        if read == 0 && !buffer.is_empty() && !self.is_whole {
            let broken = |_| Err(io::Error::other("the archive was not made"));
            self.outcome.recv().unwrap_or_else(broken)?;
            self.is_whole = true;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(builder: &mut Builder<impl Write>) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        builder.append_data(&mut header, "a", &b"1"[..])
    }

    #[test]
    fn a_complete_archive_ends() {
        let bytes = sent(entry, |reader| {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        let bytes = bytes.unwrap();
        assert_eq!(tar::Archive::new(bytes.as_slice()).entries().unwrap().count(), 1);
        assert!(bytes.ends_with(&[0; 1024]));
    }

    #[test]
    fn one_that_breaks_off_has_no_end() {
        let mut bytes = Vec::new();
        let broken = |builder: &mut Builder<Gate<PipeWriter>>| {
            entry(builder)?;
            Err(io::Error::other("unreadable"))
        };
        let outcome = sent(broken, |reader| Ok(reader.read_to_end(&mut bytes).map(drop)?));
        assert_eq!(outcome.unwrap_err().message, "unreadable");
        // A header and a block: the two blocks of an end are not there.
        assert_eq!(bytes.len(), 1024);
    }

    #[test]
    fn who_stops_reading_stops_the_writer() {
        let endless = |builder: &mut Builder<Gate<PipeWriter>>| {
            loop {
                entry(builder)?;
            }
        };
        let outcome = sent(endless, |reader| Ok(reader.read_exact(&mut [0; 512])?));
        assert_eq!(outcome, Ok(()));
    }
}
