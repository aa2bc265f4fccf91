//! What was done, as one line of a stream.

use std::collections::BTreeMap;

use serde::Serialize;

/// With the fields of API versions before 1.22 in front: clients still read them.
#[derive(Serialize)]
pub(crate) struct Event<'a> {
    /// Of containers and images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<&'a str>,
    /// The image of a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<&'a str>,
    #[serde(rename = "Type")]
    pub(crate) kind: &'static str,
    #[serde(rename = "Action")]
    pub(crate) action: &'a str,
    #[serde(rename = "Actor")]
    pub(crate) actor: Actor<'a>,
    pub(crate) scope: &'static str,
    /// Seconds since the epoch.
    pub(crate) time: i64,
    #[serde(rename = "timeNano")]
    pub(crate) time_nano: i64,
}

#[derive(Serialize)]
pub(crate) struct Actor<'a> {
    #[serde(rename = "ID")]
    pub(crate) id: &'a str,
    #[serde(rename = "Attributes")]
    pub(crate) attributes: &'a BTreeMap<String, String>,
}
