//! What is said of volumes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Clients written in Go send `null` for what is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct CreateRequest {
    pub(crate) name: Option<String>,
    pub(crate) driver: Option<String>,
    pub(crate) driver_opts: Option<BTreeMap<String, String>>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Volume {
    pub(crate) created_at: String,
    pub(crate) driver: &'static str,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) mountpoint: String,
    pub(crate) name: String,
    pub(crate) options: Option<BTreeMap<String, String>>,
    pub(crate) scope: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct List {
    pub(crate) volumes: Vec<Volume>,
    pub(crate) warnings: Option<()>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Pruned {
    pub(crate) volumes_deleted: Vec<String>,
    /// Bytes.
    pub(crate) space_reclaimed: u64,
}
