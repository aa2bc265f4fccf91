//! Images: lists, details, history, and what a removal did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::nullable::or_default;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Summary {
    pub(crate) id: String,
    pub(crate) parent_id: &'static str,
    pub(crate) repo_tags: Vec<String>,
    pub(crate) repo_digests: Vec<String>,
    /// Seconds since the epoch.
    pub(crate) created: i64,
    pub(crate) size: u64,
    /// -1: not asked for.
    pub(crate) shared_size: i64,
    pub(crate) labels: BTreeMap<String, String>,
    /// -1: not asked for.
    pub(crate) containers: i64,
    /// When they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) manifests: Option<Vec<Value>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Details {
    pub(crate) id: String,
    pub(crate) repo_tags: Vec<String>,
    pub(crate) repo_digests: Vec<String>,
    pub(crate) parent: &'static str,
    pub(crate) comment: String,
    /// RFC 3339.
    pub(crate) created: String,
    pub(crate) docker_version: &'static str,
    pub(crate) author: String,
    /// As the image's own configuration has it.
    pub(crate) config: Value,
    pub(crate) architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
    pub(crate) os: String,
    pub(crate) size: u64,
    pub(crate) graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    pub(crate) root_fs: RootFs,
    pub(crate) metadata: Metadata,
    #[serde(flatten)]
    pub(crate) old: Option<OldDetails>,
}

/// What only old versions of the API have. `docker-compose` 1.29 cannot do without.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct OldDetails {
    /// Before 1.45: the container that the image was committed from, and how it was made.
    pub(crate) container: String,
    pub(crate) container_config: Value,
    /// Before 1.44: the size, once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) virtual_size: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GraphDriver {
    pub(crate) data: Option<BTreeMap<String, String>>,
    pub(crate) name: &'static str,
}

impl Default for GraphDriver {
    fn default() -> Self {
        Self { data: None, name: "overlayfs" }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RootFs {
    #[serde(rename = "Type")]
    pub(crate) kind: &'static str,
    /// DiffIDs, the base first.
    pub(crate) layers: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Metadata {
    pub(crate) last_tag_time: String,
}

/// The part of an image's configuration document that is not settings of its containers.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Document {
    pub(crate) author: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) config: Option<Value>,
    pub(crate) container: Option<String>,
    pub(crate) container_config: Option<Value>,
    pub(crate) history: Option<Vec<Step>>,
}

/// One entry of a configuration document's history, the base first.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Step {
    pub(crate) created: Option<String>,
    pub(crate) created_by: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) empty_layer: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HistoryItem {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) created_by: String,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) size: u64,
    pub(crate) comment: String,
}

/// One thing that a removal did.
#[derive(Serialize)]
pub(crate) enum Removed {
    Untagged(String),
    Deleted(String),
}

/// One message of a stream of progress.
#[derive(Default, Serialize)]
pub(crate) struct Message {
    /// Shown as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<String>,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<Detail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub(crate) error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// For programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) aux: Option<Value>,
}

impl Message {
    /// The last one, of what failed.
    pub(crate) fn failure(message: String) -> Self {
        let error_detail = Some(ErrorDetail { code: None, message: message.clone() });
        Self { error: Some(message), error_detail, ..Self::default() }
    }
}

#[derive(Default, Serialize)]
pub(crate) struct Detail {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<u64>,
}

#[derive(Serialize)]
pub(crate) struct ErrorDetail {
    /// Of a command that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<i32>,
    pub(crate) message: String,
}

/// `X-Registry-Auth`, decoded.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuthConfig {
    #[serde(deserialize_with = "or_default")]
    pub(crate) username: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) password: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) auth: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) serveraddress: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) identitytoken: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) registrytoken: String,
}
