//! The CRI client: one connection to each engine, the same requests for both.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use cais_proto::runtime::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, DnsConfig, ExecSyncRequest,
    ImageSpec, ImageStatusRequest, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    ListContainerStatsRequest, ListContainersRequest, ListPodSandboxRequest,
    ListPodSandboxStatsRequest, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, PullImageRequest, RemoveContainerRequest, RemoveImageRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, SecurityProfile, StartContainerRequest,
    StatusRequest, StopPodSandboxRequest, VersionRequest, image_service_client::ImageServiceClient,
    runtime_service_client::RuntimeServiceClient, security_profile::ProfileType,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::{Doing, Failure, Result, raw};

/// Where an engine is.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    pub(crate) pid: u32,
    /// As the engine sees it: the peer has a root of its own.
    pub(crate) logs: String,
}

impl FromStr for Engine {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(',').collect();
        let &[name, socket, pid, logs] = parts.as_slice() else {
            return Err("expected NAME,SOCKET,PID,LOG-DIRECTORY".into());
        };
        Ok(Self {
            name: name.into(),
            socket: socket.into(),
            pid: pid.parse().doing("PID")?,
            logs: logs.into(),
        })
    }
}

/// What a client measured of one pod's start.
pub(crate) struct Started {
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) run: Duration,
    pub(crate) create: Duration,
    pub(crate) start: Duration,
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) engine: Engine,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    channel: Channel,
    /// Sets the pods of this client apart from those of others of this process, and those from each other.
    name: String,
    serial: u64,
    image: String,
}

impl Client {
    pub(crate) async fn connect(engine: Engine, image: &str) -> Result<Self> {
        let socket = engine.socket.clone();
        let dial = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // The address is unused: the connector knows the socket.
        let channel = Endpoint::from_static("http://localhost")
            // As kubelet's client does; the default window of 64 KiB would time the client.
            .http2_adaptive_window(true)
            .connect_with_connector(dial)
            .await
            .doing(format!("connect to {}", engine.socket.display()))?;
        Ok(Self {
            engine,
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel.clone()),
            channel,
            name: String::new(),
            serial: 0,
            image: image.to_owned(),
        })
    }

    /// Name and version, as the engine says them.
    /// The same with a connection of its own.
    pub(crate) async fn another(&self) -> Result<Self> {
        Self::connect(self.engine.clone(), &self.image).await
    }

    pub(crate) async fn version(&mut self) -> Result<String> {
        let version = self.runtime.version(VersionRequest::default()).await?.into_inner();
        Ok(format!("{} {}", version.runtime_name, version.runtime_version))
    }

    pub(crate) async fn pull(&mut self) -> Result<Duration> {
        let request = PullImageRequest { image: Some(self.image_spec()), ..Default::default() };
        let before = Instant::now();
        self.images.pull_image(request).await.doing(format!("{}: pull", self.engine.name))?;
        Ok(before.elapsed())
    }

    pub(crate) async fn remove_image(&mut self) -> Result<()> {
        let request = RemoveImageRequest { image: Some(self.image_spec()) };
        let removed = self.images.remove_image(request).await;
        removed.doing(format!("{}: remove the image", self.engine.name))?;
        Ok(())
    }

    fn image_spec(&self) -> ImageSpec {
        ImageSpec { image: self.image.clone(), ..Default::default() }
    }

    /// Names the pods of this client, when several clients of a process make some.
    pub(crate) fn set_apart(&mut self, name: &str) {
        self.name = format!("-{name}");
    }

    pub(crate) async fn status(&mut self) -> Result<Duration> {
        let before = Instant::now();
        self.runtime.status(StatusRequest::default()).await.doing(self.at("Status"))?;
        Ok(before.elapsed())
    }

    pub(crate) async fn image_status(&mut self) -> Result<Duration> {
        let request = ImageStatusRequest { image: Some(self.image_spec()), verbose: false };
        let before = Instant::now();
        let status = self.images.image_status(request).await.doing(self.at("ImageStatus"))?;
        let took = before.elapsed();
        status.into_inner().image.ok_or("the image is not there")?;
        Ok(took)
    }

    /// A pod with one running container: the three calls that kubelet makes.
    pub(crate) async fn start_pod(&mut self) -> Result<Started> {
        self.serial += 1;
        let sandbox = self.sandbox_config();
        let request = RunPodSandboxRequest { config: Some(sandbox.clone()), ..Default::default() };
        let before = Instant::now();
        let ran = self.runtime.run_pod_sandbox(request).await;
        let run = before.elapsed();
        let pod = ran.doing(self.at("RunPodSandbox"))?.into_inner().pod_sandbox_id;

        let config = self.container_config("main");
        let (container, create, start) = self.start_container(&pod, sandbox, config).await?;
        Ok(Started { pod, container, run, create, start })
    }

    /// One more container in the pod that was started last.
    pub(crate) async fn add_container(&mut self, pod: &str, number: usize) -> Result<()> {
        let config = self.container_config(&format!("more-{number}"));
        self.start_container(pod, self.sandbox_config(), config).await?;
        Ok(())
    }

    /// One that is not started, in the pod that was started last.
    pub(crate) async fn create_container(&mut self, pod: &str, name: &str) -> Result<String> {
        let (sandbox, config) = (self.sandbox_config(), self.container_config(name));
        Ok(self.create(pod, sandbox, config).await?.0)
    }

    pub(crate) async fn remove_container(&mut self, container_id: String) -> Result<()> {
        let request = RemoveContainerRequest { container_id };
        self.runtime.remove_container(request).await.doing(self.at("RemoveContainer"))?;
        Ok(())
    }

    async fn create(
        &mut self,
        pod: &str,
        sandbox: PodSandboxConfig,
        config: ContainerConfig,
    ) -> Result<(String, Duration)> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox),
        };
        let before = Instant::now();
        let created = self.runtime.create_container(request).await;
        let create = before.elapsed();
        Ok((created.doing(self.at("CreateContainer"))?.into_inner().container_id, create))
    }

    /// The container's id, and how long its creation and its start took.
    async fn start_container(
        &mut self,
        pod: &str,
        sandbox: PodSandboxConfig,
        config: ContainerConfig,
    ) -> Result<(String, Duration, Duration)> {
        let (id, create) = self.create(pod, sandbox, config).await?;

        let request = StartContainerRequest { container_id: id.clone() };
        let before = Instant::now();
        let started = self.runtime.start_container(request).await;
        let start = before.elapsed();
        started.doing(self.at("StartContainer"))?;
        Ok((id, create, start))
    }

    /// How many pods the engine lists; so do the next three with what they ask for.
    pub(crate) async fn list_pods(&self) -> Result<usize> {
        self.count("ListPodSandbox", ListPodSandboxRequest::default()).await
    }

    pub(crate) async fn list_containers(&self) -> Result<usize> {
        self.count("ListContainers", ListContainersRequest::default()).await
    }

    pub(crate) async fn list_container_stats(&self) -> Result<usize> {
        self.count("ListContainerStats", ListContainerStatsRequest::default()).await
    }

    pub(crate) async fn list_pod_stats(&self) -> Result<usize> {
        self.count("ListPodSandboxStats", ListPodSandboxStatsRequest::default()).await
    }

    async fn count<T: prost::Message + 'static>(&self, call: &str, request: T) -> Result<usize> {
        let path = format!("/runtime.v1.RuntimeService/{call}");
        raw::count(&self.channel, &path, request).await.doing(self.at(call))
    }

    /// Runs `/bin/true` in the container; 1, as one command was run.
    pub(crate) async fn exec_true(&mut self, container: &str) -> Result<usize> {
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: vec!["/bin/true".into()],
            timeout: 10,
        };
        let ran = self.runtime.exec_sync(request).await.doing(self.at("ExecSync"))?.into_inner();
        match ran.exit_code {
            0 => Ok(1),
            code => Err(format!("{}: /bin/true ended with {code}", self.engine.name).into()),
        }
    }

    /// Stops and removes a pod with what is in it; the times of the two calls.
    pub(crate) async fn end_pod(&mut self, pod: String) -> Result<(Duration, Duration)> {
        let request = StopPodSandboxRequest { pod_sandbox_id: pod.clone() };
        let before = Instant::now();
        self.runtime.stop_pod_sandbox(request).await.doing(self.at("StopPodSandbox"))?;
        let stop = before.elapsed();
        let request = RemovePodSandboxRequest { pod_sandbox_id: pod };
        let before = Instant::now();
        self.runtime.remove_pod_sandbox(request).await.doing(self.at("RemovePodSandbox"))?;
        Ok((stop, before.elapsed()))
    }

    fn at(&self, call: &str) -> String {
        format!("{}: {call}", self.engine.name)
    }

    fn pod_name(&self) -> String {
        format!("{}-{}{}-{}", self.engine.name, std::process::id(), self.name, self.serial)
    }

    fn sandbox_config(&self) -> PodSandboxConfig {
        let name = self.pod_name();
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                uid: format!("uid-{name}"),
                namespace: "bench".into(),
                name: name.clone(),
                attempt: 0,
            }),
            hostname: name.clone(),
            log_directory: format!("{}/{name}", self.engine.logs),
            dns_config: Some(DnsConfig {
                servers: vec!["10.96.0.10".into()],
                searches: vec!["svc.cluster.local".into()],
                options: vec!["ndots:5".into()],
            }),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: crate::usage::parent_of_pods(&self.engine),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces()),
                    seccomp: Some(runtime_default()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// What kubelet sends for a small container without special wishes.
    fn container_config(&self, name: &str) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(self.image_spec()),
            command: vec!["/bin/sleep".into(), "3600".into()],
            log_path: format!("{name}/0.log"),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    cpu_period: 100_000,
                    cpu_quota: 50_000,
                    cpu_shares: 102,
                    memory_limit_in_bytes: 64 << 20,
                    oom_score_adj: 900,
                    ..Default::default()
                }),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces()),
                    seccomp: Some(runtime_default()),
                    masked_paths: owned(&MASKED),
                    readonly_paths: owned(&READ_ONLY),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }
    }
}

/// Kubelet's defaults.
pub(crate) const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn owned(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|&path| path.to_owned()).collect()
}

fn namespaces() -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() }
}

fn runtime_default() -> SecurityProfile {
    SecurityProfile { profile_type: ProfileType::RuntimeDefault.into(), ..Default::default() }
}
