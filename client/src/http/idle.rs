//! Connections whose last reply has ended: the next request need not open one. Who answers is awake then, and to wake it costs
//! more than most answers.

use std::io::BufReader;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::Stream;

/// Far below the time after which daemons close connections that say nothing: none is closed while a request is on its way.
const LONGEST: Duration = Duration::from_secs(5);
/// More are used at once only when many containers are made at once.
const MOST: usize = 16;

/// A connection, and since when it is idle.
type Kept = (BufReader<Stream>, Instant);

/// Copies are of the same ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Idle(Arc<Mutex<Vec<Kept>>>);

impl Idle {
    /// One that the other side has neither closed nor said anything on.
    pub(super) fn take(&self) -> Option<BufReader<Stream>> {
        // The last that was used is likely to be the one whose other side still runs.
        std::iter::from_fn(|| self.kept().pop())
            .find(|(reader, since)| since.elapsed() < LONGEST && is_quiet(reader.get_ref()))
            .map(|(reader, _)| reader)
    }

    /// `reader` has given all of a reply.
    pub(super) fn put(&self, reader: BufReader<Stream>) {
        let mut kept = self.kept();
        if kept.len() < MOST && reader.buffer().is_empty() {
            kept.push((reader, Instant::now()));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// TLS has things to say between replies that are none of a reply's, and is not kept.
fn is_quiet(stream: &Stream) -> bool {
    let mut byte = [0];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let peeked = match stream {
        Stream::Unix(stream) => recv(stream, &mut byte, flags),
        Stream::Tcp(stream) => recv(stream, &mut byte, flags),
        Stream::Tls(_) => return false,
    };
    matches!(peeked, Err(Errno::AGAIN))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_a_connection_on_which_nothing_happened_is_used_again() {
        let idle = Idle::default();
        assert!(idle.take().is_none());
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        idle.put(BufReader::new(Stream::Unix(ours)));
        let again = idle.take().unwrap();
        assert!(idle.take().is_none());
        idle.put(again);
        theirs.write_all(b"HTTP/1.1 408 Request Timeout\r\n").unwrap();
        assert!(idle.take().is_none(), "what was said is no reply to the next request");

        let (ours, theirs) = UnixStream::pair().unwrap();
        idle.put(BufReader::new(Stream::Unix(ours)));
        drop(theirs);
        assert!(idle.take().is_none());
    }

    #[test]
    fn no_more_are_kept_than_are_of_use() {
        let idle = Idle::default();
        let others: Vec<UnixStream> = (0..=MOST)
            .map(|_| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                idle.put(BufReader::new(Stream::Unix(ours)));
                theirs
            })
            .collect();
        let kept = std::iter::from_fn(|| idle.take()).count();
        assert_eq!((kept, others.len()), (MOST, MOST + 1));
    }
}
