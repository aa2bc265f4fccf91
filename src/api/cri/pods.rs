//! The calls about pods.

use std::collections::HashMap;

use cais_proto::runtime::v1::{
    PodSandboxStatusRequest, PodSandboxStatusResponse, RemovePodSandboxRequest,
    RemovePodSandboxResponse, RunPodSandboxRequest, RunPodSandboxResponse, StopPodSandboxRequest,
    StopPodSandboxResponse, StreamPodSandboxesRequest, StreamPodSandboxesResponse,
    UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse,
};

use super::convert::check::{refuse, shown};
use super::convert::container::container_status;
use super::convert::resources::resources as limits;
use super::convert::{info, pod};
use super::parts::{self, Parts};
use super::{Cri, filter};
use crate::api::call::about;
use crate::engine::{PodLimits, Sight};
use crate::error::Result;

impl Cri {
    pub(super) async fn run_pod(
        &self,
        request: RunPodSandboxRequest,
    ) -> Result<RunPodSandboxResponse> {
        let RunPodSandboxRequest { config, runtime_handler } = request;
        // Status lists the handlers: there is the default one.
        if !runtime_handler.is_empty() {
            let why = format_args!("{} is not a handler of this runtime", shown(&runtime_handler));
            return Err(refuse("runtime_handler", why));
        }
        let config = pod::pod_config(config, runtime_handler)?;
        about("pod", &config.name);

        let id = self.engine.run_pod(config).await?;

        Ok(RunPodSandboxResponse { pod_sandbox_id: id.into() })
    }

    pub(super) async fn stop_pod(
        &self,
        request: StopPodSandboxRequest,
    ) -> Result<StopPodSandboxResponse> {
        let StopPodSandboxRequest { pod_sandbox_id } = request;
        about("pod", &pod_sandbox_id);
        self.engine.stop_pod(&pod_sandbox_id).await?;
        Ok(StopPodSandboxResponse {})
    }

    pub(super) async fn update_pod(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Result<UpdatePodSandboxResourcesResponse> {
        let UpdatePodSandboxResourcesRequest { pod_sandbox_id, overhead, resources } = request;
        about("pod", &pod_sandbox_id);
        // The score of a pod is that of its containers.
        let limits = |field, message| limits(field, message).map(|(limits, _score)| limits);
        let change = PodLimits {
            overhead: overhead.map(|it| limits("overhead", it)).transpose()?,
            resources: resources.map(|it| limits("resources", it)).transpose()?,
        };
        self.engine.update_pod(&pod_sandbox_id, change).await?;
        Ok(UpdatePodSandboxResourcesResponse {})
    }

    pub(super) async fn remove_pod(
        &self,
        request: RemovePodSandboxRequest,
    ) -> Result<RemovePodSandboxResponse> {
        let RemovePodSandboxRequest { pod_sandbox_id } = request;
        about("pod", &pod_sandbox_id);
        self.engine.remove_pod(&pod_sandbox_id).await?;
        Ok(RemovePodSandboxResponse {})
    }

    pub(super) fn pod_status(
        &self,
        request: PodSandboxStatusRequest,
        sight: Sight,
    ) -> Result<PodSandboxStatusResponse> {
        let PodSandboxStatusRequest { pod_sandbox_id, verbose } = request;
        about("pod", &pod_sandbox_id);

        let (timestamp, snapshot, containers) =
            self.engine.pod_and_containers(&pod_sandbox_id, sight)?;

        Ok(PodSandboxStatusResponse {
            status: Some(pod::pod_status(&snapshot)),
            info: if verbose { info::pod(&snapshot)? } else { HashMap::new() },
            containers_statuses: containers.iter().map(|it| container_status(it)).collect(),
            timestamp,
        })
    }

    pub(super) fn stream_pods(
        &self,
        request: StreamPodSandboxesRequest,
        sight: Sight,
    ) -> Result<Parts<StreamPodSandboxesResponse>> {
        let StreamPodSandboxesRequest { filter } = request;
        let wanted = filter::Pods::new(filter)?;
        let mut pods = self.engine.pods(sight);
        pods.retain(|pod| wanted.keeps(pod));
        let wrap = |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes };
        Ok(parts::of_entries(pods.into_iter().map(|it| pod::pod(&it)), wrap))
    }
}
