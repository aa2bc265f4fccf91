//! Volumes as Docker's clients read them and ask for them.

use std::collections::BTreeMap;

use super::time;
use crate::api::docker::query::{Filters, has_labels, wanted};
use crate::api::docker::wire::volume::{CreateRequest, Volume as Shown};
use crate::engine::Engine;
use crate::engine::volume::{Record, Request, Volume};
use crate::error::{Error, Result};

/// The one we have.
pub(crate) const DRIVER: &str = "local";

/// What a volume that nobody gave a name is known by.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

pub(crate) fn check_driver(name: &str) -> Result<()> {
    match name {
        "" | DRIVER | "default" => Ok(()),
        other => Err(Error::not_found(format!(
            "error looking up volume plugin {other}: plugin {other:?} not found"
        ))),
    }
}

pub(crate) fn request(request: CreateRequest) -> Result<Request> {
    let CreateRequest { name, driver, driver_opts, labels } = request;
    check_driver(&driver.unwrap_or_default())?;
    Ok(Request {
        name: name.unwrap_or_default(),
        labels: labels.unwrap_or_default(),
        options: driver_opts.unwrap_or_default(),
    })
}

pub(crate) fn labels(record: &Record) -> BTreeMap<String, String> {
    let mut labels = record.labels.clone();
    if record.is_anonymous {
        labels.insert(ANONYMOUS.to_owned(), String::new());
    }
    labels
}

pub(crate) fn shown(engine: &Engine, volume: &Volume) -> Shown {
    let record = &volume.record;
    let some = |map: BTreeMap<String, String>| Some(map).filter(|map| !map.is_empty());
    Shown {
        created_at: time::text(record.created_at),
        driver: DRIVER,
        labels: some(labels(record)),
        mountpoint: engine.volume_directory(&record.name).display().to_string(),
        name: record.name.clone(),
        options: some(record.options.clone()),
        scope: "local",
    }
}

/// Whether what has these labels may be pruned.
pub(crate) fn passes_labels(labels: &BTreeMap<String, String>, filters: &Filters) -> bool {
    let unwanted = wanted(filters, "label!");
    has_labels(labels, wanted(filters, "label"))
        && !unwanted.iter().any(|label| has_labels(labels, std::slice::from_ref(label)))
}
