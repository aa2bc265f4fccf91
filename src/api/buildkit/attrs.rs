//! What the attributes of the Dockerfile frontend ask for (moby/buildkit's `frontend/dockerui`).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use cais_dockerfile::Platform;
use cais_dockerfile::instruction::boolean;

use super::attest::{self, Provenance, Sbom, Wanted};
use super::linked::Inputs;
use crate::api::docker::convert::build;
use crate::api::docker::convert::create::unsupported;
use crate::api::docker::wire::container::{HostConfig, Ulimit};
use crate::builder::{Address, Named, Names, Options};
use crate::engine::cells::CellNetwork;
use crate::error::{Error, Result};

/// How clients address archives of their own.
const UPLOAD: &str = "http://buildkit-session/";

pub(super) type Attrs = BTreeMap<String, String>;

/// How clients say yes, as Go reads it.
pub(super) fn is_true(text: &str) -> bool {
    boolean(text) == Some(true)
}

/// What a build of a Dockerfile is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) options: Options,
    pub(super) context: Place,
    /// The client's directory that the Dockerfile is in; `None`: it is in the context.
    pub(super) dockerfile: Option<String>,
    /// Where the files are that names mean, by [`Named::Files`].
    pub(super) named: BTreeMap<String, Place>,
    /// The sessions that have them, if it is not the build's own.
    pub(super) sessions: BTreeMap<String, String>,
    /// What it is to be built for, each by itself; one that is empty is the host's.
    pub(super) platforms: Vec<String>,
    /// The result is several, also if it is one.
    pub(super) has_platforms: bool,
    pub(super) provenance: Option<Provenance>,
    /// A list of its packages is to be attested.
    pub(super) sbom: Option<Sbom>,
    /// Something other than an image: `frontend.lint`.
    pub(super) request: Option<String>,
}

/// Where files are that a build is made from.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A directory of the client's, as it calls it.
    Directory(String),
    /// An archive that the client has, as it calls it.
    Upload(String),
    Elsewhere(Address),
}

/// `gateway` is the host's address in the node's network.
///
/// # Errors
/// `Unsupported`, by name, for what we lack.
pub(super) fn read(attrs: &Attrs, inputs: &Inputs, gateway: Option<Ipv4Addr>) -> Result<Asked> {
    let text = |key: &str| attrs.get(key).cloned().unwrap_or_default();
    let or = |key: &str, default: &str| attrs.get(key).map_or(default, String::as_str).to_owned();
    check_supported(attrs)?;
    let sessions = with_prefix(attrs, "local-sessionid:").collect();
    let platforms = platforms(&text("platform"));
    let (named, places) = named_contexts(attrs, inputs)?;
    let directory = Place::Directory(or("contextkey", "context"));
    let context = elsewhere(attrs)?.unwrap_or(directory);
    let dockerfile = match (&context, attrs.get("dockerfilekey")) {
        (Place::Upload(_) | Place::Elsewhere(_), None) => None,
        (_, given) => Some(given.map_or("dockerfile", String::as_str).to_owned()),
    };
    let is_several = attrs.get("multi-platform");
    let is_several = is_several.is_some_and(|it| !matches!(it.as_str(), "" | "false" | "0"));
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
        allows_insecure: false,
        cells: build::cells(&host_config(attrs)?, text("cgroup-parent"), gateway)?,
        platform: platforms.first().cloned().unwrap_or_default(),
        caches: Vec::new(),
        has_inline_cache: false,
    };
    let Wanted { provenance, sbom } = attest::read(attrs)?;
    Ok(Asked {
        options,
        context,
        dockerfile,
        named: places,
        sessions,
        has_platforms: is_several || platforms.len() > 1,
        platforms,
        provenance,
        sbom,
        request: attrs.get("requestid").cloned(),
    })
}

/// Each once, in their order; one that is empty is the host's.
fn platforms(text: &str) -> Vec<String> {
    let mut platforms: Vec<String> = Vec::new();
    for platform in text.split(',').map(str::trim) {
        if !platforms.iter().any(|known| known == platform) {
            platforms.push(platform.to_owned());
        }
    }
    platforms
}

/// What names mean, and where the files are of those that mean files.
fn named_contexts(attrs: &Attrs, inputs: &Inputs) -> Result<(Names, BTreeMap<String, Place>)> {
    let (mut names, mut places) = (Names::default(), BTreeMap::new());
    for (key, value) in attrs {
        let Some(key) = key.strip_prefix("context:") else { continue };
        // `name::linux/amd64` is the name for one platform.
        let (name, platform) = match key.split_once("::") {
            Some((name, platform)) => {
                (name, Some(Platform::parse(platform).map_err(Error::invalid)?))
            }
            None => (key, None),
        };
        let (means, place) = named_context(key, value, inputs)?;
        names.add(name, platform, means);
        places.extend(place.map(|place| (key.to_owned(), place)));
    }
    Ok((names, places))
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
    if set("hostname").is_some() {
        return unsupported("a host name of a build's own");
    }
    Ok(())
}

/// The context, if it is not a directory of the client's.
fn elsewhere(attrs: &Attrs) -> Result<Option<Place>> {
    let Some(text) = attrs.get("context").filter(|text| !text.is_empty()) else { return Ok(None) };
    if let Some(name) = text.strip_prefix(UPLOAD) {
        return Ok(Some(Place::Upload(name.to_owned())));
    }
    let address = Address::parse(text)?.map(Place::Elsewhere);
    // It is not repeated: it may have a token in it.
    address.map(Some).ok_or_else(|| Error::invalid("invalid context: it is no address"))
}

/// What it means, and where its files are, if it is files.
fn named_context(key: &str, value: &str, inputs: &Inputs) -> Result<(Named, Option<Place>)> {
    let files = |place| (Named::Files(key.to_owned()), Some(place));
    if let Ok(Some(address @ Address::Git(_))) = Address::parse(value) {
        return Ok(files(Place::Elsewhere(address)));
    }
    match value.split_once(':') {
        Some(("local", directory)) => Ok(files(Place::Directory(directory.to_owned()))),
        Some(("docker-image", reference)) => {
            Ok((Named::Image(reference.trim_start_matches('/').to_owned()), None))
        }
        Some(("input", input)) => {
            let missing = || Error::invalid(format!("invalid input {input} for {key}"));
            let made = inputs.get(input).ok_or_else(missing)?;
            Ok((Named::Built(made.built.clone()), None))
        }
        Some((kind, _)) => unsupported(format!("the build context {key}: {kind}")),
        None => Err(Error::invalid(format!("invalid context specifier {value} for {key}"))),
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
    use crate::error::Kind;

    fn attrs(pairs: &[(&str, &str)]) -> Attrs {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn of(pairs: &[(&str, &str)]) -> Result<Asked> {
        read(&attrs(pairs), &Inputs::new(), Some(Ipv4Addr::new(10, 0, 0, 1)))
    }

    /// The image, or the place of the files, that a name means on a platform.
    fn named(asked: &Asked, name: &str, platform: &str) -> String {
        let platform = Platform::or_host(platform).unwrap();
        match asked.options.named.find(name, &platform).unwrap() {
            Named::Image(name) => name.clone(),
            Named::Files(key) => format!("{:?}", asked.named[key]),
            Named::Built(_) => panic!("no build was named"),
        }
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
        assert_eq!(named(&asked, "lib", ""), "Directory(\"lib\")");
        assert_eq!(named(&asked, "base", ""), "alpine:3");
        assert_eq!(named(&asked, "base", "linux/mips64le"), "alpine:mips");
        assert_eq!(named(&asked, "base", "linux/s390x"), "Directory(\"base\")");
        assert_eq!(named(&asked, "busybox", ""), "alpine:4");
        assert_eq!(asked.sessions["context"], "abc");
        assert!(matches!(&asked.context, Place::Directory(name) if name == "context"));
        assert_eq!((asked.dockerfile.as_deref(), asked.request), (Some("dockerfile"), None));

        assert!(!asked.has_platforms && asked.platforms == [""]);
        let both = of(&[("platform", "linux/amd64,linux/arm64,linux/amd64")]).unwrap();
        assert!(both.has_platforms && both.platforms == ["linux/amd64", "linux/arm64"]);
        assert_eq!(both.options.platform, "linux/amd64");

        let asked = of(&[("no-cache", ""), ("image-resolve-mode", "pull")]).unwrap();
        assert!(asked.options.is_without_cache && asked.options.pulls);
        assert_eq!(asked.options.dockerfile, "Dockerfile");
    }

    #[test]
    fn contexts_may_be_elsewhere_and_have_the_dockerfile() {
        let place = |pairs: &[(&str, &str)]| {
            let asked = of(pairs).unwrap();
            (asked.context, asked.dockerfile)
        };
        let git = ("context", "https://example.com/x.git#main:sub");
        assert!(matches!(place(&[git]), (Place::Elsewhere(Address::Git(_)), None)));
        let (context, dockerfile) = place(&[git, ("dockerfilekey", "dockerfile")]);
        assert!(matches!(context, Place::Elsewhere(_)) && dockerfile.unwrap() == "dockerfile");
        let upload = ("context", "http://buildkit-session/abc");
        assert!(matches!(place(&[upload]), (Place::Upload(name), None) if name == "abc"));
        let asked = of(&[("context:x", "git@example.com:x"), ("context:y", "local:y")]).unwrap();
        assert!(matches!(&asked.named["x"], Place::Elsewhere(_)));
        assert_eq!(named(&asked, "y", ""), "Directory(\"y\")");
    }

    #[test]
    fn what_we_lack_and_nonsense_is_refused_by_name() {
        for (key, value, word) in [
            ("attest:sbom", "stage=x", "SBOM"),
            ("context:x", "oci-layout:abc", "oci-layout"),
            ("context:x", "https://example.com/x.tar", "https"),
        ] {
            let error = of(&[(key, value)]).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{key}");
            assert!(error.chain().contains(word), "{}", error.chain());
        }
        for (key, value) in [
            ("ulimit", "nofile"),
            ("shm-size", "x"),
            ("image-resolve-mode", "x"),
            ("context", "/srv"),
            ("context", "https://example.com/x.git?nonsense=1"),
            ("context:x", "y"),
            ("context:x", "input:none"),
        ] {
            assert_eq!(of(&[(key, value)]).unwrap_err().kind(), Kind::InvalidArgument, "{key}");
        }
    }
}
