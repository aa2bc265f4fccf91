//! What CRI's clients see: pods and containers of their own and, where they may, standalone containers that wish it.
//!
//! A standalone container wishes it by a label, [`NAMESPACE`], which says in which namespace it is. It is shown as a pod with
//! one container, while it runs, under its name of now; nothing but the label is on record. Whoever makes pods of its own must
//! not see it: a kubelet ends every pod that it does not know.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};

use super::container::{self, Container};
use super::pod::{self, Pod};
use super::standalone::record::Record as Standalone;
use super::{Engine, Shared, clock, stats};
use crate::error::Result;
use crate::id::ContainerId;

/// The label of a standalone container that is to be shown.
const NAMESPACE: &str = "cais.cri.namespace";
/// Whose name the container has in its pod: the service's, where it is of a compose project.
const SERVICE: &str = "com.docker.compose.service";

type PodRecord = Arc<pod::record::Record>;
type ContainerRecord = Arc<container::record::Record>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// What was made through CRI.
    Own,
    /// Standalone containers that wish it, too.
    Shown,
}

impl Engine {
    /// The newest first.
    pub(crate) fn pods(&self, sight: Sight) -> Vec<PodRecord> {
        let mut pods: Vec<_> = self.shared.pods_seen(sight).map(|(_, record)| record).collect();
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.created_at));
        pods
    }

    /// The newest first.
    pub(crate) fn containers(&self, sight: Sight) -> Vec<ContainerRecord> {
        let all = self.shared.containers_seen(sight);
        let mut containers: Vec<_> = all.map(|(_, record)| record).collect();
        containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
        containers
    }

    /// The same number as before: [`Engine::pods`] gives with [`Sight::Own`] what it gave before.
    pub(crate) fn generation_of_pods(&self) -> u64 {
        self.shared.pods.generation()
    }

    /// As [`Engine::generation_of_pods`].
    pub(crate) fn generation_of_containers(&self) -> u64 {
        self.shared.containers.generation()
    }

    /// The pod, its containers, and a moment that is not later than what they show.
    pub(crate) fn pod_and_containers(
        &self,
        id: &str,
        sight: Sight,
    ) -> Result<(i64, PodRecord, Vec<ContainerRecord>)> {
        let pod = self.shared.pods.find(id)?;
        let at = clock::now();
        let containers = self.shared.containers_of(&pod.id);
        let containers =
            containers.iter().map(|it| self.shared.known_container(it.record(), sight));
        Ok((at, self.shared.known_pod(pod.record(), sight), containers.collect()))
    }

    pub(crate) fn container(&self, id: &str, sight: Sight) -> Result<ContainerRecord> {
        Ok(self.shared.known_container(self.shared.containers.find(id)?.record(), sight))
    }

    pub(crate) async fn container_stats(
        &self,
        id: &str,
        sight: Sight,
    ) -> Result<stats::ContainerStats> {
        let container = self.shared.containers.find(id)?;
        let found = stats::of_container(&self.shared, container).await?;
        Ok(self.shared.known_container_stats(found, sight))
    }

    /// Of the containers that `keep` names, some at a time.
    pub(crate) fn all_container_stats(
        &self,
        sight: Sight,
        keep: &dyn Fn(&container::record::Record) -> bool,
    ) -> impl Stream<Item = Vec<stats::ContainerStats>> + Send + 'static + use<> {
        let kept = self.shared.containers_seen(sight).filter(|(_, record)| keep(record));
        let containers: Vec<_> = kept.map(|(container, _)| container).collect();
        let shared = self.shared.clone();
        stats::containers_in_groups(&self.shared, &containers).map(move |group| {
            group.into_iter().map(|it| shared.known_container_stats(it, sight)).collect()
        })
    }

    pub(crate) async fn pod_stats(&self, id: &str, sight: Sight) -> Result<stats::PodStats> {
        let pod = self.shared.pods.find(id)?;
        let found = stats::of_pod(&self.shared, pod).await?;
        Ok(self.shared.known_pod_stats(found, sight))
    }

    /// Of the pods that `keep` names, some at a time.
    pub(crate) fn all_pod_stats(
        &self,
        sight: Sight,
        keep: &dyn Fn(&pod::record::Record) -> bool,
    ) -> impl Stream<Item = Vec<stats::PodStats>> + Send + 'static + use<> {
        let kept = self.shared.pods_seen(sight).filter(|(_, record)| keep(record));
        let pods: Vec<_> = kept.map(|(pod, _)| pod).collect();
        let shared = self.shared.clone();
        stats::pods_in_groups(&self.shared, &pods).map(move |group| {
            group.into_iter().map(|it| shared.known_pod_stats(it, sight)).collect()
        })
    }

    /// Of all pods of CRI's own, some at a time.
    pub(crate) fn all_pod_metrics(
        &self,
    ) -> impl Stream<Item = Vec<stats::metrics::PodMetrics>> + Send + 'static + use<> {
        let pods: Vec<_> = self.shared.pods_seen(Sight::Own).map(|(pod, _)| pod).collect();
        stats::metrics::pods_in_groups(&self.shared, &pods)
    }
}

impl Shared {
    /// All that are seen, each with what it is now.
    fn pods_seen(&self, sight: Sight) -> impl Iterator<Item = (Arc<Pod>, PodRecord)> {
        let all = self.pods.all().into_iter();
        all.filter_map(move |pod| Some((pod.clone(), self.seen_pod(pod.record(), sight)?)))
    }

    /// As [`Shared::pods_seen`].
    fn containers_seen(
        &self,
        sight: Sight,
    ) -> impl Iterator<Item = (Arc<Container>, ContainerRecord)> {
        let all = self.containers.all().into_iter();
        all.filter_map(move |it| Some((it.clone(), self.seen_container(it.record(), sight)?)))
    }

    /// `None`: it is left out.
    fn seen_pod(&self, record: PodRecord, sight: Sight) -> Option<PodRecord> {
        match (&record.config.standalone, sight) {
            (None, _) => Some(record),
            (Some(_), Sight::Own) => None,
            (Some(_), Sight::Shown) => {
                let own = self.standalones.find(&record.config.uid).ok()?.record();
                shown_pod(&record, &own).map(Arc::new)
            }
        }
    }

    /// As [`Shared::seen_pod`].
    fn seen_container(&self, record: ContainerRecord, sight: Sight) -> Option<ContainerRecord> {
        match (&record.config.standalone, sight) {
            (None, _) => Some(record),
            (Some(_), Sight::Own) => None,
            (Some(id), Sight::Shown) => {
                let own = self.standalones.find(id.as_str()).ok()?.record();
                shown_container(&record, &own).map(Arc::new)
            }
        }
    }

    /// Who has the id may look at what is not in its lists, as it is here.
    fn known_pod(&self, record: PodRecord, sight: Sight) -> PodRecord {
        self.seen_pod(record.clone(), sight).unwrap_or(record)
    }

    /// As [`Shared::known_pod`].
    fn known_container(&self, record: ContainerRecord, sight: Sight) -> ContainerRecord {
        self.seen_container(record.clone(), sight).unwrap_or(record)
    }

    fn known_container_stats(
        &self,
        mut found: stats::ContainerStats,
        sight: Sight,
    ) -> stats::ContainerStats {
        found.container = self.known_container(found.container, sight);
        found
    }

    fn known_pod_stats(&self, mut found: stats::PodStats, sight: Sight) -> stats::PodStats {
        found.pod = self.known_pod(found.pod, sight);
        let containers = found.containers.into_iter();
        found.containers = containers.map(|it| self.known_container_stats(it, sight)).collect();
        found
    }
}

/// The namespace in which it wishes to be seen.
fn namespace(own: &Standalone) -> Option<&str> {
    let labels = &own.config.container.labels;
    labels.get(NAMESPACE).map(String::as_str).filter(|it| !it.is_empty())
}

fn shown_pod(record: &pod::record::Record, own: &Standalone) -> Option<pod::record::Record> {
    let namespace = namespace(own)?;
    let mut config = (*record.config).clone();
    config.name.clone_from(&own.name);
    config.uid = uid(&own.id);
    namespace.clone_into(&mut config.namespace);
    config.labels.extend(pod_labels(own, namespace));
    // Where it has several addresses, that of its way out.
    let out = record.way_out.as_ref().and_then(|it| record.attachment_of(it));
    let attachment = out.or_else(|| record.attachments().next()).cloned();
    Some(pod::record::Record { config: Arc::new(config), attachment, ..record.clone() })
}

fn shown_container(
    record: &container::record::Record,
    own: &Standalone,
) -> Option<container::record::Record> {
    let namespace = namespace(own)?;
    let mut config = (*record.config).clone();
    let service = config.labels.get(SERVICE).filter(|it| !it.is_empty());
    config.name = service.unwrap_or(&own.name).clone();
    config.labels.insert("io.kubernetes.container.name".to_owned(), config.name.clone());
    config.labels.extend(pod_labels(own, namespace));
    Some(container::record::Record { config: Arc::new(config), ..record.clone() })
}

/// As a kubelet labels its pods and all that is in them.
fn pod_labels(own: &Standalone, namespace: &str) -> [(String, String); 3] {
    [
        ("io.kubernetes.pod.name", own.name.clone()),
        ("io.kubernetes.pod.namespace", namespace.to_owned()),
        ("io.kubernetes.pod.uid", uid(&own.id)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
}

/// The container's id in the form that Kubernetes' ids have.
fn uid(id: &ContainerId) -> String {
    let digits = id.as_str();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    let parts: Vec<&str> = parts.into_iter().filter_map(|part| digits.get(part)).collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_form_of_a_kubernetes_uid() {
        let id = ContainerId::generate().unwrap();
        let uid = uid(&id);
        let lengths: Vec<usize> = uid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert!(id.as_str().starts_with(&uid.replace('-', "")));
    }
}
