//! Which pods are served: those of the table that stands in the state directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::loopback::Relays;
use super::serve::{Asking, Desk, connections, datagrams};
use super::table::{Index, Table};
use crate::error::{Context, Error, Kind, Result};
use crate::id::PodId;
use crate::monitor::client::Client;
use crate::monitor::protocol::SocketKind;

/// A monitor that does not give its sockets in this time is as good as gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers by the table that was read last.
pub(crate) struct Server {
    state: PathBuf,
    desk: Arc<Desk>,
    /// The tasks of each pod; they end when they are dropped.
    served: Mutex<BTreeMap<PodId, JoinSet<()>>>,
    relays: Mutex<Relays>,
}

impl Server {
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            desk: Arc::default(),
            served: Mutex::default(),
            relays: Mutex::default(),
        }
    }

    /// Reads the table and serves by it when this returns. A pod whose monitor does not answer is
    /// tried again with the next table.
    pub(crate) async fn read(&self) -> Result<()> {
        let mut served = self.served.lock().await;
        let table = Table::read(&self.state)?;
        self.desk.index.store(Arc::new(Index::of(&table)));
        self.relays.lock().await.follow(&table.loopback).await;
        served.retain(|pod, _| table.askers.contains_key(pod));
        let new = table.askers.iter().filter(|(pod, _)| !served.contains_key(pod));
        let opened = join_all(new.map(|(pod, asker)| async move {
            let sockets = timeout(PATIENCE, open(&asker.monitor)).await;
            let late = || Err(Error::new(Kind::Timeout, "the monitor does not answer"));
            (pod.clone(), sockets.unwrap_or_else(|_| late()))
        }));
        for (pod, sockets) in opened.await {
            match sockets {
                Ok((socket, listener)) => {
                    let asking = Asking::new(self.desk.clone(), pod.clone());
                    let mut tasks = JoinSet::new();
                    tasks.spawn(datagrams(asking.clone(), socket));
                    tasks.spawn(connections(asking, listener));
                    served.insert(pod, tasks);
                }
                Err(error) => {
                    tracing::warn!(%pod, error = error.chain(), "no names are answered in a pod");
                }
            }
        }
        Ok(())
    }

    /// Leaves the sockets to another server.
    pub(crate) async fn stop(&self) {
        self.served.lock().await.clear();
        self.relays.lock().await.stop().await;
    }
}

async fn open(monitor: &Path) -> Result<(UdpSocket, TcpListener)> {
    let (client, _reports) = Client::connect(monitor).await?;
    let socket = std::net::UdpSocket::from(client.open_socket(SocketKind::NamesUdp).await?);
    let listener = std::net::TcpListener::from(client.open_socket(SocketKind::NamesTcp).await?);
    let prepare = "prepare the sockets for names";
    socket.set_nonblocking(true).context(prepare)?;
    listener.set_nonblocking(true).context(prepare)?;
    let socket = UdpSocket::from_std(socket).context(prepare)?;
    Ok((socket, TcpListener::from_std(listener).context(prepare)?))
}
