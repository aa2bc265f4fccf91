//! Published ports on the host's ::1, as far as only a process can lead there.
//!
//! The packet filter leads what is sent to an address of the host to a container, and its replies
//! back. Not so with ::1: where frames of a bridge pass the host's filters, a reply has that address
//! again before the kernel looks at it, which drops it, for it did not come from the host itself
//! (RFC 4291, 2.5.3). So the filter leaves ::1 alone; a connection to it is taken here and joined to
//! one with the container. Nothing of IPv4 needs this, and no datagrams are carried.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections of one port. Others wait in the kernel until one of these ends.
const MOST_CONNECTIONS: usize = 1024;
/// A container that takes no connection in this time takes none.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a socket failed, so that a failure that stays does not keep a processor busy.
const PAUSE: Duration = Duration::from_millis(100);

/// The ports that lead somewhere now, each with the task that sees to it.
#[derive(Default)]
pub(super) struct Relays(BTreeMap<u16, (SocketAddrV6, JoinSet<()>)>);

impl Relays {
    /// Lets exactly these ports lead to these places. A port that a program of the host has on ::1
    /// stays that program's.
    pub(super) async fn follow(&mut self, wanted: &BTreeMap<u16, SocketAddrV6>) {
        let stays =
            |(port, (target, _)): &(&u16, &(SocketAddrV6, _))| wanted.get(*port) == Some(target);
        let gone = self.0.iter().filter(|it| !stays(it)).map(|(port, _)| *port);
        for port in gone.collect::<Vec<_>>() {
            if let Some((_, mut task)) = self.0.remove(&port) {
                // Another one may be about to take the port.
                task.shutdown().await;
            }
        }
        for (port, target) in wanted {
            if self.0.contains_key(port) {
                continue;
            }
            match TcpListener::bind((Ipv6Addr::LOCALHOST, *port)).await {
                Ok(listener) => {
                    let mut task = JoinSet::new();
                    task.spawn(relay(listener, *target));
                    self.0.insert(*port, (*target, task));
                }
                Err(error) => tracing::warn!(port, %error, "a port is not published on ::1"),
            }
        }
    }

    pub(super) async fn stop(&mut self) {
        self.follow(&BTreeMap::new()).await;
    }
}

/// Until it is dropped; connections that it has taken then end with it.
async fn relay(listener: TcpListener, target: SocketAddrV6) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = places.clone().acquire_owned().await.ok();
        match listener.accept().await {
            Ok((mut client, _)) => {
                connections.spawn(async move {
                    let _place = place;
                    let connected = timeout(PATIENCE, TcpStream::connect(target)).await;
                    if let Ok(Ok(mut container)) = connected {
                        // Whoever ends it, both ends see it.
                        let _ = copy_bidirectional(&mut client, &mut container).await;
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accept a connection to ::1");
                let _ = timeout(PAUSE, std::future::pending::<()>()).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_port_leads_to_its_place_until_it_leads_elsewhere() {
        let serve = async |word: &'static [u8]| {
            let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
            let std::net::SocketAddr::V6(address) = listener.local_addr().unwrap() else {
                panic!("not of IPv6")
            };
            tokio::spawn(async move {
                loop {
                    let (mut client, _) = listener.accept().await.unwrap();
                    let mut said = Vec::new();
                    client.read_to_end(&mut said).await.unwrap();
                    said.extend_from_slice(word);
                    let _ = client.write_all(&said).await;
                }
            });
            address
        };
        let (one, two) = (serve(b" one").await, serve(b" two").await);
        let free = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let port = free.local_addr().unwrap().port();
        let mut relays = Relays::default();
        // It is somebody else's.
        relays.follow(&BTreeMap::from([(port, one)])).await;
        assert!(relays.0.is_empty());
        drop(free);
        let ask = async || {
            let mut client = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await?;
            client.write_all(b"who").await?;
            client.shutdown().await?;
            let mut answer = String::new();
            client.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        relays.follow(&BTreeMap::from([(port, one)])).await;
        assert_eq!(ask().await.unwrap(), "who one");
        relays.follow(&BTreeMap::from([(port, two)])).await;
        assert_eq!(ask().await.unwrap(), "who two");
        relays.follow(&BTreeMap::new()).await;
        ask().await.unwrap_err();
    }
}
