//! CNI configuration: which file counts, what it must say, and the chain it becomes.
//!
//! The first of `*.conflist`, `*.conf` and `*.json` in lexical order is the pods' network, as for
//! other runtimes. A first file that is wrong is an error with its name: falling through to the
//! next one would give pods a network that the operator did not mean.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Context, Error, Kind, Result};

/// A configuration is written by hand; more than this is something else.
const LARGEST: u64 = 1024 * 1024;

/// The protocol versions spoken here, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Version {
    #[serde(rename = "0.3.0")]
    V0_3_0,
    #[serde(rename = "0.3.1")]
    V0_3_1,
    #[serde(rename = "0.4.0")]
    V0_4_0,
    #[serde(rename = "1.0.0")]
    V1_0_0,
    #[serde(rename = "1.1.0")]
    V1_1_0,
}

impl Version {
    const ALL: [Self; 5] = [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

/// One network: plugins that are executed one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Chain {
    pub(crate) name: String,
    /// The versions that the configuration allows and we speak; never empty, newest last.
    pub(crate) versions: Vec<Version>,
    pub(crate) is_checked: bool,
    pub(crate) is_collected: bool,
    pub(crate) plugins: Vec<Plugin>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plugin {
    /// File name of the program, never a path.
    pub(crate) kind: String,
    /// Capabilities that the plugin wants arguments for.
    pub(crate) capabilities: Vec<String>,
    /// Everything else it is configured with.
    pub(crate) config: Map<String, Value>,
}

/// The file that counts; `None` if there is no configuration at all.
pub(crate) fn find(directories: &[PathBuf]) -> Result<Option<PathBuf>> {
    for directory in directories {
        let describe = || format!("read the CNI configuration directory {}", directory.display());
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(describe),
        };
        let mut first: Option<PathBuf> = None;
        for entry in entries {
            let path = entry.with_context(describe)?.path();
            let is_hidden =
                path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            let is_known = path.extension().is_some_and(|extension| {
                ["conflist", "conf", "json"].iter().any(|e| extension == *e)
            });
            let is_earlier = first.as_ref().is_none_or(|first| path < *first);
            if !is_hidden && is_known && is_earlier {
                first = Some(path);
            }
        }
        if first.is_some() {
            return Ok(first);
        }
    }
    Ok(None)
}

pub(crate) fn load(path: &Path) -> Result<Chain> {
    use std::io::Read;

    let describe = || format!("CNI configuration {}", path.display());
    let file = std::fs::File::open(path).with_context(describe)?;
    let metadata = file.metadata().with_context(describe)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(Error::wrong_state("not a regular file of at most 1 MiB"))
            .with_context(describe);
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).with_context(describe)?;
    parse(&bytes).with_context(describe)
}

/// Reads a list, or a single plugin as a list of one.
pub(crate) fn parse(bytes: &[u8]) -> Result<Chain> {
    let value: Value = serde_json::from_slice(bytes).kind(Kind::WrongState)?;
    let Value::Object(mut object) = value else { return wrong("it is not a JSON object") };
    let name = match object.get("name") {
        Some(Value::String(name)) if is_plain_name(name) => name.clone(),
        Some(name) => return wrong(format!("name {name} is not a plain name")),
        None => return wrong("it has no name"),
    };
    let versions = versions(&object)?;
    let flag = |key: &str| object.get(key).is_some_and(|value| *value == Value::Bool(true));
    let (is_checked, is_collected) = (!flag("disableCheck"), !flag("disableGC"));
    let plugins = match object.remove("plugins") {
        Some(Value::Array(plugins)) if !plugins.is_empty() => {
            plugins.into_iter().map(plugin).collect::<Result<_>>()?
        }
        Some(_) => return wrong("plugins is not a list with members"),
        None => vec![plugin(Value::Object(object))?],
    };
    Ok(Chain { name, versions, is_checked, is_collected, plugins })
}

fn plugin(value: Value) -> Result<Plugin> {
    let Value::Object(mut config) = value else { return wrong("a plugin is not a JSON object") };
    let kind = match config.get("type") {
        Some(Value::String(kind)) if is_plain_name(kind) => kind.clone(),
        Some(kind) => return wrong(format!("plugin type {kind} is not a plain file name")),
        None => return wrong("a plugin has no type"),
    };
    let capabilities = match config.remove("capabilities") {
        None => Vec::new(),
        Some(Value::Object(wanted)) => wanted
            .into_iter()
            .filter(|(_, wanted)| *wanted == Value::Bool(true))
            .map(|(name, _)| name)
            .collect(),
        Some(_) => return wrong(format!("capabilities of plugin {kind} is not an object")),
    };
    // The runtime's own keys; a configuration must not set them behind its back.
    for key in ["runtimeConfig", "prevResult", "name", "cniVersion", "cniVersions"] {
        config.remove(key);
    }
    Ok(Plugin { kind, capabilities, config })
}

fn versions(object: &Map<String, Value>) -> Result<Vec<Version>> {
    let mut named = Vec::new();
    match object.get("cniVersion") {
        Some(Value::String(version)) => named.push(version.as_str()),
        Some(_) => return wrong("cniVersion is not a string"),
        None => {}
    }
    if let Some(list) = object.get("cniVersions") {
        let Some(list) = list.as_array() else { return wrong("cniVersions is not a list") };
        named.extend(list.iter().filter_map(Value::as_str));
    }
    if named.is_empty() {
        return wrong("it has no cniVersion");
    }
    let mut versions: Vec<Version> = named.iter().filter_map(|text| Version::parse(text)).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.is_empty() {
        let named = named.join(", ");
        return wrong(format!("cniVersion {named} is not spoken here; 0.3.0 to 1.1.0 are"));
    }
    Ok(versions)
}

/// One path component of harmless characters: it becomes a file name.
fn is_plain_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= 128
        && name.bytes().all(is_plain)
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

fn wrong<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::wrong_state(message))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn write(directory: &Path, name: &str, text: &str) {
        std::fs::File::create(directory.join(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_first_file_in_lexical_order_counts() {
        let temp = tempfile::tempdir().unwrap();
        let directories = [temp.path().join("missing"), temp.path().to_owned()];
        assert_eq!(find(&directories).unwrap(), None);
        for name in ["20-b.conflist", "10-a.conf", "05-x.yaml", ".00-hidden.conf", "99.json"] {
            write(temp.path(), name, "{}");
        }
        assert_eq!(find(&directories).unwrap(), Some(temp.path().join("10-a.conf")));
    }

    #[test]
    fn a_single_plugin_is_a_chain_of_one() {
        let chain = parse(
            br#"{"cniVersion":"0.4.0","name":"n","type":"bridge","bridge":"b0",
                 "capabilities":{"portMappings":true,"dns":false}}"#,
        )
        .unwrap();
        assert_eq!(chain.versions, [Version::V0_4_0]);
        assert_eq!(chain.plugins[0].kind, "bridge");
        assert_eq!(chain.plugins[0].capabilities, ["portMappings"]);
        assert_eq!(chain.plugins[0].config["bridge"], "b0");
        assert!(chain.is_checked && chain.is_collected);
    }

    #[test]
    fn unknown_versions_are_passed_over_while_one_is_known() {
        let chain = parse(
            br#"{"cniVersion":"1.0.0","cniVersions":["1.1.0","9.9.9"],"name":"n",
                 "disableCheck":true,"disableGC":true,"plugins":[{"type":"x"}]}"#,
        )
        .unwrap();
        assert_eq!(chain.versions, [Version::V1_0_0, Version::V1_1_0]);
        assert!(!chain.is_checked && !chain.is_collected);
    }

    #[test]
    fn a_wrong_configuration_says_what_is_wrong() {
        for (text, part) in [
            ("", "EOF"),
            ("[]", "not a JSON object"),
            (r#"{"cniVersion":"1.0.0","type":"x"}"#, "no name"),
            (r#"{"cniVersion":"1.0.0","name":"a/b","type":"x"}"#, "not a plain name"),
            (r#"{"name":"n","type":"x"}"#, "no cniVersion"),
            (r#"{"cniVersion":"0.2.0","name":"n","type":"x"}"#, "0.2.0 is not spoken"),
            (r#"{"cniVersion":1,"name":"n","type":"x"}"#, "not a string"),
            (r#"{"cniVersion":"1.0.0","name":"n"}"#, "no type"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#, "not a list with members"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[1]}"#, "not a JSON object"),
            (r#"{"cniVersion":"1.0.0","name":"n","type":"../../bin/sh"}"#, "not a plain file name"),
            (r#"{"cniVersion":"1.0.0","name":"n","type":".."}"#, "not a plain file name"),
            (r#"{"cniVersion":"1.0.0","name":"n","type":""}"#, "not a plain file name"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), Kind::WrongState, "{text}");
            assert!(error.chain().contains(part), "{text}: {}", error.chain());
        }
    }

    #[test]
    fn a_wrong_file_is_named() {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path(), "10.conflist", "{");
        let error = load(&temp.path().join("10.conflist")).unwrap_err();
        assert!(error.chain().contains("10.conflist"), "{}", error.chain());
    }
}
