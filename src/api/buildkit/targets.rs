//! The stages of a Dockerfile, as `--call=targets` lists them.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cais_dockerfile::{Dockerfile, ParseError};
use serde_json::{Value, json};

/// Of the description, not of the language.
const VERSION: &str = "1.0.0";

/// As BuildKit's `frontend.targets` describes them.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn describe(text: &str) -> Result<BTreeMap<String, Vec<u8>>, ParseError> {
    let file = Dockerfile::parse(text.as_bytes())?;
    let last = file.stages.len().saturating_sub(1);
    let mut targets = Vec::new();
    let mut shown = String::from("TARGET DESCRIPTION\n");
    for (index, stage) in file.stages.iter().enumerate() {
        let name = stage.name.clone().unwrap_or_default();
        let description = stage.description.clone().unwrap_or_default();
        let place = |line: usize| json!({ "line": line });
        let range = json!({
            "start": place(stage.range.start.line),
            "end": place(stage.range.end.line),
        });
        let mut target = json!({ "base": stage.base, "location": { "ranges": [range] } });
        let mut set = |key: &str, value: Value| target[key] = value;
        if !name.is_empty() {
            set("name", json!(name));
        }
        if index == last {
            set("default", json!(true));
        }
        if !description.is_empty() {
            set("description", json!(description));
        }
        if let Some(platform) = &stage.platform {
            set("platform", json!(platform));
        }
        targets.push(target);
        let mark = match (name.is_empty(), index == last) {
            (true, true) => "(default)",
            (false, true) => " (default)",
            (_, false) => "",
        };
        // Writing to a string does not fail.
        let _ = writeln!(shown, "{name}{mark} {description}");
    }
    let result = json!({ "targets": targets, "sources": [BASE64.encode(text)] });
    Ok(BTreeMap::from([
        ("result.json".to_owned(), format!("{result:#}").into_bytes()),
        ("result.txt".to_owned(), shown.into_bytes()),
        ("version".to_owned(), VERSION.as_bytes().to_vec()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_listed_and_the_last_is_the_default() {
        let text = "# build makes it\nFROM a AS build\nFROM --platform=linux/amd64 build\n";
        let described = describe(text).unwrap();
        let result: Value = serde_json::from_slice(&described["result.json"]).unwrap();
        let expected = json!([
            {
                "name": "build", "description": "makes it", "base": "a",
                "location": { "ranges": [{ "start": { "line": 2 }, "end": { "line": 2 } }] },
            },
            {
                "default": true, "base": "build", "platform": "linux/amd64",
                "location": { "ranges": [{ "start": { "line": 3 }, "end": { "line": 3 } }] },
            },
        ]);
        assert_eq!(result["targets"], expected);
        assert_eq!(described["result.txt"], b"TARGET DESCRIPTION\nbuild makes it\n(default) \n");
        assert!(describe("FORM a").is_err());
    }
}
