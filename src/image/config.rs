//! What an image's own configuration may say about the containers made from it.
//!
//! Image content is foreign: only the fields listed here leave it, and they configure the
//! workload. Labels are carried for people to read; nothing here decides by them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::digest::Digest;
use super::platform::Platform;
use crate::error::{Error, Result};

const LARGEST_ENVIRONMENT: usize = 1 << 20;
const LARGEST_LABELS: usize = 256 << 10;

/// The settings of an image, in the words of the image specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ImageConfig {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    /// `NAME=value`, in order.
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    /// As written: `name`, `uid`, `user:group`, or empty. Resolved inside the image by others.
    pub(crate) user: String,
    pub(crate) stop_signal: Option<String>,
    pub(crate) volumes: Vec<String>,
    /// `80/tcp`.
    pub(crate) exposed_ports: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) platform: Platform,
    /// RFC 3339, as written.
    pub(crate) created: Option<String>,
}

/// An image's configuration document: its settings and its layers' DiffIDs.
#[derive(Debug)]
pub(crate) struct ConfigDocument {
    pub(crate) config: ImageConfig,
    /// The base first.
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawDocument {
    #[serde(default, deserialize_with = "or_default")]
    architecture: String,
    #[serde(default, deserialize_with = "or_default")]
    os: String,
    variant: Option<String>,
    created: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    config: RawConfig,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    #[serde(deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    working_dir: String,
    #[serde(deserialize_with = "or_default")]
    user: String,
    stop_signal: Option<String>,
    #[serde(deserialize_with = "or_default")]
    volumes: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
}

/// Go programs write `null` for what is empty.
fn or_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl ConfigDocument {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let raw: RawDocument = serde_json::from_slice(bytes).map_err(|error| {
            Error::invalid(format!("the image's configuration is not valid: {error}"))
        })?;
        let RawConfig {
            entrypoint,
            cmd,
            env,
            working_dir,
            user,
            stop_signal,
            volumes,
            exposed_ports,
            labels,
        } = raw.config;
        if env.iter().map(String::len).sum::<usize>() > LARGEST_ENVIRONMENT {
            return Err(Error::invalid("the image's environment is larger than 1 MiB"));
        }
        if labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > LARGEST_LABELS
        {
            return Err(Error::invalid("the image's labels are larger than 256 KiB"));
        }
        let config = ImageConfig {
            entrypoint,
            cmd,
            env,
            working_dir,
            user,
            stop_signal: stop_signal.filter(|signal| !signal.is_empty()),
            volumes: volumes.into_keys().collect(),
            exposed_ports: exposed_ports.into_keys().collect(),
            labels,
            platform: Platform {
                os: raw.os,
                architecture: raw.architecture,
                variant: raw.variant.filter(|variant| !variant.is_empty()),
            },
            created: raw.created,
        };
        Ok(Self { config, diff_ids: raw.rootfs.diff_ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_of_go_programs_are_empty() {
        let document = ConfigDocument::parse(
            br#"{"os":"linux","architecture":"amd64","config":{"Env":null,"Cmd":["sh"],"Labels":null,
                "Volumes":{"/data":{}},"ExposedPorts":{"80/tcp":{}},"User":"1000:100"},
                "rootfs":{"type":"layers","diff_ids":null}}"#,
        )
        .unwrap();
        assert_eq!(document.config.cmd, ["sh"]);
        assert_eq!(document.config.volumes, ["/data"]);
        assert_eq!(document.config.exposed_ports, ["80/tcp"]);
        assert_eq!(document.config.user, "1000:100");
        assert!(document.config.env.is_empty() && document.diff_ids.is_empty());
    }

    #[test]
    fn a_configuration_without_a_rootfs_is_refused() {
        assert!(ConfigDocument::parse(b"{}").is_err());
        assert!(ConfigDocument::parse(br#"{"rootfs":{"diff_ids":["sha256:../x"]}}"#).is_err());
        assert!(ConfigDocument::parse(br#"{"rootfs":{},"config":{"Labels":{"a":{}}}}"#).is_err());
    }
}
