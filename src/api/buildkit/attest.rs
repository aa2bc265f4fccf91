//! What a client wants attested of its image: how it was made (provenance), and what is in it ([`super::sbom`], [`super::scan`]).
//!
//! The predicate is SLSA's, with the invocation in the form that BuildKit gives it. `mode=max` adds the build's arguments and the
//! Dockerfile; values of secrets are in neither.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cais_dockerfile::Platform;
use serde_json::{Value, json};

use super::attrs::{Attrs, is_true};
use super::errors::Source;
use super::scan::Generator;
use crate::api::docker::convert::create::unsupported;
use crate::builder::{Base, without_secrets};
use crate::error::{Error, Result};
use crate::image::index::{Predicate, package_url};

const PREFIX: &str = "attest:";
const SLSA_02: &str = "https://slsa.dev/provenance/v0.2";
const SLSA_1: &str = "https://slsa.dev/provenance/v1";
/// What the parameters mean.
const BUILD_TYPE: &str = "https://mobyproject.org/buildkit@v1";
const BUILDER: &str = concat!("pkg:generic/cais@", env!("CARGO_PKG_VERSION"));

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Min,
    Max,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Provenance {
    mode: Mode,
    kind: &'static str,
    /// Nobody asked for it: outputs that cannot hold it do without.
    pub(super) is_inline_only: bool,
    builder: String,
    is_reproducible: bool,
}

/// What is known of a build that is done.
pub(super) struct Facts<'a> {
    /// The build's name.
    pub(super) id: &'a str,
    pub(super) attrs: &'a Attrs,
    pub(super) source: &'a Source,
    pub(super) bases: &'a [Base],
    pub(super) began: jiff::Timestamp,
    pub(super) ended: jiff::Timestamp,
}

/// What is to be attested.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) provenance: Option<Provenance>,
    /// A list of the packages in the image.
    pub(super) sbom: Option<Sbom>,
}

/// Who makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sbom {
    Own,
    By(Generator),
}

/// # Errors
/// `Unsupported`, by name, for what we cannot attest.
pub(super) fn read(attrs: &Attrs) -> Result<Wanted> {
    let mut found = Wanted::default();
    for (key, value) in attrs {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let fields: BTreeMap<&str, &str> = value
            .split(',')
            .filter(|field| !field.is_empty())
            .map(|field| field.split_once('=').unwrap_or((field, "true")))
            .collect();
        if fields.get("disabled").is_some_and(|text| is_true(text)) {
            continue;
        }
        match name {
            "provenance" => found.provenance = Some(provenance(&fields)?),
            "sbom" => found.sbom = Some(sbom(&fields)?),
            other => return unsupported(format!("attestation {other:?}")),
        }
    }
    Ok(found)
}

fn sbom(fields: &BTreeMap<&str, &str>) -> Result<Sbom> {
    let own = ["disabled", "type", "generator"];
    let told = fields.iter().filter(|(key, _)| !own.contains(key));
    let told: BTreeMap<_, _> =
        told.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    match (fields.get("generator").copied().unwrap_or_default(), told.keys().next()) {
        ("", None) => Ok(Sbom::Own),
        ("", Some(other)) => unsupported(format!("{other} of an SBOM")),
        (image, _) => Generator::of(image, told).map(Sbom::By),
    }
}

fn provenance(fields: &BTreeMap<&str, &str>) -> Result<Provenance> {
    let mut provenance = Provenance {
        mode: Mode::Min,
        kind: SLSA_02,
        is_inline_only: false,
        builder: BUILDER.to_owned(),
        is_reproducible: false,
    };
    for (key, value) in fields {
        match (*key, *value) {
            ("mode", "min" | "") => {}
            ("mode", "max") => provenance.mode = Mode::Max,
            ("version", "v0.2" | "") => {}
            ("version", "v1") => provenance.kind = SLSA_1,
            ("inline-only", text) => provenance.is_inline_only = is_true(text),
            ("reproducible", text) => provenance.is_reproducible = is_true(text),
            ("builder-id", text) => text.clone_into(&mut provenance.builder),
            ("disabled" | "type", _) => {}
            ("mode" | "version", text) => {
                return Err(Error::invalid(format!("invalid provenance {key}: {text}")));
            }
            (other, _) => return unsupported(format!("{other} of provenance")),
        }
    }
    Ok(provenance)
}

impl Provenance {
    pub(super) fn of(&self, facts: &Facts<'_>) -> Predicate {
        let content = match self.kind {
            SLSA_1 => self.version_1(facts),
            _ => self.version_02(facts),
        };
        let (file, is_inline_only) = ("provenance.json".to_owned(), self.is_inline_only);
        Predicate { kind: self.kind, content, file, is_inline_only }
    }

    fn version_02(&self, facts: &Facts<'_>) -> Value {
        json!({
            "builder": { "id": self.builder },
            "buildType": BUILD_TYPE,
            "materials": materials(facts),
            "invocation": {
                "configSource": { "entryPoint": facts.source.name },
                "parameters": self.parameters(facts),
                "environment": { "platform": Platform::host().to_string() },
            },
            "metadata": {
                "buildInvocationID": facts.id,
                "buildStartedOn": facts.began.to_string(),
                "buildFinishedOn": facts.ended.to_string(),
                "completeness": {
                    "parameters": self.mode == Mode::Max,
                    "environment": true,
                    "materials": false,
                },
                "reproducible": self.is_reproducible,
                "https://mobyproject.org/buildkit@v1#metadata": self.source(facts),
            },
        })
    }

    fn version_1(&self, facts: &Facts<'_>) -> Value {
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "configSource": { "path": facts.source.name },
                    "request": self.parameters(facts),
                },
                "internalParameters": { "builderPlatform": Platform::host().to_string() },
                "resolvedDependencies": materials(facts),
            },
            "runDetails": {
                "builder": { "id": self.builder },
                "metadata": {
                    "invocationId": facts.id,
                    "startedOn": facts.began.to_string(),
                    "finishedOn": facts.ended.to_string(),
                    "buildkit_metadata": self.source(facts),
                    "buildkit_reproducible": self.is_reproducible,
                },
            },
        })
    }

    fn parameters(&self, facts: &Facts<'_>) -> Value {
        let is_told = |key: &str| {
            let is_of_the_client = ["local-sessionid:", PREFIX, "cache-imports", "requestid"];
            let is_long = ["build-arg:", "label:", "context:", "context"];
            let begins = |all: &[&str]| all.iter().any(|prefix| key.starts_with(prefix));
            !begins(&is_of_the_client) && (self.mode == Mode::Max || !begins(&is_long))
        };
        let told = facts.attrs.iter().filter(|(key, _)| is_told(key));
        let args: BTreeMap<&String, String> =
            told.map(|(key, value)| (key, shown(key, value))).collect();
        json!({ "frontend": "dockerfile.v0", "args": args })
    }

    /// The Dockerfile.
    fn source(&self, facts: &Facts<'_>) -> Value {
        if self.mode == Mode::Min {
            return json!({});
        }
        let Source { name, text } = facts.source;
        let info = json!({
            "filename": name,
            "language": "Dockerfile",
            "data": BASE64.encode(text),
        });
        json!({ "source": { "infos": [info] } })
    }
}

/// The value of an attribute, without the passwords of addresses.
fn shown(key: &str, value: &str) -> String {
    let is_address = key == "context" || key.starts_with("context:") || key == "vcs:source";
    let is_remote =
        ["http://", "https://", "git://", "ssh://"].iter().any(|it| value.starts_with(it));
    if !(is_address && is_remote) {
        return value.to_owned();
    }
    let fragment = value.find('#').and_then(|at| value.get(at..)).unwrap_or_default();
    format!("{}{fragment}", without_secrets(value))
}

/// The images that the build stands on, and copies from.
fn materials(facts: &Facts<'_>) -> Vec<Value> {
    let material = |base: &Base| {
        let platform = base.platform.replace('/', "%2F");
        json!({
            "uri": format!("{}?platform={platform}", package_url(&base.name)),
            "digest": { "sha256": base.digest.hex() },
        })
    };
    facts.bases.iter().map(material).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::image::digest::Digest;
    use crate::image::reference::Reference;

    fn of(value: &str) -> Result<Option<Provenance>> {
        let attrs = Attrs::from([("attest:provenance".to_owned(), value.to_owned())]);
        read(&attrs).map(|wanted| wanted.provenance)
    }

    #[test]
    fn what_is_attested_is_named_by_the_client() {
        let provenance = of("mode=min,inline-only=true").unwrap().unwrap();
        assert!(provenance.is_inline_only && provenance.mode == Mode::Min);
        let provenance = of("mode=max,version=v1,builder-id=https://x.io").unwrap().unwrap();
        assert_eq!((provenance.kind, provenance.builder.as_str()), (SLSA_1, "https://x.io"));
        assert!(of("disabled=true").unwrap().is_none() && of("").unwrap().is_some());
        assert_eq!(of("mode=most").unwrap_err().kind(), Kind::InvalidArgument);
        let wanted = |key: &str, value: &str| read(&[(key.to_owned(), value.to_owned())].into());
        assert_eq!(wanted("attest:sbom", "").unwrap().sbom, Some(Sbom::Own));
        let by = wanted("attest:sbom", "generator=x.io/scan,DEPTH=3").unwrap().sbom.unwrap();
        assert!(matches!(by, Sbom::By(generator) if generator.name() == "x.io/scan:latest"));
        assert_eq!(wanted("attest:sbom", "disabled=true").unwrap().sbom, None);
        for (key, value) in [
            ("attest:sbom", "more=true"),
            ("attest:sbom", "generator=x.io/scan,not a name=1"),
            ("attest:other", ""),
        ] {
            assert_eq!(wanted(key, value).unwrap_err().kind(), Kind::Unsupported, "{key} {value}");
        }
    }

    #[test]
    fn the_least_that_is_told_has_no_arguments_in_it() {
        let attrs = [
            ("build-arg:TOKEN", "hunter2"),
            ("target", "app"),
            ("filename", "D"),
            ("context", "https://u:pass123@x.io/a.git#main:sub"),
            ("context:lib", "https://u:pass123@x.io/b.git"),
            ("context:base", "docker-image://alpine@sha256:0"),
            ("vcs:source", "https://pass123@x.io/a.git"),
        ];
        let attrs = attrs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let source = Source { name: "D".to_owned(), text: "FROM busybox\n".to_owned() };
        let (name, digest) = (Reference::parse("busybox").unwrap(), Digest::of(b""));
        let bases = [Base { name, platform: "linux/amd64".to_owned(), digest: digest.clone() }];
        let now = jiff::Timestamp::UNIX_EPOCH;
        let facts = Facts {
            id: "abc",
            attrs: &attrs,
            source: &source,
            bases: &bases,
            began: now,
            ended: now,
        };
        let told = |value: &str| of(value).unwrap().unwrap().of(&facts);
        let least = told("mode=min");
        assert!(!least.content.to_string().contains("hunter2"));
        assert_eq!(least.content["invocation"]["parameters"]["args"]["target"], "app");
        let material = &least.content["materials"][0];
        assert_eq!(material["uri"], "pkg:docker/busybox@latest?platform=linux%2Famd64");
        assert_eq!(material["digest"]["sha256"], digest.hex());
        let exact = Reference::parse(&format!("x.io:1/a@{digest}")).unwrap();
        assert_eq!(package_url(&exact), "pkg:docker/x.io:1/a");
        let all = told("mode=max,version=v1").content;
        let request = &all["buildDefinition"]["externalParameters"]["request"];
        let args = &request["args"];
        assert_eq!(args["build-arg:TOKEN"], "hunter2");
        assert_eq!(args["context"], "https://x.io/a.git#main:sub");
        assert_eq!(args["context:lib"], "https://x.io/b.git");
        assert_eq!(args["context:base"], "docker-image://alpine@sha256:0");
        assert_eq!(args["vcs:source"], "https://x.io/a.git");
        assert!(all.to_string().contains("RlJPTSBidXN5Ym94Cg=="));
    }
}
