//! What `POST /build` asks for.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use base64::Engine as _;
use http::HeaderMap;
use serde::de::DeserializeOwned;

use super::create::unsupported;
use super::{credentials, host, network};
use crate::api::docker::query::Query;
use crate::api::docker::wire::container::{HostConfig, Ulimit};
use crate::api::docker::wire::image::AuthConfig;
use crate::builder::{Address, Directory, Named, Names, Options, context_name};
use crate::engine::cells::{CellConfig, CellNetwork};
use crate::error::{Context, Error, Kind, Result};
use crate::image::Credentials;
use crate::image::reference::Reference;
use crate::image::registry::auth::host_of;

/// `gateway` is the host's address in the node's network.
///
/// # Errors
/// `Unsupported` for what we lack: `squash`, BuildKit's version of the call.
pub(in crate::api::docker) fn options(query: &Query, gateway: Option<Ipv4Addr>) -> Result<Options> {
    check_supported(query)?;
    let text = |key: &str| query.text(key).unwrap_or_default().to_owned();
    let cells = cells(&host_config(query)?, text("cgroupparent"), gateway)?;
    Ok(Options {
        dockerfile: query.text("dockerfile").unwrap_or("Dockerfile").to_owned(),
        target: text("target"),
        build_args: json(query, "buildargs")?.unwrap_or_default(),
        labels: json(query, "labels")?.unwrap_or_default(),
        tags: query.texts("t").into_iter().map(tag).collect::<Result<_>>()?,
        is_without_cache: query.switch("nocache"),
        pulls: query.switch("pull"),
        network: match query.text("networkmode").unwrap_or("default") {
            "default" | "bridge" => CellNetwork::Default,
            "none" => CellNetwork::None,
            "host" => CellNetwork::Host,
            other => return unsupported(format!("building in the network {other:?}")),
        },
        allows_insecure: false,
        cells,
        platform: text("platform"),
        caches: Vec::new(),
        has_inline_cache: false,
        stages_without_cache: Vec::new(),
        named: Names::default(),
    })
}

fn check_supported(query: &Query) -> Result<()> {
    if query.text("version").is_some_and(|version| version != "1") {
        return unsupported("building with BuildKit");
    }
    if query.switch("squash") {
        return unsupported("squashing the layers of a build");
    }
    match query.text("isolation") {
        None | Some("default") => Ok(()),
        Some(other) => Err(Error::invalid(format!("unsupported isolation: {other}"))),
    }
}

/// Where the context is, if it is not the body.
///
/// # Errors
/// `InvalidArgument` for what is no address.
pub(in crate::api::docker) fn address(query: &Query) -> Result<Option<Address>> {
    let Some(text) = query.text("remote") else { return Ok(None) };
    let address = Address::parse(text)?;
    // It is not repeated: it may have a password in it.
    address.map(Some).ok_or_else(|| Error::invalid("remote is neither a URL nor a git repository"))
}

/// The context's directory, if the client and we may see the same one: our own addition to the call. The body has the
/// Dockerfile and `.dockerignore` then. Whoever may call this may mount any directory of the host into a container.
///
/// # Errors
/// `InvalidArgument` for a path that is not absolute, and one of which it is not said which directory it is.
pub(in crate::api::docker) fn directory(query: &Query) -> Result<Option<Directory>> {
    let Some(path) = query.text("directory") else { return Ok(None) };
    let (device, inode) = (query.number("device")?, query.number("inode")?);
    match (device, inode) {
        (Some(device), Some(inode)) if path.starts_with('/') => {
            Ok(Some(Directory { path: path.into(), device, inode }))
        }
        _ => Err(Error::invalid("directory needs an absolute path, device and inode")),
    }
}

/// What a build knows by names of its client's.
pub(in crate::api::docker) struct Contexts {
    pub(in crate::api::docker) named: Names,
    /// Files that the client gives later.
    pub(in crate::api::docker) lent: Vec<String>,
    /// Files from elsewhere.
    pub(in crate::api::docker) addresses: BTreeMap<String, Address>,
}

/// `context=NAME=VALUE`, our own addition to the call: an image (`docker-image://alpine`), an address, or nothing for what the
/// client gives.
///
/// # Errors
/// `InvalidArgument` for anything else.
pub(in crate::api::docker) fn contexts(query: &Query) -> Result<Contexts> {
    let (mut named, mut lent, mut addresses) = (Names::default(), Vec::new(), BTreeMap::new());
    for text in query.texts("context") {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let name = context_name(name);
        let means = match value.strip_prefix("docker-image://") {
            Some(reference) => Named::Image(reference.to_owned()),
            None if value.is_empty() => {
                lent.push(name.clone());
                Named::Files(name.clone())
            }
            None => {
                // It is not repeated: it may have a password in it.
                let neither =
                    || Error::invalid(format!("the context {name} is no image and no address"));
                addresses.insert(name.clone(), Address::parse(value)?.ok_or_else(neither)?);
                Named::Files(name.clone())
            }
        };
        named.add(&name, None, means);
    }
    Ok(Contexts { named, lent, addresses })
}

/// A JSON value; `null` is as good as nothing.
fn json<T: DeserializeOwned>(query: &Query, key: &str) -> Result<Option<T>> {
    let Some(text) = query.text(key) else { return Ok(None) };
    let read: std::result::Result<Option<T>, _> = serde_json::from_str(text);
    read.with_context(|| format!("error reading {key}")).kind(Kind::InvalidArgument)
}

/// What all commands have in common, as a container's configuration has it.
///
/// # Errors
/// `InvalidArgument` for limits and hosts that cannot be.
pub(in crate::api) fn cells(
    host: &HostConfig,
    cgroup_parent: String,
    gateway: Option<Ipv4Addr>,
) -> Result<CellConfig> {
    host::check_limits(host)?;
    Ok(CellConfig {
        hosts: network::hosts(host, gateway)?,
        shm_size: host.shm_size.filter(|size| *size > 0),
        cgroup_parent,
        resources: host::resources(host),
        rlimits: host::rlimits(host)?,
    })
}

/// A name that an image is to have.
///
/// # Errors
/// `InvalidArgument` for what is none, and for a digest.
pub(in crate::api) fn tag(text: &str) -> Result<Reference> {
    let reference = Reference::parse(text)?;
    if reference.digest().is_some() {
        return Err(Error::invalid("build tag cannot contain a digest"));
    }
    Ok(reference)
}

fn host_config(query: &Query) -> Result<HostConfig> {
    let text = |key: &str| query.text(key).map(str::to_owned);
    // Clients write -1 for no limit, also where numbers are not negative.
    let positive = |key: &str| -> Result<Option<u64>> {
        Ok(query.number::<i64>(key)?.and_then(|number| u64::try_from(number).ok()))
    };
    Ok(HostConfig {
        memory: query.number("memory")?,
        memory_swap: query.number("memswap")?,
        cpu_shares: positive("cpushares")?,
        cpu_period: positive("cpuperiod")?,
        cpu_quota: query.number("cpuquota")?,
        cpuset_cpus: text("cpusetcpus"),
        cpuset_mems: text("cpusetmems"),
        shm_size: positive("shmsize")?,
        ulimits: json::<Vec<Ulimit>>(query, "ulimits")?,
        extra_hosts: Some(query.owned("extrahosts")),
        ..HostConfig::default()
    })
}

/// `X-Registry-Config`: credentials by registry.
pub(crate) fn registry_config(headers: &HeaderMap) -> Result<BTreeMap<String, Credentials>> {
    let Some(value) = headers.get("X-Registry-Config") else { return Ok(BTreeMap::new()) };
    // What is wrong in it is not repeated: it may be a password.
    let refuse = || Error::invalid("X-Registry-Config is not the base64 of credentials as JSON");
    let text = value.to_str().map_err(|_| refuse())?.trim();
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let decoded = credentials::decoder(text).decode(text).map_err(|_| refuse())?;
    let all: Option<BTreeMap<String, AuthConfig>> =
        serde_json::from_slice(&decoded).map_err(|_| refuse())?;
    let read = |(registry, config): (String, AuthConfig)| {
        Ok((host_of(&registry).to_owned(), credentials::from_config(config)?))
    };
    all.unwrap_or_default().into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<Options> {
        options(&Query::parse(query), Some(Ipv4Addr::new(10, 0, 0, 1)))
    }

    #[test]
    fn what_old_and_new_clients_send_is_read() {
        let old = "buildargs=%7B%7D&cachefrom=%5B%5D&cgroupparent=&cpuperiod=0&cpuquota=0&\
                   cpusetcpus=&cpusetmems=&cpushares=0&dockerfile=Dockerfile&labels=%7B%7D&memory=0&\
                   memswap=0&networkmode=default&rm=1&shmsize=0&t=web&target=&ulimits=null&version=1";
        let options = of(old).unwrap();
        assert_eq!(options.tags.first().unwrap().familiar(), "web:latest");
        assert_eq!(options.cells.resources.memory_limit, None);
        assert!(options.build_args.is_empty() && !options.pulls);

        let new = "t=a%3A1&t=b&buildargs=%7B%22A%22%3A%22x%22%2C%22B%22%3Anull%7D&target=last&\
                   nocache=1&pull=1&networkmode=none&memory=10000000&memswap=-1&\
                   extrahosts=db%3A1.2.3.4&extrahosts=up%3Ahost-gateway&\
                   ulimits=%5B%7B%22Name%22%3A%22nofile%22%2C%22Hard%22%3A9%2C%22Soft%22%3A8%7D%5D";
        let options = of(new).unwrap();
        assert_eq!(options.build_args["A"].as_deref(), Some("x"));
        assert_eq!(options.build_args["B"], None);
        assert_eq!((options.target.as_str(), options.network), ("last", CellNetwork::None));
        assert!(options.pulls && options.is_without_cache);
        assert_eq!(options.cells.resources.memory_limit, Some(10_000_000));
        assert_eq!(options.cells.rlimits.first().unwrap().hard, 9);
        let hosts: Vec<_> = options.cells.hosts.iter().map(|(ip, _)| ip.to_string()).collect();
        assert_eq!(hosts, ["1.2.3.4", "10.0.0.1"]);
    }

    #[test]
    fn what_we_lack_and_nonsense_is_refused() {
        for query in ["version=2", "squash=1", "networkmode=mine"] {
            assert_eq!(of(query).err().unwrap().kind(), Kind::Unsupported, "{query}");
        }
        for query in ["buildargs=x", "labels=%5B1%5D", "memory=a", "t=a%40b", "isolation=hyperv"] {
            assert_eq!(of(query).err().unwrap().kind(), Kind::InvalidArgument, "{query}");
        }
        let address = |query: &str| address(&Query::parse(query));
        assert!(address("remote=").unwrap().is_none());
        assert!(address("remote=https%3A%2F%2Fx.io%2Fa").unwrap().is_some());
        assert_eq!(address("remote=client-session").unwrap_err().kind(), Kind::InvalidArgument);
    }

    #[test]
    fn credentials_are_known_by_the_host_of_their_registry() {
        for (registry, host) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("https://quay.io", "quay.io"),
        ] {
            assert_eq!(host_of(registry), host);
        }
    }
}
