//! Services that crictl sees as pods, and a kubelet does not.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use cais_proto::runtime::v1::{
    ListContainersRequest, ListPodSandboxRequest, ListPodSandboxStatsRequest,
};
use serde_json::Value;

use crate::compose::{Project, THEIRS, write};
use crate::docker_containers::node;
use crate::node::Node;
use crate::streams::{crictl, run, text};

const FILE: &str = r#"
services:
  db: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, volumes: ["data:/data"]}
  app:
    image: busybox
    command: [sh, -c, "echo started; exec sleep 1000"]
    stop_signal: SIGKILL
    restart: always
    depends_on: [db]
    environment: {SETTING: "${SETTING:-one}"}
  side: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, network_mode: "service:app"}
volumes: {data: }
"#;

async fn told(node: &Node, words: &[&str]) -> Output {
    let done = run(crictl(node, words), "").await;
    assert!(done.status.success(), "crictl {words:?}: {done:?}");
    done
}

async fn json(node: &Node, words: &[&str]) -> Value {
    serde_json::from_slice(&told(node, words).await.stdout).unwrap()
}

/// Names of pods, in order.
async fn pods(node: &Node) -> Vec<String> {
    names(&json(node, &["pods", "-o", "json"]).await["items"])
}

fn names(list: &Value) -> Vec<String> {
    let name = |it: &Value| it["metadata"]["name"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = list.as_array().unwrap().iter().map(name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn services_are_pods_to_crictl_and_to_nobody_else() {
    let (node, docker) = node().await;
    let project = Project::new(&docker, FILE);
    let up = ["up", "-d", "--scale", "app=2"];
    project.run("cais", "", &up).await;
    assert_eq!(pods(&node).await, [""; 0]);
    let plain = project.id("shop-db-1").await;

    project.run("cais", "", &[&up[..], &["--cri"]].concat()).await;
    let all = ["shop-app-1", "shop-app-2", "shop-db-1", "shop-side-1"];
    assert_eq!(pods(&node).await, all);
    let db = project.id("shop-db-1").await;
    assert_ne!(db, plain, "a label is what a container is made with");

    // Pod and container are what Kubernetes would make them.
    let pod = &json(&node, &["pods", "-o", "json", "--name", "shop-app-1"]).await["items"][0];
    let id = pod["id"].as_str().unwrap();
    assert_eq!(pod["metadata"]["namespace"], "shop");
    assert_eq!(pod["state"], "SANDBOX_READY");
    let label = |of: &Value, key: &str| of["labels"][key].as_str().unwrap_or_default().to_owned();
    assert_eq!(label(pod, "io.kubernetes.pod.name"), "shop-app-1");
    assert_eq!(label(pod, "io.kubernetes.pod.namespace"), "shop");
    assert_eq!(label(pod, "io.kubernetes.pod.uid"), pod["metadata"]["uid"].as_str().unwrap());
    assert_eq!(label(pod, "com.docker.compose.service"), "app");
    let status = &json(&node, &["inspectp", id]).await["status"];
    let networks = docker.inspect("shop-app-1").await["NetworkSettings"]["Networks"].clone();
    assert_eq!(status["network"]["ip"], networks["shop_default"]["IPAddress"]);
    assert_eq!(status["metadata"]["name"], "shop-app-1");

    let listed = json(&node, &["ps", "-o", "json"]).await["containers"].clone();
    assert_eq!(names(&listed), ["app", "app", "db", "side"]);
    let app = project.id("shop-app-1").await;
    let of_pod = &json(&node, &["ps", "-o", "json", "--pod", id]).await["containers"][0];
    assert_eq!(of_pod["id"], app.as_str());
    assert_eq!(label(of_pod, "io.kubernetes.container.name"), "app");
    assert_eq!(label(of_pod, "io.kubernetes.pod.name"), "shop-app-1");
    let status = &json(&node, &["inspect", &app]).await["status"];
    assert_eq!(
        (&status["metadata"]["name"], &status["state"]),
        (&"app".into(), &"CONTAINER_RUNNING".into())
    );

    // What looks works, and the names are compose's.
    assert_eq!(text(&told(&node, &["logs", &app]).await.stdout), "started\n");
    told(&node, &["exec", &app, "ping", "-c", "1", "db"]).await;
    told(&node, &["exec", "-s", &db, "ping", "-c", "1", "app"]).await;
    let stats = json(&node, &["stats", "-o", "json"]).await;
    assert_eq!(stats["stats"].as_array().unwrap().len(), 4);
    let of_pods =
        json(&node, &["statsp", "-o", "json", "--label", "com.docker.compose.service=db"]).await;
    let attributes = &of_pods["stats"][0]["attributes"];
    assert_eq!(attributes["metadata"]["name"], "shop-db-1", "{of_pods}");

    // What would change it is refused, and changes nothing.
    let refused = "which alone changes it";
    for words in [&["stop", &app][..], &["rm", "-f", &app], &["stopp", id], &["rmp", "-f", id]] {
        let done = run(crictl(&node, words), "").await;
        assert!(!done.status.success(), "{words:?}");
        assert!(text(&done.stderr).contains(refused), "{words:?}: {done:?}");
    }
    assert_eq!(pods(&node).await, all);

    // Who is not known to be no kubelet sees nothing: these tests, and crictl under another name.
    let mut runtime = node.runtime();
    let found = runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap();
    assert!(found.into_inner().items.is_empty());
    let found = runtime.list_containers(ListContainersRequest::default()).await.unwrap();
    assert!(found.into_inner().containers.is_empty());
    let found = runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await;
    assert!(found.unwrap().into_inner().stats.is_empty());
    let kubelet = project.path("kubelet");
    let genuine = crictl(&node, &["pods", "-q"]);
    let path = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|it| it.join(genuine.get_program()))
        .find(|it| it.is_file())
        .unwrap();
    std::fs::copy(&path, &kubelet).unwrap();
    std::fs::set_permissions(&kubelet, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&kubelet);
    command.args(genuine.get_args()).stdout(std::process::Stdio::piped());
    let seen = run(command, "").await;
    assert!(seen.status.success() && seen.stdout.is_empty(), "{seen:?}");

    // The next daemon shows what this one did.
    node.kill();
    node.start().await;
    assert_eq!(pods(&node).await, all);

    // It stays so for all that comes later: changed, scaled, started again, and by the other client's hand.
    project.run("cais", "two", &["up", "-d", "--scale", "app=3"]).await;
    assert_eq!(
        pods(&node).await,
        ["shop-app-1", "shop-app-2", "shop-app-3", "shop-db-1", "shop-side-1"]
    );
    assert_eq!(project.id("shop-db-1").await, db);
    project.run(THEIRS, "two", &["stop", "app"]).await;
    assert_eq!(pods(&node).await, ["shop-db-1", "shop-side-1"]);
    project.run(THEIRS, "two", &["up", "-d", "--scale", "app=3"]).await;
    assert_eq!(project.id("shop-db-1").await, db);
    assert_eq!(pods(&node).await.len(), 5);

    // And until it is told otherwise.
    project.run("cais", "two", &["up", "-d", "--scale", "app=1", "--cri=false"]).await;
    assert_eq!(pods(&node).await, [""; 0]);
    write(
        &project.path("compose.yaml"),
        &FILE.replace("volumes: [\"data:/data\"]", "labels: {cais.cri.namespace: prod}"),
    );
    project.run("cais", "two", &["up", "-d"]).await;
    assert_eq!(pods(&node).await, ["shop-db-1"]);
    let db = &json(&node, &["pods", "-o", "json", "--namespace", "prod"]).await["items"];
    assert_eq!(names(db), ["shop-db-1"]);
    project.run("cais", "", &["down", "-v"]).await;
    project.is_gone().await;
}
