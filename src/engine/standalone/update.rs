//! Changing what a container may use, and when it is started again.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::config::{Config, RestartPolicy};
use super::{Standalone, stop};
use crate::cgroup::Resources;
use crate::engine::actions::Act;
use crate::engine::container::update as engine_update;
use crate::engine::{Shared, operation};
use crate::error::Result;

#[derive(Debug, Clone, Default)]
pub(crate) struct Update {
    /// What is `None` or empty stays as it is.
    pub(crate) resources: Resources,
    pub(crate) restart: Option<RestartPolicy>,
    /// The same in the words of the door, for that door to show from now on.
    pub(crate) shown: Map<String, Value>,
}

/// Changes a container, whether it runs or not; its next run has the same limits.
///
/// # Errors
/// What the kernel refuses; then nothing is changed.
pub(crate) async fn update(
    shared: Arc<Shared>,
    container: Arc<Standalone>,
    update: Update,
) -> Result<()> {
    operation::run(async move {
        // Held also by who starts it or takes it down: it goes on running, or not, meanwhile.
        let _mutation = container.mutation.lock().await;
        container.check_there(&shared)?;
        let record = container.record();
        let config = changed(&record.config, &update);
        if record.run().is_some() && update.resources != Resources::default() {
            let (id, resources) = (record.id.as_str(), update.resources);
            let applied = engine_update::update(shared.clone(), id, resources, None).await;
            // Of a run that is over the next one will have them.
            if applied.is_err() && !stop::has_ended(&shared, &container) {
                return applied;
            }
        }
        container.update(&shared, |record| record.config = Arc::new(config))?;
        shared.tell(&container.record(), Act::Plain("update"));
        Ok(())
    })
    .await
}

fn changed(config: &Config, update: &Update) -> Config {
    let mut config = config.clone();
    let resources = &mut config.container.resources;
    *resources = engine_update::merged(resources, update.resources.clone());
    if let Some(restart) = update.restart {
        config.restart = restart;
    }
    if let Some(shown) = config.request.get_mut("HostConfig").and_then(Value::as_object_mut) {
        shown.extend(update.shown.clone());
    }
    config
}
