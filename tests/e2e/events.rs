//! Who follows the events sees every change once, in order, and nothing else than what lists say.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use cais_proto::runtime::v1::{
    ContainerEventResponse, ContainerEventType, ContainerState, GetEventsRequest,
    ListContainersRequest, ListPodSandboxRequest, PodSandboxState, PodSandboxStatusRequest,
};
use futures_util::future::join_all;
use tonic::Streaming;

use crate::node::Node;
use crate::wait::{LONG, eventually, until};

use ContainerEventType::{
    ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted,
    ContainerStartedEvent as Started, ContainerStoppedEvent as Stopped,
};

type Events = Streaming<ContainerEventResponse>;

async fn follow(node: &Node) -> Events {
    node.runtime().get_container_events(GetEventsRequest {}).await.unwrap().into_inner()
}

async fn next(events: &mut Events) -> ContainerEventResponse {
    let next = tokio::time::timeout(LONG, events.message()).await;
    next.expect("an event in time").unwrap().expect("an event")
}

async fn several(events: &mut Events, count: usize) -> Vec<ContainerEventResponse> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(next(events).await);
    }
    all
}

#[tokio::test]
async fn every_change_is_told_once_with_the_pod_as_it_was_then() {
    let node = Node::boot().await;
    let mut events = follow(&node).await;
    let pod = node.pod("told").run().await;
    let container = pod.container("main").shell("exit 3").create().await;
    container.start().await.unwrap();
    container.wait_exit().await;
    container.remove().await;
    pod.remove().await;

    let told = several(&mut events, 8).await;

    let (pod, container) = (pod.id.as_str(), container.id.as_str());
    let sequence: Vec<_> =
        told.iter().map(|it| (it.container_id.as_str(), it.container_event_type())).collect();
    let expected = [
        (pod, Created),
        (pod, Started),
        (container, Created),
        (container, Started),
        (container, Stopped),
        (container, Deleted),
        (pod, Stopped),
        (pod, Deleted),
    ];
    assert_eq!(sequence, expected);
    assert!(told.is_sorted_by(|a, b| a.created_at < b.created_at));
    for event in &told {
        let status = event.pod_sandbox_status.as_ref().expect("the pod's status");
        assert_eq!(status.id, pod);
        assert_eq!(status.metadata.as_ref().unwrap().uid, "uid-told");
        let is_ready = status.state() == PodSandboxState::SandboxReady;
        assert_eq!(is_ready, event.created_at < told[6].created_at);
    }
    let state = |index: usize| told[index].containers_statuses.first().map(|it| it.state());
    assert_eq!(told[1].containers_statuses, []);
    assert_eq!(state(2), Some(ContainerState::ContainerCreated));
    // It may have exited already.
    assert_ne!(state(3), Some(ContainerState::ContainerCreated));
    let status = &told[4].containers_statuses[0];
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 3));
    assert_eq!(told[5].containers_statuses, []);
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_was_never_started() {
    let node = Node::boot().await;
    let pod = node.pod("broken").run().await;
    let container = pod.container("main").command(["/no/such/program"]).create().await;
    container.start().await.unwrap_err();
    let told = several(&mut follow(&node).await, 4).await;
    let of_container: Vec<_> = told.iter().filter(|it| it.container_id == container.id).collect();
    let changes: Vec<_> = of_container.iter().map(|it| it.container_event_type()).collect();
    assert_eq!(changes, [Created, Stopped]);
    let status = &of_container[1].containers_statuses[0];
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
}

#[tokio::test]
async fn a_pods_status_tells_of_its_containers_and_when_it_was_so() {
    let node = Node::boot().await;
    let pod = node.pod("whole").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let told = several(&mut follow(&node).await, 4).await;
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
    let reply = node.runtime().pod_sandbox_status(request).await.unwrap().into_inner();
    assert_eq!(reply.containers_statuses, [container.status().await]);
    assert!(reply.timestamp > told[3].created_at);
}

#[tokio::test]
async fn what_happens_while_nobody_follows_or_no_daemon_runs_is_told_later() {
    let node = Node::boot().await;
    let pod = node.pod("away").run().await;
    let flag = node.home.join("flag");
    let script = "while [ ! -e /host/flag ]; do sleep 0.02; done; echo bye";
    let container = pod.container("main").shell(script).with(|config| {
        config.mounts = vec![cais_proto::runtime::v1::Mount {
            container_path: "/host".to_owned(),
            host_path: node.home.to_str().unwrap().to_owned(),
            ..Default::default()
        }];
    });
    let container = container.start().await;
    let mut events = follow(&node).await;
    let before = several(&mut events, 4).await;
    node.kill();
    std::fs::write(flag, "").unwrap();
    until("the container's end", async || container.output() == "bye\n").await;
    node.start().await;
    let mut events = follow(&node).await;
    let event = eventually("the news", LONG, async || {
        let event = next(&mut events).await;
        // What may not have arrived before the kill comes again, and is known by its time.
        let known = before.iter().find(|it| it.created_at == event.created_at);
        known
            .is_none_or(|known| {
                assert_eq!(*known, event);
                false
            })
            .then_some(event)
    })
    .await;
    assert_eq!(
        (event.container_id.as_str(), event.container_event_type()),
        (container.id.as_str(), Stopped)
    );
    assert!(event.created_at > before[3].created_at);
}

/// A small generator, so that a failure can be run again.
struct Dice(Cell<u64>);

impl Dice {
    fn roll(&self, sides: u64) -> u64 {
        let mut value = self.0.get();
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
        self.0.set(value);
        value % sides
    }
}

/// What one that follows knows, over all its connections.
#[derive(Default)]
struct Knowledge {
    by_time: BTreeMap<i64, ContainerEventResponse>,
}

impl Knowledge {
    /// Whether it is news. In one connection times only grow; what comes again is as it was.
    fn take(&mut self, event: ContainerEventResponse) -> bool {
        let known = self.by_time.get(&event.created_at);
        if let Some(known) = known {
            assert_eq!(*known, event, "the same time, and not the same event");
            return false;
        }
        let last = self.by_time.last_key_value().map_or(0, |(at, _)| *at);
        assert!(event.created_at > last, "{event:?} comes after one of {last}");
        self.by_time.insert(event.created_at, event);
        true
    }

    fn changes(&self) -> BTreeMap<String, Vec<ContainerEventType>> {
        let mut changes: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for event in self.by_time.values() {
            changes
                .entry(event.container_id.clone())
                .or_default()
                .push(event.container_event_type());
        }
        changes
    }

    /// Who is there, and whether it runs.
    fn living(&self) -> BTreeMap<String, bool> {
        let changes = self.changes();
        let last = changes.into_iter().filter_map(|(id, changes)| Some((id, *changes.last()?)));
        last.filter(|(_, last)| *last != Deleted).map(|(id, last)| (id, last == Started)).collect()
    }
}

async fn listed(node: &Node) -> BTreeMap<String, bool> {
    let pods = node.runtime().list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap();
    let pods = pods.into_inner().items.into_iter();
    let mut all: BTreeMap<_, _> =
        pods.map(|pod| (pod.id.clone(), pod.state() == PodSandboxState::SandboxReady)).collect();
    let containers = node.runtime().list_containers(ListContainersRequest::default()).await;
    let containers = containers.unwrap().into_inner().containers.into_iter();
    all.extend(
        containers.map(|it| (it.id.clone(), it.state() == ContainerState::ContainerRunning)),
    );
    all
}

/// Makes and ends pods and containers; a daemon that is killed meanwhile makes calls fail.
async fn churn(node: &Node, worker: u64, dice: &Dice, made: &RefCell<Vec<String>>) {
    for round in 0..6 {
        let name = format!("churn-{worker}-{round}");
        let pod = eventually("a pod", LONG, async || node.pod(&name).try_run().await.ok()).await;
        made.borrow_mut().push(pod.id.clone());
        for number in 0..=dice.roll(3) {
            let script = ["exit 0", "exit 1", "sleep 0.1", "exec sleep 1000"];
            let script = script[usize::try_from(dice.roll(4)).unwrap()];
            let name = format!("c{number}");
            let Ok(container) = pod.container(&name).shell(script).try_create_at_once().await
            else {
                continue;
            };
            made.borrow_mut().push(container.id.clone());
            if dice.roll(5) > 0 {
                let _ = container.start().await;
            }
            if dice.roll(3) == 0 {
                let _ = container.try_stop(0).await;
            }
        }
        if dice.roll(4) > 0 {
            let _ = node.remove_pod(pod.id.clone()).await;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Time {
    Busy,
    Calm,
    Over,
}

/// Follows; while there is much to tell, often on a new connection.
async fn learn(node: &Node, dice: &Dice, knowledge: &RefCell<Knowledge>, time: &Cell<Time>) {
    while time.get() != Time::Over {
        let Ok(events) = node.runtime().get_container_events(GetEventsRequest {}).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let mut events = events.into_inner();
        let mut patience = dice.roll(300);
        while patience > 0 || time.get() == Time::Calm {
            patience = patience.saturating_sub(1);
            let moment = std::time::Duration::from_millis(200);
            match tokio::time::timeout(moment, events.message()).await {
                Ok(Ok(Some(event))) => drop(knowledge.borrow_mut().take(event)),
                // The daemon was killed.
                Ok(Ok(None) | Err(_)) => break,
                Err(_) => {}
            }
        }
    }
}

#[tokio::test]
async fn under_churn_reconnects_and_kills_events_and_lists_agree() {
    let node = Node::boot().await;
    node.pull(crate::node::BUSYBOX).await;
    let dice = Dice(Cell::new(0x5eed_cafe));
    let made: RefCell<Vec<String>> = RefCell::default();
    let knowledge: RefCell<Knowledge> = RefCell::default();
    let time = Cell::new(Time::Busy);
    // One that never reads: it must hold up nobody.
    let _idle = follow(&node).await;
    let work = async {
        let workers = (0..4).map(|worker| churn(&node, worker, &dice, &made));
        let kills = async {
            for events in [30, 80] {
                until("some events", async || knowledge.borrow().by_time.len() > events).await;
                node.kill();
                node.start().await;
            }
        };
        tokio::join!(join_all(workers), kills);
        time.set(Time::Calm);
        eventually("events and lists to agree", LONG, async || {
            // No borrow over the wait: an event may come meanwhile.
            let listed = listed(&node).await;
            (knowledge.borrow().living() == listed).then_some(())
        })
        .await;
        time.set(Time::Over);
    };
    tokio::join!(work, learn(&node, &dice, &knowledge, &time));

    let changes = knowledge.borrow().changes();
    for id in made.borrow().iter() {
        assert!(changes.contains_key(id), "{id} was made and never told of");
    }
    let legal: [&[ContainerEventType]; 6] = [
        &[Created],
        &[Created, Started],
        &[Created, Stopped],
        &[Created, Started, Stopped],
        &[Created, Stopped, Deleted],
        &[Created, Started, Stopped, Deleted],
    ];
    for (id, changes) in &changes {
        assert!(legal.contains(&changes.as_slice()), "{id}: {changes:?}");
    }
    assert!(changes.len() > 30, "{}", changes.len());
}
