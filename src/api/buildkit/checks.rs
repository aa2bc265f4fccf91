//! The checks of a Dockerfile: as warnings beside a build, and alone (`--check`).

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use cais_dockerfile::lint::{self, Report, Warning};
use cais_dockerfile::{Platform, Range};
use cais_proto::buildkit::control::{Position, Range as Lines, SourceInfo, VertexWarning};
use serde_json::{Value, json};

use super::board::Task;
use super::errors::Source;
use crate::builder::Options;

/// Of the description, not of the language.
const VERSION: &str = "1.0.0";

/// Each goes to the client with the whole Dockerfile.
const MOST_WARNINGS: usize = 100;

const OPTIONS: &str = "BUILDKIT_DOCKERFILE_CHECK";

pub(super) fn report(text: &str, options: &Options) -> Report {
    let build_args = options.given_args();
    let host = Platform::host();
    let target_platform = Platform::parse(&options.platform).unwrap_or_else(|_| host.clone());
    lint::check(
        text.as_bytes(),
        &lint::Request {
            target: Some(options.target.as_str()).filter(|target| !target.is_empty()),
            options: build_args.get(OPTIONS).map(String::as_str),
            build_args: &build_args,
            build_platform: host,
            target_platform,
            ignored: None,
            image: &|_, _| None,
        },
    )
}

/// Shows the first warnings with the step that has read the file.
pub(super) fn warn(report: &Report, source: &Source, task: &Task) {
    let data = Bytes::copy_from_slice(source.text.as_bytes());
    for Warning { rule, message, range } in report.warnings.iter().take(MOST_WARNINGS) {
        let line = range.start.line;
        task.warn(VertexWarning {
            vertex: String::new(),
            level: 1,
            short: format!("{}: {message} (line {line})", rule.name).into_bytes(),
            detail: vec![rule.description.as_bytes().to_vec()],
            url: rule.url.to_owned(),
            info: Some(SourceInfo {
                filename: source.name.clone(),
                data: data.clone(),
                language: "Dockerfile".to_owned(),
            }),
            ranges: vec![lines(*range)],
        });
    }
}

fn lines(range: Range) -> Lines {
    let position = |line: usize| {
        Some(Position { line: i32::try_from(line).unwrap_or_default(), character: 0 })
    };
    Lines { start: position(range.start.line), end: position(range.end.line) }
}

/// As BuildKit's `frontend.lint` describes it.
pub(super) fn describe(report: &Report, source: &Source) -> BTreeMap<String, Vec<u8>> {
    let location = |range: Range| {
        let place = |line: usize| json!({ "line": line });
        json!({ "ranges": [{ "start": place(range.start.line), "end": place(range.end.line) }] })
    };
    let warnings: Vec<Value> = report
        .warnings
        .iter()
        .map(|Warning { rule, message, range }| {
            json!({
                "ruleName": rule.name,
                "description": rule.description,
                "url": rule.url,
                "detail": message,
                "location": location(*range),
            })
        })
        .collect();
    let mut result = json!({
        "warnings": warnings,
        "sources": [{
            "filename": source.name,
            "language": "Dockerfile",
            "data": BASE64.encode(&source.text),
        }],
    });
    if let Some(error) = &report.error {
        result["buildError"] =
            json!({ "message": error.to_string(), "location": location(error.range) });
    }
    let is_clean = report.warnings.is_empty() && report.error.is_none();
    BTreeMap::from([
        ("result.json".to_owned(), format!("{result:#}").into_bytes()),
        ("result.txt".to_owned(), text(report).into_bytes()),
        ("result.statuscode".to_owned(), if is_clean { b"0" } else { b"1" }.to_vec()),
        ("version".to_owned(), VERSION.as_bytes().to_vec()),
    ])
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for Warning { rule, message, .. } in &report.warnings {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\nWARNING: {} - {}\n{message}", rule.name, rule.url);
    }
    text
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::api::buildkit::attrs;
    use crate::api::buildkit::board::Board;

    #[tokio::test]
    async fn warnings_share_the_text_and_have_an_end() {
        let options = attrs::read(&BTreeMap::new(), &BTreeMap::new(), None).unwrap().options;
        let text = format!("FROM scratch\n{}", "MAINTAINER me\n".repeat(300));
        let source = Source { name: "Dockerfile".to_owned(), text };
        let report = report(&source.text, &options);
        assert!(report.warnings.len() > MOST_WARNINGS);
        let board = Board::new();
        warn(&report, &source, &board.announce("it"));
        board.close();
        let shown: Vec<_> = board.follow().collect().await;
        assert_eq!(shown.len(), MOST_WARNINGS);
        let places: std::collections::BTreeSet<_> = shown
            .iter()
            .map(|shown| shown.warnings[0].info.as_ref().unwrap().data.as_ptr().addr())
            .collect();
        assert_eq!(places.len(), 1);
    }

    #[test]
    fn what_the_checks_find_is_told_in_buildkits_forms() {
        let options = attrs::read(&BTreeMap::new(), &BTreeMap::new(), None).unwrap().options;
        let described = |text: &str| {
            let source = Source { name: "Dockerfile".to_owned(), text: text.to_owned() };
            describe(&report(text, &options), &source)
        };
        let bad = described("FROM scratch\nMAINTAINER me\n");
        assert_eq!(bad["result.statuscode"], b"1");
        let result: Value = serde_json::from_slice(&bad["result.json"]).unwrap();
        assert_eq!(result["warnings"][0]["ruleName"], "MaintainerDeprecated");
        assert_eq!(result["warnings"][0]["location"]["ranges"][0]["start"]["line"], 2);
        let good = described("FROM scratch\nLABEL a=b\n");
        assert_eq!(good["result.statuscode"], b"0");
        let wrong = described("FROM scratch\nCOPPY a /\n");
        let result: Value = serde_json::from_slice(&wrong["result.json"]).unwrap();
        let message = result["buildError"]["message"].as_str().unwrap();
        assert!(message.contains("unknown instruction"), "{message}");
    }
}
