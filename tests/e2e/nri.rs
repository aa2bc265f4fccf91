//! Plugins of the node, with a real one on the interface's own stub (`hack/tools/nri-plugin`).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cais_proto::runtime::v1::{
    ContainerState, LinuxContainerResources, ListContainersRequest, Mount,
    UpdateContainerResourcesRequest, UpdatePodSandboxResourcesRequest,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::node::Node;
use crate::wait::until;

/// A plugin that has joined.
struct Plugin {
    child: Child,
    log: PathBuf,
}

impl Plugin {
    /// `name` is index and name; `orders` say what it does about events.
    async fn join(node: &Node, name: &str, orders: Value) -> Self {
        let log = node.home.join(format!("{name}.events"));
        let plugin = Self::spawn(node, name, orders, log);
        plugin.hears("Synchronize").await;
        plugin
    }

    fn spawn(node: &Node, name: &str, mut orders: Value, log: PathBuf) -> Self {
        orders["log"] = json!(log);
        orders["updates"] = json!(node.home.join("updates"));
        let child = Command::new("nri-plugin")
            .arg("-socket")
            .arg(node.state.join("nri.sock"))
            .args(["-name", name, "-orders", &orders.to_string()])
            .stdin(Stdio::null())
            .stderr(fs::File::create(log.with_extension("stderr")).unwrap())
            .spawn()
            .expect("start nri-plugin");
        Self { child, log }
    }

    fn events(&self) -> Vec<String> {
        events(&self.log)
    }

    async fn hears(&self, event: &str) {
        let heard = async || self.events().iter().any(|line| line.starts_with(event));
        until(&format!("{event} among the events"), heard).await;
    }

    fn count(&self, event: &str) -> usize {
        self.events().iter().filter(|line| line.starts_with(event)).count()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

/// How often a plugin was told of all there is.
fn joins(log: &Path) -> usize {
    events(log).iter().filter(|event| event.starts_with("Synchronize")).count()
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn events(log: &Path) -> Vec<String> {
    fs::read_to_string(log).unwrap_or_default().lines().map(|line| line.trim().to_owned()).collect()
}

#[tokio::test]
async fn adjustments_are_applied_in_the_order_of_the_indices() {
    let node = Node::boot().await;
    fs::write(node.home.join("given"), "from the plugin\n").unwrap();
    let second = json!({ "adjust": {
        "env": [{ "key": "SECOND", "value": "2" }, { "key": "-GONE" }],
        "mounts": [{ "destination": "/given", "type": "bind", "source": node.home.join("given"),
            "options": ["rbind", "ro"] }],
        "args": ["sh", "-c", "echo $FIRST $SECOND $GONE; cat /given; sleep 1000"],
        "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": "333", "soft": "222" }],
        "linux": {
            "devices": [{ "path": "/dev/given", "type": "c", "major": "1", "minor": "5" }],
            "resources": { "cpu": { "shares": { "value": "512" } },
                "memory": { "limit": { "value": "67108864" } } },
            "oomScoreAdj": { "value": "77" },
            "seccompPolicy": { "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                { "names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO" }] },
        },
    } });
    let second = Plugin::join(&node, "20-second", second).await;
    let first = json!({ "adjust": { "env": [{ "key": "FIRST", "value": "1" }] } });
    let _first = Plugin::join(&node, "10-first", first).await;

    let pod = node.pod("adjusted").run().await;
    let container = pod.container("main").command(["false"]).env("GONE", "x").start().await;

    container.wait_output("from the plugin").await;
    assert_eq!(container.output(), "1 2\nfrom the plugin\n");
    assert_eq!(container.shell("ulimit -n; ulimit -Hn").await, "222\n333");
    assert_eq!(container.shell("cat /proc/1/oom_score_adj").await, "77");
    assert_eq!(container.shell("head -c 3 /dev/given | od -An -tx1").await, " 00 00 00");
    assert_eq!(container.exec(&["chmod", "600", "/tmp"]).await.exit_code, 1);
    let resources = container.status().await.resources.unwrap().linux.unwrap();
    assert_eq!((resources.cpu_shares, resources.memory_limit_in_bytes), (512, 64 << 20));
    let created = second.events().into_iter().find(|it| it.starts_with("CreateContainer"));
    assert!(created.as_ref().is_some_and(|it| it.contains("FIRST=1")), "{created:?}");
    second.hears("PostStartContainer main").await;
    second.hears("PostCreateContainer main sh_-c_echo").await;
}

#[tokio::test]
async fn plugins_that_disagree_are_named_and_nothing_is_made() {
    let node = Node::boot().await;
    let env = |value: &str| json!({ "adjust": { "env": [{ "key": "WHO", "value": value }] } });
    let _one = Plugin::join(&node, "10-one", env("1")).await;
    let other = Plugin::join(&node, "20-other", env("2")).await;
    let pod = node.pod("torn").run().await;

    let refused = pod.container("main").command(["true"]).try_create().await.err().unwrap();

    let text = refused.message();
    assert!(text.contains("10-one") && text.contains("20-other") && text.contains("WHO"), "{text}");
    let listed = node.runtime().list_containers(ListContainersRequest::default()).await.unwrap();
    assert!(listed.into_inner().containers.is_empty());
    other.hears("RemoveContainer main").await;
    drop(other);
    until("the other plugin to be gone", async || node.log().contains("plugin is gone")).await;
    assert_eq!(pod.container("main").shell("echo $WHO").output().await, "1\n");
}

#[tokio::test]
async fn what_cannot_be_adjusted_is_refused_by_its_name() {
    let node = Node::boot().await;
    let orders = json!({ "adjust": { "linux": { "sysctl": { "net.ipv4.ip_forward": "1" } } } });
    let _plugin = Plugin::join(&node, "00-sysctl", orders).await;
    let pod = node.pod("refused").run().await;
    let refused = pod.container("main").command(["true"]).try_create().await.err().unwrap();
    assert!(refused.message().contains("linux.sysctl"), "{}", refused.message());
}

#[tokio::test]
async fn a_refused_event_is_undone_and_the_same_request_succeeds() {
    let node = Node::boot().await;
    let plugin = Plugin::join(&node, "00-run", json!({ "fail": "RunPodSandbox" })).await;
    let refused = node.pod("again").try_run().await.err().unwrap();
    assert!(refused.message().contains("told to fail"), "{}", refused.message());
    assert!(node.pod_ids().await.is_empty());
    let pod = node.pod("again").run().await;
    drop(plugin);

    let plugin = Plugin::join(&node, "00-create", json!({ "fail": "CreateContainer" })).await;
    let refused = pod.container("main").command(["true"]).try_create().await.err().unwrap();
    assert!(refused.message().contains("00-create"), "{}", refused.message());
    pod.container("main").command(["true"]).create().await;
    drop(plugin);

    let _plugin = Plugin::join(&node, "00-start", json!({ "fail": "StartContainer" })).await;
    let container = pod.container("other").command(["sleep", "1000"]).create().await;
    let refused = container.start().await.unwrap_err();
    assert!(refused.message().contains("told to fail"), "{}", refused.message());
    assert_eq!(container.state().await, ContainerState::ContainerCreated);
    container.start().await.unwrap();
    assert_eq!(container.state().await, ContainerState::ContainerRunning);
}

#[tokio::test]
async fn a_plugin_that_hangs_is_dropped_and_the_request_goes_on() {
    let node = Node::boot().await;
    let hanging = Plugin::join(&node, "00-hangs", json!({ "hang": "CreateContainer" })).await;
    let healthy = Plugin::join(&node, "10-healthy", json!({})).await;
    let pod = node.pod("patient").run().await;

    let asked = Instant::now();
    pod.container("main").command(["sleep", "1000"]).start().await;
    let took = asked.elapsed();

    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(10), "{took:?}");
    healthy.hears("StartContainer main").await;
    // It hears of nothing any more.
    assert_eq!(hanging.count("StartContainer"), 0);
    assert!(node.log().contains("the plugin is dropped"), "{}", node.log_tail());
}

#[tokio::test]
async fn a_plugin_hears_of_what_was_there_before_it_and_of_each_end_once() {
    let node = Node::boot().await;
    let pod = node.pod("early").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let exited = pod.container("exited").shell("exit 3").start().await;
    exited.wait_exit().await;

    let plugin = Plugin::join(&node, "00-late", json!({})).await;
    let told = "Synchronize early,main:CONTAINER_RUNNING:sleep_1000";
    assert!(plugin.events().contains(&told.to_owned()), "{:?}", plugin.events());

    let quick = pod.container("quick").shell("exit 4").start().await;
    quick.wait_exit().await;
    plugin.hears("StopContainer quick code=4").await;
    quick.remove().await;
    container.stop(0).await;
    container.stop(0).await;
    pod.stop().await;
    pod.stop().await;
    pod.remove().await;
    plugin.hears("RemovePodSandbox early").await;
    for event in ["StopContainer quick", "StopContainer main", "StopPodSandbox", "RemovePodSandbox"]
    {
        assert_eq!(plugin.count(event), 1, "{event}: {:?}", plugin.events());
    }
    // Ended before the plugin came: its end is no news.
    assert_eq!(plugin.count("StopContainer exited"), 0);
}

#[tokio::test]
async fn containers_made_while_plugins_join_are_told_once_to_each() {
    let node = Node::boot().await;
    let pod = node.pod("crowd").run().await;
    node.pull(crate::node::BUSYBOX).await;
    let make = async |number: u32| {
        pod.container(&format!("c{number}-")).command(["sleep", "1000"]).create().await;
    };
    let joins = async {
        let mut plugins = Vec::new();
        for number in 10..14 {
            plugins.push(Plugin::join(&node, &format!("{number}-joins"), json!({})).await);
        }
        plugins
    };
    let makes = async {
        for number in 0..12 {
            make(number).await;
        }
    };
    let (plugins, ()) = tokio::join!(joins, makes);
    for plugin in plugins {
        for number in 0..12 {
            let events = plugin.events();
            let name = format!("c{number}-");
            let synchronized = events.iter().filter(|line| {
                line.starts_with("Synchronize") && line.contains(&format!("{name}:"))
            });
            let created = plugin.count(&format!("CreateContainer {name} "));
            assert_eq!(synchronized.count() + created, 1, "{name}: {events:?}");
        }
    }
}

#[tokio::test]
async fn updates_change_limits_and_failed_ones_are_told() {
    let node = Node::boot().await;
    let plugin = Plugin::join(&node, "00-updates", json!({})).await;
    let pod = node.pod("updated").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let update = |id: &str, shares: &str| {
        json!({ "containerId": id, "linux": { "resources": { "cpu": {
            "shares": { "value": shares } } } } })
    };
    let updates = json!({ "update": [update(&container.id, "333"), update("nobody", "1")] });
    fs::write(node.home.join("updates"), updates.to_string()).unwrap();

    plugin.signal(Signal::USR1);

    plugin.hears("Updated failed=1 error=<nil>").await;
    let shares = async || container.status().await.resources.unwrap().linux.unwrap().cpu_shares;
    assert_eq!(shares().await, 333);

    let request = UpdateContainerResourcesRequest {
        container_id: container.id.clone(),
        linux: Some(LinuxContainerResources { cpu_shares: 444, ..Default::default() }),
        ..Default::default()
    };
    node.runtime().update_container_resources(request).await.unwrap();
    plugin.hears("UpdateContainer main shares=444").await;
    plugin.hears("PostUpdateContainer main").await;
    assert_eq!(shares().await, 444);
}

#[tokio::test]
async fn a_resize_of_a_pod_is_asked_about_and_told() {
    let node = Node::boot().await;
    let plugin = Plugin::join(&node, "00-resize", json!({ "fail": "UpdatePodSandbox" })).await;
    let pod = node.pod("resized").run().await;
    let resize = async || {
        let request = UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: pod.id.clone(),
            resources: Some(LinuxContainerResources { cpu_shares: 555, ..Default::default() }),
            ..Default::default()
        };
        node.runtime().update_pod_sandbox_resources(request).await
    };
    let refused = resize().await.unwrap_err();
    assert!(refused.message().contains("told to fail"), "{}", refused.message());
    assert_eq!(plugin.count("PostUpdatePodSandbox"), 0);
    resize().await.unwrap();
    assert_eq!(plugin.count("UpdatePodSandbox resized shares=555"), 2);
    plugin.hears("PostUpdatePodSandbox resized shares=555").await;
}

#[tokio::test]
async fn a_validator_can_reject_what_others_adjust() {
    let node = Node::boot().await;
    let validator = Plugin::join(&node, "00-guard", json!({ "reject": "not today" })).await;
    let pod = node.pod("guarded").run().await;
    let refused = pod.container("main").command(["true"]).try_create().await.err().unwrap();
    let text = refused.message();
    assert!(text.contains("00-guard") && text.contains("not today"), "{text}");
    validator.hears("ValidateContainerAdjustment main").await;
}

#[tokio::test]
async fn an_installed_plugin_lives_with_the_daemon_and_is_told_all_at_its_start() {
    let node = Node::boot().await;
    let pod = node.pod("standing").run().await;
    pod.container("main").command(["sleep", "1000"]).start().await;
    let log = node.home.join("installed.events");
    for directory in ["nri", "nri-conf"] {
        fs::create_dir_all(node.home.join(directory)).unwrap();
    }
    let program = std::env::var("PATH").unwrap();
    let program = program.split(':').map(|it| Path::new(it).join("nri-plugin"));
    let program = program.into_iter().find(|it| it.exists()).expect("nri-plugin on the PATH");
    symlink(program, node.home.join("nri/30-installed")).unwrap();
    let orders = json!({ "log": log, "adjust": { "env": [{ "key": "BY", "value": "conf" }] } });
    let config = node.home.join("nri-conf/installed.conf");
    fs::write(&config, orders.to_string()).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();

    node.restart().await;
    // The daemon is there, and makes nothing before the plugin has joined.
    assert_eq!(pod.container("new").shell("echo $BY").output().await, "conf\n");
    let told = "Synchronize standing,main:CONTAINER_RUNNING:sleep_1000".to_owned();
    assert!(events(&log).contains(&told), "{:?}", events(&log));

    // What ends while no daemon is there is in no plugin's books, and no news to any.
    let away = pod.container("away").shell("until [ -e /host/flag ]; do sleep 0.02; done; exit 5");
    let away = away.with(|config| {
        config.mounts = vec![Mount {
            container_path: "/host".to_owned(),
            host_path: node.home.to_str().unwrap().to_owned(),
            ..Default::default()
        }];
    });
    let away = away.start().await;
    let joined = joins(&log);
    node.kill();
    fs::write(node.home.join("flag"), "").unwrap();
    let exit = node.state.join("pods").join(&pod.id).join("exits").join(&away.id);
    until("the record of the exit", async || exit.exists()).await;
    node.start().await;
    away.wait_exit().await;
    // Removals do not wait for plugins that are still to join.
    until("the plugin to join the next daemon", async || joins(&log) > joined).await;
    away.remove().await;
    let told = async || events(&log).contains(&"RemoveContainer away".to_owned());
    until("the removal to be told", told).await;
    assert_eq!(events(&log).iter().filter(|it| it.starts_with("StopContainer away")).count(), 0);
    // Of a killed daemon's plugin the connection is gone, and so is it; the next daemon starts it anew.
    node.restart().await;
    let again = async || events(&log).iter().filter(|it| it.starts_with("Synchronize")).count();
    until("the plugin to be started again", async || again().await == 3).await;
}
