//! The calls about usage.

use cais_proto::runtime::v1::{
    ContainerStats, ContainerStatsFilter, ContainerStatsRequest, ContainerStatsResponse,
    ListContainerStatsRequest, ListContainerStatsResponse, ListMetricDescriptorsRequest,
    ListMetricDescriptorsResponse, ListPodSandboxMetricsRequest, ListPodSandboxMetricsResponse,
    ListPodSandboxStatsRequest, ListPodSandboxStatsResponse, PodSandboxMetrics, PodSandboxStats,
    PodSandboxStatsFilter, PodSandboxStatsRequest, PodSandboxStatsResponse,
    StreamContainerStatsRequest, StreamContainerStatsResponse, StreamPodSandboxMetricsRequest,
    StreamPodSandboxMetricsResponse, StreamPodSandboxStatsRequest, StreamPodSandboxStatsResponse,
};
use futures_util::{Stream, StreamExt};

use super::convert::{metrics, stats};
use super::parts::{self, Parts};
use super::{Cri, filter, fits};
use crate::api::call::about;
use crate::engine::Sight;
use crate::error::Result;

impl Cri {
    pub(super) async fn container_stats(
        &self,
        request: ContainerStatsRequest,
        sight: Sight,
    ) -> Result<ContainerStatsResponse> {
        let ContainerStatsRequest { container_id } = request;
        about("container", &container_id);
        let found = self.engine.container_stats(&container_id, sight).await?;
        Ok(ContainerStatsResponse { stats: Some(stats::container(&found, self.root())) })
    }

    pub(super) async fn list_container_stats(
        &self,
        request: ListContainerStatsRequest,
        sight: Sight,
    ) -> Result<ListContainerStatsResponse> {
        let ListContainerStatsRequest { filter } = request;
        let stats = self.stats_of_containers(filter, sight).concat().await;
        fits(ListContainerStatsResponse { stats })
    }

    pub(super) fn stream_container_stats(
        &self,
        request: StreamContainerStatsRequest,
        sight: Sight,
    ) -> Parts<StreamContainerStatsResponse> {
        let StreamContainerStatsRequest { filter } = request;
        let wrap = |container_stats| StreamContainerStatsResponse { container_stats };
        parts::of_groups(self.stats_of_containers(filter, sight), wrap)
    }

    fn stats_of_containers(
        &self,
        filter: Option<ContainerStatsFilter>,
        sight: Sight,
    ) -> impl Stream<Item = Vec<ContainerStats>> + Send + 'static + use<> {
        let wanted = filter::Containers::of_stats(filter);
        let root = self.root().to_owned();
        let found = self.engine.all_container_stats(sight, &|container| wanted.keeps(container));
        found.map(move |group| group.iter().map(|it| stats::container(it, &root)).collect())
    }

    pub(super) async fn pod_stats(
        &self,
        request: PodSandboxStatsRequest,
        sight: Sight,
    ) -> Result<PodSandboxStatsResponse> {
        let PodSandboxStatsRequest { pod_sandbox_id } = request;
        about("pod", &pod_sandbox_id);
        let found = self.engine.pod_stats(&pod_sandbox_id, sight).await?;
        Ok(PodSandboxStatsResponse { stats: Some(stats::pod(&found, self.root())) })
    }

    pub(super) async fn list_pod_stats(
        &self,
        request: ListPodSandboxStatsRequest,
        sight: Sight,
    ) -> Result<ListPodSandboxStatsResponse> {
        let ListPodSandboxStatsRequest { filter } = request;
        let stats = self.stats_of_pods(filter, sight).concat().await;
        fits(ListPodSandboxStatsResponse { stats })
    }

    pub(super) fn stream_pod_stats(
        &self,
        request: StreamPodSandboxStatsRequest,
        sight: Sight,
    ) -> Parts<StreamPodSandboxStatsResponse> {
        let StreamPodSandboxStatsRequest { filter } = request;
        let wrap = |pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats };
        parts::of_groups(self.stats_of_pods(filter, sight), wrap)
    }

    fn stats_of_pods(
        &self,
        filter: Option<PodSandboxStatsFilter>,
        sight: Sight,
    ) -> impl Stream<Item = Vec<PodSandboxStats>> + Send + 'static + use<> {
        let wanted = filter::Pods::of_stats(filter);
        let root = self.root().to_owned();
        let found = self.engine.all_pod_stats(sight, &|pod| wanted.keeps(pod));
        found.map(move |group| group.iter().map(|it| stats::pod(it, &root)).collect())
    }

    pub(super) fn list_metric_descriptors(
        request: ListMetricDescriptorsRequest,
    ) -> ListMetricDescriptorsResponse {
        let ListMetricDescriptorsRequest {} = request;
        ListMetricDescriptorsResponse { descriptors: metrics::descriptors() }
    }

    pub(super) async fn list_pod_metrics(
        &self,
        request: ListPodSandboxMetricsRequest,
    ) -> Result<ListPodSandboxMetricsResponse> {
        let ListPodSandboxMetricsRequest {} = request;
        let pod_metrics = self.metrics_of_pods()?.concat().await;
        fits(ListPodSandboxMetricsResponse { pod_metrics })
    }

    pub(super) fn stream_pod_metrics(
        &self,
        request: StreamPodSandboxMetricsRequest,
    ) -> Result<Parts<StreamPodSandboxMetricsResponse>> {
        let StreamPodSandboxMetricsRequest {} = request;
        let wrap = |pod_sandbox_metrics| StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
        Ok(parts::of_groups(self.metrics_of_pods()?, wrap))
    }

    fn metrics_of_pods(
        &self,
    ) -> Result<impl Stream<Item = Vec<PodSandboxMetrics>> + Send + 'static + use<>> {
        let file_system = crate::engine::stats::metrics::file_system(self.root())?;
        let found = self.engine.all_pod_metrics();
        Ok(found.map(move |group| group.iter().map(|it| metrics::pod(it, &file_system)).collect()))
    }

    /// The file system that holds writable layers.
    fn root(&self) -> &std::path::Path {
        &self.engine.config().root
    }
}
