//! Where plugins come in: the socket, and the directory of installed ones.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::sync::OwnedRwLockWriteGuard;

use super::join::Joining;
use super::launch::{self, Preset};
use super::plugin::Plugin;
use super::{Nri, Runtime};
use crate::error::{Context, Error, Kind, Result};

/// A plugin and, if we started it, its process.
type Newcomer = (Joining, Option<Child>);

pub(super) async fn start(nri: &Arc<Nri>, runtime: &Arc<dyn Runtime>) {
    let installed = launch::find(&nri.config.plugin_path, &nri.config.plugin_config_path);
    if !installed.is_empty() {
        // Held already when the first client comes.
        let steady = nri.steady.clone().write_owned().await;
        let arrival = Arrival::of(nri);
        tokio::spawn(launch_all(nri.clone(), runtime.clone(), installed, (steady, arrival)));
    }
    match bind(&nri.config.socket_path) {
        Ok(listener) => {
            nri.bound.store(true, Ordering::Relaxed);
            tokio::spawn(accept(nri.clone(), runtime.clone(), listener));
        }
        // The pods do not depend on it: the daemon goes on.
        Err(error) => tracing::warn!(error = error.chain(), "no NRI plugin can connect"),
    }
}

/// # Errors
/// `Busy` when somebody else serves the socket: another runtime on this node.
fn bind(path: &Path) -> Result<UnixListener> {
    let listen = || format!("listen at {}", path.display());
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Error::new(Kind::Busy, "another runtime serves it")).with_context(listen);
    }
    if let Some(directory) = path.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| format!("make {}", directory.display()))?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(listen);
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).with_context(listen)?;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).with_context(listen)?;
    Ok(listener)
}

async fn accept(nri: Arc<Nri>, runtime: Arc<dyn Runtime>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(come(nri.clone(), runtime.clone(), socket));
            }
            Err(error) => {
                tracing::error!(%error, "accept NRI plugins");
                return;
            }
        }
    }
}

/// A plugin that connects by itself.
async fn come(nri: Arc<Nri>, runtime: Arc<dyn Runtime>, socket: UnixStream) {
    match Joining::meet(&nri, &runtime, socket, None).await {
        Ok(joining) => {
            let arrival = Arrival::of(&nri);
            let steady = nri.steady.clone().write_owned().await;
            let all = synchronize(&nri, &runtime, vec![(joining, None)]).await;
            drop((steady, arrival));
            settle(&runtime, all).await;
        }
        Err(error) => tracing::warn!(error = error.chain(), "an NRI plugin cannot join"),
    }
}

/// All installed plugins; from the beginning on nobody makes anything.
async fn launch_all(
    nri: Arc<Nri>,
    runtime: Arc<dyn Runtime>,
    installed: Vec<Preset>,
    steady: (OwnedRwLockWriteGuard<()>, Arrival),
) {
    let meetings = installed.iter().map(|preset| meet(&nri, &runtime, preset));
    let newcomers = join_all(meetings).await.into_iter().flatten().collect();
    let all = synchronize(&nri, &runtime, newcomers).await;
    drop(steady);
    settle(&runtime, all).await;
}

async fn meet(nri: &Arc<Nri>, runtime: &Arc<dyn Runtime>, preset: &Preset) -> Option<Newcomer> {
    let started = async {
        let (socket, child) = preset.start()?;
        let joining = Joining::meet(nri, runtime, socket, Some(preset)).await?;
        Ok::<_, Error>((joining, Some(child)))
    };
    match started.await {
        Ok(newcomer) => Some(newcomer),
        Err(error) => {
            let plugin = &preset.name;
            tracing::warn!(plugin, error = error.chain(), "an installed NRI plugin cannot join");
            None
        }
    }
}

type Updates = Vec<cais_proto::nri::v1alpha1::ContainerUpdate>;

/// Tells the newcomers of all there is and puts them into the list. The caller holds everything still.
async fn synchronize(
    nri: &Arc<Nri>,
    runtime: &Arc<dyn Runtime>,
    newcomers: Vec<Newcomer>,
) -> Updates {
    let (pods, containers) = runtime.pods_and_containers();
    let mut all = Vec::new();
    for (joining, child) in newcomers {
        let name = joining.name().to_owned();
        match joining.synchronize(nri.registration_timeout, &pods, &containers).await {
            Ok((plugin, updates)) => {
                tracing::info!(plugin = name, "an NRI plugin has joined");
                let plugin = Arc::new(plugin);
                nri.add(plugin.clone());
                tokio::spawn(watch(nri.clone(), plugin, child));
                all.extend(updates);
            }
            Err(error) => tracing::warn!(error = error.chain(), "an NRI plugin cannot join"),
        }
    }
    all
}

/// Does what the newcomers ask for.
async fn settle(runtime: &Arc<dyn Runtime>, updates: Updates) {
    if updates.is_empty() {
        return;
    }
    let failed = runtime.update(updates, Vec::new()).await;
    for update in failed.iter().filter(|update| !update.ignore_failure) {
        tracing::warn!(container = update.container_id, "a plugin's update at its start failed");
    }
}

/// Follows a plugin to its end.
async fn watch(nri: Arc<Nri>, plugin: Arc<Plugin>, child: Option<Child>) {
    plugin.connection.closed().await;
    nri.remove(&plugin);
    tracing::info!(plugin = plugin.name, "an NRI plugin is gone");
    if let Some(mut child) = child
        && let Err(error) = child.kill().await
    {
        tracing::warn!(plugin = plugin.name, %error, "end an installed NRI plugin");
    }
}

/// Somebody is on the way into the list.
struct Arrival(Arc<Nri>);

impl Arrival {
    fn of(nri: &Arc<Nri>) -> Self {
        nri.joining.fetch_add(1, Ordering::SeqCst);
        Self(nri.clone())
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.joining.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nri").join("nri.sock");
        drop(bind(&path).unwrap());
        let _living = bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let error = bind(&path).unwrap_err();

        assert_eq!(error.kind(), Kind::Busy);
        assert!(error.chain().contains("another runtime"), "{}", error.chain());
    }
}
