//! The digest of what is written, and how much it is.
//!
//! sha256 is what takes longest about a large layer. So once there is much to hash a thread of its own does that, and who writes
//! reads the next files meanwhile.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use super::digest::{Algorithm, Digest, Hasher};

/// Handed over at once, in bytes.
const BLOCK: usize = 1 << 20;
/// Blocks that the thread has not come to yet.
const WAITING: usize = 2;

pub(super) struct Summed {
    block: Vec<u8>,
    /// Bytes.
    size: u64,
    /// As soon as the first block is full.
    thread: Option<Thread>,
}

struct Thread {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    hashing: JoinHandle<Digest>,
}

impl Thread {
    fn start() -> io::Result<Self> {
        let (full, blocks) = sync_channel::<Vec<u8>>(WAITING);
        let (done, empty) = channel();
        let hash = move || {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            for mut block in blocks {
                hasher.update(&block);
                block.clear();
                // Who has nothing more to write wants none back.
                let _ = done.send(block);
            }
            hasher.finish()
        };
        let hashing = thread::Builder::new().name("hash".into()).spawn(hash)?;
        Ok(Self { full, empty, hashing })
    }
}

impl Summed {
    pub(super) fn new() -> Self {
        Self { block: Vec::new(), size: 0, thread: None }
    }

    /// sha256, and bytes.
    pub(super) fn finish(self) -> io::Result<(Digest, u64)> {
        let Self { block, size, thread } = self;
        let Some(Thread { full, hashing, empty: _ }) = thread else {
            return Ok((Digest::of(&block), size));
        };
        full.send(block).map_err(|_| gone())?;
        drop(full);
        Ok((hashing.join().map_err(|_| gone())?, size))
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => Thread::start()?,
        };
        let thread = self.thread.insert(thread);
        let next = thread.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BLOCK));
        thread.full.send(std::mem::replace(&mut self.block, next)).map_err(|_| gone())
    }
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend(bytes.iter().take(taken));
        self.size += taken as u64;
        if self.block.len() == BLOCK {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::other("a thread that hashes is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_digest_of_all_that_was_written_in_whatever_pieces() {
        let mixed = (0_u32..).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
        let bytes: Vec<u8> = mixed.take(5 * BLOCK + 7).collect();
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, bytes.len()] {
            let bytes = &bytes[..length];
            for piece in [8 << 10, BLOCK + 3, bytes.len().max(1)] {
                let mut summed = Summed::new();
                for piece in bytes.chunks(piece) {
                    summed.write_all(piece).unwrap();
                }
                let found = summed.finish().unwrap();
                assert_eq!(found, (Digest::of(bytes), length as u64), "{length} by {piece}");
            }
        }
    }
}
