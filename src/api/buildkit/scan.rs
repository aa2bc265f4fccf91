//! SBOMs by a generator: an image of somebody else's that is run over what was built (BuildKit's `docs/attestations/sbom-protocol.md`).
//!
//! A scan is a build: what was built is mounted read-only where the generator looks for it, and what it leaves in its directory is a
//! layer. So it runs as every command of a build does, and the same generator is not run again over the same files.
//!
//! ```text
//!   FROM generator ─▶ its entry point ─▶ RUN it, BUILDKIT_SCAN_SOURCE ◀─ what was built
//!                                         │      BUILDKIT_SCAN_SOURCE_EXTRAS ◀─ the context and stages that the Dockerfile wants seen
//!                                         └─▶ BUILDKIT_SCAN_DESTINATION ─▶ in-toto statements ─▶ predicates
//! ```

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Dir, FileType, OFlags};
use serde::Deserialize;
use serde_json::{Value, json};

use super::sbom::{CONTEXT, CORE, KIND};
use crate::api::docker::convert::create::unsupported;
use crate::builder::{Built, Named, Names, Options, Scanned};
use crate::engine::files::open_below;
use crate::error::{Context, Error, Result};
use crate::image::index::Predicate;
use crate::image::reference::Reference;

/// Where the generator finds what was built, and where it writes to; BuildKit has the same.
const SOURCE: &str = "/run/src/core/sbom";
const EXTRAS: &str = "/run/src/extras";
const DESTINATION: &str = "/run/out";
/// Names of contexts.
const GENERATOR: &str = "generator";
const RESULT: &str = "result";

/// Of one statement, in bytes.
const LARGEST: u64 = 256 << 20;
/// Statements of one scan.
const MOST: usize = 100;

/// A generator that a client names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Generator {
    image: Reference,
    /// What it is told besides, by names without their prefix.
    told: BTreeMap<String, String>,
}

impl Generator {
    /// # Errors
    /// `InvalidArgument` for what is no image; `Unsupported` for what cannot be told in an environment.
    pub(super) fn of(image: &str, told: BTreeMap<String, String>) -> Result<Self> {
        let image = Reference::parse(image)?;
        let is_name = |name: &&String| {
            let mut bytes = name.bytes();
            bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match told.keys().find(|name| !is_name(name)) {
            Some(name) => unsupported(format!("{name:?} of an SBOM")),
            None => Ok(Self { image, told }),
        }
    }

    pub(super) fn name(&self) -> String {
        self.image.to_string()
    }

    /// A build that comes to the generator itself.
    pub(super) fn fetching(&self, asked: &Options) -> (String, Options) {
        (format!("FROM {}\n", self.image), options(asked))
    }

    /// A build that comes to what the generator says of `built`.
    ///
    /// # Errors
    /// `InvalidArgument` for an image without a command.
    pub(super) async fn scan(
        &self,
        asked: &Options,
        generator: Arc<Built>,
        (built, scanned): (Arc<Built>, Scanned),
    ) -> Result<(String, Options)> {
        let Scanned { has_context, stages } = scanned;
        let names = stages.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        let text = self.dockerfile(&generator.document().await?, &names, has_context)?;
        let mut named = Names::default();
        named.add(GENERATOR, None, Named::Built(generator));
        named.add(RESULT, None, Named::Built(built));
        for (place, (_, stage)) in stages.into_iter().enumerate() {
            named.add(&extra(place), None, Named::Built(stage));
        }
        let told = self.told.iter();
        let build_args = told.map(|(name, value)| (variable(name), Some(value.clone()))).collect();
        Ok((text, Options { named, build_args, ..options(asked) }))
    }

    /// `stages` and the context are looked at besides.
    fn dockerfile(&self, document: &[u8], stages: &[&str], has_context: bool) -> Result<String> {
        #[derive(Deserialize)]
        struct Document {
            config: Option<Config>,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Config {
            entrypoint: Option<Vec<String>>,
            cmd: Option<Vec<String>>,
            working_dir: String,
        }
        let document: Document =
            serde_json::from_slice(document).context("read the generator's configuration")?;
        let Config { entrypoint, cmd, working_dir } = document.config.unwrap_or_default();
        let command: Vec<String> = [entrypoint, cmd].into_iter().flatten().flatten().collect();
        if command.is_empty() {
            return Err(Error::invalid(format!("scanner {} does not have cmd", self.image)));
        }
        // What looks like a here-document in it is none.
        let command = json!(command).to_string().replace('<', "\\u003c");
        let directory = match working_dir.as_str() {
            // An unusual one would have to be quoted, and is of no use to it then.
            path if path.starts_with('/') && path.bytes().all(is_plain) => path,
            _ => "/",
        };
        let told: String =
            self.told.keys().map(|name| format!("ARG {}\n", variable(name))).collect();
        let mut mounts: String = stages
            .iter()
            .enumerate()
            .map(|(place, name)| {
                let from = extra(place);
                format!("--mount=type=bind,from={from},target={EXTRAS}/{CORE}-{name} ")
            })
            .collect();
        if has_context {
            mounts.push_str(&format!("--mount=type=bind,target={EXTRAS}/{CORE}-{CONTEXT} "));
        }
        let extras = match mounts.as_str() {
            "" => String::new(),
            _ => format!("ENV BUILDKIT_SCAN_SOURCE_EXTRAS={EXTRAS}\n"),
        };
        Ok(format!(
            "FROM {GENERATOR} AS scan\n\
             WORKDIR {DESTINATION}\n\
             WORKDIR {directory}\n\
             USER 0\n\
             ENV BUILDKIT_SCAN_DESTINATION={DESTINATION}/ BUILDKIT_SCAN_SOURCE={SOURCE}\n\
             {extras}\
             {told}\
             RUN --mount=type=tmpfs,target=/tmp --mount=type=bind,from={RESULT},target={SOURCE} {mounts}{command}\n\
             FROM scratch\n\
             COPY --from=scan {DESTINATION} /\n"
        ))
    }
}

/// The name of a context.
fn extra(place: usize) -> String {
    format!("extra-{place}")
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.')
}

fn variable(name: &str) -> String {
    format!("BUILDKIT_SCAN_{name}")
}

/// A build that comes to the context, as its files.
pub(super) fn context(asked: &Options) -> (String, Options) {
    ("FROM scratch\nCOPY . /\n".to_owned(), options(asked))
}

/// Of a build that is ours: of what the client asked for, what concerns any.
fn options(asked: &Options) -> Options {
    Options {
        dockerfile: String::new(),
        target: String::new(),
        build_args: BTreeMap::new(),
        labels: BTreeMap::new(),
        tags: Vec::new(),
        stages_without_cache: Vec::new(),
        named: Names::default(),
        allows_insecure: false,
        // It runs here, whatever it looks at.
        platform: String::new(),
        caches: Vec::new(),
        has_inline_cache: false,
        ..asked.clone()
    }
}

/// What a generator has written, in the order of the names; blocks.
///
/// # Errors
/// `InvalidArgument` for a file that is no statement about a document of SPDX, and if there is none.
pub(super) fn predicates(files: &OwnedFd) -> Result<Vec<Predicate>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(files.as_fd()).context("list what the generator wrote")? {
        let name = entry.context("list what the generator wrote")?.file_name().to_owned();
        let stat = rustix::fs::statat(files, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.context("read what the generator wrote")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    if names.is_empty() || names.len() > MOST {
        return Err(Error::invalid(format!("the SBOM generator wrote {} statements", names.len())));
    }
    names.sort();
    names.iter().map(|name| predicate(files, name)).collect()
}

fn predicate(files: &OwnedFd, name: &str) -> Result<Predicate> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Statement {
        predicate_type: String,
        predicate: Value,
    }
    let wrong = |why: String| Error::invalid(format!("bundle entry {name}: {why}"));
    let file = open_below(files, Path::new(name), OFlags::RDONLY | OFlags::NOFOLLOW);
    let file = std::fs::File::from(file.context("read what the generator wrote")?);
    let mut text = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut text);
    read.context("read what the generator wrote")?;
    if text.len() as u64 > LARGEST {
        return Err(wrong("it is larger than 256 MiB".to_owned()));
    }
    let statement: Statement = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("cannot decode in-toto statement: {error}")))?;
    if statement.predicate_type != KIND {
        let found = statement.predicate_type;
        return Err(wrong(format!("{found} does not match required predicate type {KIND}")));
    }
    let (content, file) = (statement.predicate, name.to_owned());
    Ok(Predicate { kind: KIND, content, file, is_inline_only: false })
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir};
    use std::io::Write;

    use super::*;
    use crate::error::Kind;

    fn generator(told: &[(&str, &str)]) -> Result<Generator> {
        let told = told.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Generator::of("x.io/scan:v1", told.collect())
    }

    #[test]
    fn a_generator_is_run_as_its_image_says() {
        let config = json!({ "config": {
            "Entrypoint": ["/scan", "<<EOF"], "Cmd": ["a\nb", "$X"], "WorkingDir": "/work", "User": "nobody",
        }});
        let text =
            generator(&[("A", "1")]).unwrap().dockerfile(config.to_string().as_bytes(), &[], false);
        let text = text.unwrap();
        assert!(!text.contains("EXTRAS"), "{text}");
        let parsed = cais_dockerfile::Dockerfile::parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.stages.len(), 2);
        let run = r#"target=/run/src/core/sbom ["/scan","\u003c\u003cEOF","a\nb","$X"]"#;
        assert!(text.contains(run), "{text}");
        assert!(text.contains("\nARG BUILDKIT_SCAN_A\n") && text.contains("\nWORKDIR /work\n"));
        let empty = generator(&[]).unwrap().dockerfile(br#"{"config":{"Cmd":null}}"#, &[], false);
        let empty = empty.unwrap_err();
        assert!(empty.chain().contains("does not have cmd"), "{}", empty.chain());
        assert_eq!(generator(&[("A B", "1")]).unwrap_err().kind(), Kind::Unsupported);
    }

    #[test]
    fn only_statements_about_documents_of_spdx_are_taken() {
        let temp = tempfile::tempdir().unwrap();
        let found = || predicates(&File::open(temp.path()).unwrap().into());
        let statement = |kind: &str, name: &str| json!({ "predicateType": kind, "predicate": { "name": name } });
        create_dir(temp.path().join("more")).unwrap();
        assert_eq!(found().unwrap_err().kind(), Kind::InvalidArgument);
        let write = |name: &str, text: &str| {
            File::create(temp.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
        };
        write("b.json", &statement(KIND, "b").to_string());
        write("a.json", &statement(KIND, "a").to_string());
        let all: Vec<_> =
            found().unwrap().into_iter().map(|it| it.content["name"].clone()).collect();
        assert_eq!(all, ["a", "b"]);
        for wrong in [statement("https://slsa.dev/provenance/v1", "c").to_string(), "{".to_owned()]
        {
            write("c.json", &wrong);
            let error = found().unwrap_err();
            assert!(error.chain().contains("bundle entry c.json"), "{}", error.chain());
        }
    }
}
