//! Volumes: made, listed, shown, removed.

use http::Method;

use super::call::Call;
use super::convert::volume as convert;
use super::query::{Filters, check_names, has_labels, wanted};
use super::reply::{self, Answer};
use super::wire::volume::{CreateRequest, List, Pruned};
use super::{Door, router};
use crate::engine::volume::Volume;
use crate::error::{Error, Kind, Result};

const FILTERS: [&str; 4] = ["dangling", "driver", "label", "name"];
const PRUNE_FILTERS: [&str; 3] = ["all", "label", "label!"];

pub(super) async fn route(door: &Door, method: &Method, path: &[&str], call: Call) -> Answer {
    match (method, path) {
        (&Method::GET, []) => list(door, &call),
        (&Method::POST, ["create"]) => create(door, call).await,
        (&Method::POST, ["prune"]) => prune(door, &call).await,
        (&Method::GET, [name]) => {
            reply::json(&convert::shown(&door.engine, &*door.engine.volume(name)?))
        }
        (&Method::DELETE, [name]) => remove(door, name, &call).await,
        _ => Err(router::unknown()),
    }
}

fn list(door: &Door, call: &Call) -> Answer {
    let filters = call.query.filters()?;
    check_names(&filters, &FILTERS)?;
    let dangling = switch(&filters, "dangling")?;
    let names = wanted(&filters, "name");
    let drivers = wanted(&filters, "driver");
    let keeps = |volume: &Volume| {
        let record = &volume.record;
        let is_called = |name: &String| record.name.contains(name.as_str());
        (names.is_empty() || names.iter().any(is_called))
            && (drivers.is_empty() || drivers.iter().any(|driver| driver == convert::DRIVER))
            && has_labels(&convert::labels(record), wanted(&filters, "label"))
            && dangling.is_none_or(|it| it == (door.engine.volume_users(&record.name) == 0))
    };
    let all = door.engine.volumes();
    let volumes = all.iter().filter(|volume| keeps(volume));
    let volumes = volumes.map(|volume| convert::shown(&door.engine, volume)).collect();
    reply::json(&List { volumes, warnings: None })
}

/// `None`: it is not asked for.
fn switch(filters: &Filters, name: &str) -> Result<Option<bool>> {
    match wanted(filters, name).first().map(String::as_str) {
        None => Ok(None),
        Some("1" | "true") => Ok(Some(true)),
        Some("0" | "false") => Ok(Some(false)),
        Some(other) => Err(Error::invalid(format!("invalid filter '{name}=[{other}]'"))),
    }
}

async fn create(door: &Door, call: Call) -> Answer {
    let request: CreateRequest = call.json_or_default().await?;
    let made = door.engine.create_volume(convert::request(request)?).await?;
    reply::created(&convert::shown(&door.engine, &made))
}

async fn remove(door: &Door, name: &str, call: &Call) -> Answer {
    match door.engine.remove_volume(name).await {
        Err(error) if error.kind() == Kind::NotFound && call.query.switch("force") => {}
        other => other?,
    }
    reply::nothing()
}

/// Those without a name, or all of them when that is asked for.
async fn prune(door: &Door, call: &Call) -> Answer {
    let filters = call.query.filters()?;
    check_names(&filters, &PRUNE_FILTERS)?;
    let all = switch(&filters, "all")? == Some(true);
    let wanted = move |volume: &Volume| {
        let labels = convert::labels(&volume.record);
        (all || volume.record.is_anonymous) && convert::passes_labels(&labels, &filters)
    };
    let (volumes_deleted, space_reclaimed) = door.engine.prune_volumes(wanted).await?;
    reply::json(&Pruned { volumes_deleted, space_reclaimed })
}
