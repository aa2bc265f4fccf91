//! Pods of a node, as kubelet would configure them.

use std::path::PathBuf;

use cais_proto::runtime::v1::{
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, PodSandboxState, PodSandboxStatus,
    PodSandboxStatusRequest, PortMapping, Protocol, RunPodSandboxRequest, StopPodSandboxRequest,
};
use tonic::Status;

use super::Node;
use super::container::{Builder as ContainerBuilder, Container};

pub(crate) struct Builder<'n> {
    node: &'n Node,
    config: PodSandboxConfig,
}

pub(crate) struct Pod<'n> {
    pub(crate) node: &'n Node,
    pub(crate) id: String,
    pub(crate) config: PodSandboxConfig,
}

impl Node {
    pub(crate) fn pod(&self, name: &str) -> Builder<'_> {
        let options =
            NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() };
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "e2e".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: self.home.join("logs").join(name).to_str().unwrap().to_owned(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(options),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        Builder { node: self, config }
    }

    /// A pod that another call than RunPodSandbox made.
    pub(crate) fn adopt_pod(&self, id: &str, config: &PodSandboxConfig) -> Pod<'_> {
        Pod { node: self, id: id.to_owned(), config: config.clone() }
    }
}

impl<'n> Builder<'n> {
    /// Changes the request freely.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut PodSandboxConfig)) -> Self {
        change(&mut self.config);
        self
    }

    pub(crate) fn linux(self, change: impl FnOnce(&mut LinuxPodSandboxConfig)) -> Self {
        self.with(|config| change(config.linux.get_or_insert_default()))
    }

    pub(crate) fn namespaces(self, change: impl FnOnce(&mut NamespaceOption)) -> Self {
        self.linux(|linux| {
            let context = linux.security_context.get_or_insert_default();
            change(context.namespace_options.get_or_insert_default());
        })
    }

    pub(crate) fn publish(self, protocol: Protocol, host_port: u16, container_port: u16) -> Self {
        self.publish_at("", protocol, host_port, container_port)
    }

    pub(crate) fn publish_at(
        self,
        host_ip: &str,
        protocol: Protocol,
        host_port: u16,
        container_port: u16,
    ) -> Self {
        let mapping = PortMapping {
            protocol: protocol.into(),
            container_port: container_port.into(),
            host_port: host_port.into(),
            host_ip: host_ip.to_owned(),
        };
        self.with(|config| config.port_mappings.push(mapping))
    }

    pub(crate) fn request(self) -> PodSandboxConfig {
        self.config
    }

    pub(crate) async fn run(self) -> Pod<'n> {
        self.try_run().await.unwrap_or_else(|error| panic!("RunPodSandbox: {error:?}"))
    }

    pub(crate) async fn try_run(self) -> Result<Pod<'n>, Status> {
        let Self { node, config } = self;
        let request =
            RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let id = node.runtime().run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
        Ok(Pod { node, id, config })
    }
}

impl<'n> Pod<'n> {
    pub(crate) fn container(&self, name: &str) -> ContainerBuilder<'n, '_> {
        ContainerBuilder::new(self, name)
    }

    /// A container that another call than CreateContainer made.
    pub(crate) fn adopt(&self, id: &str, log: &str) -> Container<'n> {
        Container { node: self.node, id: id.to_owned(), log: self.log_directory().join(log) }
    }

    pub(crate) async fn try_status(&self) -> Result<PodSandboxStatus, Status> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: false };
        let reply = self.node.runtime().pod_sandbox_status(request).await?;
        Ok(reply.into_inner().status.expect("a status"))
    }

    pub(crate) async fn status(&self) -> PodSandboxStatus {
        self.try_status().await.unwrap_or_else(|error| panic!("PodSandboxStatus: {error:?}"))
    }

    pub(crate) async fn is_ready(&self) -> bool {
        self.status().await.state() == PodSandboxState::SandboxReady
    }

    pub(crate) async fn ip(&self) -> String {
        self.status().await.network.expect("a network status").ip
    }

    pub(crate) async fn try_stop(&self) -> Result<(), Status> {
        let request = StopPodSandboxRequest { pod_sandbox_id: self.id.clone() };
        self.node.runtime().stop_pod_sandbox(request).await.map(|_| ())
    }

    pub(crate) async fn stop(&self) {
        self.try_stop().await.unwrap_or_else(|error| panic!("StopPodSandbox: {error:?}"));
    }

    pub(crate) async fn remove(&self) {
        let removed = self.node.remove_pod(self.id.clone()).await;
        removed.unwrap_or_else(|error| panic!("remove the pod: {error:?}"));
    }

    pub(crate) fn log_directory(&self) -> PathBuf {
        self.config.log_directory.clone().into()
    }
}
