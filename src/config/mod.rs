//! The configuration file: what may be written ([`Config`] is also what it means), with the
//! defaults that hold without a file.
//!
//! Unknown keys are refused with line and column, so that a typo cannot silently mean "default".
//! Flags of `caisd` win over the file.

mod space;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub(crate) use self::space::Space;
use crate::error::{Context, Error, Kind, Result};

/// Where the daemon looks when `--config` is not given; it need not exist.
pub(crate) const DEFAULT_PATH: &str = "/etc/cais/config.toml";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Images and writable layers; survives the boot.
    pub(crate) root: PathBuf,
    /// Sockets and the records of what runs; dies with the boot.
    pub(crate) state: PathBuf,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub(crate) log_level: String,
    pub(crate) cri: Cri,
    pub(crate) docker: Docker,
    pub(crate) cgroup: Cgroup,
    pub(crate) network: Network,
    pub(crate) registry: Registry,
    pub(crate) images: Images,
    pub(crate) build: Build,
    pub(crate) cdi: Cdi,
    pub(crate) nri: Nri,
    pub(crate) checkpoint: Checkpoint,
}

/// Programs that a kubelet is, or is a part of.
const KUBELETS: [&str; 7] =
    ["kubelet", "kubelite", "hyperkube", "k3s", "k3s-server", "k3s-agent", "microshift"];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cri {
    pub(crate) socket: PathBuf,
    /// Where exec, attach and port-forward streams are served; loopback only. Port 0: any.
    pub(crate) stream_address: SocketAddr,
    /// Names of programs that are shown standalone containers that wish it. A kubelet would end them.
    pub(crate) shown_to: Vec<String>,
}

/// The Docker Engine API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Docker {
    pub(crate) enabled: bool,
    /// What docker dials.
    pub(crate) socket: PathBuf,
    /// Who else than root may connect. Whoever may has the host. A group that does not exist is
    /// nobody.
    pub(crate) group: String,
    /// The same over TCP. `None`: not over TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<DockerTls>,
}

/// The Docker Engine API for clients that show a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DockerTls {
    pub(crate) address: SocketAddr,
    /// Whose certificates let a client in.
    pub(crate) ca: PathBuf,
    /// What the daemon shows, with those between it and the authority that clients know.
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cgroup {
    pub(crate) driver: CgroupDriver,
    /// Parent of pods that name none.
    pub(crate) parent: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CgroupDriver {
    Cgroupfs,
    Systemd,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Network {
    pub(crate) mode: NetworkMode,
    /// Interface name of the built-in bridge.
    pub(crate) bridge: String,
    /// Subnet of the built-in bridge; another one is taken when the host already routes it.
    pub(crate) subnet: Ipv4Net,
    pub(crate) cni_config_dir: PathBuf,
    pub(crate) cni_plugin_dirs: Vec<PathBuf>,
    /// A plugin that needs longer hangs.
    pub(crate) cni_timeout_secs: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NetworkMode {
    /// CNI when there is configuration for it, else the built-in bridge.
    Auto,
    Builtin,
    Cni,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Registry {
    /// Directory of `HOST/hosts.toml` files.
    pub(crate) config_path: PathBuf,
    /// A server that says nothing, or sends less than 1 KiB per second, for so long is tried again
    /// and then given up.
    pub(crate) patience_secs: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Images {
    /// References that clients are told not to collect, and whose images cannot be removed.
    pub(crate) pinned: Vec<String>,
}

/// What commands of builds are and may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Build {
    pub(crate) user_namespace: BuildUsers,
    /// What the host calls their root, user and group.
    pub(crate) first_user: u32,
    /// How many follow it, itself included: numbers up to this may own files in an image.
    pub(crate) users: u32,
    /// What a client may allow a Dockerfile.
    pub(crate) entitlements: Vec<Entitlement>,
    pub(crate) cache: BuildCache,
}

/// How much of what builds leave stays for the next: layers that no image stands on, and directories of cache mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BuildCache {
    /// So much stays in any case.
    pub(crate) reserved_space: Space,
    /// No more than this; 0: no matter.
    pub(crate) max_used_space: Space,
    /// So much of the file system is to be free; 0: no matter.
    pub(crate) min_free_space: Space,
    /// What nobody used for so long goes; 0: no matter.
    pub(crate) max_unused_days: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BuildUsers {
    /// Users of their own where the kernel can give them, which Linux does since 6.15.
    Auto,
    /// Where it cannot, no command runs.
    Always,
    /// Their root is the host's.
    Never,
}

/// In BuildKit's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entitlement {
    /// `RUN --security=insecure`: a command that is privileged, as root of the host.
    #[serde(rename = "security.insecure")]
    Insecure,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cdi {
    /// Where devices are described; of two descriptions the one in the later directory holds.
    pub(crate) spec_dirs: Vec<PathBuf>,
}

/// Containers are checkpointed and restored by CRIU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Checkpoint {
    /// The program: an absolute path, or a name to look up in `PATH`.
    pub(crate) criu: PathBuf,
}

/// Plugins of the Node Resource Interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Nri {
    pub(crate) enabled: bool,
    /// Where plugins connect.
    pub(crate) socket_path: PathBuf,
    /// Plugins to start, as `INDEX-NAME`.
    pub(crate) plugin_path: PathBuf,
    /// Their configuration, as `INDEX-NAME.conf` or `NAME.conf`.
    pub(crate) plugin_config_path: PathBuf,
    /// For each step in which a plugin joins.
    pub(crate) registration_timeout_ms: u64,
    /// For a plugin's answer to an event.
    pub(crate) request_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: "/var/lib/cais".into(),
            state: "/run/cais".into(),
            log_level: "info".into(),
            cri: Cri::default(),
            docker: Docker::default(),
            cgroup: Cgroup::default(),
            network: Network::default(),
            registry: Registry::default(),
            images: Images::default(),
            build: Build::default(),
            cdi: Cdi::default(),
            nri: Nri::default(),
            checkpoint: Checkpoint::default(),
        }
    }
}

impl Default for Cri {
    fn default() -> Self {
        Self {
            socket: "/run/cais/cri.sock".into(),
            stream_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            shown_to: vec!["crictl".to_owned()],
        }
    }
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            enabled: true,
            socket: "/run/cais/docker.sock".into(),
            group: "cais".into(),
            tls: None,
        }
    }
}

impl Default for Cgroup {
    fn default() -> Self {
        Self { driver: CgroupDriver::Cgroupfs, parent: "/cais".into() }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            mode: NetworkMode::Auto,
            bridge: "cais0".into(),
            subnet: Ipv4Net::new_assert([10, 88, 0, 0].into(), 16),
            cni_config_dir: "/etc/cni/net.d".into(),
            cni_plugin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            cni_timeout_secs: 60,
        }
    }
}

impl Default for Build {
    fn default() -> Self {
        Self {
            user_namespace: BuildUsers::Auto,
            // All that nobody else has (systemd.io/UIDS-GIDS): 0x70000000 up to the foreign ones.
            first_user: 0x7000_0000,
            users: 0x0ffe_0000,
            entitlements: Vec::new(),
            cache: BuildCache::default(),
        }
    }
}

/// As BuildKit has it.
impl Default for BuildCache {
    fn default() -> Self {
        Self {
            reserved_space: Space::Percent(10),
            max_used_space: Space::Percent(80),
            min_free_space: Space::Percent(20),
            max_unused_days: 60,
        }
    }
}

impl Default for Cdi {
    fn default() -> Self {
        Self { spec_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()] }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self { config_path: "/etc/cais/certs.d".into(), patience_secs: 30 }
    }
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { criu: "criu".into() }
    }
}

impl Default for Nri {
    fn default() -> Self {
        Self {
            enabled: true,
            socket_path: "/var/run/nri/nri.sock".into(),
            plugin_path: "/opt/nri/plugins".into(),
            plugin_config_path: "/etc/nri/conf.d".into(),
            registration_timeout_ms: 5000,
            request_timeout_ms: 2000,
        }
    }
}

impl Config {
    /// The defaults under what `text` says.
    ///
    /// # Errors
    /// `InvalidArgument` with line and column for a syntax error, an unknown key or a value of the
    /// wrong shape; with the key for a value that cannot work.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).kind(Kind::InvalidArgument)?;
        config.check()?;
        Ok(config)
    }

    /// Reads the file at `path`; without a path the default place, which need not exist.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&text).with_context(|| format!("read {}", file.display())),
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => {
                Err(error).with_context(|| format!("read {}", file.display())).kind(Kind::NotFound)
            }
        }
    }

    /// As a file that [`Config::parse`] reads back.
    pub(crate) fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("print the configuration")
    }

    /// What the types do not say already.
    pub(crate) fn check(&self) -> Result<()> {
        let directories = [
            ("root", &self.root),
            ("state", &self.state),
            ("cri.socket", &self.cri.socket),
            ("docker.socket", &self.docker.socket),
            ("network.cni_config_dir", &self.network.cni_config_dir),
            ("registry.config_path", &self.registry.config_path),
            ("nri.socket_path", &self.nri.socket_path),
            ("nri.plugin_path", &self.nri.plugin_path),
            ("nri.plugin_config_path", &self.nri.plugin_config_path),
        ];
        let cdi = self.cdi.spec_dirs.iter().map(|path| ("cdi.spec_dirs", path));
        let tls = self.docker.tls.iter().flat_map(|tls| {
            [
                ("docker.tls.ca", &tls.ca),
                ("docker.tls.cert", &tls.cert),
                ("docker.tls.key", &tls.key),
            ]
        });
        for (key, path) in directories.into_iter().chain(cdi).chain(tls) {
            if !path.is_absolute() {
                return Err(Error::invalid(format!("{key}: {path:?} is not an absolute path")));
            }
        }
        let criu = &self.checkpoint.criu;
        if !criu.is_absolute() && criu.components().count() != 1 {
            return Err(Error::invalid(format!(
                "checkpoint.criu: {criu:?} is neither an absolute path nor a name"
            )));
        }
        // Streams carry no credentials but the token in the URL: they must not leave the host.
        if !self.cri.stream_address.ip().is_loopback() {
            let address = self.cri.stream_address;
            return Err(Error::invalid(format!("cri.stream_address: {address} is not loopback")));
        }
        if let Some(name) = self.cri.shown_to.iter().find(|it| KUBELETS.contains(&it.as_str())) {
            return Err(Error::invalid(format!(
                "cri.shown_to: {name} ends pods that it does not know"
            )));
        }
        let name = &self.network.bridge;
        if name.is_empty() || name.len() > 15 || name.contains(['/', ' ', ':']) {
            return Err(Error::invalid(format!(
                "network.bridge: {name:?} is not an interface name of 1 to 15 bytes"
            )));
        }
        if self.network.subnet.prefix_len() > 29 {
            let subnet = self.network.subnet;
            return Err(Error::invalid(format!("network.subnet: {subnet} is smaller than a /29")));
        }
        for (key, timeout) in [
            ("nri.registration_timeout_ms", self.nri.registration_timeout_ms),
            ("nri.request_timeout_ms", self.nri.request_timeout_ms),
        ] {
            // A request that waits longer than its client is of no use to anybody.
            if !(1..=120_000).contains(&timeout) {
                return Err(Error::invalid(format!("{key}: {timeout} is not 1 to 120000")));
            }
        }
        let times = [
            ("network.cni_timeout_secs", self.network.cni_timeout_secs),
            ("registry.patience_secs", self.registry.patience_secs),
        ];
        for (key, seconds) in times {
            if !(1..=3600).contains(&seconds) {
                return Err(Error::invalid(format!("{key}: {seconds} is not in 1 to 3600")));
            }
        }
        self.build.check()?;
        const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
        if !LEVELS.contains(&self.log_level.as_str()) {
            let level = &self.log_level;
            return Err(Error::invalid(format!("log_level: {level:?} is none of {LEVELS:?}")));
        }
        Ok(())
    }
}

impl Build {
    fn check(&self) -> Result<()> {
        // All of them are others than the host's root, and none is -1, which means nobody.
        let end = self.first_user.checked_add(self.users).filter(|_| self.first_user > 0);
        if end.is_none() {
            let first = self.first_user;
            return Err(Error::invalid(format!("build.first_user: {first} cannot be the first")));
        }
        // Every image has `nobody`, 65534.
        if self.users < 65536 {
            let users = self.users;
            return Err(Error::invalid(format!("build.users: {users} is less than 65536")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_file_says_the_defaults() {
        let sample = include_str!("../../deploy/config.toml");
        assert_eq!(Config::parse(sample).unwrap(), Config::default());
    }

    #[test]
    fn what_is_printed_reads_back() {
        let printed = Config::default().to_toml().unwrap();
        assert_eq!(Config::parse(&printed).unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_column() {
        let error = Config::parse("log_level = \"info\"\n[cri]\nsokcet = \"/x\"\n").unwrap_err();
        let chain = error.chain();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(chain.contains("line 3, column 1") && chain.contains("sokcet"), "{chain}");
    }

    #[test]
    fn values_that_cannot_work_name_their_key() {
        for (text, key) in [
            ("root = \"var\"", "root"),
            // Over TCP the door would be anybody's.
            ("[docker]\nsocket = \"tcp://127.0.0.1:2375\"", "docker.socket"),
            ("[docker.tls]\naddress = \"127.0.0.1:2376\"", "missing field `ca`"),
            (
                "[docker.tls]\naddress = \"[::]:2376\"\nca = \"/ca\"\ncert = \"cert.pem\"\nkey = \"/key\"",
                "docker.tls.cert",
            ),
            ("[cri]\nstream_address = \"0.0.0.0:1\"", "cri.stream_address"),
            ("[cri]\nshown_to = [\"crictl\", \"kubelet\"]", "cri.shown_to"),
            ("[network]\nbridge = \"much-too-long-for-an-interface\"", "network.bridge"),
            ("[cdi]\nspec_dirs = [\"cdi\"]", "cdi.spec_dirs"),
            ("[network]\ncni_timeout_secs = 0", "network.cni_timeout_secs"),
            ("[registry]\npatience_secs = 3601", "registry.patience_secs"),
            ("[checkpoint]\ncriu = \"bin/criu\"", "checkpoint.criu"),
            ("log_level = \"loud\"", "log_level"),
            ("[build]\nfirst_user = 0", "build.first_user"),
            ("[build]\nfirst_user = 4294901760\nusers = 65536", "build.first_user"),
            ("[build]\nusers = 1000", "build.users"),
            ("[build]\nentitlements = [\"security.none\"]", "security.none"),
            ("[build.cache]\nmax_used_space = \"much\"", "much"),
            ("[nri]\nrequest_timeout_ms = 0", "nri.request_timeout_ms"),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.chain().contains(key), "{}", error.chain());
        }
    }
}
