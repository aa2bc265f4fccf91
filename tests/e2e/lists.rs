//! Lists as streams: every entry once, however many there are.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use cais_proto::runtime::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, ListContainersRequest, ListImagesRequest,
    ListPodSandboxRequest, PodSandboxFilter, StreamContainerStatsRequest, StreamContainersRequest,
    StreamImagesRequest, StreamPodSandboxStatsRequest, StreamPodSandboxesRequest,
};
use prost::Message;
use tonic::{Code, Streaming};

use crate::node::{BUSYBOX, Node};

const MANY: usize = 20_000;
/// What clients of gRPC take unless told otherwise.
const SMALL_MESSAGE: usize = 4 << 20;

/// All parts, none of them large.
async fn parts<T: Message + Default + 'static>(mut stream: Streaming<T>) -> Vec<T> {
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        assert!(part.encoded_len() <= 2 << 20, "{}", part.encoded_len());
        parts.push(part);
    }
    parts
}

/// Multiplies the record of `id`: what a daemon finds that has taken care of so many.
fn multiply(directory: &Path, id: &str, name: &str) {
    let record = fs::read_to_string(directory.join(format!("{id}.json"))).unwrap();
    for number in 1..MANY {
        let copy = format!("{number:064x}");
        let path = directory.join(format!("{copy}.json"));
        let record = record.replace(id, &copy);
        let (old, new) = (format!("\"name\":\"{name}\""), format!("\"name\":\"{name}-{number}\""));
        assert!(record.contains(&old), "{record}");
        fs::write(path, record.replace(&old, &new)).unwrap();
    }
}

fn take_back(directory: &Path) {
    for number in 1..MANY {
        fs::remove_file(directory.join(format!("{number:064x}.json"))).unwrap();
    }
}

#[tokio::test]
async fn twenty_thousand_pods_and_containers_come_once_each() {
    let node = Node::boot().await;
    let pod = node.pod("many").run().await;
    let container = pod.container("main").command(["true"]).start().await;
    container.wait_exit().await;
    pod.stop().await;
    node.kill();
    let directories = [node.state.join("pods"), node.state.join("containers")];
    multiply(&directories[0], &pod.id, "many");
    multiply(&directories[1], &container.id, "main");
    // Nothing is known to have happened to them lately.
    fs::remove_dir_all(node.state.join("events")).unwrap();
    node.start().await;
    let mut runtime = node.runtime().max_decoding_message_size(SMALL_MESSAGE);

    let stream = runtime.stream_pod_sandboxes(StreamPodSandboxesRequest::default()).await;
    let pods = parts(stream.unwrap().into_inner()).await;
    let ids = pods.iter().flat_map(|part| &part.pod_sandboxes).map(|it| it.id.clone());
    let ids: Vec<_> = ids.collect();
    assert_eq!((ids.len(), ids.iter().collect::<HashSet<_>>().len()), (MANY, MANY));

    let stream = runtime.stream_containers(StreamContainersRequest::default()).await;
    let containers = parts(stream.unwrap().into_inner()).await;
    let ids = containers.iter().flat_map(|part| &part.containers).map(|it| it.id.clone());
    let ids: Vec<_> = ids.collect();
    assert_eq!((ids.len(), ids.iter().collect::<HashSet<_>>().len()), (MANY, MANY));

    let stream = runtime.stream_container_stats(StreamContainerStatsRequest::default()).await;
    let stats = parts(stream.unwrap().into_inner()).await;
    let ids = stats.iter().flat_map(|part| &part.container_stats);
    let ids: HashSet<_> = ids.map(|it| it.attributes.clone().unwrap().id).collect();
    assert_eq!(ids.len(), MANY);

    // One message cannot hold them: that is said, and not a broken connection.
    let refused = runtime.list_containers(ListContainersRequest::default()).await.unwrap_err();
    assert!(matches!(refused.code(), Code::ResourceExhausted | Code::OutOfRange), "{refused:?}");

    node.kill();
    directories.iter().for_each(|directory| take_back(directory));
    node.start().await;
}

#[tokio::test]
async fn streams_say_what_lists_say_under_the_same_filters() {
    let node = Node::boot().await;
    let web = node.pod("web").with(|config| {
        config.labels.insert("app".to_owned(), "web".to_owned());
    });
    let web = web.run().await;
    node.pod("other").run().await;
    let running = web.container("running").command(["sleep", "1000"]).start().await;
    let exited = web.container("exited").command(["true"]).start().await;
    exited.wait_exit().await;
    let mut runtime = node.runtime();

    let only_web = PodSandboxFilter {
        label_selector: [("app".to_owned(), "web".to_owned())].into(),
        ..Default::default()
    };
    for filter in [None, Some(only_web)] {
        let listed = runtime.list_pod_sandbox(ListPodSandboxRequest { filter: filter.clone() });
        let listed = listed.await.unwrap().into_inner().items;
        let stream = runtime.stream_pod_sandboxes(StreamPodSandboxesRequest { filter }).await;
        let streamed = parts(stream.unwrap().into_inner()).await;
        assert_eq!(
            streamed.into_iter().flat_map(|it| it.pod_sandboxes).collect::<Vec<_>>(),
            listed
        );
    }

    let state = ContainerStateValue { state: ContainerState::ContainerRunning.into() };
    let only_running = ContainerFilter { state: Some(state), ..Default::default() };
    for (filter, count) in [(None, 2), (Some(only_running), 1)] {
        let listed = runtime.list_containers(ListContainersRequest { filter: filter.clone() });
        let listed = listed.await.unwrap().into_inner().containers;
        assert_eq!(listed.len(), count);
        let stream = runtime.stream_containers(StreamContainersRequest { filter }).await;
        let streamed = parts(stream.unwrap().into_inner()).await;
        assert_eq!(streamed.into_iter().flat_map(|it| it.containers).collect::<Vec<_>>(), listed);
    }

    let filter = cais_proto::runtime::v1::ContainerStatsFilter {
        id: running.id.clone(),
        ..Default::default()
    };
    let request = StreamContainerStatsRequest { filter: Some(filter) };
    let stream = runtime.stream_container_stats(request).await.unwrap().into_inner();
    let stats: Vec<_> = parts(stream).await.into_iter().flat_map(|it| it.container_stats).collect();
    assert_eq!(stats.len(), 1);
    assert!(stats[0].cpu.is_some());

    let stream = runtime.stream_pod_sandbox_stats(StreamPodSandboxStatsRequest::default()).await;
    let parts_of_stats = parts(stream.unwrap().into_inner()).await;
    assert_eq!(parts_of_stats.into_iter().flat_map(|it| it.pod_sandbox_stats).count(), 2);

    let listed = node.images().list_images(ListImagesRequest::default()).await.unwrap();
    let stream = node.images().stream_images(StreamImagesRequest::default()).await.unwrap();
    let images: Vec<_> =
        parts(stream.into_inner()).await.into_iter().flat_map(|it| it.images).collect();
    assert_eq!(images, listed.into_inner().images);
    assert!(images.iter().any(|image| image.repo_tags.iter().any(|tag| tag == BUSYBOX)));
}
