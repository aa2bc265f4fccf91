//! Containers: their life, exits, and what their process is given.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use cais_proto::runtime::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, Device, Int64Value, KeyValue,
    ListContainersRequest, Mount, MountPropagation, Signal,
};
use serde_json::json;

use crate::fake_registry::FakeRegistry;
use crate::node::Node;
use crate::same_tree::busybox_layer;

#[tokio::test]
async fn a_container_is_created_runs_exits_and_says_when() {
    let node = Node::boot().await;
    let pod = node.pod("life").run().await;
    let container = pod.container("main").shell("sleep 0.2; exit 3").create().await;
    let created = container.status().await;
    assert_eq!(created.state(), ContainerState::ContainerCreated);
    assert_eq!((created.started_at, created.finished_at), (0, 0));

    container.start().await.unwrap();
    let exit = container.wait_exit().await;
    assert_eq!((exit.code, exit.reason.as_str()), (3, "Error"));
    let status = exit.status;
    assert!(created.created_at <= status.started_at);
    let ran = Duration::from_nanos(u64::try_from(status.finished_at - status.started_at).unwrap());
    assert!(ran >= Duration::from_millis(150) && ran < Duration::from_secs(10), "{ran:?}");
    assert_eq!(status.log_path, container.log_path().to_str().unwrap());

    container.remove().await;
    container.remove().await;
    assert_eq!(container.try_status().await.unwrap_err().code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn exits_are_named_by_how_they_came_about() {
    let node = Node::boot().await;
    let pod = node.pod("exits").run().await;
    for (name, script, code, reason) in [
        ("done", "true", 0, "Completed"),
        ("failed", "exit 42", 42, "Error"),
        ("killed", "kill -9 $$", 137, "Error"),
        ("segv", "kill -SEGV $$", 139, "Error"),
    ] {
        // A shell as PID 1 would ignore its own signals: the killed one is a child.
        let script = format!("sh -c '{script}'; exit $?");
        let exit = pod.container(name).shell(&script).start().await.wait_exit().await;
        assert_eq!((exit.code, exit.reason.as_str()), (code, reason), "{name}");
    }
}

#[tokio::test]
async fn a_stop_asks_first_and_kills_after_the_timeout() {
    let node = Node::boot().await;
    let pod = node.pod("stops").run().await;
    let polite = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let polite = pod.container("polite").shell(polite).start().await;
    polite.wait_output("ready").await;
    polite.stop(20).await;
    assert_eq!(polite.wait_exit().await.code, 7);

    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let deaf = pod.container("deaf").shell(deaf).start().await;
    deaf.wait_output("ready").await;
    let before = std::time::Instant::now();
    deaf.stop(1).await;
    let waited = before.elapsed();
    assert!(waited >= Duration::from_millis(900) && waited < Duration::from_secs(5), "{waited:?}");
    assert_eq!(deaf.wait_exit().await.code, 137);
    deaf.stop(1).await;
}

#[tokio::test]
async fn the_stop_signal_of_the_request_is_sent() {
    let node = Node::boot().await;
    let pod = node.pod("signal").run().await;
    let script =
        "trap 'exit 10' USR1; trap 'exit 15' TERM; echo ready; while :; do sleep 0.05; done";
    let container = pod.container("main").shell(script);
    let container = container.with(|c| c.stop_signal = Signal::Sigusr1.into()).start().await;
    container.wait_output("ready").await;
    assert_eq!(container.status().await.stop_signal(), Signal::Sigusr1);
    container.stop(20).await;
    assert_eq!(container.wait_exit().await.code, 10);
}

#[tokio::test]
async fn a_program_that_is_not_there_fails_the_start_and_says_which() {
    let node = Node::boot().await;
    let pod = node.pod("missing").run().await;
    let container = pod.container("main").command(["/no/such/program"]).try_create().await;
    let refused = match container {
        Err(refused) => refused,
        Ok(container) => container.start().await.unwrap_err(),
    };
    assert!(refused.message().contains("/no/such/program"), "{refused:?}");
    // The pod is as usable as before.
    assert_eq!(pod.container("next").shell("echo fine").output().await, "fine\n");
}

#[tokio::test]
async fn a_container_starts_once() {
    let node = Node::boot().await;
    let pod = node.pod("once").run().await;
    let container = pod.container("main").command(["true"]).start().await;
    container.wait_exit().await;
    let refused = container.start().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
}

#[tokio::test]
async fn a_repeated_request_finds_its_container_and_another_of_that_name_is_refused() {
    let node = Node::boot().await;
    let pod = node.pod("twins").run().await;
    let first = pod.container("main").command(["true"]).create().await;
    let repeated = pod.container("main").command(["true"]).create().await;
    assert_eq!(repeated.id, first.id);
    let Err(refused) = pod.container("main").command(["false"]).try_create().await else {
        panic!("a second container was made")
    };
    assert_eq!(refused.code(), tonic::Code::AlreadyExists, "{refused:?}");
    assert!(refused.message().contains(&first.id), "{refused:?}");
    let again = pod.container("main").command(["true"]);
    let again = again.with(|config| config.metadata.as_mut().unwrap().attempt = 1).create().await;
    assert_ne!(again.id, first.id);
}

#[tokio::test]
async fn command_arguments_environment_and_directory_reach_the_process() {
    let node = Node::boot().await;
    let pod = node.pod("process").run().await;
    let script = "echo $0 $1; echo $COLOUR; echo $PATH; pwd";
    let container = pod.container("main").command(["sh", "-c", script]).with(|config| {
        config.args = vec!["zero".to_owned(), "one".to_owned()];
        config.working_dir = "/made/for/it".to_owned();
        let pair = |key: &str, value: &str| KeyValue { key: key.to_owned(), value: value.into() };
        config.envs = vec![pair("COLOUR", "red"), pair("COLOUR", "blue")];
    });
    // The path is the image's.
    let expected = "zero one\nblue\n/usr/local/bin:/usr/bin:/bin\n/made/for/it\n";
    assert_eq!(container.output().await, expected);
}

#[tokio::test]
async fn the_images_command_runs_when_the_request_names_none() {
    let node = Node::boot().await;
    let pod = node.pod("default").run().await;
    // Busybox runs `sh`, which ends with its input.
    let exit = pod.container("main").start().await.wait_exit().await;
    assert_eq!((exit.code, exit.reason.as_str()), (0, "Completed"));
    let only_arguments = pod.container("args").with(|config| {
        config.args = vec!["echo".to_owned(), "from arguments".to_owned()];
    });
    assert_eq!(only_arguments.output().await, "from arguments\n");
}

#[tokio::test]
async fn the_images_configuration_holds_where_the_request_says_nothing() {
    let node = Node::boot().await;
    let registry = FakeRegistry::start().await;
    node.trust(&registry.address);
    let configuration = json!({
        "Entrypoint": ["sh", "-c", "echo $0 $A $B; pwd; id -u; trap 'exit 12' USR2; echo ready; while :; do sleep 0.05; done"],
        "Cmd": ["of-image"], "Env": ["PATH=/usr/bin:/bin", "A=image", "B=image"],
        "WorkingDir": "/work", "User": "www-data", "StopSignal": "SIGUSR2",
    });
    let layers = [busybox_layer().await];
    registry.image_with("configured", &layers, &configuration);
    let image = registry.reference("configured");
    let pod = node.pod("merged").run().await;
    let plain = pod.container("plain").image(&image).start().await;
    plain.wait_output("ready").await;
    assert_eq!(plain.output(), "of-image image image\n/work\n33\nready\n");
    assert_eq!(plain.status().await.stop_signal(), Signal::Sigusr2);
    plain.stop(20).await;
    assert_eq!(plain.wait_exit().await.code, 12);

    let changed = pod.container("changed").image(&image).env("B", "request").with(|config| {
        config.args = vec!["of-request".to_owned()];
        config.working_dir = "/tmp".to_owned();
        config.stop_signal = Signal::Sigterm.into();
    });
    let changed = changed.security(|context| {
        context.run_as_user = Some(Int64Value { value: 1234 });
    });
    let changed = changed.start().await;
    changed.wait_output("ready").await;
    assert_eq!(changed.output(), "of-request image request\n/tmp\n1234\nready\n");
    assert_eq!(changed.status().await.stop_signal(), Signal::Sigterm);
    // A command leaves nothing of the image's.
    let command = pod.container("command").image(&image).command(["echo", "alone"]);
    assert_eq!(command.output().await, "alone\n");

    registry.image_with("empty", &layers, &json!({}));
    let nothing = pod.container("nothing").image(&registry.reference("empty")).try_create().await;
    let refused = nothing.err().expect("nobody says what to run");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("command"), "{refused:?}");
}

#[tokio::test]
async fn a_variable_need_not_be_text() {
    let node = Node::boot().await;
    let pod = node.pod("bytes").run().await;
    let container = pod.container("main").shell("printf %s \"$BYTES\" | od -An -tx1");
    let container = container.with(|config| {
        config.envs.push(KeyValue { key: "BYTES".to_owned(), value: vec![0xff, b'a', 0xfe] });
    });
    assert_eq!(container.output().await.trim(), "ff 61 fe");
}

#[tokio::test]
async fn bind_mounts_are_read_only_when_asked_and_report_back() {
    let node = Node::boot().await;
    let pod = node.pod("mounts").run().await;
    let source = node.home.join("source");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("file"), "from the host").unwrap();
    let mount = |container_path: &str, readonly: bool| Mount {
        container_path: container_path.to_owned(),
        host_path: source.to_str().unwrap().to_owned(),
        readonly,
        ..Default::default()
    };
    let mounts = vec![mount("/deep/writable", false), mount("/closed", true)];
    let container = pod.container("main").command(["sleep", "1000"]);
    let container = container.with(|config| config.mounts = mounts.clone()).start().await;
    assert_eq!(container.shell("cat /deep/writable/file").await, "from the host");
    container.shell("echo back > /deep/writable/answer").await;
    assert_eq!(fs::read_to_string(source.join("answer")).unwrap(), "back\n");
    let denied = container.exec(&["sh", "-c", "echo no > /closed/file"]).await;
    assert_ne!(denied.exit_code, 0);
    assert!(String::from_utf8_lossy(&denied.stderr).contains("Read-only"), "{denied:?}");
    let reported = container.status().await.mounts;
    for asked in mounts {
        assert!(reported.iter().any(|m| m.container_path == asked.container_path
            && m.host_path == asked.host_path
            && m.readonly == asked.readonly
            && m.propagation() == MountPropagation::PropagationPrivate));
    }
}

#[tokio::test]
async fn a_missing_mount_source_is_made_as_a_directory() {
    let node = Node::boot().await;
    let pod = node.pod("made").run().await;
    let source = node.home.join("not/there/yet");
    let container = pod.container("main").shell("touch /data/here").with(|config| {
        config.mounts = vec![Mount {
            container_path: "/data".to_owned(),
            host_path: source.to_str().unwrap().to_owned(),
            ..Default::default()
        }];
    });
    container.output().await;
    assert!(source.join("here").exists());
}

#[tokio::test]
async fn a_device_is_there_when_asked_for_and_closed_otherwise() {
    let node = Node::boot().await;
    let pod = node.pod("devices").run().await;
    let given = pod.container("given").command(["sleep", "1000"]).with(|config| {
        config.devices = vec![Device {
            container_path: "/dev/spare".to_owned(),
            host_path: "/dev/fuse".to_owned(),
            permissions: "r".to_owned(),
        }];
    });
    let given = given.start().await;
    assert_eq!(given.shell("exec 3< /dev/spare && echo read").await, "read");
    assert_ne!(given.exec(&["sh", "-c", "echo > /dev/spare"]).await.exit_code, 0);
    let plain = pod.container("plain").command(["sleep", "1000"]).start().await;
    assert_ne!(plain.exec(&["test", "-e", "/dev/spare"]).await.exit_code, 0);
    plain.shell("mknod /tmp/fuse c 10 229").await;
    let opened = plain.exec(&["sh", "-c", "exec 3< /tmp/fuse"]).await;
    assert_ne!(opened.exit_code, 0, "a device of one's own making can be opened");
}

#[tokio::test]
async fn a_directory_of_devices_gives_all_that_is_in_it() {
    let node = Node::boot().await;
    let directory = node.home.join("devices");
    fs::create_dir_all(directory.join("deep")).unwrap();
    for (name, minor) in [("null", 3), ("deep/zero", 5)] {
        let path = directory.join(name);
        let done = Command::new("mknod").arg(&path).args(["c", "1", &minor.to_string()]).status();
        assert!(done.unwrap().success());
    }
    fs::write(directory.join("no-device"), "").unwrap();
    let pod = node.pod("devices").run().await;
    let container = pod.container("main").with(|config| {
        config.devices = vec![Device {
            container_path: "/dev/given".to_owned(),
            host_path: directory.to_str().unwrap().to_owned(),
            permissions: "rwm".to_owned(),
        }];
    });
    let script = "cd /dev/given; find . -type c | sort; echo x > null; head -c 2 deep/zero | wc -c";
    assert_eq!(container.shell(script).output().await, "./deep/zero\n./null\n2\n");
}

#[tokio::test]
async fn containers_are_filtered_by_pod_state_and_labels() {
    let node = Node::boot().await;
    let pods = [node.pod("one").run().await, node.pod("two").run().await];
    let label = |value: &str| HashMap::from([("tier".to_owned(), value.to_owned())]);
    let web = pods[0].container("web").command(["sleep", "1000"]);
    let web = web.with(|config| config.labels = label("front")).start().await;
    let db = pods[0].container("db").command(["sleep", "1000"]);
    let db = db.with(|config| config.labels = label("back")).create().await;
    let other = pods[1].container("web").command(["sleep", "1000"]);
    let other = other.with(|config| config.labels = label("front")).start().await;
    let found = async |filter: ContainerFilter| {
        let request = ListContainersRequest { filter: Some(filter) };
        let listed = node.runtime().list_containers(request).await.unwrap().into_inner();
        let mut ids: Vec<String> = listed.containers.into_iter().map(|c| c.id).collect();
        ids.sort();
        ids
    };
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let of_pod = ContainerFilter { pod_sandbox_id: pods[0].id.clone(), ..Default::default() };
    assert_eq!(found(of_pod).await, sorted(vec![web.id.clone(), db.id.clone()]));
    let state = ContainerStateValue { state: ContainerState::ContainerRunning.into() };
    let running = ContainerFilter { state: Some(state), ..Default::default() };
    assert_eq!(found(running).await, sorted(vec![web.id.clone(), other.id.clone()]));
    let front = ContainerFilter { label_selector: label("front"), ..Default::default() };
    assert_eq!(found(front).await, sorted(vec![web.id.clone(), other.id.clone()]));
    let by_id = ContainerFilter { id: db.id[..12].to_owned(), ..Default::default() };
    assert_eq!(found(by_id).await, [db.id.as_str()]);
}
