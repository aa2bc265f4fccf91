//! The calls about usage.

use cais_proto::runtime::v1::{
    ContainerStatsRequest, ContainerStatsResponse, ListContainerStatsRequest,
    ListContainerStatsResponse, ListPodSandboxStatsRequest, ListPodSandboxStatsResponse,
    PodSandboxStatsRequest, PodSandboxStatsResponse,
};

use super::convert::stats;
use super::{Cri, filter, fits};
use crate::api::call::about;
use crate::error::Result;

impl Cri {
    pub(super) async fn container_stats(
        &self,
        request: ContainerStatsRequest,
    ) -> Result<ContainerStatsResponse> {
        let ContainerStatsRequest { container_id } = request;
        about("container", &container_id);
        let found = self.engine.container_stats(&container_id).await?;
        Ok(ContainerStatsResponse { stats: Some(stats::container(&found, self.root())) })
    }

    pub(super) async fn list_container_stats(
        &self,
        request: ListContainerStatsRequest,
    ) -> Result<ListContainerStatsResponse> {
        let ListContainerStatsRequest { filter } = request;
        let wanted = filter::Containers::of_stats(filter);
        let found = self.engine.all_container_stats(|container| wanted.keeps(container)).await;
        let stats = found.iter().map(|it| stats::container(it, self.root())).collect();
        fits(ListContainerStatsResponse { stats })
    }

    pub(super) async fn pod_stats(
        &self,
        request: PodSandboxStatsRequest,
    ) -> Result<PodSandboxStatsResponse> {
        let PodSandboxStatsRequest { pod_sandbox_id } = request;
        about("pod", &pod_sandbox_id);
        let found = self.engine.pod_stats(&pod_sandbox_id).await?;
        Ok(PodSandboxStatsResponse { stats: Some(stats::pod(&found, self.root())) })
    }

    pub(super) async fn list_pod_stats(
        &self,
        request: ListPodSandboxStatsRequest,
    ) -> Result<ListPodSandboxStatsResponse> {
        let ListPodSandboxStatsRequest { filter } = request;
        let wanted = filter::Pods::of_stats(filter);
        let found = self.engine.all_pod_stats(|pod| wanted.keeps(pod)).await;
        let stats = found.iter().map(|it| stats::pod(it, self.root())).collect();
        fits(ListPodSandboxStatsResponse { stats })
    }

    /// The file system that holds writable layers.
    fn root(&self) -> &std::path::Path {
        &self.engine.config().root
    }
}
