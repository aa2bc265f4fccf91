//! gzip of what leaves the store, by several threads.
//!
//! What is written is cut into blocks, each of which a thread compresses by itself; joined they are one member (RFC 1952), for a
//! block ends on a byte and refers to nothing before it. So the bytes are the same however many threads there are.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Large enough that what the blocks cannot refer to costs under a hundredth of the size.
const BLOCK: usize = 512 << 10;
const MOST_THREADS: usize = 4;
/// If nobody asks for another. The next one takes a tenth more time for a hundredth less, or nothing.
const LEVEL: u32 = 5;
/// Deflate, no name, no time, a system that is not told.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

struct Job {
    bytes: Vec<u8>,
    is_last: bool,
    level: Compression,
    done: SyncSender<io::Result<Block>>,
}

struct Block {
    compressed: Vec<u8>,
    sum: Crc,
}

/// Compresses what is written to it. Without [`Gzip::finish`] what comes out is cut short.
pub(super) struct Gzip<W> {
    out: W,
    level: Compression,
    block: Vec<u8>,
    jobs: Sender<Job>,
    /// In their order; as many as there is room for.
    pending: VecDeque<Receiver<io::Result<Block>>>,
    most_pending: usize,
    sum: Crc,
}

impl<W: Write> Gzip<W> {
    /// # Errors
    /// Those of `out`, and of starting threads.
    pub(super) fn new(out: W) -> io::Result<Self> {
        Self::with_level(out, Compression::new(LEVEL))
    }

    /// # Errors
    /// As [`Self::new`].
    pub(super) fn with_level(mut out: W, level: Compression) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let (jobs, taken) = channel();
        let taken = Arc::new(Mutex::new(taken));
        for _ in 0..threads {
            let taken = taken.clone();
            // They end when nobody can give them jobs any more.
            thread::Builder::new().name("gzip".into()).spawn(move || work(&taken))?;
        }
        let pending = VecDeque::new();
        let block = Vec::with_capacity(BLOCK);
        Ok(Self { out, level, block, jobs, pending, most_pending: 2 * threads, sum: Crc::new() })
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.send(true)?;
        while let Some(block) = self.pending.pop_front() {
            self.take(&block)?;
        }
        self.out.write_all(&self.sum.sum().to_le_bytes())?;
        self.out.write_all(&self.sum.amount().to_le_bytes())?;
        Ok(self.out)
    }

    fn send(&mut self, is_last: bool) -> io::Result<()> {
        let bytes = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let (done, block) = sync_channel(1);
        self.jobs.send(Job { bytes, is_last, level: self.level, done }).map_err(|_| gone())?;
        self.pending.push_back(block);
        while self.pending.len() > self.most_pending
            && let Some(block) = self.pending.pop_front()
        {
            self.take(&block)?;
        }
        Ok(())
    }

    fn take(&mut self, block: &Receiver<io::Result<Block>>) -> io::Result<()> {
        let Block { compressed, sum } = block.recv().map_err(|_| gone())??;
        self.sum.combine(&sum);
        self.out.write_all(&compressed)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend(bytes.iter().take(taken));
        if self.block.len() == BLOCK {
            self.send(false)?;
        }
        Ok(taken)
    }

    /// A block is written when it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// 0 to 9.
pub(super) fn level(level: i32) -> Compression {
    u32::try_from(level)
        .map_or_else(|_| Compression::new(LEVEL), |level| Compression::new(level.min(9)))
}

fn gone() -> io::Error {
    io::Error::other("a thread that compresses is gone")
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { bytes, is_last, level, done }) = next else { return };
        // Who does not wait any more has failed otherwise.
        let _ = done.send(compress(&bytes, is_last, level));
    }
}

/// Samples of a block, at even distances from its first byte to its last.
const SAMPLES: usize = 6;
const SAMPLE: usize = 4 << 10;

/// Whether any of a block becomes shorter, by the look of its samples. What is compressed already, or noise, costs deflate the most
/// time for nothing.
fn is_compressible(bytes: &[u8]) -> io::Result<bool> {
    let Some(last) = bytes.len().checked_sub(SAMPLES * SAMPLE) else { return Ok(true) };
    let mut deflate = Compress::new(Compression::fast(), false);
    let mut compressed = Vec::with_capacity(2 * SAMPLE);
    for number in 0..SAMPLES {
        let from = number * (last + (SAMPLES - 1) * SAMPLE) / (SAMPLES - 1);
        let sample = bytes.get(from..from + SAMPLE).unwrap_or_default();
        deflate.reset();
        compressed.clear();
        deflate.compress_vec(sample, &mut compressed, FlushCompress::Finish)?;
        // By a fiftieth.
        if compressed.len() + SAMPLE / 50 < sample.len() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn compress(bytes: &[u8], is_last: bool, level: Compression) -> io::Result<Block> {
    let mut sum = Crc::new();
    sum.update(bytes);
    let level = if is_compressible(bytes)? { level } else { Compression::none() };
    let mut deflate = Compress::new(level, false);
    // The most that deflate adds to what it cannot compress, and the end of the block.
    let mut compressed = Vec::with_capacity(bytes.len() + bytes.len() / 1000 + 64);
    let flush = if is_last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let rest = usize::try_from(deflate.total_in()).ok().and_then(|from| bytes.get(from..));
        let status = deflate.compress_vec(rest.unwrap_or_default(), &mut compressed, flush)?;
        let is_whole = deflate.total_in() == bytes.len() as u64;
        // With room left there was nothing more to say.
        if status == Status::StreamEnd
            || (!is_last && is_whole && compressed.len() < compressed.capacity())
        {
            return Ok(Block { compressed, sum });
        }
        compressed.reserve(4096);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn what_comes_out_is_one_member_and_what_went_in() {
        let noise = (0_u32..).map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes()[3]);
        let bytes: Vec<u8> = noise.take(3 * BLOCK + 7).collect();
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, bytes.len()] {
            let packed = || {
                let mut gzip = Gzip::new(Vec::new()).unwrap();
                gzip.write_all(&bytes[..length]).unwrap();
                gzip.finish().unwrap()
            };
            let once = packed();
            let mut rest = &once[..];
            let mut out = Vec::new();
            GzDecoder::new(&mut rest).read_to_end(&mut out).unwrap();
            assert_eq!(out, bytes[..length], "{length}");
            assert_eq!(once, packed());
        }
        let mut gzip = Gzip::new(Vec::new()).unwrap();
        gzip.write_all(&vec![b'a'; 4 * BLOCK]).unwrap();
        assert!(gzip.finish().unwrap().len() < BLOCK / 50);
    }

    #[test]
    fn noise_is_stored_and_a_part_that_is_none_is_seen() {
        // xorshift: nothing that deflate could use.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[4]
        })
        .take(BLOCK)
        .collect();
        assert!(!is_compressible(&noise).unwrap());
        let stored = compress(&noise, false, Compression::default()).unwrap().compressed;
        // A few bytes for each 64 KiB at most, and the end of the block.
        assert!((BLOCK..BLOCK + 1000).contains(&stored.len()), "{}", stored.len());
        noise[BLOCK / 2..].fill(b'a');
        assert!(is_compressible(&noise).unwrap());
        assert!(is_compressible(&noise[..100]).unwrap());
    }

    #[test]
    fn an_error_of_the_output_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if bytes == HEADER { Ok(10) } else { Err(io::ErrorKind::StorageFull.into()) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gzip = Gzip::new(Full).unwrap();
        let written = gzip.write_all(&vec![0; 32 * BLOCK]).and_then(|()| gzip.finish().map(drop));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
