//! The calls that write down what runs, and make it run again.

use std::collections::{BTreeSet, HashMap};

use cais_proto::runtime::v1::{
    CheckpointContainerRequest, CheckpointContainerResponse, CheckpointPodRequest,
    CheckpointPodResponse, RestorePodRequest, RestorePodResponse, RestoredContainer,
};

use super::Cri;
use super::convert::check::{self, refuse, shown};
use super::convert::{container, pod};
use crate::api::call::about;
use crate::error::Result;

impl Cri {
    pub(super) async fn checkpoint_container(
        &self,
        request: CheckpointContainerRequest,
    ) -> Result<CheckpointContainerResponse> {
        let CheckpointContainerRequest { container_id, location, timeout } = request;
        about("container", &container_id);
        let location = check::absolute_path("location", location)?;
        let timeout = Some(check::seconds("timeout", timeout)?).filter(|it| !it.is_zero());

        self.engine.checkpoint_container(&container_id, location, timeout).await?;

        Ok(CheckpointContainerResponse {})
    }

    pub(super) async fn checkpoint_pod(
        &self,
        request: CheckpointPodRequest,
    ) -> Result<CheckpointPodResponse> {
        let CheckpointPodRequest { pod_sandbox_id, output_path, container_ids, options } = request;
        about("pod", &pod_sandbox_id);
        no_options(&options)?;
        let output = check::absolute_path("output_path", output_path)?;

        self.engine.checkpoint_pod(&pod_sandbox_id, output, container_ids).await?;

        Ok(CheckpointPodResponse {})
    }

    pub(super) async fn restore_pod(
        &self,
        request: RestorePodRequest,
    ) -> Result<RestorePodResponse> {
        let RestorePodRequest {
            checkpoint_path,
            config,
            runtime_handler,
            options,
            container_configs,
        } = request;
        no_options(&options)?;
        if !runtime_handler.is_empty() {
            let why = format_args!("{} is not a handler of this runtime", shown(&runtime_handler));
            return Err(refuse("runtime_handler", why));
        }
        let checkpoint = check::absolute_path("checkpoint_path", checkpoint_path)?;
        let config = pod::pod_config(config, runtime_handler)?;
        about("pod", &config.name);
        let containers = container_configs.into_iter();
        let containers = containers.map(|it| container::container_config(Some(it)));
        let containers = containers.collect::<Result<Vec<_>>>()?;
        let names: BTreeSet<_> = containers.iter().map(|it| &it.name).collect();
        if names.len() != containers.len() {
            return Err(refuse("container_configs", "two of them have one name"));
        }

        let (pod, containers) = self.engine.restore_pod(checkpoint, config, containers).await?;

        let restored_containers = containers
            .into_iter()
            .map(|(name, id)| RestoredContainer { name, container_id: id.into() })
            .collect();
        Ok(RestorePodResponse { pod_sandbox_id: pod.into(), restored_containers })
    }
}

/// There are none.
fn no_options(options: &HashMap<String, String>) -> Result<()> {
    match options.keys().min() {
        Some(name) => Err(refuse("options", format_args!("{} is not known", shown(name)))),
        None => Ok(()),
    }
}
