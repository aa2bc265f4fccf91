//! What the attributes of the Dockerfile frontend ask for (moby/buildkit's `frontend/dockerui`).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use cais_dockerfile::Platform;

use crate::api::docker::convert::build;
use crate::api::docker::wire::container::{HostConfig, Ulimit};
use crate::builder::{Named, Options, context_name};
use crate::engine::cells::CellNetwork;
use crate::error::{Error, Kind, Result};

pub(super) type Attrs = BTreeMap<String, String>;

/// What a build of a Dockerfile is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) options: Options,
    /// Names of the client's directories: the context, the Dockerfile's, and those that named contexts
    /// mean.
    pub(super) context: String,
    pub(super) dockerfile: String,
    pub(super) named: BTreeMap<String, String>,
    /// The sessions that have them, if it is not the build's own.
    pub(super) sessions: BTreeMap<String, String>,
    /// Something other than an image: `frontend.lint`.
    pub(super) request: Option<String>,
}

/// `gateway` is the host's address in the node's network.
///
/// # Errors
/// `Unsupported`, by name, for what we lack.
pub(super) fn read(attrs: &Attrs, gateway: Option<Ipv4Addr>) -> Result<Asked> {
    let text = |key: &str| attrs.get(key).cloned().unwrap_or_default();
    let or = |key: &str, default: &str| attrs.get(key).map_or(default, String::as_str).to_owned();
    check_supported(attrs)?;
    let mut sessions = BTreeMap::new();
    let (mut named, mut directories) = (BTreeMap::new(), BTreeMap::new());
    let mut means_of = BTreeMap::new();
    for (key, value) in attrs {
        if let Some(directory) = key.strip_prefix("local-sessionid:") {
            sessions.insert(directory.to_owned(), value.clone());
        }
        if let Some(name) = key.strip_prefix("context:") {
            let (name, is_of_a_platform) = match name.split_once("::") {
                Some((_, platform)) if !is_host(platform) => continue,
                Some((name, _)) => (name, true),
                None => (name, false),
            };
            let means = named_context(name, value)?;
            // What is said of our platform goes before what is said of all.
            let name = context_name(name);
            if is_of_a_platform || !means_of.contains_key(&name) {
                means_of.insert(name, means);
            }
        }
    }
    for (name, (means, directory)) in means_of {
        directories.extend(directory.map(|directory| (name.clone(), directory)));
        named.insert(name, means);
    }
    let no_cache = attrs.get("no-cache").map(|stages| stages.split(',').map(str::to_owned));
    let stages_without_cache: Vec<String> =
        no_cache.into_iter().flatten().filter(|stage| !stage.is_empty()).collect();
    let options = Options {
        dockerfile: or("filename", "Dockerfile"),
        target: text("target"),
        build_args: with_prefix(attrs, "build-arg:")
            .map(|(key, value)| (key, Some(value)))
            .collect(),
        labels: with_prefix(attrs, "label:").collect(),
        tags: Vec::new(),
        is_without_cache: attrs.contains_key("no-cache") && stages_without_cache.is_empty(),
        stages_without_cache,
        named,
        pulls: match text("image-resolve-mode").as_str() {
            "pull" => true,
            "" | "default" | "local" => false,
            other => return Err(Error::invalid(format!("invalid image-resolve-mode: {other}"))),
        },
        network: match text("force-network-mode").as_str() {
            "" | "sandbox" => CellNetwork::Default,
            "none" => CellNetwork::None,
            "host" => CellNetwork::Host,
            other => return Err(Error::invalid(format!("invalid network mode {other:?}"))),
        },
        cells: build::cells(&host_config(attrs)?, text("cgroup-parent"), gateway)?,
        platform: text("platform"),
    };
    Ok(Asked {
        options,
        context: or("contextkey", "context"),
        dockerfile: or("dockerfilekey", "dockerfile"),
        named: directories,
        sessions,
        request: attrs.get("requestid").cloned(),
    })
}

fn with_prefix<'a>(
    attrs: &'a Attrs,
    prefix: &'a str,
) -> impl Iterator<Item = (String, String)> + 'a {
    let named = attrs.iter().filter_map(move |(key, value)| {
        Some((key.strip_prefix(prefix)?.to_owned(), value.clone()))
    });
    named.filter(|(name, _)| !name.is_empty())
}

fn check_supported(attrs: &Attrs) -> Result<()> {
    let set = |key: &str| attrs.get(key).filter(|value| !value.is_empty());
    if let Some(address) = set("context") {
        // It is not repeated: it may have a token in it.
        let kind = if address.starts_with("http://buildkit-session/") {
            "a context that is an archive"
        } else {
            "a context from a URL"
        };
        return lacking(kind);
    }
    if set("platform").is_some_and(|platforms| platforms.contains(',')) {
        return lacking("building for several platforms");
    }
    if set("multi-platform").is_some_and(|text| text != "false" && text != "0") {
        return lacking("multi-platform");
    }
    if let Some(name) = attrs.keys().find_map(|key| key.strip_prefix("attest:")) {
        return lacking(&format!("attestation {name:?}"));
    }
    if set("hostname").is_some() {
        return lacking("a host name of a build's own");
    }
    Ok(())
}

fn lacking<T>(what: &str) -> Result<T> {
    Err(Error::new(Kind::Unsupported, format!("{what} is not supported yet")))
}

/// `name::linux/amd64` is the name for one platform.
fn is_host(platform: &str) -> bool {
    let host = Platform::host();
    Platform::parse(platform)
        .is_ok_and(|it| it.os == host.os && it.architecture == host.architecture)
}

/// What it means, and the client's name of its directory, if it is one.
fn named_context(name: &str, value: &str) -> Result<(Named, Option<String>)> {
    match value.split_once(':') {
        Some(("local", directory)) => Ok((Named::Files, Some(directory.to_owned()))),
        Some(("docker-image", reference)) => {
            Ok((Named::Image(reference.trim_start_matches('/').to_owned()), None))
        }
        Some((kind, _)) => lacking(&format!("the build context {name}: {kind}")),
        None => Err(Error::invalid(format!("invalid context specifier {value} for {name}"))),
    }
}

/// As a container's configuration has it.
fn host_config(attrs: &Attrs) -> Result<HostConfig> {
    let list = |key: &str| -> Vec<&str> {
        let text = attrs.get(key).map(String::as_str).unwrap_or_default();
        text.split(',').filter(|part| !part.is_empty()).collect()
    };
    let ulimits = list("ulimit").into_iter().map(ulimit).collect::<Result<Vec<_>>>()?;
    let text = |key: &str| attrs.get(key).filter(|text| !text.is_empty()).cloned();
    Ok(HostConfig {
        shm_size: number(attrs, "shm-size")?,
        ulimits: Some(ulimits),
        extra_hosts: Some(list("add-hosts").into_iter().map(str::to_owned).collect()),
        memory: number(attrs, "memory")?,
        memory_swap: number(attrs, "memswap")?,
        cpu_shares: number(attrs, "cpushares")?,
        cpu_period: number(attrs, "cpuperiod")?,
        cpu_quota: number(attrs, "cpuquota")?,
        cpuset_cpus: text("cpusetcpus"),
        cpuset_mems: text("cpusetmems"),
        ..HostConfig::default()
    })
}

fn number<T: std::str::FromStr>(attrs: &Attrs, key: &str) -> Result<Option<T>> {
    let Some(text) = attrs.get(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    let number =
        text.parse().map_err(|_| Error::invalid(format!("invalid {key} value: {text}")))?;
    Ok(Some(number))
}

/// `nofile=1024:2048`
fn ulimit(text: &str) -> Result<Ulimit> {
    let refuse = || Error::invalid(format!("invalid ulimit argument: {text}"));
    let (name, limits) = text.split_once('=').ok_or_else(refuse)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse().map_err(|_| refuse());
    Ok(Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attrs(pairs: &[(&str, &str)]) -> Attrs {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn of(pairs: &[(&str, &str)]) -> Result<Asked> {
        read(&attrs(pairs), Some(Ipv4Addr::new(10, 0, 0, 1)))
    }

    #[test]
    fn what_buildx_sends_is_read() {
        let asked = of(&[
            ("filename", "sub/Dockerfile.dev"),
            ("target", "last"),
            ("build-arg:A", "x=y"),
            ("label:tier", "web"),
            ("no-cache", "one,two"),
            ("image-resolve-mode", "local"),
            ("add-hosts", "db=1.2.3.4,six=::1"),
            ("ulimit", "nofile=8:9,nproc=7"),
            ("shm-size", "1048576"),
            ("memory", "10000000"),
            ("force-network-mode", "none"),
            ("context:lib", "local:lib"),
            ("context:base", "local:base"),
            (&format!("context:base::{}", Platform::host()), "docker-image://alpine:3"),
            ("context:base::linux/mips64le", "docker-image://alpine:mips"),
            ("context:docker.io/library/busybox:latest", "docker-image://alpine:4"),
            ("local-sessionid:context", "abc"),
        ])
        .unwrap();
        let options = &asked.options;
        assert_eq!(
            (options.dockerfile.as_str(), options.target.as_str()),
            ("sub/Dockerfile.dev", "last")
        );
        assert_eq!(options.build_args["A"].as_deref(), Some("x=y"));
        assert_eq!(options.labels["tier"], "web");
        assert_eq!(options.stages_without_cache, ["one", "two"]);
        assert!(!options.is_without_cache && !options.pulls);
        assert_eq!(options.network, CellNetwork::None);
        assert_eq!(options.cells.shm_size, Some(1_048_576));
        assert_eq!(options.cells.resources.memory_limit, Some(10_000_000));
        assert_eq!(options.cells.rlimits.len(), 2);
        let hosts: Vec<_> = options.cells.hosts.iter().map(|(ip, _)| ip.to_string()).collect();
        assert_eq!(hosts, ["1.2.3.4", "::1"]);
        assert_eq!(options.named["lib"], Named::Files);
        assert_eq!(options.named["base"], Named::Image("alpine:3".to_owned()));
        assert_eq!(options.named["busybox"], Named::Image("alpine:4".to_owned()));
        assert_eq!(options.named.len(), 3);
        assert_eq!((asked.named["lib"].as_str(), asked.named.len()), ("lib", 1));
        assert_eq!(asked.sessions["context"], "abc");
        assert_eq!((asked.context.as_str(), asked.request), ("context", None));

        let asked = of(&[("no-cache", ""), ("image-resolve-mode", "pull")]).unwrap();
        assert!(asked.options.is_without_cache && asked.options.pulls);
        assert_eq!(asked.options.dockerfile, "Dockerfile");
    }

    #[test]
    fn what_we_lack_and_nonsense_is_refused_by_name() {
        for (key, value, word) in [
            ("context", "https://example.com/x.git", "URL"),
            ("context", "http://buildkit-session/abc", "archive"),
            ("platform", "linux/amd64,linux/arm64", "several platforms"),
            ("attest:sbom", "", "sbom"),
            ("context:x", "git:abc", "git"),
        ] {
            let error = of(&[(key, value)]).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{key}");
            assert!(error.chain().contains(word), "{}", error.chain());
        }
        for (key, value) in [
            ("ulimit", "nofile"),
            ("shm-size", "x"),
            ("image-resolve-mode", "x"),
            ("context:x", "y"),
        ] {
            assert_eq!(of(&[(key, value)]).unwrap_err().kind(), Kind::InvalidArgument, "{key}");
        }
    }
}
