//! Services that the daemon starts without a client.

use crate::compose::Project;
use crate::docker_containers::node;
use crate::wait::until;

/// When nothing runs as the daemon begins, as after a boot, a service waits for what it depends on.
#[tokio::test]
async fn a_boot_follows_depends_on() {
    let (node, docker) = node().await;
    let text = r#"
services:
  app:
    image: busybox
    restart: always
    command: [sh, -c, "if [ -e /data/ready ]; then echo ready; else echo early; fi; exec sleep 1000"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    depends_on: {db: {condition: service_healthy}}
  db:
    image: busybox
    restart: always
    command: [sh, -c, "sleep 0.5; touch /data/ready; exec sleep 1000"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    healthcheck: {test: [CMD, test, -e, /data/ready], interval: 100ms, retries: 1000}
volumes: {data: }
"#;
    let project = Project::new(&docker, text);
    project.run("cais", "", &["up", "-d"]).await;
    let at = docker.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", "shop_data"]).await;
    // As with dockerd, `always` is meant when the daemon begins, whatever was before.
    project.run("cais", "", &["stop"]).await;
    node.kill();
    std::fs::remove_file(std::path::Path::new(&at).join("ready")).unwrap();
    node.start().await;
    let logs = async || docker.run(&["logs", "shop-app-1"]).await;
    until("the service to run again", async || logs().await.lines().count() == 2).await;
    assert_eq!(logs().await, "ready\nready");
    project.run("cais", "", &["down", "-v"]).await;
    project.is_gone().await;
}
