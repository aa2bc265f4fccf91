//! The verbs. Each is its flags and what it does with them.

pub(crate) mod archive;
pub(crate) mod build;
pub(crate) mod commit;
pub(crate) mod contexts;
pub(crate) mod cp;
pub(crate) mod df;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod info;
pub(crate) mod inside;
pub(crate) mod inspect;
pub(crate) mod lifecycle;
mod lint;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod ports;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod tags;
pub(crate) mod update;
pub(crate) mod version;
pub(crate) mod volume;

use std::collections::BTreeMap;

use crate::error::Result;

/// One filter of a command line.
fn filter(text: &str) -> std::result::Result<String, String> {
    if text.contains('=') {
        Ok(text.to_owned())
    } else {
        Err("bad format of filter (expected name=value)".to_owned())
    }
}

/// `key=value` filters as the interface takes them; nothing for none.
pub(crate) fn filters(texts: &[String]) -> Result<String> {
    let mut map: BTreeMap<String, serde_json::Map<String, serde_json::Value>> = BTreeMap::new();
    for text in texts {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        map.entry(key.trim().to_lowercase())
            .or_default()
            .insert(value.trim().to_owned(), true.into());
    }
    if map.is_empty() {
        return Ok(String::new());
    }
    Ok(serde_json::to_string(&map)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn filters_are_maps_of_sets() {
        let texts = ["label=a=b", "label=c", "Status=exited"].map(str::to_owned);
        let expected = r#"{"label":{"a=b":true,"c":true},"status":{"exited":true}}"#;
        assert_eq!(super::filters(&texts).unwrap(), expected);
        assert!(super::filter("x").is_err());
    }
}
