//! Which hosts serve a registry's images: `certs.d/HOST/hosts.toml`, in containerd's form.
//!
//! ```toml
//! server = "https://registry.example"            # asked last; without it, HOST itself
//! [host."https://mirror.example"]                # asked in the order of the file
//!   capabilities = ["pull", "resolve"]
//!   ca = "mirror.crt"                            # relative to the directory
//!   client = [["client.cert", "client.key"]]
//!   skip_verify = false
//!   override_path = false                        # true: the path is complete without /v2
//!   [host."https://mirror.example".header]
//!     x-team = "build"
//! ```
//!
//! Whatever host answers, the image keeps the name it was asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use serde::Deserialize;
use toml::Spanned;

use crate::error::{Context, Error, Kind, Result};

/// One host that may be asked for a registry's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Up to and including `/v2`.
    pub(super) base: Url,
    /// May be asked what a tag means.
    pub(super) can_resolve: bool,
    pub(super) can_pull: bool,
    /// The registry that owns the name, not a mirror of it.
    pub(super) is_owner: bool,
    pub(super) headers: HeaderMap,
    pub(super) tls: Tls,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Tls {
    pub(super) authorities: Vec<PathBuf>,
    /// Certificate and key; the key may stand in the certificate's file.
    pub(super) clients: Vec<(PathBuf, Option<PathBuf>)>,
    pub(super) skip_verify: bool,
}

impl Endpoint {
    /// Host and port, as in an image's name.
    pub(super) fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        match self.base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

#[derive(Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, HostTable>,
    #[serde(flatten)]
    for_server: HostTable,
}

#[derive(Deserialize, Default)]
struct HostTable {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Clients>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Clients {
    One(String),
    Many(Vec<String>),
    Pairs(Vec<(String, String)>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// The hosts to ask for images of `registry`, in order.
pub(super) fn endpoints(directories: &[PathBuf], registry: &str) -> Result<Vec<Endpoint>> {
    for directory in directories {
        for name in [registry.to_owned(), port_form(registry), "_default".to_owned()] {
            let directory = directory.join(name);
            let path = directory.join("hosts.toml");
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    return parse(&text, &directory, registry)
                        .with_context(|| format!("registry hosts in {}", path.display()))
                        .kind(Kind::WrongState);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("read {}", path.display()));
                }
            }
        }
    }
    Ok(vec![owner(registry, HostTable::default(), Path::new("."))?])
}

/// `host:5000` as `host_5000_`, for file systems that refuse colons.
fn port_form(registry: &str) -> String {
    match registry.rsplit_once(':') {
        Some((host, port)) => format!("{host}_{port}_"),
        None => registry.to_owned(),
    }
}

fn parse(text: &str, directory: &Path, registry: &str) -> Result<Vec<Endpoint>> {
    let file: HostsFile = toml::from_str(text).context("parse")?;
    let mut hosts: Vec<_> = file.host.into_iter().collect();
    hosts.sort_by_key(|(address, _)| address.span().start);
    let mut endpoints = Vec::with_capacity(hosts.len() + 1);
    for (address, table) in hosts {
        endpoints.push(endpoint(address.get_ref(), table, directory, false)?);
    }
    endpoints.push(match file.server.filter(|server| !server.is_empty()) {
        Some(server) => endpoint(&server, file.for_server, directory, true)?,
        None => owner(registry, file.for_server, directory)?,
    });
    Ok(endpoints)
}

/// The registry itself: HTTPS, except on this machine, where nobody listens in.
fn owner(registry: &str, table: HostTable, directory: &Path) -> Result<Endpoint> {
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let scheme = if is_loopback(host) { "http" } else { "https" };
    endpoint(&format!("{scheme}://{host}"), table, directory, true)
}

pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn endpoint(address: &str, table: HostTable, directory: &Path, is_owner: bool) -> Result<Endpoint> {
    let refuse = |why: &str| Error::invalid(format!("host {address:?} {why}"));
    let text = match address.contains("://") {
        true => address.to_owned(),
        false if is_loopback(address) => format!("http://{address}"),
        false => format!("https://{address}"),
    };
    let mut base = Url::parse(&text).map_err(|error| refuse(&format!("is not a URL: {error}")))?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(refuse("is not an http or https URL"));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(refuse("must not hold credentials"));
    }
    let path = base.path().trim_end_matches('/').to_owned();
    if !table.override_path && !path.ends_with("/v2") {
        base.set_path(&format!("{path}/v2"));
    } else {
        base.set_path(&path);
    }
    let known = ["pull", "resolve", "push"];
    let capabilities = table.capabilities.unwrap_or_else(|| known.map(str::to_owned).to_vec());
    if let Some(strange) = capabilities.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(refuse(&format!("has the unknown capability {strange:?}")));
    }
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    let place = |name: String| directory.join(name);
    let clients = match table.client {
        None => Vec::new(),
        Some(Clients::One(file)) => vec![(place(file), None)],
        Some(Clients::Many(files)) => files.into_iter().map(|file| (place(file), None)).collect(),
        Some(Clients::Pairs(pairs)) => {
            let pair = |(cert, key): (String, String)| {
                (place(cert), Some(key).filter(|key| !key.is_empty()).map(place))
            };
            pairs.into_iter().map(pair).collect()
        }
    };
    Ok(Endpoint {
        base,
        can_resolve: has("resolve"),
        can_pull: has("pull"),
        is_owner,
        headers: headers(table.header)?,
        tls: Tls {
            authorities: table
                .ca
                .map_or_else(Vec::new, OneOrMany::into_vec)
                .into_iter()
                .map(place)
                .collect(),
            clients,
            skip_verify: table.skip_verify,
        },
    })
}

fn headers(table: BTreeMap<String, OneOrMany>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, values) in table {
        let key: HeaderName = name.parse().with_context(|| format!("header {name:?}"))?;
        for value in values.into_vec() {
            let mut value: HeaderValue =
                value.parse().with_context(|| format!("value of header {name:?}"))?;
            value.set_sensitive(true);
            headers.append(key.clone(), value);
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(endpoints: &[Endpoint]) -> Vec<&str> {
        endpoints.iter().map(|endpoint| endpoint.base.as_str()).collect()
    }

    #[test]
    fn without_a_file_the_registry_itself_is_asked() {
        let ask = |registry| endpoints(&[], registry).unwrap().remove(0).base.to_string();
        assert_eq!(ask("docker.io"), "https://registry-1.docker.io/v2");
        assert_eq!(ask("quay.io"), "https://quay.io/v2");
        assert_eq!(ask("localhost:5000"), "http://localhost:5000/v2");
        assert_eq!(ask("127.0.0.1:5000"), "http://127.0.0.1:5000/v2");
        assert_eq!(ask("[::1]:5000"), "http://[::1]:5000/v2");
        assert_eq!(ask("localhost.example"), "https://localhost.example/v2");
    }

    #[test]
    fn hosts_keep_the_order_of_the_file_and_the_server_is_last() {
        let text = r#"
            server = "https://upstream.example"
            [host."http://z.example:5000"]
              capabilities = ["pull"]
            [host."https://a.example/proxy"]
              ca = ["one.crt", "/etc/two.crt"]
              client = [["c.cert", "c.key"]]
              skip_verify = true
              [host."https://a.example/proxy".header]
                x-team = ["a", "b"]
            [host."https://m.example/complete"]
              override_path = true
        "#;
        let found = parse(text, Path::new("/certs"), "docker.io").unwrap();
        assert_eq!(
            bases(&found),
            [
                "http://z.example:5000/v2",
                "https://a.example/proxy/v2",
                "https://m.example/complete",
                "https://upstream.example/v2"
            ]
        );
        assert!(!found[0].can_resolve && found[0].can_pull && !found[0].is_owner);
        assert_eq!(
            found[1].tls.authorities,
            [Path::new("/certs/one.crt"), Path::new("/etc/two.crt")]
        );
        assert_eq!(found[1].tls.clients, [("/certs/c.cert".into(), Some("/certs/c.key".into()))]);
        assert!(found[1].tls.skip_verify && !found[2].tls.skip_verify);
        assert_eq!(found[1].headers.get_all("x-team").iter().count(), 2);
        assert!(found[3].is_owner);
    }

    #[test]
    fn the_directory_of_the_host_wins_over_the_default() {
        let temp = tempfile::tempdir().unwrap();
        for (name, server) in [("_default", "d"), ("a.example_5000_", "x"), ("b.example:80", "b")] {
            std::fs::create_dir(temp.path().join(name)).unwrap();
            let text = format!("server = \"https://{server}.example\"");
            crate::store::atomic::Directory::open(
                &temp.path().join(name),
                crate::store::atomic::Durability::UntilReboot,
            )
            .unwrap()
            .replace("hosts.toml", text.as_bytes())
            .unwrap();
        }
        let ask =
            |registry| endpoints(&[temp.path().to_owned()], registry).unwrap().remove(0).host();
        assert_eq!(ask("b.example:80"), "b.example");
        assert_eq!(ask("a.example:5000"), "x.example");
        assert_eq!(ask("other.example"), "d.example");
    }

    #[test]
    fn malformed_files_are_refused_with_the_reason() {
        for text in [
            "server = ",
            "[host.\"ftp://a\"]",
            "[host.\"https://user:pass@a\"]",
            "[host.\"https://a\"]\ncapabilities = [\"sing\"]",
            "[host.\"https://a\".header]\n\"bad name\" = \"x\"",
        ] {
            assert!(parse(text, Path::new("."), "a").is_err(), "{text}");
        }
    }
}
