//! Making a standalone container: a name, a record, and nothing that runs.

use std::sync::Arc;

use super::config::Config;
use super::record::{Record, State};
use super::{Standalone, names, volumes};
use crate::engine::actions::Act;
use crate::engine::networks::membership::Membership;
use crate::engine::{Shared, clock, operation};
use crate::error::{Error, Result};
use crate::id::ContainerId;

/// Tries for a name that nobody has.
const TRIES: u32 = 64;

/// `name` is empty for one of our choice. `config.container.image` is the id of an image that is
/// there, `image_name` what the client calls it.
pub(crate) async fn create(
    shared: Arc<Shared>,
    name: &str,
    image_name: &str,
    mut config: Config,
    networks: Vec<Membership>,
) -> Result<Arc<Standalone>> {
    let id = ContainerId::generate()?;
    let name = claim(&shared, name, &id)?;
    let image_name = image_name.to_owned();
    operation::run(async move {
        let made = async {
            let image = &config.container.image;
            let held = shared.images.hold(image);
            let held = held.ok_or_else(|| Error::not_found(format!("No such image: {image}")))?;
            config.container.standalone = Some(id.clone());
            config.container.name.clone_from(&name);
            let volumes = volumes::make(&shared, &held, &mut config.container.mounts).await?;
            let record = Record {
                id: id.clone(),
                name: name.clone(),
                image_id: held.image.id.to_string(),
                image_name,
                layers: held.image.layers.clone(),
                created_at: clock::now(),
                state: State::Created { failure: None },
                networks,
                runs: 0,
                restarts: 0,
                is_stopped: false,
                is_aside: false,
                took_from: None,
                config: Arc::new(config),
            };
            let records = &shared.standalone_records;
            let written = match record.goes_with_its_run() {
                true => records.put_unsynced(id.as_str(), &record),
                false => records.put(id.as_str(), &record),
            };
            if let Err(error) = written {
                volumes.take_back(&shared).await;
                return Err(error);
            }
            let container = Arc::new(Standalone::new(record));
            // Before the image and the volumes are let go.
            shared.standalones.insert(container.clone());
            shared.tell(&container.record(), Act::Plain("create"));
            drop((held, volumes));
            Ok(container)
        };
        let made = made.await;
        if made.is_err() {
            shared.standalones.release(&name, &id);
        }
        made
    })
    .await
}

fn claim(shared: &Shared, wanted: &str, id: &ContainerId) -> Result<String> {
    if !wanted.is_empty() {
        let name = names::check(wanted)?;
        shared.standalones.claim(&name, id)?;
        return Ok(name);
    }
    for attempt in 0..TRIES {
        let name = names::generate(attempt > 2)?;
        if shared.standalones.claim(&name, id).is_ok() {
            return Ok(name);
        }
    }
    Err(Error::internal("no name is free"))
}
