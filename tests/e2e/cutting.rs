//! What stands between a client and a registry, and is not to be trusted with long conversations.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// When a connection is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// Each, after so many bytes of answers.
    Answers(usize),
    /// So many of those that bring so many bytes of requests.
    Requests { after: usize, times: usize },
}

/// In front of a registry: notes what it is asked, and cuts connections.
pub(crate) struct Cutting {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<u8>>>,
    cuts: Arc<AtomicUsize>,
}

impl Cutting {
    pub(crate) async fn start(registry: String, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, cuts) = (Arc::default(), Arc::default());
        let relay = Self { address, asked, cuts };
        let (asked, cuts) = (Arc::clone(&relay.asked), Arc::clone(&relay.cuts));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&registry).await.unwrap();
                let noted = (Arc::clone(&asked), Arc::clone(&cuts));
                tokio::spawn(pass(client, server, cut, noted));
            }
        });
        relay
    }

    /// What was asked so far, bodies included.
    pub(crate) fn asked(&self) -> String {
        String::from_utf8_lossy(&self.asked.lock().unwrap()).into_owned()
    }

    /// The offsets that were asked for, in the order of the requests.
    pub(crate) fn ranges(&self) -> Vec<u64> {
        let asked = self.asked().to_lowercase();
        let ranges = asked.lines().filter_map(|line| line.strip_prefix("range: bytes="));
        ranges.map(|range| range.trim_end_matches('-').parse().unwrap()).collect()
    }

    /// How often requests were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    cut: Cut,
    (noted, cuts): (Arc<Mutex<Vec<u8>>>, Arc<AtomicUsize>),
) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let asking = async {
        let (mut buffer, mut passed) = ([0; 4096], 0);
        loop {
            match from_client.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    noted.lock().unwrap().extend_from_slice(&buffer[..length]);
                    if to_server.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                    passed += length;
                }
            }
            if let Cut::Requests { after, times } = cut
                && passed >= after
                && cuts
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |cuts| {
                        (cuts < times).then_some(cuts + 1)
                    })
                    .is_ok()
            {
                return;
            }
        }
    };
    let answering = async {
        let most = if let Cut::Answers(after) = cut { after as u64 } else { u64::MAX };
        let mut answers = (&mut from_server).take(most);
        let _ = tokio::io::copy(&mut answers, &mut to_client).await;
    };
    tokio::select! {
        () = asking => {}
        () = answering => {}
    }
}
