//! NRI, the Node Resource Interface: plugins of the node that see, adjust or refuse what happens to
//! pods and containers.
//!
//! ```text
//!   engine ──events──▶ Nri ──▶ plugin 00 ──▶ plugin 10 …      in the order of their indices
//!          ◀─adjust───     ◀──              ◀──
//!          ◀──────── updates that no event asked for ─────
//! ```
//!
//! What the engine does about an answer is the engine's business; here it is only made sure that the
//! answers agree. A plugin that does not answer in time, or dies, is dropped and holds up nobody.
//!
//! A plugin that joins is told once of all there is, and of every event after that: whoever makes
//! something, from asking the plugins until it is published, holds [`Nri::steady`]; a joining plugin
//! waits for it and is waited for. Without plugins that lock is all that it costs.
//!
//! | file | owns |
//! |---|---|
//! | `wire`, `connection` | two ttrpc connections over one socket |
//! | `join`, `launch`, `listen` | how plugins come |
//! | `plugin` | one that has joined |
//! | `adjustment`, `updates`, `resources`, `owners` | what several plugins ask for, together |

mod adjustment;
mod connection;
mod join;
mod launch;
mod listen;
mod owners;
mod plugin;
mod resources;
mod updates;
mod wire;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use cais_proto::nri::v1alpha1::{
    Container, ContainerEviction, ContainerUpdate, CreateContainerRequest, Event, LinuxResources,
    PluginInstance, PodSandbox, StopContainerRequest, StopContainerResponse,
    UpdateContainerRequest, UpdateContainerResponse, UpdatePodSandboxRequest,
    ValidateContainerAdjustmentRequest, ValidateContainerAdjustmentResponse,
};
use futures_util::future::join_all;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use self::adjustment::Adjustment;
pub(crate) use self::adjustment::Creation;
use self::owners::Owners;
use self::plugin::{Nothing, Plugin, Subject, method};
pub(crate) use self::resources::lay;
use self::updates::Updates;
use crate::config;
use crate::error::{Error, Kind, Result};

/// What plugins may ask of the engine without an event.
pub(crate) trait Runtime: Send + Sync {
    /// All there is.
    fn pods_and_containers(&self) -> (Vec<PodSandbox>, Vec<Container>);

    /// Updates and evicts; returns the updates that failed.
    fn update(
        &self,
        updates: Vec<ContainerUpdate>,
        evictions: Vec<ContainerEviction>,
    ) -> Pin<Box<dyn Future<Output = Vec<ContainerUpdate>> + Send + '_>>;
}

/// The plugins of this node.
pub(crate) struct Nri {
    config: config::Nri,
    registration_timeout: Duration,
    request_timeout: Duration,
    plugins: ArcSwap<Vec<Arc<Plugin>>>,
    /// Held while the list of plugins changes.
    change: Mutex<()>,
    /// Plugins that are on their way into the list.
    joining: AtomicUsize,
    /// The socket is ours.
    bound: AtomicBool,
    steady: Arc<RwLock<()>>,
    /// Plugins are used to hear of one event at a time.
    turn: tokio::sync::Mutex<()>,
}

/// As long as it is held, no plugin is told what there is.
pub(crate) type Steady = OwnedRwLockReadGuard<()>;

/// What UpdateContainer comes to.
pub(crate) struct Update {
    pub(crate) resources: LinuxResources,
    /// Of other containers.
    pub(crate) updates: Vec<ContainerUpdate>,
    pub(crate) evictions: Vec<ContainerEviction>,
}

impl Nri {
    pub(crate) fn new(config: &config::Nri) -> Self {
        Self {
            registration_timeout: Duration::from_millis(config.registration_timeout_ms),
            request_timeout: Duration::from_millis(config.request_timeout_ms),
            config: config.clone(),
            plugins: ArcSwap::default(),
            change: Mutex::default(),
            joining: AtomicUsize::new(0),
            bound: AtomicBool::new(false),
            steady: Arc::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Starts the installed plugins and lets others come. Whoever makes a pod or a container waits until
    /// the installed ones have joined.
    pub(crate) async fn start(self: &Arc<Self>, runtime: &Arc<dyn Runtime>) {
        if self.config.enabled {
            listen::start(self, runtime).await;
        }
    }

    /// The daemon ends: so do the plugins it started.
    pub(crate) async fn shut_down(&self) {
        let plugins = self.plugins.load_full();
        let farewells = plugins.iter().map(|plugin| async {
            // A plugin that does not listen is told by the end of its connection.
            let _ = plugin.call::<Nothing>("Shutdown", &Nothing {}).await;
            plugin.connection.close();
        });
        join_all(farewells).await;
        if self.bound.load(Ordering::Relaxed) {
            // The next daemon would replace it; this is for those who look.
            let _ = std::fs::remove_file(&self.config.socket_path);
        }
    }

    /// Nobody listens, and nobody is about to.
    pub(crate) fn is_idle(&self) -> bool {
        self.plugins.load().is_empty() && self.joining.load(Ordering::SeqCst) == 0
    }

    /// To be held from before an event until what it is about is published. Never twice by one task:
    /// a plugin that waits in between would wait forever.
    pub(crate) async fn steady(&self) -> Steady {
        self.steady.clone().read_owned().await
    }

    /// Asks all plugins about an event without an answer, until one refuses.
    pub(crate) async fn ask(
        &self,
        event: Event,
        pod: PodSandbox,
        container: Option<Container>,
    ) -> Result<()> {
        let subject = Subject { pod: Some(pod), container };
        let _turn = self.turn.lock().await;
        for plugin in self.plugins.load_full().iter() {
            plugin.tell(event, &subject).await?;
        }
        Ok(())
    }

    /// Tells all plugins of what has happened; that one objects changes nothing.
    pub(crate) async fn tell(&self, event: Event, pod: PodSandbox, container: Option<Container>) {
        let subject = Subject { pod: Some(pod), container };
        let _turn = self.turn.lock().await;
        for plugin in self.plugins.load_full().iter() {
            if let Err(error) = plugin.tell(event, &subject).await {
                tracing::warn!(error = error.chain(), "a plugin objects to what has happened");
            }
        }
    }

    pub(crate) async fn create_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> Result<Creation> {
        let mut adjustment = Adjustment::of(container);
        let _turn = self.turn.lock().await;
        let plugins = self.plugins.load_full();
        for plugin in plugins.iter() {
            let request = CreateContainerRequest {
                pod: Some(pod.clone()),
                container: Some(adjustment.container()),
            };
            if let Some(answer) = plugin.ask(Event::CreateContainer, &request).await? {
                adjustment.add(&plugin.name, answer)?;
            }
        }
        validate(&plugins, pod, &adjustment).await?;
        Ok(adjustment.finish())
    }

    pub(crate) async fn update_container(
        &self,
        pod: PodSandbox,
        container: Container,
        mut resources: LinuxResources,
    ) -> Result<Update> {
        let (mut updates, mut owners) = (Updates::default(), Owners::default());
        let mut evictions = Vec::new();
        let id = container.id.clone();
        let asked = resources.clone();
        let _turn = self.turn.lock().await;
        for plugin in self.plugins.load_full().iter() {
            let request = UpdateContainerRequest {
                pod: Some(pod.clone()),
                container: Some(container.clone()),
                linux_resources: Some(resources.clone()),
            };
            let answer = plugin.ask(Event::UpdateContainer, &request).await?;
            let Some(UpdateContainerResponse { update, evict }) = answer else { continue };
            updates.add(&plugin.name, update, None, &mut owners)?;
            evictions.extend(evict);
            if let Some(own) = updates.of(&id) {
                resources = asked.clone();
                lay(own, &mut resources);
            }
        }
        updates.take(&id);
        Ok(Update { resources, updates: updates.into_messages(), evictions })
    }

    /// The updates of other containers that plugins ask for when one has stopped.
    pub(crate) async fn stop_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> Vec<ContainerUpdate> {
        let (mut updates, mut owners) = (Updates::default(), Owners::default());
        let request = StopContainerRequest { pod: Some(pod), container: Some(container) };
        let _turn = self.turn.lock().await;
        for plugin in self.plugins.load_full().iter() {
            let asked = match plugin.ask(Event::StopContainer, &request).await {
                Ok(Some(StopContainerResponse { update })) => {
                    updates.add(&plugin.name, update, None, &mut owners)
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = asked {
                tracing::warn!(error = error.chain(), "a plugin objects to what has happened");
            }
        }
        updates.into_messages()
    }

    /// # Errors
    /// `Unavailable` when a plugin refuses.
    pub(crate) async fn update_pod(&self, request: &UpdatePodSandboxRequest) -> Result<()> {
        let _turn = self.turn.lock().await;
        for plugin in self.plugins.load_full().iter() {
            plugin.ask::<Nothing>(Event::UpdatePodSandbox, request).await?;
        }
        Ok(())
    }

    fn add(&self, plugin: Arc<Plugin>) {
        self.change(|plugins| {
            plugins.push(plugin);
            // Stable: of two with one index, whoever came first.
            plugins.sort_by(|one, other| index(one).cmp(index(other)));
        });
    }

    fn remove(&self, plugin: &Arc<Plugin>) {
        self.change(|plugins| plugins.retain(|known| !Arc::ptr_eq(known, plugin)));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Plugin>>)) {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut plugins = (*self.plugins.load_full()).clone();
        change(&mut plugins);
        self.plugins.store(Arc::new(plugins));
    }
}

fn index(plugin: &Plugin) -> &str {
    plugin.name.split_once('-').map_or(plugin.name.as_str(), |(index, _)| index)
}

/// Asks the plugins whose business it is whether the adjustments may be. Unlike for others, without
/// their answer nothing goes on.
async fn validate(plugins: &[Arc<Plugin>], pod: PodSandbox, adjustment: &Adjustment) -> Result<()> {
    let event = Event::ValidateContainerAdjustment;
    let validators: Vec<&Arc<Plugin>> =
        plugins.iter().filter(|plugin| plugin.events.contains(event)).collect();
    if validators.is_empty() {
        return Ok(());
    }
    let instance = |plugin: &Arc<Plugin>| {
        let (index, name) = plugin.name.split_once('-').unwrap_or_default();
        PluginInstance { name: name.to_owned(), index: index.to_owned() }
    };
    let request = ValidateContainerAdjustmentRequest {
        pod: Some(pod),
        container: Some(adjustment.pristine().clone()),
        adjust: Some(adjustment.adjust().clone()),
        update: adjustment.updates(),
        owners: Some(adjustment.owners()),
        plugins: plugins.iter().map(instance).collect(),
    };
    for plugin in validators {
        let answer: Option<ValidateContainerAdjustmentResponse> =
            plugin.ask(event, &request).await?;
        let refusal = match answer {
            Some(ValidateContainerAdjustmentResponse { reject: false, .. }) => continue,
            Some(ValidateContainerAdjustmentResponse { reason, .. }) => reason,
            None => format!("no answer to {}", method(event)),
        };
        let text = format!("plugin {} rejects the adjustments: {refusal}", plugin.name);
        return Err(Error::new(Kind::Unavailable, text));
    }
    Ok(())
}
