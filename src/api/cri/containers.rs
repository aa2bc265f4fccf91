//! The calls about containers.
//!
//! A branch that depends on the container's state belongs in `engine::container`.

use std::collections::HashMap;

use cais_proto::runtime::v1::{
    ContainerStatusRequest, ContainerStatusResponse, CreateContainerRequest,
    CreateContainerResponse, RemoveContainerRequest, RemoveContainerResponse,
    ReopenContainerLogRequest, ReopenContainerLogResponse, StartContainerRequest,
    StartContainerResponse, StopContainerRequest, StopContainerResponse, StreamContainersRequest,
    StreamContainersResponse, UpdateContainerResourcesRequest, UpdateContainerResourcesResponse,
};

use super::convert::{check, container, info, resources};
use super::parts::{self, Parts};
use super::{Cri, filter};
use crate::api::call::about;
use crate::engine::Sight;
use crate::error::Result;

impl Cri {
    pub(super) async fn create_container(
        &self,
        request: CreateContainerRequest,
    ) -> Result<CreateContainerResponse> {
        // `sandbox_config` repeats what the pod was made from; the pod's own record wins.
        let CreateContainerRequest { pod_sandbox_id, config, sandbox_config: _ } = request;
        about("pod", &pod_sandbox_id);
        let config = container::container_config(config)?;
        about("container", &config.name);

        let id = self.engine.create_container(&pod_sandbox_id, config).await?;

        Ok(CreateContainerResponse { container_id: id.into() })
    }

    pub(super) async fn start_container(
        &self,
        request: StartContainerRequest,
    ) -> Result<StartContainerResponse> {
        let StartContainerRequest { container_id } = request;
        about("container", &container_id);
        self.engine.start_container(&container_id).await?;
        Ok(StartContainerResponse {})
    }

    pub(super) async fn stop_container(
        &self,
        request: StopContainerRequest,
    ) -> Result<StopContainerResponse> {
        let StopContainerRequest { container_id, timeout } = request;
        about("container", &container_id);
        let timeout = check::seconds("timeout", timeout)?;
        self.engine.stop_container(&container_id, timeout).await?;
        Ok(StopContainerResponse {})
    }

    pub(super) async fn remove_container(
        &self,
        request: RemoveContainerRequest,
    ) -> Result<RemoveContainerResponse> {
        let RemoveContainerRequest { container_id } = request;
        about("container", &container_id);
        self.engine.remove_container(&container_id).await?;
        Ok(RemoveContainerResponse {})
    }

    pub(super) fn container_status(
        &self,
        request: ContainerStatusRequest,
        sight: Sight,
    ) -> Result<ContainerStatusResponse> {
        let ContainerStatusRequest { container_id, verbose } = request;
        about("container", &container_id);

        let snapshot = self.engine.container(&container_id, sight)?;

        Ok(ContainerStatusResponse {
            status: Some(container::container_status(&snapshot)),
            info: if verbose { info::container(&snapshot)? } else { HashMap::new() },
        })
    }

    pub(super) fn stream_containers(
        &self,
        request: StreamContainersRequest,
        sight: Sight,
    ) -> Result<Parts<StreamContainersResponse>> {
        let StreamContainersRequest { filter } = request;
        let wanted = filter::Containers::new(filter)?;
        let mut found = self.engine.containers(sight);
        found.retain(|container| wanted.keeps(container));
        let wrap = |containers| StreamContainersResponse { containers };
        Ok(parts::of_entries(found.into_iter().map(|it| container::container(&it)), wrap))
    }

    pub(super) async fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse> {
        let UpdateContainerResourcesRequest {
            container_id,
            linux,
            // Nothing of it has a meaning here.
            windows: _,
            // For plugins, of which there are none.
            annotations: _,
        } = request;
        about("container", &container_id);
        let linux = check::required("linux", linux)?;
        let (resources, adjustment) = resources::resources("linux", linux)?;
        // In an update zero means "leave it", and who changes a limit by hand never sends the score.
        let adjustment = Some(adjustment).filter(|adjustment| *adjustment != 0);
        self.engine.update_container(&container_id, resources, adjustment).await?;
        Ok(UpdateContainerResourcesResponse {})
    }

    pub(super) async fn reopen_container_log(
        &self,
        request: ReopenContainerLogRequest,
    ) -> Result<ReopenContainerLogResponse> {
        let ReopenContainerLogRequest { container_id } = request;
        about("container", &container_id);
        self.engine.reopen_log(&container_id).await?;
        Ok(ReopenContainerLogResponse {})
    }
}
