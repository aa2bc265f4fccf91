//! Image references: what people write, and the whole name it stands for.
//!
//! ```text
//!   busybox                     docker.io/library/busybox:latest
//!   quay.io/a/b@sha256:…        quay.io/a/b@sha256:…
//!   host:5000/a/b:1@sha256:…    host:5000/a/b:1@sha256:…   (the digest decides, the tag is a name)
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use crate::error::{Error, Result};

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// A reference with nothing left to guess.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            let shown: String = text.chars().take(300).collect();
            Error::invalid(format!("image reference {shown:?}: {why}"))
        };
        if text.is_empty() {
            return Err(Error::invalid("image reference is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).map_err(|error| refuse(&error.chain()))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(refuse("the tag is not well formed"));
        }
        let (registry, repository) = split_registry(name);
        if !is_registry(registry) {
            return Err(refuse("the registry is not a host name with an optional port"));
        }
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(refuse("the repository name must be lower case"));
        }
        if !repository.split('/').all(is_path_component) {
            return Err(refuse("the repository name is not well formed"));
        }
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        if registry.len() + 1 + repository.len() > LONGEST_NAME {
            return Err(refuse("the name is longer than 255 characters"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// `registry/repository`, of a text that has neither tag nor digest.
    pub(crate) fn repository_alone(text: &str) -> Option<String> {
        let alone = !text.contains('@') && split_tag(text).1.is_none();
        let reference = alone.then(|| Self::parse(text).ok()).flatten();
        reference.map(|it| it.name())
    }

    /// The host that owns the name, with its port: `docker.io`, `127.0.0.1:5000`.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    pub(crate) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub(crate) fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `registry/repository`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `registry/repository:tag`, the form an image lists as a tag.
    pub(crate) fn tagged_name(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.name()))
    }

    /// As people write it: without what they leave out, `busybox:latest`.
    pub(crate) fn familiar(&self) -> String {
        let whole = self.to_string();
        let short = whole.strip_prefix("docker.io/").map(|rest| {
            let official = rest.strip_prefix("library/");
            official.filter(|name| !name.contains('/')).unwrap_or(rest)
        });
        short.map(str::to_owned).unwrap_or(whole)
    }

    /// `registry/repository@digest`, the form an image lists as a digest.
    pub(crate) fn digested_name(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }
}

/// A colon after the last slash starts the tag; one before it is the registry's port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The first component is a registry when it could not be a repository on Docker Hub: it has a
/// dot, a port or an upper-case letter, or is `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let port = rest.strip_prefix(':');
            return address.parse::<std::net::Ipv6Addr>().is_ok()
                && (rest.is_empty() || port.is_some_and(is_port));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    port.is_none_or(is_port)
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn is_tag(text: &str) -> bool {
    let first = text.bytes().next();
    text.len() <= LONGEST_TAG
        && first.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Lower-case letters and digits, joined by one dot, one or two underscores, or any dashes.
fn is_path_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !is_word(*first) || !is_word(*last) {
        return false;
    }
    bytes.split(|byte| is_word(*byte)).all(|joint| match joint {
        [] | [b'.'] | [b'_'] | [b'_', b'_'] => true,
        other => other.iter().all(|byte| *byte == b'-'),
    })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> String {
        Reference::parse(text).unwrap().to_string()
    }

    #[test]
    fn short_names_get_docker_hub_and_latest() {
        assert_eq!(whole("busybox"), "docker.io/library/busybox:latest");
        assert_eq!(whole("busybox:1.36"), "docker.io/library/busybox:1.36");
        assert_eq!(whole("cais/web"), "docker.io/cais/web:latest");
        assert_eq!(whole("index.docker.io/busybox"), "docker.io/library/busybox:latest");
        assert_eq!(whole("localhost/web"), "localhost/web:latest");
        assert_eq!(whole("localhost:5000/web"), "localhost:5000/web:latest");
        assert_eq!(whole("[::1]:5000/web:v1"), "[::1]:5000/web:v1");
        assert_eq!(whole("REGISTRY/web"), "REGISTRY/web:latest");
    }

    #[test]
    fn a_repository_alone_has_neither_tag_nor_digest() {
        let alone = |text: &str| Reference::repository_alone(text);
        assert_eq!(alone("busybox").as_deref(), Some("docker.io/library/busybox"));
        assert_eq!(alone("localhost:5000/web").as_deref(), Some("localhost:5000/web"));
        let digest = format!("busybox@sha256:{}", "a".repeat(64));
        for text in ["busybox:latest", "localhost:5000/web:v1", &digest, "UPPER"] {
            assert_eq!(alone(text), None, "{text}");
        }
    }

    #[test]
    fn a_digest_stands_without_a_tag_and_beside_one() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(
            whole(&format!("busybox@{digest}")),
            format!("docker.io/library/busybox@{digest}")
        );
        let both = Reference::parse(&format!("quay.io/a/b:v1@{digest}")).unwrap();
        assert_eq!(both.tag(), Some("v1"));
        assert_eq!(both.digest().unwrap().to_string(), digest);
    }

    #[test]
    fn people_read_what_they_wrote() {
        for text in ["busybox:latest", "cais/web:1", "quay.io/a/b:latest", "localhost:5000/x:1"] {
            assert_eq!(Reference::parse(text).unwrap().familiar(), text);
        }
        assert_eq!(Reference::parse("busybox").unwrap().familiar(), "busybox:latest");
    }

    #[test]
    fn malformed_references_are_refused_with_the_reason() {
        let long = format!("quay.io/{}", "a".repeat(250));
        let digest = format!("quay.io/a@sha256:{}", "A".repeat(64));
        for text in [
            "",
            "UPPER",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:.tag",
            "quay.io/../../etc/passwd",
            "quay.io:port/a",
            "-bad-.io/a",
            "a@sha256:abc",
            "a b",
            "a___b",
            "quay.io:99999/a",
            &long,
            &digest,
            &format!("a:{}", "t".repeat(129)),
        ] {
            let error = Reference::parse(text).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::InvalidArgument, "{text}");
        }
    }
}
