//! Services that the daemon starts without a client, after a boot.

use std::path::Path;

use http::StatusCode;
use serde_json::{Value, json};

use crate::compose::Project;
use crate::compose_rolling::asked;
use crate::docker_containers::node;
use crate::network::free_port;
use crate::wait::until;

/// All that ran is gone, and with it networks, groups and the state directory. What is to run is started again, each service
/// behind those that it depends on, with its files, its log, its ports and its names.
#[tokio::test]
async fn a_boot_after_a_loss_of_power_follows_depends_on() {
    let (node, docker) = node().await;
    let port = free_port().await;
    let text = r#"
services:
  app:
    image: busybox
    restart: always
    command: [sh, -c, "ping -c 1 -W 20 db > /dev/null || exit 1; test -e /data/ready && echo ready || echo early; touch /own; exec httpd -f -p 80 -h /"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    ports: ["PORT:80"]
    depends_on: {db: {condition: service_healthy}}
  db:
    image: busybox
    restart: unless-stopped
    command: [sh, -c, "sleep 0.5; touch /data/ready; exec sleep 1000"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    healthcheck: {test: [CMD, test, -e, /data/ready], interval: 100ms, retries: 1000}
  once: {image: busybox, command: sleep 1000, stop_signal: SIGKILL}
  stopped: {image: busybox, restart: unless-stopped, command: sleep 1000, stop_signal: SIGKILL}
volumes: {data: }
"#
    .replace("PORT", &port.to_string());
    let project = Project::new(&docker, &text);
    project.run("cais", "", &["up", "-d"]).await;
    project.run("cais", "", &["stop", "stopped"]).await;
    let serves = async || asked(port).await.is_ok_and(|it| it.starts_with("HTTP/1."));
    until("the service to answer", serves).await;
    docker.run(&["exec", "shop-app-1", "touch", "/written"]).await;
    let at = docker.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", "shop_data"]).await;

    node.lose_power().await;
    std::fs::remove_file(Path::new(&at).join("ready")).unwrap();
    node.start().await;
    until("the service to answer again", serves).await;
    assert_eq!(docker.run(&["logs", "shop-app-1"]).await, "ready\nready");
    docker.run(&["exec", "shop-app-1", "ls", "/written"]).await;
    let state = docker.inspect("shop-once-1").await["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(137)));
    assert_eq!(docker.inspect("shop-stopped-1").await["State"]["Status"], "exited");
    project.run("cais", "", &["down", "-v"]).await;
    project.is_gone().await;
}

/// The host went away when one of two records was written: the place is the one's that had taken it.
#[tokio::test]
async fn a_place_is_one_containers_after_a_boot() {
    let (node, docker) = node().await;
    let port = free_port().await;
    let published = format!("{port}:80");
    docker.run(&["network", "create", "shop"]).await;
    let create = async |name: &str| {
        let words = ["create", "--name", name, "--restart", "always", "--stop-signal", "KILL"];
        let script = format!("echo {name} > /index.html; exec httpd -f -p 80 -h /");
        let place = ["--network", "shop", "-p", &published, "busybox", "sh", "-c", &script];
        docker.run(&[&words[..], &place].concat()).await
    };
    let (old, new) = (create("old").await, create("new").await);
    docker.run(&["start", "old"]).await;
    let answers = async || asked(port).await.unwrap_or_default().lines().last().map(str::to_owned);
    until("the old one to answer", async || answers().await.as_deref() == Some("old")).await;
    for path in ["/containers/new/start?aside=1", "/containers/new/takeover?from=old&t=0"] {
        let reply = docker.post(path, None).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{reply:?}");
    }

    node.lose_power().await;
    let edit = |id: &str, change: &dyn Fn(&mut Value)| {
        let path = node.home.join(format!("root/standalone/{id}.json"));
        let mut record = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut record);
        std::fs::write(&path, record.to_string()).unwrap();
    };
    edit(&new, &|it| {
        assert_eq!((&it["is_aside"], &it["took_from"]), (&json!(false), &Value::Null));
        it["took_from"] = json!(old);
    });
    edit(&old, &|it| {
        assert_eq!(it["is_aside"], true);
        it["is_aside"] = json!(false);
    });
    node.start().await;
    until("both to run", async || docker.run(&["ps", "-q"]).await.lines().count() == 2).await;
    until("the new one to answer", async || answers().await.as_deref() == Some("new")).await;
    assert_eq!(docker.inspect("old").await["State"]["Aside"], true);
    docker.run(&["rm", "-f", "old", "new"]).await;
    docker.run(&["network", "rm", "shop"]).await;
}
