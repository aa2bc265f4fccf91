//! Flags and keys that say what of a project is shown, and when its images are pulled.

use serde_json::Value;

use crate::compose::{Project, THEIRS, write};
use crate::docker_containers::node;

const FILE: &str = r#"
services:
  web: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, pull_policy: POLICY}
  job: {image: busybox, command: "true"}
"#;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[tokio::test]
async fn projects_are_shown_as_docker_compose_shows_them() {
    let (_node, docker) = node().await;
    let project = Project::new(&docker, &FILE.replace("POLICY", "missing"));
    project.run("cais", "", &["up", "-d"]).await;
    project.run("cais", "", &["wait", "job"]).await;
    for words in [
        &["ps", "--status", "exited", "-q"][..],
        &["ps", "--status", "running", "--status", "exited", "--services"],
        &["ps", "--filter", "status=running", "-q"],
        &["ps", "-aq", "--no-trunc"],
    ] {
        let shown = project.run("cais", "", words).await;
        assert!(!shown.is_empty(), "{words:?}");
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&shown), sorted(&project.run(THEIRS, "", words).await), "{words:?}");
    }
    let list = ["ls", "-a", "--format", "json"];
    let ours = json(&project.run("cais", "", &list).await);
    assert_eq!(ours, json(&project.run(THEIRS, "", &list).await));
    assert_eq!(
        json(&project.run("cais", "", &["version", "-f", "json"]).await)["version"],
        "2.40.3"
    );

    // Of a service that the file has no more.
    write(&project.path("compose.yaml"), "services: {web: {image: busybox}}");
    let whole = project.run("cais", "", &["ps", "-a", "--services"]).await;
    assert_eq!(whole.lines().count(), 2);
    let own = ["ps", "-a", "--services", "--orphans=false"];
    assert_eq!(project.run("cais", "", &own).await, "web");
    let refused = project.done("cais", "", &["ps", "--filter", "name=web"]).await;
    assert!(refused.code != 0 && refused.stderr.contains("it is status=STATE"), "{refused:?}");

    // Of a container, found by its service, an image and an archive are made.
    project.run("cais", "", &["exec", "-T", "web", "touch", "/made"]).await;
    project.run("cais", "", &["commit", "-m", "as it is", "web", "kept:now"]).await;
    let listed = docker.run(&["run", "--rm", "kept:now", "ls", "/made"]).await;
    assert_eq!(listed, "/made");
    project.run("cais", "", &["export", "-o", "web.tar", "web"]).await;
    let listed = std::process::Command::new("tar")
        .args(["-tf", project.path("web.tar").to_str().unwrap(), "made"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "made\n");
    project.run("cais", "", &["down", "--remove-orphans"]).await;
    project.is_gone().await;
}

#[tokio::test]
async fn an_image_is_pulled_again_when_it_is_old() {
    let (_node, docker) = node().await;
    let project = Project::new(&docker, FILE);
    // What was only pulled has no time at which it got its name, here as in dockerd's own store: it counts as old.
    for (policy, is_pulled) in [
        ("weekly", true),
        ("weekly", true),
        ("", false),
        ("weekly", false),
        ("daily", false),
        ("every_1d12h", false),
        ("every_0s", true),
    ] {
        if policy.is_empty() {
            docker.run(&["tag", "busybox", "busybox"]).await;
            continue;
        }
        write(&project.path("compose.yaml"), &FILE.replace("POLICY", policy));
        let up = project.done("cais", "", &["up", "-d", "web"]).await;
        assert_eq!(up.code, 0, "{policy}: {up:?}");
        assert_eq!(up.stderr.contains("web  Pulled"), is_pulled, "{policy}: {up:?}");
    }
    // The flag wins.
    let up = project.done("cais", "", &["up", "-d", "--pull", "never", "web"]).await;
    assert!(up.code == 0 && !up.stderr.contains("Pulled"), "{up:?}");
    for (wrong, why) in [
        ("pull_policy: every_5y", "numbers with their units"),
        ("uts: 'service:job'", "is not host"),
    ] {
        write(&project.path("compose.yaml"), &FILE.replace("pull_policy: POLICY", wrong));
        let refused = project.done("cais", "", &["up", "-d", "web"]).await;
        assert!(refused.code != 0 && refused.stderr.contains(why), "{refused:?}");
    }
    write(&project.path("compose.yaml"), &FILE.replace("POLICY", "missing"));
    let refused = project.done("cais", "", &["up", "--menu"]).await;
    assert!(refused.code != 0 && refused.stderr.contains("no shortcuts"), "{refused:?}");
    project.run("cais", "", &["up", "-d", "--menu=false", "web"]).await;
    project.run("cais", "", &["down"]).await;
    project.is_gone().await;
}
