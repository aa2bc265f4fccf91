//! Networks whose declaration changes while containers are in them.

use crate::compose::{Project, THEIRS, write};
use crate::docker::Docker;
use crate::docker_containers::node;

/// `NET` is what the network `back` is declared with.
const FILE: &str = r#"
services:
  db: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, networks: {back: {aliases: [store]}}}
  app: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, networks: [default, back], depends_on: [db]}
  side: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, network_mode: "service:app"}
  apart: {image: busybox, command: sleep 1000, stop_signal: SIGKILL}
networks: {back: {NET}}
"#;
const SERVICES: [&str; 4] = ["db", "app", "side", "apart"];

fn declared(project: &Project<'_>, network: &str) {
    write(&project.path("compose.yaml"), &FILE.replace("NET", network));
}

async fn states(docker: &Docker) -> Vec<(String, String)> {
    let mut states = Vec::new();
    for service in SERVICES {
        let shown = docker.inspect(&format!("shop-{service}-1")).await;
        let status = shown["State"]["Status"].as_str().unwrap().to_owned();
        states.push((shown["Id"].as_str().unwrap().to_owned(), status));
    }
    states
}

async fn network(docker: &Docker, field: &str) -> String {
    docker.run(&["network", "inspect", "-f", field, "shop_back"]).await
}

/// Both clients keep the containers, and bring them into the network that comes after the former one.
#[tokio::test]
async fn a_changed_network_is_made_anew() {
    let (_node, docker) = node().await;
    let project = Project::new(&docker, FILE);
    for client in [THEIRS, "cais"] {
        declared(&project, "driver_opts: {x: y}");
        project.run(client, "", &["up", "-d"]).await;
        let (before, former) = (states(&docker).await, network(&docker, "{{.Id}}").await);
        let apart = docker.inspect("shop-apart-1").await["State"]["StartedAt"].clone();

        declared(&project, "driver_opts: {x: z}");
        let up = project.done(client, "", &["up", "-d"]).await;
        assert_eq!(up.code, 0, "{up:?}");
        assert_eq!(states(&docker).await, before, "{client}: {up:?}");
        assert_ne!(network(&docker, "{{.Id}}").await, former);
        assert_eq!(network(&docker, "{{.Options.x}}").await, "z");
        assert_eq!(docker.inspect("shop-apart-1").await["State"]["StartedAt"], apart);
        project.run(client, "", &["exec", "-T", "app", "ping", "-c", "1", "shop-db-1"]).await;

        // Done is done, for the other client too.
        for client in ["cais", THEIRS] {
            let again = project.done(client, "", &["up", "-d"]).await;
            assert!(!again.stderr.contains("Network"), "{again:?}");
            assert_eq!(states(&docker).await, before);
        }
        project.run(client, "", &["down", "-v"]).await;
        project.is_gone().await;
    }
}

/// Whoever is connected is connected again, as it was, whatever started it and whether the project's files tell of it.
#[tokio::test]
async fn all_who_were_in_a_network_are_in_it_again() {
    let (_node, docker) = node().await;
    let project = Project::new(&docker, FILE);
    let subnet = "ipam: {config: [{subnet: 10.77.4.0/24}]}";
    declared(&project, subnet);
    project.run("cais", "", &["up", "-d"]).await;
    let before = states(&docker).await;
    let sleeper = ["busybox", "sleep", "1000"];
    let guest = [
        "run",
        "-d",
        "--name",
        "guest",
        "--network",
        "shop_back",
        "--network-alias",
        "visitor",
        "--ip",
        "10.77.4.99",
        "--stop-signal",
        "SIGKILL",
    ];
    docker.run(&[&guest[..], &sleeper].concat()).await;
    let sharer = ["run", "-d", "--name", "sharer", "--network", "container:shop-app-1"];
    docker.run(&[&sharer[..], &["--stop-signal", "SIGKILL"], &sleeper].concat()).await;
    let single = project.run("cais", "", &["run", "-d", "db", "sleep", "1000"]).await;
    // Out of the project's files by now, and one that has ended.
    docker.run(&["create", "--name", "idle", "--network", "shop_back", "busybox", "true"]).await;

    let aliases = "{{json (index .NetworkSettings.Networks \"shop_back\").Aliases}}";
    let mut known = Vec::new();
    for name in ["guest", "shop-db-1", "shop-app-1", "idle", single.as_str()] {
        known.push((name, docker.run(&["inspect", "-f", aliases, name]).await));
    }
    let started = docker.inspect("guest").await["State"]["StartedAt"].clone();

    // A service alone, while the others of the network are not asked for.
    declared(&project, &format!("{subnet}, driver_opts: {{x: z}}"));
    project.run("cais", "", &["up", "-d", "--no-deps", "db"]).await;
    assert_eq!(states(&docker).await, before);
    for (name, aliases_before) in &known {
        assert_eq!(docker.run(&["inspect", "-f", aliases, name]).await, *aliases_before, "{name}");
    }
    let guest = docker.inspect("guest").await;
    assert_eq!(guest["State"]["StartedAt"], started);
    assert_eq!(guest["NetworkSettings"]["Networks"]["shop_back"]["IPAddress"], "10.77.4.99");
    for (from, to) in [
        ("guest", "store"),
        ("shop-app-1", "db"),
        ("shop-side-1", "visitor"),
        ("shop-side-1", "shop-db-1"),
        ("sharer", "store"),
        ("shop-db-1", "app"),
        (&single, "visitor"),
    ] {
        docker.run(&["exec", from, "ping", "-c", "1", to]).await;
    }
    // A sidecar is where its service is.
    let namespace = |name| ["exec", name, "readlink", "/proc/self/ns/net"];
    let app = docker.run(&namespace("shop-app-1")).await;
    assert_eq!(docker.run(&namespace("shop-side-1")).await, app);
    assert_eq!(docker.run(&namespace("sharer")).await, app);

    // What cannot be made leaves all as it was.
    let address =
        docker.inspect("guest").await["NetworkSettings"]["Networks"]["shop_back"]["IPAddress"]
            .clone();
    declared(&project, "ipam: {config: [{subnet: 10.77.4.0/24, gateway: 10.99.0.1}]}");
    let refused = project.done("cais", "", &["up", "-d"]).await;
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("network shop_back is as it was"), "{refused:?}");
    assert_eq!(states(&docker).await, before);
    assert_eq!(network(&docker, "{{.Options.x}}").await, "z");
    assert_eq!(
        docker.inspect("guest").await["NetworkSettings"]["Networks"]["shop_back"]["IPAddress"],
        address
    );
    docker.run(&["exec", "shop-side-1", "ping", "-c", "1", "store"]).await;

    docker.run(&["rm", "-f", "guest", "sharer", "idle", &single]).await;
    project.run("cais", "", &["down", "-v"]).await;
    project.is_gone().await;
}

/// Another subnet with another address of a service in it; containers that are only created; who does not stop; other projects.
#[tokio::test]
async fn what_changes_with_its_network_is_made_anew_in_it() {
    let (_node, docker) = node().await;
    let project = Project::new(&docker, FILE);
    let file = |third: u8| {
        format!(
            "services: {{a: {{image: busybox, command: sleep 1000, stop_signal: SIGKILL, networks: {{back: {{ipv4_address: 10.77.{third}.7}}}}}}, b: {{image: busybox, command: sleep 1000, stop_signal: SIGKILL, networks: [back]}}}}\nnetworks: {{back: {{ipam: {{config: [{{subnet: 10.77.{third}.0/24}}]}}}}}}\n"
        )
    };
    let path = project.path("compose.yaml");
    write(&path, &file(5));
    project.run("cais", "", &["up", "-d"]).await;
    let (a, b) = (project.id("shop-a-1").await, project.id("shop-b-1").await);
    write(&path, &file(6));
    let refused = project.done("cais", "", &["up", "-d", "--rolling"]).await;
    assert!(refused.code != 0 && refused.stderr.contains("leave out --rolling"), "{refused:?}");
    project.run("cais", "", &["up", "-d"]).await;
    assert_ne!(project.id("shop-a-1").await, a);
    assert_eq!(project.id("shop-b-1").await, b);
    docker.run(&["exec", "shop-b-1", "ping", "-c", "1", "a"]).await;
    let shown = docker.inspect("shop-a-1").await;
    assert_eq!(shown["NetworkSettings"]["Networks"]["shop_back"]["IPAddress"], "10.77.6.7");

    // What is only made is not started, as with any other change.
    write(&path, &file(7));
    project.run("cais", "", &["create"]).await;
    assert_eq!(docker.inspect("shop-b-1").await["State"]["Status"], "exited");
    project.run("cais", "", &["up", "-d"]).await;
    assert_eq!(project.id("shop-b-1").await, b);
    docker.run(&["exec", "shop-b-1", "ping", "-c", "1", "a"]).await;
    // One that was taken out and not brought back is made anew in it.
    docker.run(&["stop", "shop-b-1"]).await;
    docker.run(&["network", "disconnect", "shop_back", "shop-b-1"]).await;
    project.run("cais", "", &["up", "-d"]).await;
    docker.run(&["exec", "shop-b-1", "ping", "-c", "1", "a"]).await;
    project.run("cais", "", &["down"]).await;

    // A network of another project stays what it is.
    let other = [
        "network",
        "create",
        "--label",
        "com.docker.compose.project=other",
        "--label",
        "com.docker.compose.network=back",
        "--label",
        "com.docker.compose.config-hash=else",
        "shop_back",
    ];
    let id = docker.run(&other).await;
    write(
        &path,
        "services: {b: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, networks: [back]}}\nnetworks: {back: {internal: true}}\n",
    );
    let up = project.done("cais", "", &["up", "-d"]).await;
    assert!(up.code == 0 && up.stderr.contains("was not made for project shop"), "{up:?}");
    assert_eq!(network(&docker, "{{.Id}}").await, id);
    project.run("cais", "", &["rm", "-fs"]).await;
    docker.run(&["network", "rm", "shop_back"]).await;
    project.is_gone().await;
}
