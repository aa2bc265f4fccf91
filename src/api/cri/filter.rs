//! What of a list a client wants to see: everything that is set must match.

use std::collections::{BTreeMap, HashMap};

use cais_proto::runtime::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, ContainerStatsFilter, PodSandboxFilter,
    PodSandboxState, PodSandboxStateValue, PodSandboxStatsFilter,
};

use super::convert::{check, container, pod};
use crate::engine::container::record::Record as Container;
use crate::engine::pod::record::Record as Pod;
use crate::error::Result;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Pods {
    /// A prefix; empty lets every pod pass.
    id: String,
    state: Option<PodSandboxState>,
    labels: HashMap<String, String>,
}

impl Pods {
    pub(super) fn new(message: Option<PodSandboxFilter>) -> Result<Self> {
        let PodSandboxFilter { id, state, label_selector } = message.unwrap_or_default();
        let known = |PodSandboxStateValue { state }| {
            check::known("filter.state.state", state, "PodSandboxState")
        };
        Ok(Self { id, state: state.map(known).transpose()?, labels: label_selector })
    }

    pub(super) fn of_stats(message: Option<PodSandboxStatsFilter>) -> Self {
        let PodSandboxStatsFilter { id, label_selector } = message.unwrap_or_default();
        Self { id, state: None, labels: label_selector }
    }

    pub(super) fn keeps(&self, snapshot: &Pod) -> bool {
        let Self { id, state, labels } = self;
        snapshot.id.as_str().starts_with(id)
            && state.is_none_or(|state| state == pod::state(snapshot.phase))
            && has(&snapshot.config.labels, labels)
    }
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Containers {
    /// Prefixes; empty lets every container pass.
    id: String,
    pod: String,
    state: Option<ContainerState>,
    labels: HashMap<String, String>,
}

impl Containers {
    pub(super) fn new(message: Option<ContainerFilter>) -> Result<Self> {
        let ContainerFilter { id, state, pod_sandbox_id, label_selector } =
            message.unwrap_or_default();
        let known = |ContainerStateValue { state }| {
            check::known("filter.state.state", state, "ContainerState")
        };
        let state = state.map(known).transpose()?;
        Ok(Self { id, pod: pod_sandbox_id, state, labels: label_selector })
    }

    pub(super) fn of_stats(message: Option<ContainerStatsFilter>) -> Self {
        let ContainerStatsFilter { id, pod_sandbox_id, label_selector } =
            message.unwrap_or_default();
        Self { id, pod: pod_sandbox_id, state: None, labels: label_selector }
    }

    pub(super) fn keeps(&self, snapshot: &Container) -> bool {
        let Self { id, pod, state, labels } = self;
        snapshot.id.as_str().starts_with(id)
            && snapshot.pod.as_str().starts_with(pod)
            && state.is_none_or(|state| state == container::state(&snapshot.phase))
            && has(&snapshot.config.labels, labels)
    }
}

fn has(labels: &BTreeMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use cais_proto::runtime::v1::{
        ContainerConfig, ContainerMetadata, ImageSpec, PodSandboxConfig, PodSandboxMetadata,
    };

    use super::*;
    use crate::cgroup;
    use crate::engine::Rendering;
    use crate::engine::container::phase::Phase as ContainerPhase;
    use crate::engine::pod::phase::Phase;
    use crate::error::Kind;
    use crate::executor::plan::User;
    use crate::id::{ContainerId, PodId};

    fn labels() -> HashMap<String, String> {
        HashMap::from([("app".into(), "web".into()), ("tier".into(), "front".into())])
    }

    fn ready_pod() -> Pod {
        let metadata = PodSandboxMetadata {
            name: "web".into(),
            uid: "1".into(),
            namespace: "default".into(),
            attempt: 0,
        };
        let config =
            PodSandboxConfig { metadata: Some(metadata), labels: labels(), ..Default::default() };
        Pod {
            id: PodId::generate().unwrap(),
            config: Arc::new(pod::pod_config(Some(config), String::new()).unwrap()),
            created_at: 1,
            phase: Phase::Ready,
            attachment: None,
            joined: BTreeMap::new(),
            asks_names: false,
            way_out: None,
            way_out_ipv6: None,
            taken_from: None,
            monitor_pid: None,
            cgroup: cgroup::Record::of_parent("cgroup_parent", "/x").unwrap(),
            limits: None,
            stopped_at: 0,
            rendering: Rendering::default(),
        }
    }

    pub(in crate::api::cri) fn running_container() -> Container {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "web".into(), attempt: 0 }),
            image: Some(ImageSpec { image: "a".into(), ..Default::default() }),
            labels: labels(),
            ..Default::default()
        };
        Container {
            id: ContainerId::generate().unwrap(),
            pod: PodId::generate().unwrap(),
            config: Arc::new(container::container_config(Some(config)).unwrap()),
            image_id: String::new(),
            image_ref: String::new(),
            image_name: String::new(),
            created_at: 1,
            phase: ContainerPhase::Running { pid: 1, started_at: 1 },
            log_path: None,
            resources: cgroup::Resources::default(),
            user: User { uid: 0, gid: 0, groups: vec![], umask: None },
            image_volumes: Vec::new(),
            stop_signal: 15,
            cgroup: cgroup::Record::of_parent("cgroup_parent", "/x").unwrap(),
            layers: vec![],
            rendering: Rendering::default(),
        }
    }

    fn selector(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_pod_is_kept_when_all_that_is_set_matches() {
        let pod = ready_pod();
        let keeps = |id: &str, state: Option<i32>, labels: &[(&str, &str)]| {
            let filter = PodSandboxFilter {
                id: id.to_owned(),
                state: state.map(|state| PodSandboxStateValue { state }),
                label_selector: selector(labels),
            };
            Pods::new(Some(filter)).unwrap().keeps(&pod)
        };
        assert!(Pods::new(None).unwrap().keeps(&pod));
        assert!(keeps(pod.id.short(), Some(0), &[("app", "web"), ("tier", "front")]));
        assert!(keeps(pod.id.as_str(), None, &[]));
        assert!(!keeps("x", None, &[]));
        assert!(!keeps("", Some(1), &[]));
        assert!(!keeps("", None, &[("app", "web"), ("tier", "back")]));
        assert!(!keeps("", None, &[("web", "app")]));
    }

    #[test]
    fn a_container_is_kept_when_all_that_is_set_matches() {
        let container = running_container();
        let keeps = |id: &str, pod: &str, state: Option<i32>, labels: &[(&str, &str)]| {
            let filter = ContainerFilter {
                id: id.to_owned(),
                pod_sandbox_id: pod.to_owned(),
                state: state.map(|state| ContainerStateValue { state }),
                label_selector: selector(labels),
            };
            Containers::new(Some(filter)).unwrap().keeps(&container)
        };
        let (id, pod) = (container.id.short(), container.pod.as_str());
        assert!(Containers::new(None).unwrap().keeps(&container));
        assert!(keeps(id, pod, Some(1), &[("app", "web")]));
        assert!(!keeps(pod, "", None, &[]));
        assert!(!keeps("", id, None, &[]));
        assert!(!keeps("", "", Some(0), &[]));
        assert!(!keeps("", "", Some(3), &[]));
        assert!(!keeps("", "", None, &[("app", "")]));
    }

    #[test]
    fn a_state_that_does_not_exist_is_refused() {
        let state = Some(PodSandboxStateValue { state: 2 });
        let error = Pods::new(Some(PodSandboxFilter { state, ..Default::default() })).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert_eq!(error.chain(), "filter.state.state: 2 is not a PodSandboxState");
    }
}
