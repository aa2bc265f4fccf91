//! The daemon itself: is it there, what is it, and what does the machine offer.

use std::sync::LazyLock;

use std::path::Path;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use super::reply::{self, Answer, Body};
use super::wire::system::{
    Component, IndexInfo, Info, Platform, Plugins, RegistryConfig, Runtime, Runtimes, Swarm,
    Version,
};
use super::{API_VERSION, Door, OLDEST_API_VERSION};
use crate::config::CgroupDriver;
use crate::engine::Sight;
use crate::engine::container::phase::Phase;

/// What clients ask before everything else; the answer is in the headers.
pub(super) fn ping(method: &Method, headers: &HeaderMap) -> Response<Body> {
    let builder = if is_from_before_buildx(headers) { "1" } else { "2" };
    let mut response = reply::empty(StatusCode::OK);
    if method == Method::GET {
        *response.body_mut() = reply::full("OK");
    }
    reply::set_type(&mut response, "text/plain; charset=utf-8");
    let headers = response.headers_mut();
    headers.insert("Builder-Version", HeaderValue::from_static(builder));
    headers.insert("Swarm", HeaderValue::from_static("inactive"));
    // Our own: who has the same one is on this machine, and may have a build's context read where it is.
    static BOOT: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        HeaderValue::from_str(boot.trim()).ok()
    });
    if let Some(boot) = &*BOOT {
        headers.insert("Cais-Boot-Id", boot.clone());
    }
    const NEVER: &str = "no-cache, no-store, must-revalidate";
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(NEVER));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// Docker's client before version 23 would, told of BuildKit, build by a session of its own kind, which is not served;
/// else it builds by the classic call. Later ones ask buildx, and build so without it.
fn is_from_before_buildx(headers: &HeaderMap) -> bool {
    let agent = super::call::agent(headers);
    let version = agent.and_then(|agent| agent.strip_prefix("Docker-Client/"));
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    major.is_some_and(|major| major < 23)
}

pub(super) fn version() -> Answer {
    let kernel = kernel();
    let component = Component {
        name: "Engine",
        version: env!("CARGO_PKG_VERSION"),
        details: [
            ("ApiVersion", API_VERSION),
            ("Arch", architecture()),
            ("KernelVersion", &kernel),
            ("MinAPIVersion", OLDEST_API_VERSION),
            ("Os", "linux"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into(),
    };
    reply::json(&Version {
        platform: Platform { name: "Cais" },
        components: [component],
        version: env!("CARGO_PKG_VERSION"),
        api_version: API_VERSION,
        min_api_version: OLDEST_API_VERSION,
        git_commit: "",
        go_version: "",
        os: "linux",
        arch: architecture(),
        kernel_version: kernel.clone(),
        build_time: "",
    })
}

pub(super) fn info(door: &Door) -> Answer {
    let engine = &door.engine;
    let Counts { running, paused, stopped } = Counts::of(door);
    let system = rustix::system::sysinfo();
    let unit = u64::from(system.mem_unit.max(1));
    let host = engine.host();
    let mut security_options = vec!["name=seccomp,profile=builtin".to_owned()];
    if host.has_apparmor {
        security_options.insert(0, "name=apparmor".to_owned());
    }
    security_options.push("name=cgroupns".to_owned());
    reply::json(&Info {
        id: host.hostname.clone(),
        containers: running + paused + stopped,
        containers_running: running,
        containers_paused: paused,
        containers_stopped: stopped,
        images: engine.images().list().len(),
        driver: "overlayfs",
        driver_status: [["Backing Filesystem", file_system(&engine.config().root)]],
        system_status: None,
        plugins: Plugins::default(),
        memory_limit: true,
        swap_limit: true,
        cpu_cfs_period: true,
        cpu_cfs_quota: true,
        cpu_shares: true,
        cpu_set: true,
        pids_limit: true,
        ipv4_forwarding: true,
        oom_kill_disable: false,
        debug: engine.config().log_level == "debug",
        n_fd: std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or_default(),
        n_goroutines: 0,
        n_events_listener: 0,
        system_time: jiff::Timestamp::now().to_string(),
        logging_driver: "json-file",
        cgroup_driver: match engine.cgroup_driver() {
            CgroupDriver::Cgroupfs => "cgroupfs",
            CgroupDriver::Systemd => "systemd",
        },
        cgroup_version: if engine.has_cgroup_v1() { "1" } else { "2" },
        kernel_version: kernel(),
        operating_system: operating_system(),
        os_version: String::new(),
        os_type: "linux",
        architecture: architecture_of_kernel(),
        index_server_address: "https://index.docker.io/v1/",
        registry_config: RegistryConfig {
            insecure_registry_cidrs: ["::1/128", "127.0.0.0/8"],
            index_configs: [("docker.io", IndexInfo::docker_hub())].into(),
            mirrors: [],
        },
        ncpu: std::thread::available_parallelism().map_or(1, usize::from),
        mem_total: system.totalram * unit,
        docker_root_dir: engine.config().root.display().to_string(),
        http_proxy: String::new(),
        https_proxy: String::new(),
        no_proxy: String::new(),
        name: host.hostname.clone(),
        labels: [],
        experimental_build: false,
        server_version: env!("CARGO_PKG_VERSION"),
        runtimes: Runtimes { cais: Runtime { path: "cais-monitor" } },
        default_runtime: "cais",
        swarm: Swarm::default(),
        live_restore_enabled: true,
        isolation: "",
        init_binary: "",
        security_options,
        cdi_spec_dirs: engine.config().cdi.spec_dirs.clone(),
        warnings: [],
    })
}

/// Containers of both doors, by what they do.
#[derive(Default)]
struct Counts {
    running: usize,
    paused: usize,
    stopped: usize,
}

impl Counts {
    fn of(door: &Door) -> Self {
        let mut counts = Self::default();
        for container in door.engine.standalones() {
            let count = match container.record().run() {
                Some(run) if run.is_paused => &mut counts.paused,
                Some(_) => &mut counts.running,
                None => &mut counts.stopped,
            };
            *count += 1;
        }
        for container in door.engine.containers(Sight::Own) {
            let count = match container.phase {
                Phase::Running { .. } => &mut counts.running,
                Phase::Created { .. } | Phase::Exited(_) => &mut counts.stopped,
            };
            *count += 1;
        }
        counts
    }
}

/// What a path lies on, in Docker's words, by the numbers of statfs(2).
fn file_system(path: &Path) -> &'static str {
    match rustix::fs::statfs(path).map(|found| found.f_type) {
        Ok(0xef53) => "extfs",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683e) => "btrfs",
        Ok(0x2fc1_2fc1) => "zfs",
        Ok(0xf2f5_2010) => "f2fs",
        Ok(0x0102_1994) => "tmpfs",
        Ok(0x794c_7630) => "overlayfs",
        Ok(_) | Err(_) => "<unknown>",
    }
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// As Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn architecture_of_kernel() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// `PRETTY_NAME` of os-release(5).
fn operating_system() -> String {
    let files = ["/etc/os-release", "/usr/lib/os-release"];
    let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_from_before_buildx_are_told_of_the_classic_builder() {
        for (agent, builder) in [
            (Some("Docker-Client/20.10.24+dfsg1 (linux)"), "1"),
            (Some("Docker-Client/19.03.8 (linux)"), "1"),
            (Some("Docker-Client/28.5.2 (linux)"), "2"),
            (Some("Docker-Client/unknown-version (linux)"), "2"),
            (Some("docker-sdk-python/7.1.0"), "2"),
            (None, "2"),
        ] {
            let agent = agent.map(|it| (header::USER_AGENT, HeaderValue::from_static(it)));
            let told = ping(&Method::GET, &agent.into_iter().collect());
            assert_eq!(told.headers()["builder-version"], builder);
        }
    }
}
