//! A node: one daemon with directories, a bridge and a cgroup of its own.
//!
//! ```text
//!   /run/cais-e2e-PID-N/             state: sockets must have short paths
//!   target/…/tmp/cais-e2e-PID-N/     root/, logs/, certs.d/, cdi/, cdi-run/, config.toml, caisd.log
//!   bridge and nftables table ceNPID, subnet 10.215.0.0/16, cgroups below /cais-e2e-PID-N
//! ```
//! Dropping it removes the pods through CRI, ends the daemon, and fails the test if anything is left.

mod container;
mod leftovers;
mod pod;
mod power;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use cais_proto::runtime::v1::image_service_client::ImageServiceClient;
use cais_proto::runtime::v1::runtime_service_client::RuntimeServiceClient;
use cais_proto::runtime::v1::{
    AuthConfig, Image, ImageSpec, ImageStatusRequest, ListImagesRequest, ListPodSandboxRequest,
    PullImageRequest, RemoveImageRequest, RemovePodSandboxRequest, StopPodSandboxRequest,
    VersionRequest,
};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

pub(crate) use self::container::{
    Builder as ContainerBuilder, Container, LogLine, joined, parse_log,
};
pub(crate) use self::leftovers::monitors_below;
pub(crate) use self::pod::{Builder as PodBuilder, Pod};
use crate::wait::until;

pub(crate) const BUSYBOX: &str = "docker.io/library/busybox:latest";

pub(crate) type Runtime = RuntimeServiceClient<Channel>;
pub(crate) type Images = ImageServiceClient<Channel>;

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) state: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) bridge: String,
    daemon: Mutex<Option<Child>>,
    channel: Channel,
    /// Copies of the sockets of all connections.
    sockets: Sockets,
}

type Sockets = Arc<Mutex<Vec<OwnedFd>>>;

static NODES: AtomicU32 = AtomicU32::new(0);

impl Node {
    pub(crate) async fn boot() -> Self {
        Self::boot_with("").await
    }

    /// With more lines for the `[network]` section of the configuration.
    pub(crate) async fn boot_with(network: &str) -> Self {
        let node = Self::prepare();
        node.write_config(&format!("mode = \"builtin\"\n{network}"), "");
        node.start().await;
        node
    }

    /// With more lines for the `[registry]` section.
    pub(crate) async fn boot_asking(registry: &str) -> Self {
        let node = Self::prepare();
        node.write_config("mode = \"builtin\"", registry);
        node.start().await;
        node
    }

    /// With this program as CRIU.
    pub(crate) async fn boot_with_criu(program: &Path) -> Self {
        let section = format!("[checkpoint]\ncriu = \"{}\"", program.display());
        Self::boot_asking(&section).await
    }

    /// With a network of CNI plugins: Debian's, and scripts in `plugins` of the node's directory. `chain` says which, as
    /// JSON objects.
    pub(crate) async fn boot_cni(chain: impl FnOnce(&Self) -> String) -> Self {
        let node = Self::prepare();
        let home = node.home.display();
        for directory in ["net.d", "plugins"] {
            fs::create_dir(node.home.join(directory)).unwrap();
        }
        let text =
            format!(r#"{{"cniVersion": "1.0.0", "name": "e2e", "plugins": [{}]}}"#, chain(&node));
        fs::write(node.home.join("net.d/10-e2e.conflist"), text).unwrap();
        let network = format!(
            "mode = \"cni\"\ncni_timeout_secs = 3\ncni_config_dir = \"{home}/net.d\"\n\
             cni_plugin_dirs = [\"{home}/plugins\", \"/usr/lib/cni\"]"
        );
        node.write_config(&network, "");
        node.start().await;
        node
    }

    fn prepare() -> Self {
        assert!(rustix::process::geteuid().is_root(), "e2e tests need root: run hack/e2e");
        let (process, number) = (std::process::id(), NODES.fetch_add(1, Ordering::Relaxed));
        let name = format!("cais-e2e-{process}-{number}");
        let state = PathBuf::from("/run").join(&name);
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        for directory in ["root", "logs", "certs.d"] {
            fs::create_dir_all(home.join(directory)).unwrap();
        }
        let bridge = format!("ce{number}n{process}");
        let sockets = Sockets::default();
        let channel = connect(state.join("cri.sock"), Arc::clone(&sockets));
        Self { name, state, home, bridge, daemon: Mutex::new(None), channel, sockets }
    }

    fn write_config(&self, network: &str, registry: &str) {
        let certs = self.home.join("certs.d");
        if let Some(shared) = std::env::var_os("CAIS_CERTS_DIR") {
            for entry in fs::read_dir(shared).unwrap().flatten() {
                symlink(entry.path(), certs.join(entry.file_name())).unwrap();
            }
        }
        let Self { name, bridge, home, state, .. } = self;
        let (home, state) = (home.display(), state.display());
        let text = format!(
            "root = \"{home}/root\"\nstate = \"{state}\"\nlog_level = \"debug\"\n\
             [cri]\nsocket = \"{state}/cri.sock\"\n\
             [docker]\nsocket = \"{state}/docker.sock\"\n\
             [cgroup]\nparent = \"/{name}\"\n\
             [network]\nbridge = \"{bridge}\"\nsubnet = \"10.215.0.0/16\"\n{network}\n\
             [registry]\nconfig_path = \"{home}/certs.d\"\n{registry}\n\
             [cdi]\nspec_dirs = [\"{home}/cdi\", \"{home}/cdi-run\"]\n\
             [nri]\nsocket_path = \"{state}/nri.sock\"\nplugin_path = \"{home}/nri\"\n\
             plugin_config_path = \"{home}/nri-conf\"\n",
        );
        fs::write(self.home.join("config.toml"), text).unwrap();
    }

    /// More sections of the configuration, for the next start.
    pub(crate) fn configure(&self, text: &str) {
        let mut file = File::options().append(true).open(self.home.join("config.toml")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Has the daemon speak plain HTTP to this registry.
    pub(crate) fn trust(&self, address: &str) {
        self.write_hosts(address, &format!("server = \"http://{address}\"\n"));
    }

    /// Says how the daemon reaches this registry.
    pub(crate) fn write_hosts(&self, address: &str, text: &str) {
        let directory = self.home.join("certs.d").join(address);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("hosts.toml"), text).unwrap();
    }

    /// Starts the daemon and waits for its first answer.
    pub(crate) async fn start(&self) {
        let log = File::options().append(true).create(true).open(self.home.join("caisd.log"));
        let log = log.unwrap();
        let daemon = Command::new(caisd())
            .arg("--config")
            .arg(self.home.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("start caisd");
        *self.daemon.lock().unwrap() = Some(daemon);
        until("the daemon's first answer", async || {
            assert!(self.is_running(), "caisd ended: {}", self.log_tail());
            self.runtime().version(VersionRequest::default()).await.is_ok()
        })
        .await;
    }

    /// Ends the daemon as a crash would: it gets no chance to do anything.
    pub(crate) fn kill(&self) {
        let mut daemon = self.daemon.lock().unwrap().take().expect("the daemon runs");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    pub(crate) async fn restart(&self) {
        self.kill();
        self.start().await;
    }

    /// The daemon's process number.
    pub(crate) fn daemon(&self) -> u32 {
        self.daemon.lock().unwrap().as_ref().expect("the daemon runs").id()
    }

    fn is_running(&self) -> bool {
        let mut daemon = self.daemon.lock().unwrap();
        daemon.as_mut().is_some_and(|daemon| daemon.try_wait().unwrap().is_none())
    }

    async fn end(&self) {
        let pid = self.daemon.lock().unwrap().as_ref().map(Child::id);
        let Some(pid) = pid else { return };
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        until("the daemon to end", async || !self.is_running()).await;
        *self.daemon.lock().unwrap() = None;
    }

    /// The end of the daemon's log, for failures.
    pub(crate) fn log_tail(&self) -> String {
        let text = self.log();
        let start = text.lines().count().saturating_sub(40);
        text.lines().skip(start).collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.join("caisd.log")).unwrap_or_default()
    }

    pub(crate) fn runtime(&self) -> Runtime {
        Runtime::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    pub(crate) fn images(&self) -> Images {
        Images::new(self.channel.clone())
    }

    pub(crate) async fn try_pull(&self, image: &str) -> Result<String, Status> {
        self.pull_as(image, None).await
    }

    pub(crate) async fn pull_as(
        &self,
        image: &str,
        auth: Option<AuthConfig>,
    ) -> Result<String, Status> {
        let request = PullImageRequest { image: Some(named(image)), auth, sandbox_config: None };
        self.images().pull_image(request).await.map(|reply| reply.into_inner().image_ref)
    }

    pub(crate) async fn pull(&self, image: &str) -> String {
        self.try_pull(image).await.unwrap_or_else(|error| panic!("pull {image}: {error:?}"))
    }

    pub(crate) async fn image(&self, image: &str) -> Option<Image> {
        let request = ImageStatusRequest { image: Some(named(image)), verbose: false };
        self.images().image_status(request).await.unwrap().into_inner().image
    }

    pub(crate) async fn all_images(&self) -> Vec<Image> {
        self.images().list_images(ListImagesRequest::default()).await.unwrap().into_inner().images
    }

    pub(crate) async fn remove_image(&self, image: &str) {
        let request = RemoveImageRequest { image: Some(named(image)) };
        self.images().remove_image(request).await.unwrap();
    }

    pub(crate) async fn pod_ids(&self) -> Vec<String> {
        let listed = self.runtime().list_pod_sandbox(ListPodSandboxRequest::default()).await;
        listed.unwrap().into_inner().items.into_iter().map(|pod| pod.id).collect()
    }

    pub(crate) async fn remove_pod(&self, pod_sandbox_id: String) -> Result<(), Status> {
        let request = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        self.runtime().stop_pod_sandbox(request).await?;
        let request = RemovePodSandboxRequest { pod_sandbox_id };
        self.runtime().remove_pod_sandbox(request).await?;
        Ok(())
    }

    /// Everything through the front door; what it left behind, for the test to judge.
    async fn shut_down(&self) -> Vec<String> {
        if !self.is_running() {
            *self.daemon.lock().unwrap() = None;
            self.start().await;
        }
        let mut complaints = self.docker().remove_all().await;
        for pod in self.pod_ids().await {
            if let Err(error) = self.remove_pod(pod).await {
                complaints.push(format!("a pod cannot be removed: {error}"));
            }
        }
        self.end().await;
        complaints.extend(leftovers::of(self).await);
        complaints
    }
}

impl Drop for Node {
    /// On a thread of its own, since a runtime cannot be entered from within another.
    fn drop(&mut self) {
        let failed_already = std::thread::panicking();
        if failed_already {
            eprintln!("the daemon's log ends with:\n{}", self.log_tail());
        }
        // The runtime of the test stands still, and with it the connections: a daemon that ends politely would wait for them.
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
        let complaints = std::thread::scope(|scope| {
            let cleaning = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    let sockets = Arc::clone(&self.sockets);
                    self.channel = connect(self.state.join("cri.sock"), sockets);
                    self.shut_down().await
                })
            });
            cleaning.join()
        });
        let complaints = complaints.unwrap_or_else(|_| vec!["cleaning up failed".to_owned()]);
        if failed_already {
            eprintln!("left behind: {complaints:#?}");
            return;
        }
        assert!(complaints.is_empty(), "left behind: {complaints:#?}");
        fs::remove_dir_all(&self.home).unwrap();
    }
}

fn connect(socket: PathBuf, sockets: Sockets) -> Channel {
    let dial = tower::service_fn(move |_| {
        let (socket, sockets) = (socket.clone(), Arc::clone(&sockets));
        async move {
            let stream = UnixStream::connect(socket).await?;
            sockets.lock().unwrap().push(stream.as_fd().try_clone_to_owned()?);
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // The address is unused; each new connection goes to the socket.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(dial)
}

fn caisd() -> PathBuf {
    match std::env::var_os("CAIS_BIN_DIR") {
        Some(directory) => PathBuf::from(directory).join("caisd"),
        None => PathBuf::from(env!("CARGO_BIN_EXE_caisd")),
    }
}

pub(crate) fn named(image: &str) -> ImageSpec {
    ImageSpec { image: image.to_owned(), ..Default::default() }
}
