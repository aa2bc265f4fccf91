//! Calls that their client gives up and repeats, at any moment: no object twice, none lost, none left.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cais_proto::runtime::v1::{
    ContainerEventType, ContainerState, GetEventsRequest, ListContainersRequest,
};
use futures_util::future::join_all;
use tonic::{Code, Status};

use crate::node::{Container, Node, Pod, monitors_below};
use crate::scale::{Chance, times};
use crate::wait::{LONG, until};

/// How long each call takes when nobody hangs up.
struct Usual {
    run: Duration,
    create: Duration,
    start: Duration,
    stop: Duration,
    remove: Duration,
    stop_pod: Duration,
    remove_pod: Duration,
}

async fn timed<T>(call: impl Future<Output = T>) -> (Duration, T) {
    let before = Instant::now();
    let done = call.await;
    (before.elapsed(), done)
}

impl Usual {
    async fn on(node: &Node) -> Self {
        let (run, pod) = timed(node.pod("usual").run()).await;
        let builder = pod.container("main").command(["sleep", "1000"]);
        let (create, container) = timed(builder.create()).await;
        let (start, _) = timed(container.start()).await;
        let (stop, ()) = timed(container.stop(0)).await;
        let (remove, ()) = timed(container.remove()).await;
        let (stop_pod, ()) = timed(pod.stop()).await;
        let (remove_pod, ()) = timed(pod.remove()).await;
        Self { run, create, start, stop, remove, stop_pod, remove_pod }
    }
}

/// Starts a call and hangs up. An answer that came before counts as lost on its way.
async fn give_up<T>(after: Duration, call: impl Future<Output = T>) {
    let _ = tokio::time::timeout(after, call).await;
}

async fn containers_of(pod: &Pod<'_>) -> Vec<String> {
    let listed = pod.node.runtime().list_containers(ListContainersRequest::default()).await;
    let all = listed.unwrap().into_inner().containers;
    let of_pod = all.into_iter().filter(|container| container.pod_sandbox_id == pod.id);
    of_pod.map(|container| container.id).collect()
}

/// A retry that comes after the start was done may say so.
fn started_or_running(retried: Result<(), Status>) {
    if let Err(refused) = retried {
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    }
}

/// One pod with one container from beginning to end, each call given up once and repeated.
async fn live(node: &Node, number: usize, usual: &Usual, chance: &mut Chance) -> [String; 2] {
    let name = format!("retried-{number}");
    give_up(chance.moment_of(usual.run), node.pod(&name).try_run()).await;
    let pod = node.pod(&name).run().await;
    assert_eq!(node.pod(&name).run().await.id, pod.id);
    assert_eq!(node.pod_ids().await, [pod.id.clone()], "{name}");

    let starts = node.home.join(&name);
    let container = || {
        let script = "echo start >> /host/$NAME; exec sleep 1000";
        pod.container("main").shell(script).env("NAME", &name).with(|config| {
            config.mounts = vec![cais_proto::runtime::v1::Mount {
                container_path: "/host".to_owned(),
                host_path: node.home.to_str().unwrap().to_owned(),
                ..Default::default()
            }];
        })
    };
    give_up(chance.moment_of(usual.create), container().try_create_at_once()).await;
    let main = container().create().await;
    assert_eq!(container().create().await.id, main.id);
    assert_eq!(containers_of(&pod).await, [main.id.clone()], "{name}");

    give_up(chance.moment_of(usual.start), main.start()).await;
    started_or_running(main.start().await);
    assert_eq!(main.state().await, ContainerState::ContainerRunning, "{name}");
    until("the program's first words", async || starts.exists()).await;

    give_up(chance.moment_of(usual.stop), main.try_stop(0)).await;
    main.stop(0).await;
    assert_eq!(main.status().await.exit_code, 137, "{name}");
    assert_eq!(std::fs::read_to_string(&starts).unwrap(), "start\n", "{name} ran twice");

    give_up(chance.moment_of(usual.remove), main.try_remove()).await;
    main.remove().await;
    assert_eq!(main.try_status().await.unwrap_err().code(), Code::NotFound, "{name}");

    give_up(chance.moment_of(usual.stop_pod), pod.try_stop()).await;
    pod.stop().await;
    give_up(chance.moment_of(usual.remove_pod), node.remove_pod(pod.id.clone())).await;
    pod.remove().await;
    assert_eq!(pod.try_status().await.unwrap_err().code(), Code::NotFound, "{name}");
    assert_eq!(node.pod_ids().await, Vec::<String>::new(), "{name}");
    [pod.id.clone(), main.id.clone()]
}

/// How often each change of each object was told.
async fn told(node: &Node, last: &str) -> BTreeMap<(String, ContainerEventType), usize> {
    let follow = node.runtime().get_container_events(GetEventsRequest {}).await;
    let mut events = follow.unwrap().into_inner();
    let mut told = BTreeMap::new();
    loop {
        let event = tokio::time::timeout(LONG, events.message()).await.expect("an event in time");
        let event = event.unwrap().expect("an event");
        let change = (event.container_id.clone(), event.container_event_type());
        let is_last = change == (last.to_owned(), ContainerEventType::ContainerDeletedEvent);
        *told.entry(change).or_default() += 1;
        if is_last {
            return told;
        }
    }
}

#[tokio::test]
async fn calls_given_up_at_any_moment_and_repeated_make_one_object_and_leave_none() {
    let node = Node::boot().await;
    node.pull(crate::node::BUSYBOX).await;
    let usual = Usual::on(&node).await;
    let mut chance = Chance::seeded(3);
    let mut objects = Vec::new();
    for number in 0..times(25, 200) {
        objects.extend(live(&node, number, &usual, &mut chance).await);
    }
    assert_eq!(monitors_below(&node.state), Vec::<u32>::new());
    let last = node.pod("last").run().await;
    last.remove().await;
    let told = told(&node, &last.id).await;
    for object in objects {
        for change in [
            ContainerEventType::ContainerCreatedEvent,
            ContainerEventType::ContainerStartedEvent,
            ContainerEventType::ContainerStoppedEvent,
            ContainerEventType::ContainerDeletedEvent,
        ] {
            let count = told.get(&(object.clone(), change)).copied();
            assert_eq!(count, Some(1), "{change:?} of {object}");
        }
    }
}

#[tokio::test]
async fn many_clients_that_want_the_same_get_the_same() {
    let node = Node::boot().await;
    node.pull(crate::node::BUSYBOX).await;
    let pods = join_all((0..32).map(|_| node.pod("wanted").run())).await;
    let pod = &pods[0];
    assert!(pods.iter().all(|other| other.id == pod.id));
    let containers = (0..32).map(|_| pod.container("main").command(["sleep", "1000"]).create());
    let containers: Vec<Container<'_>> = join_all(containers).await;
    let container = &containers[0];
    assert!(containers.iter().all(|other| other.id == container.id));
    let started = join_all(containers.iter().map(Container::start)).await;
    assert!(started.iter().any(Result::is_ok), "{started:?}");
    started.into_iter().for_each(started_or_running);

    join_all(containers.iter().map(|container| container.stop(0))).await;
    let removed = join_all(containers.iter().map(Container::try_remove)).await;
    assert!(removed.iter().all(Result::is_ok), "{removed:?}");
    let stopped = join_all(pods.iter().map(Pod::try_stop)).await;
    assert!(stopped.iter().all(Result::is_ok), "{stopped:?}");
    let removed = join_all(pods.iter().map(|pod| node.remove_pod(pod.id.clone()))).await;
    assert!(removed.iter().all(Result::is_ok), "{removed:?}");

    let last = node.pod("last").run().await;
    last.remove().await;
    let told = told(&node, &last.id).await;
    let twice: Vec<_> = told.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[tokio::test]
async fn removing_a_pod_and_its_containers_at_once_succeeds_for_all() {
    let node = Node::boot().await;
    for number in 0..times(4, 50) {
        let pod = node.pod(&format!("crowded-{number}")).run().await;
        let mut containers = Vec::new();
        for name in ["one", "two", "three"] {
            containers.push(pod.container(name).command(["sleep", "1000"]).start().await);
        }
        let of_pod = (0..3).map(|_| node.remove_pod(pod.id.clone()));
        let of_containers = containers.iter().flat_map(|it| [it.try_remove(), it.try_remove()]);
        let (pods, containers) = tokio::join!(join_all(of_pod), join_all(of_containers));
        let failed: Vec<_> = pods.into_iter().chain(containers).filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}
