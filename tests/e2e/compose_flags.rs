//! Flags and keys that say what of a project is shown, and when its images are pulled.

use serde_json::Value;

use crate::compose::{Project, THEIRS, write};
use crate::docker_containers::node;

const FILE: &str = r#"
services:
  web: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, pull_policy: POLICY, ports: ["80", "81/udp"], volumes: ["kept:/kept"]}
  job: {image: busybox, command: "true"}
volumes: {kept: {labels: {a: b}}}
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
    // Labels come from docker compose in any order.
    let shown = async |words: &[&str]| {
        let (ours, theirs) =
            (project.run("cais", "", words).await, project.run(THEIRS, "", words).await);
        let rows = |text: &str| -> Vec<Value> {
            let rows = serde_json::Deserializer::from_str(text).into_iter::<Value>();
            let mut rows: Vec<Value> = rows.map(Result::unwrap).collect();
            for row in rows.iter_mut().filter(|it| it.get("Labels").is_some()) {
                let mut labels: Vec<_> =
                    row["Labels"].as_str().unwrap().split(',').map(str::to_owned).collect();
                labels.sort();
                row["Labels"] = labels.join(",").into();
            }
            if let [Value::Array(list)] = rows.as_mut_slice() {
                list.sort_by_key(|it| it["ContainerName"].to_string());
            }
            rows
        };
        match words.ends_with(&["json"]) {
            true => assert_eq!(rows(&ours), rows(&theirs), "{words:?}"),
            false => assert_eq!(ours, theirs, "{words:?}"),
        }
    };
    for format in [
        "json",
        "table {{.Name}}\t{{.State}}\t{{.Publishers}}\t{{.Networks}}",
        "{{.Service}} {{.ExitCode}} {{.Health}} {{.Publishers}} {{.Label \"no\"}} {{.ID}} {{.LocalVolumes}} {{.Mounts}}",
        "{{range .Publishers}}{{.TargetPort}}={{.PublishedPort}} {{end}}",
    ] {
        shown(&["ps", "-a", "--format", format]).await;
    }
    shown(&["images", "--format", "json"]).await;
    for format in ["json", "table", "{{.Name}} of {{.Driver}}"] {
        shown(&["volumes", "--format", format]).await;
    }
    for filter in ["name=shop", "name=^sho", "name=op$", "name=^ho"] {
        shown(&["ls", "-q", "--filter", filter]).await;
    }
    for words in [
        &["ls", "--filter", "id=shop"][..],
        &["ls", "--filter", "name"],
        &["ls", "--format", "bad"],
        &["images", "--format", "{{.ID}}"],
        &["ps", "--format", "{{.Foo}}"],
    ] {
        let ours = project.done("cais", "", words).await;
        let theirs = project.done(THEIRS, "", words).await;
        assert!(ours.code == theirs.code && ours.code != 0, "{words:?}: {ours:?}");
        assert_eq!(ours.stderr, theirs.stderr, "{words:?}");
    }
    let list = ["ls", "-a", "--format", "json"];
    let ours = json(&project.run("cais", "", &list).await);
    assert_eq!(ours, json(&project.run(THEIRS, "", &list).await));
    assert_eq!(
        json(&project.run("cais", "", &["version", "-f", "json"]).await)["version"],
        "2.40.3"
    );

    // Of a service that the file has no more.
    write(
        &project.path("compose.yaml"),
        "services: {web: {image: busybox}}\nvolumes: {kept: {}}\n",
    );
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
    project.run("cais", "", &["down", "-v", "--remove-orphans"]).await;
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
    project.run("cais", "", &["down", "-v"]).await;
    project.is_gone().await;
}

const CHAIN: &str = r#"
services:
  db: {image: busybox, command: sleep 1000, stop_signal: SIGKILL}
  app: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, depends_on: {db: {condition: service_started, restart: true}}}
  web: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, depends_on: {app: {condition: service_started, restart: true}}}
  log: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, depends_on: [db]}
"#;

#[tokio::test]
async fn who_depends_on_it_restarts_with_a_service_unless_told_otherwise() {
    let (_node, docker) = node().await;
    let project = Project::new(&docker, CHAIN);
    project.run("cais", "", &["up", "-d"]).await;
    let started = async || {
        let mut all = Vec::new();
        for name in ["db-1", "app-1", "web-1", "log-1"] {
            let id = project.id(&format!("shop-{name}")).await;
            all.push(docker.inspect(&id).await["State"]["StartedAt"].to_string());
        }
        all
    };
    for client in ["cais", THEIRS] {
        for (words, restarted) in [
            (&["restart", "--no-deps", "db"][..], [true, false, false, false]),
            (&["restart", "db"], [true, true, true, false]),
            (&["restart", "web"], [false, false, true, false]),
            (&["restart"], [true; 4]),
        ] {
            let before = started().await;
            project.run(client, "", words).await;
            let after = started().await;
            let changed: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
            assert_eq!(changed, restarted, "{client} {words:?}");
        }
    }

    // A service that the files have no more is killed when that is said.
    write(&project.path("compose.yaml"), &CHAIN[..CHAIN.find("  log:").unwrap()]);
    for (words, left) in [(&["kill"][..], "log"), (&["kill", "--remove-orphans"], "")] {
        project.run("cais", "", words).await;
        let running = ["ps", "--services", "--status", "running"];
        assert_eq!(project.run("cais", "", &running).await, left, "{words:?}");
    }
    project.run("cais", "", &["down", "--remove-orphans"]).await;
    project.is_gone().await;
}

#[tokio::test]
async fn a_project_goes_with_its_first_container_and_files_set_variables() {
    let (_node, docker) = node().await;
    let project = Project::new(
        &docker,
        r#"
services:
  web: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, environment: {OF: file, KEPT: here}}
  job: {image: busybox, command: "sh -c 'until [ -e /go ]; do sleep 0.1; done; exit 3'"}
"#,
    );
    write(&project.path("first.env"), "OF=first\nA=1\nB=${FLAG}-\"x\"\n");
    write(&project.path("second.env"), "A=2\nC=3 # last\nFLAG=no\n");
    let words = ["--env-from-file", "first.env", "--env-from-file", "second.env", "-e", "FLAG=f"];
    let script = ["web", "sh", "-c", "echo $OF $KEPT $A $B $C $FLAG"];
    let words = [&["run", "--rm", "-T"][..], &words, &script].concat();
    assert_eq!(project.run("cais", "", &words).await, "first here 1 f-\"x\" 3 f");
    assert_eq!(project.run(THEIRS, "", &words).await, "first here 1 f-\"x\" 3 f");

    project.run("cais", "", &["up", "-d"]).await;
    let waiting = project.spawn("cais", "", &["wait", "--down-project", "web", "job"]);
    project.run("cais", "", &["exec", "-T", "job", "touch", "/go"]).await;
    let done = crate::docker::output(waiting, "wait").await;
    assert_eq!(done.code, 3, "{done:?}");
    project.is_gone().await;
}

#[tokio::test]
async fn a_service_may_have_the_daemons_socket_and_ones_logins() {
    let (_node, docker) = node().await;
    let text = "services: {web: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, use_api_socket: true}}";
    let project = Project::new(&docker, text);
    project.run("cais", "", &["up", "-d"]).await;
    let before = project.id("shop-web-1").await;
    let script =
        "stat -c %i /var/run/docker.sock; echo $DOCKER_CONFIG; cat $DOCKER_CONFIG/config.json";
    let shown = project.run("cais", "", &["exec", "-T", "web", "sh", "-c", script]).await;
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(docker.socket()).unwrap());
    let (found, rest) = shown.split_once("\n/run/secrets/docker\n").unwrap();
    assert_eq!(found, inode.to_string());
    assert!(json(rest)["auths"].is_object(), "{rest}");
    // To docker compose it is what it would have made.
    let up = project.done(THEIRS, "", &["up", "-d"]).await;
    assert_eq!(up.code, 0, "{up:?}");
    assert_eq!(project.id("shop-web-1").await, before);
    project.run("cais", "", &["down"]).await;
    project.is_gone().await;
}

#[tokio::test]
async fn a_dry_run_tells_what_docker_compose_tells_and_does_nothing() {
    let (_node, docker) = node().await;
    let text = r#"
services:
  db: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, volumes: ["kept:/kept"]}
  web: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, network_mode: "service:db"}
  made: {build: ., command: sleep 1000, stop_signal: SIGKILL}
volumes: {kept: {}}
"#;
    let project = Project::new(&docker, text);
    write(&project.path("Dockerfile"), "FROM busybox\nRUN true\n");
    docker.run(&["pull", "-q", "busybox"]).await;
    // What becomes of containers in the end: docker compose tells of each step on the way too.
    let told = async |client: &str, words: &[&str]| -> Vec<String> {
        let done = project.done(client, "", words).await;
        assert_eq!(done.code, 0, "{client} {words:?}: {done:?}");
        let ends = ["Created", "Recreated", "Removed", "Killed", "Paused"];
        let mut lines: Vec<String> = done
            .stderr
            .lines()
            .filter_map(|it| it.trim().strip_prefix("DRY-RUN MODE -  Container "))
            .filter(|it| ends.iter().any(|end| it.ends_with(end)))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    let up = project.done("cais", "", &["--dry-run", "up"]).await;
    assert_eq!(up.code, 0, "{up:?}");
    for line in [
        " DRY-RUN MODE -  made  Built",
        " DRY-RUN MODE -  Network shop_default  Created",
        " DRY-RUN MODE -  Volume shop_kept  Created",
        " DRY-RUN MODE -  Container shop-web-1  Created",
        " DRY-RUN MODE -  Container shop-db-1  Started",
    ] {
        assert!(up.stderr.lines().any(|it| it == line), "{line}: {up:?}");
    }
    project.is_gone().await;
    assert_eq!(docker.run(&["images", "-q", "shop-made"]).await, "");

    project.run("cais", "", &["up", "-d"]).await;
    let shown = async || {
        let mut all = Vec::new();
        for name in ["shop-db-1", "shop-web-1", "shop-made-1"] {
            let it = docker.inspect(name).await;
            all.push((it["Id"].clone(), it["State"].clone()));
        }
        all
    };
    let before = shown().await;
    for words in [
        &["up", "-d", "--dry-run"][..],
        &["--dry-run", "up", "-d", "--force-recreate", "--scale", "made=2"],
        &["--dry-run", "kill", "made"],
        &["--dry-run", "pause"],
        &["--dry-run", "down"],
    ] {
        assert_eq!(told("cais", words).await, told(THEIRS, words).await, "{words:?}");
    }
    let run = project.done("cais", "", &["--dry-run", "run", "db", "true"]).await;
    assert!(run.code != 0 && run.stderr.contains("compose run cannot tell"), "{run:?}");
    assert_eq!(shown().await, before);
    project.run("cais", "", &["down", "-v"]).await;
    project.is_gone().await;
}
