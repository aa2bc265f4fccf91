//! The calls about the runtime itself.

use std::collections::HashMap;

use cais_proto::runtime::v1::{
    CgroupDriver as CriCgroupDriver, LinuxRuntimeConfiguration, NetworkConfig, RuntimeCondition,
    RuntimeConfig, RuntimeConfigRequest, RuntimeConfigResponse, RuntimeFeatures, RuntimeHandler,
    RuntimeHandlerFeatures, RuntimeStatus, StatusRequest, StatusResponse,
    UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse, VersionRequest, VersionResponse,
};
use serde_json::json;

use super::Cri;
use super::convert::check;
use crate::config::CgroupDriver;
use crate::error::{Context, Result};

/// The version of the interface's messages. The kubelet compares it with a constant of its own.
const KUBELET_API_VERSION: &str = "0.1.0";

impl Cri {
    pub(super) fn version(&self, request: VersionRequest) -> Result<VersionResponse> {
        // What the client speaks makes no difference: there is one version.
        let VersionRequest { version: _theirs } = request;
        Ok(VersionResponse {
            version: KUBELET_API_VERSION.to_owned(),
            runtime_name: "cais".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    pub(super) async fn status(&self, request: StatusRequest) -> Result<StatusResponse> {
        let StatusRequest { verbose } = request;
        // Calls are answered only once the engine has taken up its pods.
        let runtime = condition("RuntimeReady", &Ok(()));
        let network = condition("NetworkReady", &self.engine.network_ready().await);
        let handler = RuntimeHandler {
            // The default one.
            name: String::new(),
            features: Some(RuntimeHandlerFeatures {
                recursive_read_only_mounts: has_mount_setattr(),
                user_namespaces: self.engine.has_user_namespaces(),
            }),
        };
        Ok(StatusResponse {
            status: Some(RuntimeStatus { conditions: vec![runtime, network] }),
            info: if verbose { self.info()? } else { HashMap::new() },
            runtime_handlers: vec![handler],
            features: Some(RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: self.engine.has_user_namespaces(),
                mount_options: true,
            }),
        })
    }

    /// `sandboxImage` is read by kubeadm, `stateDir` by critest.
    fn info(&self) -> Result<HashMap<String, String>> {
        let config = self.engine.config();
        let info = json!({
            // No image is needed to hold a pod.
            "sandboxImage": "",
            "stateDir": config.state,
            "rootDir": config.root,
            "cgroupDriver": self.engine.cgroup_driver(),
            "effective": config,
            "pulls": self.pulls(),
        });
        let text = serde_json::to_string(&info).context("print the configuration")?;
        Ok(HashMap::from([("config".to_owned(), text)]))
    }

    /// What is being pulled now, and how far it is, in compressed bytes.
    fn pulls(&self) -> Vec<serde_json::Value> {
        let pulls = self.engine.images().pulling();
        let shown = pulls.iter().map(|(reference, progress)| {
            let (received, expected) = progress.bytes();
            json!({ "image": reference.to_string(), "received": received, "expected": expected })
        });
        shown.collect()
    }

    pub(super) fn runtime_config(
        &self,
        request: RuntimeConfigRequest,
    ) -> Result<RuntimeConfigResponse> {
        let RuntimeConfigRequest {} = request;
        let driver = match self.engine.cgroup_driver() {
            CgroupDriver::Cgroupfs => CriCgroupDriver::Cgroupfs,
            CgroupDriver::Systemd => CriCgroupDriver::Systemd,
        };
        let linux = LinuxRuntimeConfiguration { cgroup_driver: driver as i32 };
        Ok(RuntimeConfigResponse { linux: Some(linux) })
    }

    pub(super) fn update_runtime_config(
        &self,
        request: UpdateRuntimeConfigRequest,
    ) -> Result<UpdateRuntimeConfigResponse> {
        let UpdateRuntimeConfigRequest { runtime_config } = request;
        let RuntimeConfig { network_config } = check::required("runtime_config", runtime_config)?;
        // The range of the pods' addresses is our own configuration's, or the CNI plugin's.
        if let Some(NetworkConfig { pod_cidr }) = network_config {
            tracing::debug!(pod_cidr, "the node's pod range is not used");
        }
        Ok(UpdateRuntimeConfigResponse {})
    }
}

fn condition(kind: &str, ready: &Result<()>) -> RuntimeCondition {
    let (reason, message) = match ready {
        Ok(()) => (String::new(), String::new()),
        Err(error) => (kind.replace("Ready", "NotReady"), error.chain()),
    };
    RuntimeCondition { r#type: kind.to_owned(), status: ready.is_ok(), reason, message }
}

/// Linux 5.12 and later can make a mount read-only with all that is below it.
fn has_mount_setattr() -> bool {
    let uname = rustix::system::uname();
    uname.release().to_str().ok().and_then(version_of).is_some_and(|version| version >= (5, 12))
}

/// `6.1.0-28-amd64`, `5.12-rc3`.
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|char: char| !char.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};

    #[test]
    fn kernel_releases_are_compared_as_numbers() {
        assert_eq!(version_of("6.1.0-28-amd64"), Some((6, 1)));
        assert_eq!(version_of("5.12-rc3"), Some((5, 12)));
        assert!(version_of("5.9.1").unwrap() < (5, 12));
        assert_eq!(version_of("next"), None);
    }

    #[test]
    fn a_condition_that_does_not_hold_says_why() {
        let error = Error::new(Kind::Unavailable, "no CNI configuration");
        let lost = condition("NetworkReady", &Err(error));

        assert!(!lost.status);
        assert_eq!((lost.r#type, lost.reason), ("NetworkReady".into(), "NetworkNotReady".into()));
        assert_eq!(lost.message, "no CNI configuration");
    }
}
