//! Unknown, empty and ambiguous ids, for every call that takes one.

use cais_proto::runtime::v1::*;
use tonic::{Code, Status};

use crate::node::{Node, Runtime};

const UNKNOWN: &str = "deadbeef00000000000000000000000000000000000000000000000000000000";

/// Every call about a pod that must fail for an unknown one.
async fn of_pod(mut runtime: Runtime, id: &str) -> Vec<(&'static str, Option<Status>)> {
    let pod_sandbox_id = id.to_owned();
    let status = PodSandboxStatusRequest { pod_sandbox_id: pod_sandbox_id.clone(), verbose: false };
    let stats = PodSandboxStatsRequest { pod_sandbox_id: pod_sandbox_id.clone() };
    let forward = PortForwardRequest { pod_sandbox_id: pod_sandbox_id.clone(), port: vec![80] };
    let create = CreateContainerRequest {
        pod_sandbox_id,
        config: Some(ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: "busybox".to_owned(), ..Default::default() }),
            ..Default::default()
        }),
        sandbox_config: Some(PodSandboxConfig::default()),
    };
    vec![
        ("PodSandboxStatus", runtime.pod_sandbox_status(status).await.err()),
        ("PodSandboxStats", runtime.pod_sandbox_stats(stats).await.err()),
        ("PortForward", runtime.port_forward(forward).await.err()),
        ("CreateContainer", runtime.create_container(create).await.err()),
    ]
}

/// Every call about a container that must fail for an unknown one.
async fn of_container(mut runtime: Runtime, id: &str) -> Vec<(&'static str, Option<Status>)> {
    let container_id = id.to_owned();
    let start = StartContainerRequest { container_id: container_id.clone() };
    let status = ContainerStatusRequest { container_id: container_id.clone(), verbose: false };
    let update = UpdateContainerResourcesRequest {
        container_id: container_id.clone(),
        linux: Some(LinuxContainerResources::default()),
        ..Default::default()
    };
    let reopen = ReopenContainerLogRequest { container_id: container_id.clone() };
    let command = vec!["true".to_owned()];
    let exec_sync =
        ExecSyncRequest { container_id: container_id.clone(), cmd: command.clone(), timeout: 1 };
    let exec = ExecRequest {
        container_id: container_id.clone(),
        cmd: command,
        stdout: true,
        ..Default::default()
    };
    let attach =
        AttachRequest { container_id: container_id.clone(), stdout: true, ..Default::default() };
    let stats = ContainerStatsRequest { container_id };
    vec![
        ("StartContainer", runtime.start_container(start).await.err()),
        ("ContainerStatus", runtime.container_status(status).await.err()),
        ("UpdateContainerResources", runtime.update_container_resources(update).await.err()),
        ("ReopenContainerLog", runtime.reopen_container_log(reopen).await.err()),
        ("ExecSync", runtime.exec_sync(exec_sync).await.err()),
        ("Exec", runtime.exec(exec).await.err()),
        ("Attach", runtime.attach(attach).await.err()),
        ("ContainerStats", runtime.container_stats(stats).await.err()),
    ]
}

#[tokio::test]
async fn unknown_ids_are_not_found_and_named() {
    let node = Node::boot().await;
    for id in [UNKNOWN, "no-such-id", "../../etc/passwd", "DEADBEEF"] {
        let calls =
            [of_pod(node.runtime(), id).await, of_container(node.runtime(), id).await].concat();
        for (call, error) in calls {
            let error = error.unwrap_or_else(|| panic!("{call} of {id:?} succeeded"));
            assert_eq!(error.code(), Code::NotFound, "{call} of {id:?}: {error:?}");
            assert!(error.message().contains(id), "{call} of {id:?}: {error:?}");
        }
    }
}

#[tokio::test]
async fn empty_ids_are_invalid_and_the_field_is_named() {
    let node = Node::boot().await;
    for (call, error) in of_pod(node.runtime(), "").await {
        let error = error.unwrap_or_else(|| panic!("{call} of no pod succeeded"));
        assert_eq!(error.code(), Code::InvalidArgument, "{call}: {error:?}");
        assert!(error.message().contains("pod"), "{call}: {error:?}");
    }
    for (call, error) in of_container(node.runtime(), "").await {
        let error = error.unwrap_or_else(|| panic!("{call} of no container succeeded"));
        assert_eq!(error.code(), Code::InvalidArgument, "{call}: {error:?}");
        assert!(error.message().contains("container"), "{call}: {error:?}");
    }
}

#[tokio::test]
async fn a_prefix_names_one_and_an_ambiguous_one_is_refused() {
    let node = Node::boot().await;
    let mut firsts = std::collections::HashMap::new();
    let mut number = 0;
    // Seventeen ids over sixteen digits: two of them begin alike.
    let shared = loop {
        let pod = node.pod(&format!("pod-{number}")).run().await;
        let request =
            PodSandboxStatusRequest { pod_sandbox_id: pod.id[..12].to_owned(), verbose: false };
        let found = node.runtime().pod_sandbox_status(request).await.unwrap().into_inner();
        assert_eq!(found.status.unwrap().id, pod.id);
        let first = pod.id[..1].to_owned();
        if firsts.insert(first.clone(), pod.id).is_some() {
            break first;
        }
        number += 1;
    };
    let request = PodSandboxStatusRequest { pod_sandbox_id: shared, verbose: false };
    let refused = node.runtime().pod_sandbox_status(request).await.unwrap_err();
    assert!(matches!(refused.code(), Code::InvalidArgument | Code::NotFound), "{refused:?}");
}
