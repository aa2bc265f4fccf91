//! The Kubernetes container runtime interface.
//!
//! Each call of the interface is one line here and a function of [`Cri`] in the file of its noun.
//! The call unpacks the request, asks the engine and shapes the answer; a decision that depends on
//! the state of a pod belongs in the engine.

mod checkpoints;
mod containers;
mod convert;
mod events;
mod filter;
mod images;
mod listed;
mod parts;
mod pods;
mod runtime;
mod sight;
mod stats;
mod status;
mod streams;

use std::sync::Arc;

use cais_proto::runtime::v1;
use cais_proto::runtime::v1::image_service_server::{ImageService, ImageServiceServer};
use cais_proto::runtime::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use tonic::{Request, Response, Status};

use self::listed::{List, Listed, Lists};
use self::parts::Parts;
pub(super) use self::status::is_ours;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// What clients of the interface agree on; gRPC's own default of 4 MiB cuts lists of some thousand.
const LARGEST_MESSAGE: usize = 16 << 20;

/// Both services of the interface; clones share the engine.
#[derive(Clone)]
pub(super) struct Cri {
    engine: Engine,
    lists: Arc<Lists>,
}

pub(super) fn services(
    engine: Engine,
) -> (Listed<RuntimeServiceServer<Cri>>, ImageServiceServer<Cri>) {
    let cri = Cri { engine, lists: Arc::default() };
    let runtime = RuntimeServiceServer::new(cri.clone())
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    (
        Listed { cri: cri.clone(), inner: runtime },
        ImageServiceServer::new(cri)
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE),
    )
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(result: Result<T>) -> Answer<T> {
    Ok(Response::new(result?))
}

/// A list that a client can receive.
///
/// # Errors
/// `Exhausted` instead of a broken stream when it is larger than a message may be.
fn fits<T: prost::Message>(list: T) -> Result<T> {
    check_size(list.encoded_len())?;
    Ok(list)
}

fn check_size(size: usize) -> Result<()> {
    if size <= LARGEST_MESSAGE {
        return Ok(());
    }
    Err(Error::new(
        Kind::Exhausted,
        format!("the answer has {size} bytes, a message holds {LARGEST_MESSAGE}: use a filter"),
    ))
}

#[tonic::async_trait]
impl RuntimeService for Cri {
    // The runtime itself.

    async fn version(&self, request: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        answer(self.version(request.into_inner()))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        answer(self.status(request.into_inner()).await)
    }

    async fn runtime_config(
        &self,
        request: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        answer(self.runtime_config(request.into_inner()))
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        answer(self.update_runtime_config(request.into_inner()))
    }

    // Pods.

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        answer(self.run_pod(request.into_inner()).await)
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        answer(self.stop_pod(request.into_inner()).await)
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        answer(self.remove_pod(request.into_inner()).await)
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let sight = self.sight(request.extensions());
        answer(self.pod_status(request.into_inner(), sight))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let sight = self.sight(request.extensions());
        answer(self.pods(request.into_inner(), sight).and_then(List::message))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        answer(self.update_pod(request.into_inner()).await)
    }

    // Containers.

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        answer(self.create_container(request.into_inner()).await)
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        answer(self.start_container(request.into_inner()).await)
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        answer(self.stop_container(request.into_inner()).await)
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        answer(self.remove_container(request.into_inner()).await)
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let sight = self.sight(request.extensions());
        answer(self.container_status(request.into_inner(), sight))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let sight = self.sight(request.extensions());
        answer(self.containers(request.into_inner(), sight).and_then(List::message))
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        answer(self.update_container_resources(request.into_inner()).await)
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        answer(self.reopen_container_log(request.into_inner()).await)
    }

    // Streams.

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Answer<v1::ExecSyncResponse> {
        answer(self.exec_sync(request.into_inner()).await)
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        answer(self.exec(request.into_inner()).await)
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        answer(self.attach(request.into_inner()).await)
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Answer<v1::PortForwardResponse> {
        answer(self.port_forward(request.into_inner()).await)
    }

    // Usage.

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        let sight = self.sight(request.extensions());
        answer(self.container_stats(request.into_inner(), sight).await)
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        let sight = self.sight(request.extensions());
        answer(self.list_container_stats(request.into_inner(), sight).await)
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        let sight = self.sight(request.extensions());
        answer(self.pod_stats(request.into_inner(), sight).await)
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        let sight = self.sight(request.extensions());
        answer(self.list_pod_stats(request.into_inner(), sight).await)
    }

    async fn list_metric_descriptors(
        &self,
        request: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        answer(Ok(Self::list_metric_descriptors(request.into_inner())))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        request: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        answer(self.list_pod_metrics(request.into_inner()).await)
    }

    // The same lists as streams.

    type StreamPodSandboxesStream = Parts<v1::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        let sight = self.sight(request.extensions());
        answer(self.stream_pods(request.into_inner(), sight))
    }

    type StreamContainersStream = Parts<v1::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        let sight = self.sight(request.extensions());
        answer(self.stream_containers(request.into_inner(), sight))
    }

    type StreamContainerStatsStream = Parts<v1::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let sight = self.sight(request.extensions());
        answer(Ok(self.stream_container_stats(request.into_inner(), sight)))
    }

    type StreamPodSandboxStatsStream = Parts<v1::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let sight = self.sight(request.extensions());
        answer(Ok(self.stream_pod_stats(request.into_inner(), sight)))
    }

    type StreamPodSandboxMetricsStream = Parts<v1::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        request: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        answer(self.stream_pod_metrics(request.into_inner()))
    }

    async fn checkpoint_container(
        &self,
        request: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        answer(self.checkpoint_container(request.into_inner()).await)
    }

    async fn checkpoint_pod(
        &self,
        request: Request<v1::CheckpointPodRequest>,
    ) -> Answer<v1::CheckpointPodResponse> {
        answer(self.checkpoint_pod(request.into_inner()).await)
    }

    async fn restore_pod(
        &self,
        request: Request<v1::RestorePodRequest>,
    ) -> Answer<v1::RestorePodResponse> {
        answer(Box::pin(self.restore_pod(request.into_inner())).await)
    }

    type GetContainerEventsStream = Parts<v1::ContainerEventResponse>;

    async fn get_container_events(
        &self,
        request: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        answer(Ok(self.container_events(request.into_inner())))
    }
}

#[tonic::async_trait]
impl ImageService for Cri {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Answer<v1::ListImagesResponse> {
        answer(self.list_images(request.into_inner()))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        answer(self.image_status(request.into_inner()))
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Answer<v1::PullImageResponse> {
        answer(self.pull_image(request.into_inner()).await)
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        answer(self.remove_image(request.into_inner()).await)
    }

    async fn image_fs_info(
        &self,
        request: Request<v1::ImageFsInfoRequest>,
    ) -> Answer<v1::ImageFsInfoResponse> {
        answer(self.image_fs_info(request.into_inner()).await)
    }

    type StreamImagesStream = Parts<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Answer<Self::StreamImagesStream> {
        answer(self.stream_images(request.into_inner()))
    }
}
