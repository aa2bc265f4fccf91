//! Starting what is to run when the daemon begins: services of a compose project behind those that they depend on.
//!
//! docker compose, and ours, write a service's dependencies on its containers: `db:service_healthy:false,cache:service_started:true`.
//! At a boot no client is there to follow them, so the daemon does. What cannot become what a service waits for keeps it no
//! longer than until that is known: a container that is to run always is started in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

use super::health::Status;
use super::record::{Record, State};
use super::{Standalone, restart, start};
use crate::engine::Shared;
use crate::id::ContainerId;

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";
const ONE_OFF: &str = "com.docker.compose.oneoff";

/// Starts all of these, each when those that it depends on are there. Returns at once.
pub(super) fn start_all(shared: &Arc<Shared>, due: &[Arc<Standalone>]) {
    let services: Vec<Service> = due.iter().map(|it| Service::of(&it.record())).collect();
    let began = Arc::new(watch::Sender::new(BTreeSet::<ContainerId>::new()));
    for (container, waits) in due.iter().zip(waits(&services)) {
        let waits = waits.into_iter().map(|(index, is_healthy)| (due[index].clone(), is_healthy));
        let waits: Vec<(Arc<Standalone>, bool)> = waits.collect();
        let (shared, container, began) = (shared.clone(), container.clone(), began.clone());
        let before = container.record();
        tokio::spawn(async move {
            for (dependency, is_healthy) in waits {
                // The sender is ours: it cannot be gone.
                let _ = began.subscribe().wait_for(|ids| ids.contains(&dependency.id)).await;
                if is_healthy {
                    settled(&dependency).await;
                }
            }
            begin(&shared, &container, &before).await;
            began.send_modify(|ids| {
                ids.insert(container.id.clone());
            });
        });
    }
}

/// Starts it as it was to be `before`, unless somebody has started, stopped or removed it meanwhile.
async fn begin(shared: &Arc<Shared>, container: &Arc<Standalone>, before: &Record) {
    if matches!(before.state, State::Restarting(_)) {
        return restart::again(shared, container).await;
    }
    let _mutation = container.mutation.lock().await;
    let record = container.record();
    if !matches!(record.state, State::Exited { .. }) || record.runs != before.runs {
        return;
    }
    let anew = |record: &mut Record| (record.is_stopped, record.restarts) = (false, 0);
    let started = match container.update(shared, anew) {
        Ok(()) => start::start_locked(shared, container).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = started {
        tracing::warn!(container = %container.id, error = error.chain(), "start again");
    }
}

/// Until a container that was started is well or ill, or has ended.
async fn settled(container: &Standalone) {
    let is_open = || {
        let record = container.record();
        record.run().is_some_and(|run| run.health == Some(Status::Starting))
    };
    let _ = container.ends().wait_for(|ends| ends.is_removed || !is_open()).await;
}

/// What compose has written on a container.
#[derive(Debug, Default, PartialEq, Eq)]
struct Service {
    /// Project and name; nothing for what is no container of a service.
    own: Option<(String, String)>,
    /// Each with whether it is to be healthy.
    depends_on: Vec<(String, bool)>,
}

impl Service {
    fn of(record: &Record) -> Self {
        Self::read(&record.config.container.labels)
    }

    fn read(labels: &BTreeMap<String, String>) -> Self {
        let (Some(project), Some(service)) = (labels.get(PROJECT), labels.get(SERVICE)) else {
            return Self::default();
        };
        if labels.get(ONE_OFF).is_some_and(|it| it == "True") {
            return Self::default();
        }
        let depends_on = labels.get(DEPENDS_ON).map(String::as_str).unwrap_or_default();
        let dependency = |text: &str| {
            let mut parts = text.split(':');
            let name = parts.next().filter(|it| !it.is_empty())?;
            Some((name.to_owned(), parts.next() == Some("service_healthy")))
        };
        Self {
            own: Some((project.clone(), service.clone())),
            depends_on: depends_on.split(',').filter_map(dependency).collect(),
        }
    }
}

/// For each, those that it waits for, by their place in the list. Of a circle, which somebody must have made by hand, one
/// waits for nobody.
fn waits(services: &[Service]) -> Vec<Vec<(usize, bool)>> {
    let mut named: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (index, service) in services.iter().enumerate() {
        if let Some((project, name)) = &service.own {
            named.entry((project, name)).or_default().push(index);
        }
    }
    let all = services.iter().map(|service| {
        let Some((project, _)) = &service.own else { return Vec::new() };
        let containers = |(name, is_healthy): &(String, bool)| {
            let containers = named.get(&(project.as_str(), name.as_str())).into_iter().flatten();
            containers.map(|index| (*index, *is_healthy)).collect::<Vec<_>>()
        };
        service.depends_on.iter().flat_map(containers).collect()
    });
    let mut all: Vec<Vec<(usize, bool)>> = all.collect();
    let mut place = BTreeMap::new();
    for index in 0..all.len() {
        visit(&all, index, &mut BTreeSet::new(), &mut place);
    }
    for (index, waits) in all.iter_mut().enumerate() {
        waits.retain(|(other, _)| place[other] < place[&index]);
    }
    all
}

/// Gives each a place behind those it waits for.
fn visit(
    all: &[Vec<(usize, bool)>],
    index: usize,
    under_way: &mut BTreeSet<usize>,
    place: &mut BTreeMap<usize, usize>,
) {
    if place.contains_key(&index) || !under_way.insert(index) {
        return;
    }
    for (other, _) in &all[index] {
        visit(all, *other, under_way, place);
    }
    place.insert(index, place.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(project: &str, name: &str, depends_on: &str) -> Service {
        let labels = [(PROJECT, project), (SERVICE, name), (DEPENDS_ON, depends_on)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Service::read(&labels.into())
    }

    #[test]
    fn services_wait_for_the_containers_of_their_dependencies() {
        let services = [
            service(
                "shop",
                "app",
                "db:service_healthy:false,cache:service_started:true,gone:service_started:false",
            ),
            service("shop", "db", ""),
            service("shop", "db", ""),
            service("other", "db", ""),
            service("shop", "cache", "db:service_started:false"),
            Service::default(),
        ];
        let expected = [
            vec![(1, true), (2, true), (4, false)],
            vec![],
            vec![],
            vec![],
            vec![(1, false), (2, false)],
            vec![],
        ];
        assert_eq!(waits(&services), expected);
    }

    #[test]
    fn nobody_waits_in_a_circle() {
        let services = [
            service("shop", "a", "b:service_started:false"),
            service("shop", "b", "c:service_started:false"),
            service("shop", "c", "a:service_started:false"),
            service("shop", "d", "d:service_started:false"),
        ];
        assert_eq!(waits(&services), [vec![(1, false)], vec![(2, false)], vec![], vec![]]);
    }

    #[test]
    fn a_container_of_one_command_is_no_service() {
        let labels = [(PROJECT, "shop"), (SERVICE, "db"), (ONE_OFF, "True")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(Service::read(&labels.into()), Service::default());
    }
}
