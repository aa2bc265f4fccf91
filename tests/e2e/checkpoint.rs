//! Containers and pods are written down by CRIU, run on, and go on elsewhere where they were.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use cais_proto::runtime::v1::{
    CheckpointContainerRequest, CheckpointPodRequest, ContainerConfig, ContainerState,
    ListContainersRequest, NamespaceMode, PodSandboxConfig, RestorePodRequest, RestorePodResponse,
};
use tonic::{Code, Status};

use crate::node::{Container, Node, Pod};
use crate::wait::until;

/// Counts in memory, to the log and to a file of its writable layer.
const COUNT: &str = "i=0; while true; do i=$((i+1)); echo $i; echo $i > /count; sleep 0.02; done";

fn criu() -> PathBuf {
    PathBuf::from(std::env::var_os("CAIS_CRIU").expect("CAIS_CRIU says where criu is"))
}

async fn boot() -> Node {
    Node::boot_with_criu(&criu()).await
}

/// A node whose CRIU waits until there is a file `gate`, and says that it was called by a file
/// `called`; both in the directory that comes along.
async fn boot_gated() -> (Node, tempfile::TempDir) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (here, real) = (directory.path().display(), criu());
    let script = format!(
        "#!/bin/sh\n: > {here}/called\nwhile [ ! -e {here}/gate ]; do sleep 0.02; done\n\
         exec {} \"$@\"\n",
        real.display()
    );
    let program = write_program(directory.path(), &script);
    (Node::boot_with_criu(&program).await, directory)
}

fn write_program(directory: &Path, script: &str) -> PathBuf {
    let program = directory.join("criu");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// A new directory of the node's for what is written.
fn directory(node: &Node, name: &str) -> PathBuf {
    let path = node.home.join(name);
    fs::create_dir(&path).unwrap();
    path
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn checkpoint(
    container: &Container<'_>,
    location: &Path,
    timeout: i64,
) -> Result<(), Status> {
    let request = CheckpointContainerRequest {
        container_id: container.id.clone(),
        location: location.to_str().unwrap().to_owned(),
        timeout,
    };
    container.node.runtime().checkpoint_container(request).await.map(drop)
}

async fn checkpoint_pod(
    pod: &Pod<'_>,
    output: &Path,
    containers: &[&Container<'_>],
) -> Result<(), Status> {
    let request = CheckpointPodRequest {
        pod_sandbox_id: pod.id.clone(),
        output_path: output.to_str().unwrap().to_owned(),
        container_ids: containers.iter().map(|container| container.id.clone()).collect(),
        options: HashMap::new(),
    };
    pod.node.runtime().checkpoint_pod(request).await.map(drop)
}

async fn restore(
    node: &Node,
    checkpoint: &Path,
    pod: &PodSandboxConfig,
    containers: &[ContainerConfig],
) -> Result<RestorePodResponse, Status> {
    let request = RestorePodRequest {
        checkpoint_path: checkpoint.to_str().unwrap().to_owned(),
        config: Some(pod.clone()),
        runtime_handler: String::new(),
        options: HashMap::new(),
        container_configs: containers.to_vec(),
    };
    node.runtime().restore_pod(request).await.map(tonic::Response::into_inner)
}

/// Runs on: what it counts rises.
async fn assert_counting(container: &Container<'_>) {
    assert_eq!(container.state().await, ContainerState::ContainerRunning);
    let lines = container.logs().len();
    until("the container to go on", async || container.logs().len() > lines).await;
}

async fn container_ids(node: &Node) -> Vec<String> {
    let listed = node.runtime().list_containers(ListContainersRequest::default()).await;
    listed.unwrap().into_inner().containers.into_iter().map(|it| it.id).collect()
}

#[tokio::test]
async fn a_container_is_checkpointed_into_the_usual_archive_and_runs_on() {
    let node = boot().await;
    let pod = node.pod("one").run().await;
    let container = pod.container("main").shell(COUNT).start().await;
    container.wait_output("3\n").await;
    let output = directory(&node, "out");
    let location = output.join("checkpoint.tar");

    checkpoint(&container, &location, 0).await.unwrap();

    assert_counting(&container).await;
    assert_eq!(names(&output), BTreeSet::from(["checkpoint.tar".to_owned()]));
    let mut archive = tar::Archive::new(File::open(&location).unwrap());
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(path, bytes);
    }
    for name in ["checkpoint/inventory.img", "checkpoint/pstree.img", "dump.log", "stats-dump"] {
        assert!(files.contains_key(name), "{name} is not among {:?}", files.keys());
    }
    let json = |name: &str| serde_json::from_slice::<serde_json::Value>(&files[name]).unwrap();
    assert_eq!(json("config.dump")["id"], container.id.as_str());
    assert_eq!(json("config.dump")["name"], "main");
    assert_eq!(json("spec.dump")["process"]["args"], serde_json::json!(["sh", "-c", COUNT]));
    let pipes = json("checkpoint/descriptors.json");
    assert!(pipes[1].as_str().unwrap().starts_with("pipe:["), "{pipes}");
    assert!(String::from_utf8_lossy(&files["container.log"]).contains("stdout F 3\n"));
    let mut diff = tar::Archive::new(&files["rootfs-diff.tar"][..]);
    let mut changed = diff.entries().unwrap().map(|it| it.unwrap().path().unwrap().into_owned());
    assert!(changed.any(|path| path == Path::new("count")));

    let again = checkpoint(&container, &location, 0).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists, "{again:?}");
}

#[tokio::test]
async fn without_criu_the_three_calls_say_what_is_missing() {
    let node = Node::boot_with_criu(Path::new("/nowhere/criu")).await;
    let pod = node.pod("none").run().await;
    let container = pod.container("main").shell(COUNT).start().await;
    let output = directory(&node, "out");
    let refusals = [
        checkpoint(&container, &output.join("a.tar"), 0).await.unwrap_err(),
        checkpoint_pod(&pod, &output, &[&container]).await.unwrap_err(),
        restore(&node, &output, &node.pod("new").request(), &[]).await.unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert!(refused.message().contains("/nowhere/criu"), "{refused:?}");
    }
    assert_counting(&container).await;
}

#[tokio::test]
async fn what_cannot_be_checkpointed_is_refused_with_the_reason() {
    let node = boot().await;
    let pod = node.pod("odd").run().await;
    let output = directory(&node, "out");
    let location = output.join("a.tar");
    let sleep = ["sleep", "1000"];
    let terminal = pod.container("tty").command(sleep).with(|config| config.tty = true);
    let terminal = terminal.start().await;
    let on_host = pod.container("host").command(sleep).security(|security| {
        let options = security.namespace_options.get_or_insert_default();
        options.pid = NamespaceMode::Node.into();
    });
    let on_host = on_host.start().await;
    let created = pod.container("created").command(sleep).create().await;
    let good = pod.container("good").shell(COUNT).start().await;
    for (container, reason) in
        [(&terminal, "terminal"), (&on_host, "host's PID namespace"), (&created, "not running")]
    {
        let refused = checkpoint(container, &location, 0).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert!(refused.message().contains(reason), "{refused:?}");
    }
    for (location, timeout, code) in [
        (Path::new("relative.tar"), 0, Code::InvalidArgument),
        (location.as_path(), -1, Code::InvalidArgument),
        (output.join("missing/a.tar").as_path(), 0, Code::NotFound),
    ] {
        let refused = checkpoint(&good, location, timeout).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    assert!(names(&output).is_empty());
}

#[tokio::test]
async fn a_checkpoint_that_takes_too_long_ends_and_leaves_nothing() {
    let (node, gate) = boot_gated().await;
    let pod = node.pod("slow").run().await;
    let container = pod.container("main").shell(COUNT).start().await;
    container.wait_output("1\n").await;
    let output = directory(&node, "out");

    let refused = checkpoint(&container, &output.join("a.tar"), 1).await.unwrap_err();

    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused:?}");
    assert!(names(&output).is_empty());
    assert_counting(&container).await;
    // Nothing is in the way of another try.
    fs::write(gate.path().join("gate"), "").unwrap();
    checkpoint(&container, &output.join("a.tar"), 0).await.unwrap();
}

#[tokio::test]
async fn a_dump_that_fails_says_why_and_the_pod_runs_on() {
    let directory_of_program = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let script = "#!/bin/sh\necho 'Error (x): the moon is wrong' >&2\nexit 1\n";
    let program = write_program(directory_of_program.path(), script);
    let node = Node::boot_with_criu(&program).await;
    let pod = node.pod("fails").run().await;
    let first = pod.container("first").shell(COUNT).start().await;
    let second = pod.container("second").shell(COUNT).start().await;
    let output = directory(&node, "out");

    let one = checkpoint(&first, &output.join("a.tar"), 0).await.unwrap_err();
    assert!(one.message().contains("the moon is wrong"), "{one:?}");
    assert!(names(&output).is_empty());
    let all = checkpoint_pod(&pod, &output, &[&first, &second]).await.unwrap_err();
    assert!(all.message().contains("the moon is wrong"), "{all:?}");
    assert!(names(&output).is_empty());
    assert_counting(&first).await;
    assert_counting(&second).await;
}

#[tokio::test]
async fn a_pod_is_checkpointed_only_as_the_request_must_be() {
    let node = boot().await;
    let pod = node.pod("strict").run().await;
    let other = node.pod("other").run().await;
    let first = pod.container("first").shell(COUNT).start().await;
    let second = pod.container("second").shell(COUNT).start().await;
    let stranger = other.container("stranger").shell(COUNT).start().await;
    let idle = pod.container("idle").shell(COUNT).create().await;
    let empty = directory(&node, "empty");
    let full = directory(&node, "full");
    fs::write(full.join("file"), "kept").unwrap();
    let link = node.home.join("link");
    symlink(&empty, &link).unwrap();
    let missing = node.home.join("missing");
    let (both, precondition) = ([&first, &second], Code::FailedPrecondition);
    for (output, containers, code) in [
        (&empty, &[&first][..], precondition),
        (&empty, &[&first, &second, &idle][..], precondition),
        (&empty, &[&first, &second, &first][..], Code::InvalidArgument),
        (&empty, &[&first, &second, &stranger][..], Code::InvalidArgument),
        (&full, &both[..], precondition),
        (&link, &both[..], Code::InvalidArgument),
        (&missing, &both[..], Code::NotFound),
    ] {
        let refused = checkpoint_pod(&pod, output, containers).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    let request = CheckpointPodRequest {
        pod_sandbox_id: pod.id.clone(),
        output_path: empty.to_str().unwrap().to_owned(),
        container_ids: both.map(|container| container.id.clone()).to_vec(),
        options: HashMap::from([("compress".to_owned(), "true".to_owned())]),
    };
    let refused = node.runtime().checkpoint_pod(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("compress"), "{refused:?}");
    assert!(names(&empty).is_empty() && !missing.exists());
    assert_eq!(fs::read_to_string(full.join("file")).unwrap(), "kept");
}

/// One of two players who take turns at a counter in the pod's shared memory. Each remembers what
/// it wrote last, and loses when the counter is not what the other must have made of it. It ends
/// with code 7 when it is told to, with 3 when it has lost.
fn player(parity: u32) -> String {
    format!(
        "last=-1; while true; do \
           [ -e /dev/shm/end ] && exit 7; \
           n=$(cat /dev/shm/counter); \
           if [ $((n % 2)) = {parity} ]; then \
             [ $last = -1 ] || [ $n = $((last + 1)) ] || {{ echo lost $n $last; exit 3; }}; \
             last=$((n + 1)); \
             echo $last > /dev/shm/next.{parity}; mv /dev/shm/next.{parity} /dev/shm/counter; \
             echo at $last; echo $last > /layer; \
           fi; \
           sleep 0.01; \
         done"
    )
}

fn number_after(output: &str, word: &str) -> Option<i64> {
    output.lines().find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
}

#[tokio::test]
async fn two_containers_with_a_shared_counter_go_on_together_in_a_restored_pod() {
    let node = boot().await;
    let pod = node.pod("source").run().await;
    let setup = "echo 0 > /dev/shm/counter; rm /etc/passwd; sleep 1000";
    let keeper = pod.container("keeper").shell(setup).start().await;
    until("the counter", async || {
        keeper
            .try_exec(&["test", "-e", "/dev/shm/counter"], 20)
            .await
            .is_ok_and(|it| it.exit_code == 0)
    })
    .await;
    let even = pod.container("even").shell(&player(0)).start().await;
    let odd = pod.container("odd").shell(&player(1)).start().await;
    odd.wait_output("at 20\n").await;
    let output = directory(&node, "out");

    checkpoint_pod(&pod, &output, &[&keeper, &even, &odd]).await.unwrap();

    assert_counting(&even).await;
    assert_counting(&odd).await;
    let configs = [("even", player(0)), ("odd", player(1)), ("keeper", setup.to_owned())]
        .map(|(name, script)| pod.container(name).shell(&script).request());
    pod.remove().await;

    let before = names(&output);
    let request = node.pod("restored").request();
    let restored = restore(&node, &output, &request, &configs).await.unwrap();

    assert_eq!(names(&output), before, "the checkpoint was changed");
    let pod = node.adopt_pod(&restored.pod_sandbox_id, &request);
    let ids: BTreeMap<_, _> = restored
        .restored_containers
        .iter()
        .map(|it| (it.name.as_str(), it.container_id.as_str()))
        .collect();
    assert_eq!(ids.keys().copied().collect::<Vec<_>>(), ["even", "keeper", "odd"]);
    let [even, odd, keeper] =
        ["even", "odd", "keeper"].map(|name| pod.adopt(ids[name], &format!("{name}.log")));
    for container in [&even, &odd, &keeper] {
        assert_eq!(container.state().await, ContainerState::ContainerCreated);
    }
    // One that is started goes on; the other does not, so the counter stays at its next turn.
    even.start().await.unwrap();
    keeper.start().await.unwrap();
    until("the counter to wait for the other", async || {
        keeper.shell("n=$(cat /dev/shm/counter); echo $((n % 2))").await == "1"
    })
    .await;
    let waiting = keeper.shell("cat /dev/shm/counter").await;
    assert_eq!(odd.state().await, ContainerState::ContainerCreated);
    assert!(odd.logs().is_empty(), "{:?}", odd.logs());
    assert_eq!(keeper.shell("cat /dev/shm/counter").await, waiting);
    odd.start().await.unwrap();
    let target = waiting.parse::<i64>().unwrap() + 21;
    odd.wait_output(&format!("at {target}\n")).await;
    // It counted on from where it was, and not from its program's beginning.
    let first = number_after(&odd.output(), "at").unwrap();
    assert!(first > 20, "{first}");
    // The writable layer came along, with what was deleted in it.
    assert!(keeper.shell("ls /etc").await.lines().all(|name| name != "passwd"));
    let layer = odd.shell("cat /layer").await;
    assert!(layer.parse::<i64>().unwrap() >= first, "{layer}");
    // Both have a shell inside, a network, and an exit code, as any container.
    assert_eq!(odd.shell("cat /proc/1/cmdline | tr '\\0' ' ' | cut -c1-5").await, "sh -c");
    assert!(pod.is_ready().await && !pod.ip().await.is_empty());
    keeper.shell("touch /dev/shm/end").await;
    assert_eq!((even.wait_exit().await.code, odd.wait_exit().await.code), (7, 7));
    keeper.stop(0).await;
    assert_eq!(keeper.wait_exit().await.code, 137);
}

#[tokio::test]
async fn a_restored_pod_outlives_the_daemon_and_goes_before_it_was_started() {
    let node = boot().await;
    let pod = node.pod("source").run().await;
    let container = pod.container("main").shell(COUNT).start().await;
    container.wait_output("3\n").await;
    let output = directory(&node, "out");
    checkpoint_pod(&pod, &output, &[&container]).await.unwrap();
    let config = pod.container("main").shell(COUNT).request();
    let request = node.pod("restored").request();
    let restored = restore(&node, &output, &request, std::slice::from_ref(&config)).await.unwrap();
    let pod = node.adopt_pod(&restored.pod_sandbox_id, &request);
    let main = pod.adopt(&restored.restored_containers[0].container_id, "main.log");

    node.restart().await;

    assert_eq!(main.state().await, ContainerState::ContainerCreated);
    main.start().await.unwrap();
    assert_counting(&main).await;
    assert!(number_after(&main.output(), "").unwrap() > 3);
    // Another one is removed without ever having been started.
    let request = node.pod("unwanted").request();
    let unwanted = restore(&node, &output, &request, &[config]).await.unwrap();
    node.remove_pod(unwanted.pod_sandbox_id).await.unwrap();
}

#[tokio::test]
async fn an_established_connection_is_closed_in_the_restored_pod() {
    let node = boot().await;
    let pod = node.pod("source").run().await;
    let talk = "mkfifo /f; (nc -l -p 7000 < /f > /dev/null; echo server over) & exec 3> /f; \
        sleep 1000 | while ! nc 127.0.0.1 7000; do sleep 0.05; done & \
        while ! grep -q ':1B58 01 ' /proc/net/tcp; do sleep 0.05; done; echo connected; wait";
    let container = pod.container("main").shell(talk).start().await;
    container.wait_output("connected\n").await;
    let output = directory(&node, "out");
    checkpoint_pod(&pod, &output, &[&container]).await.unwrap();
    let config = pod.container("main").shell(talk).request();
    let connections = "grep -c ':1B58 01 ' /proc/net/tcp || true";
    assert_ne!(container.shell(connections).await, "0", "the source keeps its connection");

    let request = node.pod("restored").request();
    let restored = restore(&node, &output, &request, &[config]).await.unwrap();
    let pod = node.adopt_pod(&restored.pod_sandbox_id, &request);
    let main = pod.adopt(&restored.restored_containers[0].container_id, "main.log");
    main.start().await.unwrap();
    main.wait_output("server over\n").await;
    assert_eq!(main.shell(connections).await, "0");
}

#[tokio::test]
async fn a_restore_that_cannot_work_leaves_nothing() {
    let node = boot().await;
    let pod = node.pod("source").run().await;
    let first = pod.container("first").shell(COUNT).start().await;
    let second = pod.container("second").shell(COUNT).start().await;
    first.wait_output("1\n").await;
    second.wait_output("1\n").await;
    let output = directory(&node, "out");
    checkpoint_pod(&pod, &output, &[&first, &second]).await.unwrap();
    let config = |name| pod.container(name).shell(COUNT).request();
    let good = [config("first"), config("second")];
    let (pods, containers) = (node.pod_ids().await, container_ids(&node).await);
    let request = node.pod("restored").request();

    for (configs, code) in [
        (vec![config("first")], Code::InvalidArgument),
        (vec![config("first"), config("second"), config("third")], Code::InvalidArgument),
        (vec![config("first"), config("first")], Code::InvalidArgument),
        (
            vec![config("first"), pod.container("second").with(|it| it.tty = true).request()],
            Code::FailedPrecondition,
        ),
    ] {
        let refused = restore(&node, &output, &request, &configs).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    let path = output.to_str().unwrap().to_owned();
    for (runtime_handler, options) in [
        ("kata".to_owned(), HashMap::new()),
        (String::new(), HashMap::from([("lazy".to_owned(), "1".to_owned())])),
    ] {
        let request = RestorePodRequest {
            checkpoint_path: path.clone(),
            config: Some(request.clone()),
            runtime_handler,
            options,
            container_configs: good.to_vec(),
        };
        let refused = node.runtime().restore_pod(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    // Its second container fails only when the first one is restored already.
    fs::remove_file(output.join("second/checkpoint/pstree.img")).unwrap();
    let refused = restore(&node, &output, &request, &good).await.unwrap_err();
    assert!(refused.message().contains("second"), "{refused:?}");
    assert_eq!(node.pod_ids().await, pods);
    assert_eq!(container_ids(&node).await, containers);
}

#[tokio::test]
async fn a_checkpoint_that_others_may_have_made_is_refused() {
    let node = boot().await;
    let pod = node.pod("source").run().await;
    let container = pod.container("main").shell(COUNT).start().await;
    container.wait_output("1\n").await;
    let output = directory(&node, "out");
    checkpoint_pod(&pod, &output, &[&container]).await.unwrap();
    let config = [pod.container("main").shell(COUNT).request()];
    let request = node.pod("restored").request();
    let pods = node.pod_ids().await;
    let refuse = async |what: &str| {
        let refused = restore(&node, &output, &request, &config).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused:?}");
    };
    let images = output.join("main/checkpoint");
    let (file, away) = (images.join("pstree.img"), node.home.join("pstree.img"));

    fs::rename(&file, &away).unwrap();
    symlink(&away, &file).unwrap();
    refuse("a link among the images").await;
    fs::remove_file(&file).unwrap();
    fs::rename(&away, &file).unwrap();

    fs::set_permissions(&images, fs::Permissions::from_mode(0o777)).unwrap();
    refuse("a directory that everybody may write").await;
    fs::set_permissions(&images, fs::Permissions::from_mode(0o700)).unwrap();

    std::os::unix::fs::chown(&file, Some(1000), None).unwrap();
    refuse("a file of somebody else's").await;
    std::os::unix::fs::chown(&file, Some(0), None).unwrap();

    let manifest = output.join("checkpoint.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"main\"", "\"../main\"")).unwrap();
    refuse("a name that leads out").await;
    fs::write(&manifest, text).unwrap();

    assert_eq!(node.pod_ids().await, pods);
    restore(&node, &output, &request, &config).await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_of_more_than_the_request_allows_is_not_restored() {
    let node = boot().await;
    let pod = node.pod("source").run().await;
    let mighty = pod.container("main").shell(COUNT).security(|security| {
        security.capabilities.get_or_insert_default().add_capabilities = vec!["SYS_TIME".into()];
    });
    let container = mighty.start().await;
    container.wait_output("1\n").await;
    let output = directory(&node, "out");
    checkpoint_pod(&pod, &output, &[&container]).await.unwrap();
    let config = [pod.container("main").shell(COUNT).request()];
    let pods = node.pod_ids().await;
    let request = node.pod("restored").request();
    let refused = restore(&node, &output, &request, &config).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("Cap"), "{refused:?}");
    assert_eq!(node.pod_ids().await, pods);
}

#[tokio::test]
async fn a_daemon_killed_in_a_checkpoint_leaves_nothing_frozen_and_nothing_half_written() {
    let (node, gate) = boot_gated().await;
    let pod = node.pod("frozen").run().await;
    let first = pod.container("first").shell(COUNT).start().await;
    let second = pod.container("second").shell(COUNT).start().await;
    first.wait_output("1\n").await;
    second.wait_output("1\n").await;
    let output = directory(&node, "out");
    let containers = [&first, &second];
    let call = checkpoint_pod(&pod, &output, &containers);
    let killing = async {
        until("criu to be called", async || gate.path().join("called").exists()).await;
        node.kill();
    };
    let (called, ()) = tokio::join!(call, killing);
    called.unwrap_err();
    assert!(!names(&output).is_empty(), "the daemon died before it wrote anything");

    node.start().await;

    assert!(names(&output).is_empty());
    assert_counting(&first).await;
    assert_counting(&second).await;
    // The CRIU of the dead daemon's call still waits. It ends, finds that nobody wants its dump, and
    // freezes nothing for ever.
    fs::write(gate.path().join("gate"), "").unwrap();
    assert_counting(&first).await;
    until("another checkpoint to work", async || {
        checkpoint_pod(&pod, &output, &containers).await.is_ok()
    })
    .await;
    assert_counting(&first).await;
    assert_counting(&second).await;
}
