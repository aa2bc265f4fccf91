//! Healthchecks by the docker client: what is shown of them, when it changes, and what follows from it.

use serde_json::{Value, json};

use crate::docker::Docker;
use crate::docker_containers::node;
use crate::docker_events::told;
use crate::wait::until;

/// Asks often, and does not wait for a second failure.
const OFTEN: [&str; 6] =
    ["--health-interval", "50ms", "--health-retries", "1", "--health-timeout", "60s"];

async fn run(docker: &Docker, name: &str, options: &[&str], script: &str) {
    let words = ["run", "-d", "--name", name];
    docker.run(&[&words, options, &["busybox", "sh", "-c", script]].concat()).await;
}

async fn health(docker: &Docker, name: &str) -> Value {
    docker.inspect(name).await["State"]["Health"].clone()
}

async fn becomes(docker: &Docker, name: &str, status: &str) {
    until(&format!("{name} to be {status}"), async || {
        health(docker, name).await["Status"] == status
    })
    .await;
}

/// What `docker ps` says of the one container with this health.
async fn listed(docker: &Docker, filter: &str) -> String {
    let filter = format!("health={filter}");
    docker.run(&["ps", "--filter", &filter, "--format", "{{.Names}} {{.Status}}"]).await
}

/// Every change of health that was told.
async fn changes(docker: &Docker, name: &str) -> Vec<String> {
    let container = format!("container={name}");
    told(docker, "1", "{{.Action}}", &[&container, "event=health_status"]).await
}

#[tokio::test]
async fn docker_health_follows_what_the_probe_says() {
    let (_node, docker) = node().await;
    let check = [&["--health-cmd", "echo asked; [ -e /well ]"][..], &OFTEN].concat();
    let start = ["--health-start-period", "1h", "--health-start-interval", "50ms"];
    run(&docker, "web", &[&check[..], &start].concat(), "sleep 1000").await;
    until("five results", async || {
        health(&docker, "web").await["Log"].as_array().unwrap().len() == 5
    })
    .await;
    let starting = health(&docker, "web").await;
    assert_eq!((&starting["Status"], &starting["FailingStreak"]), (&json!("starting"), &json!(0)));
    let last = &starting["Log"][4];
    assert_eq!((&last["ExitCode"], &last["Output"]), (&json!(1), &json!("asked\n")));
    assert!(listed(&docker, "starting").await.ends_with(" (health: starting)"));
    assert_eq!(listed(&docker, "healthy").await, "");

    docker.run(&["exec", "web", "touch", "/well"]).await;
    becomes(&docker, "web", "healthy").await;
    let row = listed(&docker, "healthy").await;
    assert!(row.starts_with("web Up ") && row.ends_with(" (healthy)"), "{row}");
    docker.run(&["exec", "web", "rm", "/well"]).await;
    becomes(&docker, "web", "unhealthy").await;
    assert!(listed(&docker, "unhealthy").await.ends_with(" (unhealthy)"));
    until("a streak", async || health(&docker, "web").await["FailingStreak"].as_u64().unwrap() > 1)
        .await;
    docker.run(&["exec", "web", "touch", "/well"]).await;
    becomes(&docker, "web", "healthy").await;
    assert_eq!(
        changes(&docker, "web").await,
        ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]
    );
    // Probes are commands like others.
    let commands = told(&docker, "1", "{{.Action}}", &["event=exec_create"]).await;
    let probe = "exec_create: /bin/sh -c echo asked; [ -e /well ]";
    assert!(commands.iter().any(|it| it == probe), "{commands:?}");

    docker.run(&["stop", "-t", "0", "web"]).await;
    assert_eq!(health(&docker, "web").await["Status"], "unhealthy");
    docker.run(&["start", "web"]).await;
    becomes(&docker, "web", "healthy").await;
    docker.run(&["rm", "-f", "web"]).await;
}

#[tokio::test]
async fn docker_a_probe_is_killed_for_its_time_and_its_output_is_cut() {
    let (_node, docker) = node().await;
    let often = ["--health-interval", "50ms", "--health-retries", "2"];
    let slow = ["--health-cmd", "sleep 12345", "--health-timeout", "100ms"];
    run(&docker, "slow", &[&often[..], &slow].concat(), "sleep 1000").await;
    let loud = ["--health-cmd", "yes | head -c 10000"];
    run(&docker, "loud", &[&often[..], &loud].concat(), "sleep 1000").await;

    let request = json!({
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "Healthcheck": {"Test": ["CMD", "no-such-probe"], "Interval": 50_000_000, "Retries": 1},
    });
    let made = docker.post("/containers/create?name=lame", Some(&request.to_string())).await;
    assert!(made.status.is_success(), "{made:?}");
    docker.run(&["start", "lame"]).await;
    becomes(&docker, "lame", "unhealthy").await;
    let last = health(&docker, "lame").await["Log"][0].clone();
    assert_eq!(last["ExitCode"], -1, "{last}");
    assert!(last["Output"].as_str().unwrap().contains("executable file not found"), "{last}");

    becomes(&docker, "slow", "unhealthy").await;
    let last = health(&docker, "slow").await["Log"][0].clone();
    assert_eq!(last["ExitCode"], -1);
    assert_eq!(last["Output"], "Health check exceeded timeout (100ms)");
    until("nothing to be left of it", async || {
        let left = docker.try_run(&["exec", "slow", "pgrep", "-fc", "^sleep 12345"]).await;
        // The one under way, if there is one.
        ["0", "1"].contains(&left.stdout.trim())
    })
    .await;
    becomes(&docker, "loud", "healthy").await;
    let output = health(&docker, "loud").await["Log"][0]["Output"].as_str().unwrap().to_owned();
    assert_eq!((output.len(), output.ends_with("y\n...")), (4099, true), "{}", output.len());
    docker.run(&["rm", "-f", "slow", "loud", "lame"]).await;
}

#[tokio::test]
async fn docker_an_images_healthcheck_is_asked_unless_it_is_not_wanted() {
    let (_node, docker) = node().await;
    let words = ["create", "--name", "base", "--health-cmd", "test -e /tmp"];
    docker.run(&[&words[..], &OFTEN, &["busybox", "sleep", "1000"]].concat()).await;
    docker.run(&["commit", "base", "checked"]).await;
    docker.run(&["run", "-d", "--name", "plain", "checked"]).await;
    docker.run(&["run", "-d", "--name", "other", "--health-cmd", "false", "checked"]).await;
    docker.run(&["run", "-d", "--name", "silent", "--no-healthcheck", "checked"]).await;
    becomes(&docker, "plain", "healthy").await;
    becomes(&docker, "other", "unhealthy").await;
    let silent = docker.inspect("silent").await;
    assert_eq!(silent["State"]["Health"], Value::Null);
    assert_eq!(silent["Config"]["Healthcheck"]["Test"], json!(["NONE"]));
    let other = docker.inspect("other").await["Config"]["Healthcheck"].clone();
    assert_eq!(other["Test"], json!(["CMD-SHELL", "false"]));
    assert_eq!((&other["Interval"], &other["Retries"]), (&json!(50_000_000), &json!(1)));
    assert_eq!(listed(&docker, "none").await.split(' ').next(), Some("silent"));
    let refused =
        docker.refused(&["create", "--health-cmd", "a", "--health-interval", "1us", "checked"]);
    assert!(refused.await.contains("Interval in Healthcheck cannot be less than 1ms"));
    docker.run(&["rm", "-f", "base", "plain", "other", "silent"]).await;
}

#[tokio::test]
async fn docker_probes_rest_in_a_pause_and_outlive_the_daemon() {
    let (node, docker) = node().await;
    let check = [&["--health-cmd", "[ -e /well ]"][..], &OFTEN].concat();
    run(&docker, "web", &check, "touch /well; sleep 1000").await;
    becomes(&docker, "web", "healthy").await;
    docker.run(&["pause", "web"]).await;
    assert_eq!(listed(&docker, "healthy").await.split_once("web Up ").unwrap().0, "");
    docker.run(&["unpause", "web"]).await;

    node.restart().await;
    // What it was is not forgotten, and what it becomes is seen.
    assert_eq!(health(&docker, "web").await["Status"], "healthy");
    docker.run(&["exec", "web", "rm", "/well"]).await;
    becomes(&docker, "web", "unhealthy").await;
    docker.run(&["exec", "web", "touch", "/well"]).await;
    becomes(&docker, "web", "healthy").await;
    docker.run(&["rm", "-f", "web"]).await;
}

#[tokio::test]
async fn docker_restart_on_unhealthy_starts_what_is_ill_again() {
    let (_node, docker) = node().await;
    let check = [&["--health-cmd", "[ ! -e /run/ill ]"][..], &OFTEN].concat();
    let policy = ["--restart", "on-unhealthy", "--stop-timeout", "1", "--tmpfs", "/run"];
    let script = "trap 'exit 0' TERM; echo run >> /runs; while :; do sleep 0.05; done";
    run(&docker, "web", &[&check[..], &policy].concat(), script).await;
    becomes(&docker, "web", "healthy").await;
    docker.run(&["exec", "web", "touch", "/run/ill"]).await;
    until("the second run to be well", async || {
        let web = docker.inspect("web").await;
        web["RestartCount"] == 1 && web["State"]["Health"]["Status"] == "healthy"
    })
    .await;
    assert_eq!(docker.run(&["exec", "web", "cat", "/runs"]).await, "run\nrun");
    assert_eq!(docker.inspect("web").await["HostConfig"]["RestartPolicy"]["Name"], "on-unhealthy");
    // Whoever stops it is obeyed.
    docker.run(&["stop", "web"]).await;
    assert_eq!(docker.inspect("web").await["State"]["Status"], "exited");
    // Without the policy it is left as it is.
    run(&docker, "left", &[&["--health-cmd", "false"][..], &OFTEN].concat(), "sleep 1000").await;
    until("many failures", async || {
        health(&docker, "left").await["FailingStreak"].as_u64().unwrap() > 5
    })
    .await;
    assert_eq!(docker.inspect("left").await["RestartCount"], 0);
    docker.run(&["rm", "-f", "web", "left"]).await;
}
