//! Volumes by the docker client: named and not, filled from the image, shared, kept and removed.

use std::path::PathBuf;

use http::{Method, StatusCode};
use serde_json::json;

use crate::docker::{Client, Docker, by_both_clients};
use crate::docker_containers::node;
use crate::node::Node;

by_both_clients!(
    a_named_volume_outlives_its_containers_and_the_daemon,
    an_empty_volume_is_filled_from_the_image,
    anonymous_volumes_go_with_their_container_when_asked,
);

/// Prints owners, mode, size and name of what stands below `/data` and of itself.
const LIST: &str = "cd /data; for f in . $(find . | sort | tail -n +2); do stat -c '%u:%g %a %F %h %n' $f; done; cat first link";

/// What [`LIST`] prints for the image's own files.
const IMAGES_OWN: &str = "\
33:33 2750 directory 3 .
33:33 644 regular file 2 ./first
33:33 777 symbolic link 1 ./link
33:33 644 regular file 2 ./same
33:33 755 directory 2 ./sub
33:33 4711 regular file 1 ./sub/second
first
second";

/// A node whose Docker door has busybox and the image with a volume at `/data`.
async fn node_with_volume_image() -> (Node, Docker) {
    let (node, docker) = node().await;
    docker.run(&["pull", "-q", "cais/volume"]).await;
    (node, docker)
}

async fn shell(docker: &Docker, options: &[&str], script: &str) -> String {
    let words = [&["run", "--rm"], options, &["busybox", "sh", "-c", script]].concat();
    docker.run(&words).await
}

async fn volume_names(docker: &Docker, options: &[&str]) -> Vec<String> {
    let listed = docker.run(&[&["volume", "ls", "-q"], options].concat()).await;
    listed.lines().map(str::to_owned).collect()
}

async fn a_named_volume_outlives_its_containers_and_the_daemon(client: Client) {
    let (node, docker) = node().await;
    let docker = docker.by(client);
    shell(&docker, &["-v", "data:/d"], "echo kept > /d/file; chown 5:6 /d/file").await;
    assert_eq!(volume_names(&docker, &[]).await, ["data"]);
    docker
        .run(&["create", "--name", "user", "-v", "data:/d:ro", "busybox", "cat", "/d/file"])
        .await;

    node.kill();
    node.start().await;

    let script = "cat /d/file; stat -c %u:%g /d/file";
    assert_eq!(shell(&docker, &["-v", "data:/d"], script).await, "kept\n5:6");
    assert_eq!(docker.run(&["start", "-a", "user"]).await, "kept");
    let id = docker.inspect("user").await["Id"].as_str().unwrap().to_owned();
    let refused = docker.refused(&["volume", "rm", "data"]).await;
    assert!(refused.contains(&format!("remove data: volume is in use - [{id}]")), "{refused}");
    let reply = docker.request(Method::DELETE, "/volumes/data?force=1", None).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    let mount = docker.inspect("user").await["Mounts"][0].clone();
    let source = docker.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]).await;
    assert_eq!(
        mount,
        json!({ "Type": "volume", "Name": "data", "Source": source, "Destination": "/d",
                "Driver": "local", "Mode": "ro", "RW": false, "Propagation": "" })
    );
    assert_eq!(std::fs::read_to_string(PathBuf::from(&source).join("file")).unwrap(), "kept\n");
    docker.run(&["rm", "-v", "user"]).await;
    assert_eq!(docker.run(&["volume", "rm", "data"]).await, "data");
    assert!(!PathBuf::from(source).exists());
}

async fn an_empty_volume_is_filled_from_the_image(client: Client) {
    let (_node, docker) = node_with_volume_image().await;
    let docker = docker.by(client);
    let list = async |options: &[&str], script: &str| {
        let words = [&["run", "--rm"], options, &["cais/volume", "sh", "-c", script]].concat();
        docker.run(&words).await
    };
    assert_eq!(list(&["-v", "data:/data"], LIST).await, IMAGES_OWN);
    // Once only: what is in it by now is its users' own.
    list(&["-v", "data:/data"], "rm /data/first; echo own > /data/own").await;
    assert_eq!(list(&["-v", "data:/data"], "ls /data").await, "link\nown\nsame\nsub");
    // Its own volume, which goes with the container, has the same.
    assert_eq!(list(&[], LIST).await, IMAGES_OWN);
    assert_eq!(volume_names(&docker, &[]).await, ["data"]);

    for (options, script, expected) in [
        (&["-v", "bare:/data:nocopy"][..], "ls /data; stat -c '%u %a' /data", "0 755"),
        (&["--mount", "type=volume,src=bare2,dst=/data,volume-nocopy"], "ls /data", ""),
        // A directory without files gives its owner and mode.
        (&["-v", "empty:/empty"], "stat -c '%u:%g %a' /empty", "65534:65534 1770"),
        // A link is the image's, and what it leads to as well.
        (&["-v", "link:/way"], "ls /way", "first\nlink\nsame\nsub"),
        (&["-v", "none:/not/there"], "ls /not/there; stat -c %a /not/there", "755"),
        (&["-v", "file:/etc/passwd/below"], "true", ""),
    ] {
        let words = [&["run", "--rm"], options, &["cais/volume", "sh", "-c", script]].concat();
        let done = docker.try_run(&words).await;
        let cannot_be = options[1].starts_with("file:");
        assert_eq!(done.code != 0, cannot_be, "{options:?} {done:?}");
        assert_eq!(done.stdout.trim_end(), expected, "{options:?}");
    }
    // The host's directory stays as it is.
    let bind = format!("{}:/data", _node.home.join("logs").display());
    assert_eq!(list(&["-v", &bind], "ls /data").await, "");
}

async fn anonymous_volumes_go_with_their_container_when_asked(client: Client) {
    let (_node, docker) = node_with_volume_image().await;
    let docker = docker.by(client);
    docker.run(&["run", "--rm", "-v", "/x", "cais/volume", "touch", "/x/a"]).await;
    assert!(volume_names(&docker, &[]).await.is_empty());

    docker.run(&["run", "--name", "one", "-v", "/x", "-v", "named:/y", "cais/volume"]).await;
    let names = volume_names(&docker, &[]).await;
    assert_eq!(names.len(), 3, "{names:?}");
    let anonymous: Vec<_> = names.iter().filter(|name| name.len() == 64).collect();
    assert_eq!(anonymous.len(), 2, "{names:?}");
    let shown = docker.get(&format!("/volumes/{}", anonymous[0])).await.json();
    assert_eq!(shown["Labels"], json!({ "com.docker.volume.anonymous": "" }));
    // Each start has the same ones.
    docker.run(&["start", "-a", "one"]).await;
    assert_eq!(volume_names(&docker, &[]).await, names);

    docker.run(&["create", "--name", "two", "--volumes-from", "one:ro", "busybox"]).await;
    docker.run(&["rm", "-v", "one"]).await;
    // The other one has them still.
    assert_eq!(volume_names(&docker, &[]).await, names);
    docker.run(&["rm", "-v", "two"]).await;
    assert_eq!(volume_names(&docker, &[]).await, ["named"]);

    docker.run(&["create", "--name", "three", "-v", "/x", "busybox"]).await;
    docker.run(&["rm", "three"]).await;
    assert_eq!(volume_names(&docker, &[]).await.len(), 2);
    let pruned = docker.run(&["volume", "prune", "-f"]).await;
    assert!(pruned.contains("Total reclaimed space:"), "{pruned}");
    assert_eq!(volume_names(&docker, &[]).await, ["named"]);
}

#[tokio::test]
async fn docker_volumes_from_shares_what_another_container_has() {
    let (node, docker) = node_with_volume_image().await;
    let bind = format!("{}:/host", node.home.join("logs").display());
    let words = ["create", "--name", "one", "-v", &bind, "-v", "vol:/v", "--tmpfs", "/t"];
    docker.run(&[&words[..], &["cais/volume"]].concat()).await;
    let script = "echo a > /v/a; echo b > /host/b; ls /data; grep -c ' /t ' /proc/mounts; true";
    assert_eq!(
        shell(&docker, &["--volumes-from", "one"], script).await,
        "first\nlink\nsame\nsub\n0"
    );
    let script = "cat /v/a /host/b; ! touch /v/x && ! touch /host/x";
    let read = shell(&docker, &["--volumes-from", "one:ro"], script).await;
    assert_eq!(read, "a\nb");
    // What is asked for by name comes first.
    let own = shell(&docker, &["--volumes-from", "one", "--tmpfs", "/v"], "ls /v").await;
    assert_eq!(own, "");
    let refused = docker.refused(&["create", "--volumes-from", "nobody", "busybox"]).await;
    assert!(refused.contains("No such container: nobody"), "{refused}");
    docker.run(&["rm", "-v", "one"]).await;
}

#[tokio::test]
async fn docker_mounts_take_their_options() {
    let (node, docker) = node().await;
    let logs = node.home.join("logs");
    shell(
        &docker,
        &["-v", "vol:/v"],
        "mkdir -p /v/a/b; echo deep > /v/a/b/file; ln -s /etc /v/out",
    )
    .await;

    let bind = format!("type=bind,src={},dst=/m,readonly", logs.display());
    for (mount, script, expected) in [
        ("type=volume,src=vol,dst=/m,readonly", "touch /m/x || cat /m/a/b/file", "deep"),
        ("type=volume,src=vol,dst=/m,volume-subpath=a/b", "ls /m; echo more > /m/more", "file"),
        ("type=volume,src=vol,dst=/m,volume-subpath=a,ro", "touch /m/x || ls /m/b", "file\nmore"),
        (bind.as_str(), "touch /m/x || echo refused", "refused"),
        ("type=tmpfs,dst=/m,tmpfs-size=1m,tmpfs-mode=1770", "stat -c %a /m", "1770"),
    ] {
        let words = ["run", "--rm", "--mount", mount, "busybox", "sh", "-c", script];
        assert_eq!(docker.run(&words).await, expected, "{mount}");
    }
    // A link is the volume's: it has no `/etc` of its own.
    for mount in ["volume-subpath=out", "volume-subpath=no"] {
        let mount = format!("type=volume,src=vol,dst=/m,{mount}");
        let done = docker.try_run(&["run", "--rm", "--mount", &mount, "busybox"]).await;
        assert_eq!(done.code, 125, "{mount}: {done:?}");
        assert!(done.stderr.contains("No such file or directory"), "{done:?}");
    }
    let up = docker.refused(&[
        "create",
        "--mount",
        "type=volume,src=vol,dst=/m,volume-subpath=../x",
        "busybox",
    ]);
    assert!(up.await.contains("subpath must be a relative path"));
    assert!(!logs.join("x").exists());
}

#[tokio::test]
async fn docker_volumes_are_created_listed_and_pruned_by_filter() {
    let (node, docker) = node().await;
    let create = ["volume", "create", "--label", "tier=db", "--label", "x", "one"];
    assert_eq!(docker.run(&create).await, "one");
    assert_eq!(docker.run(&create).await, "one");
    let device = format!("device={}", node.home.join("logs").display());
    let words = ["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "host"];
    docker.run(&words).await;
    let anonymous = docker.run(&["volume", "create"]).await;
    assert_eq!(anonymous.len(), 64);
    docker.run(&["create", "--name", "user", "-v", "two:/x", "busybox"]).await;

    for (filter, expected) in [
        ("label=tier", &["one"][..]),
        ("label=tier=db", &["one"]),
        ("label=tier=web", &[]),
        ("name=o", &["host", "one", "two"]),
        ("dangling=false", &["two"]),
        ("driver=local", &[anonymous.as_str(), "host", "one", "two"]),
        ("driver=other", &[]),
    ] {
        let mut names = volume_names(&docker, &["-f", filter]).await;
        names.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(names, expected, "{filter}");
    }
    assert!(docker.refused(&["volume", "ls", "-f", "colour=red"]).await.contains("invalid filter"));

    shell(&docker, &["-v", "host:/h"], "echo there > /h/volume-file").await;
    let there = std::fs::read_to_string(node.home.join("logs/volume-file")).unwrap();
    assert_eq!(there, "there\n");
    std::fs::remove_file(node.home.join("logs/volume-file")).unwrap();

    docker.run(&["volume", "prune", "-f"]).await;
    assert_eq!(volume_names(&docker, &[]).await, ["host", "one", "two"]);
    docker.run(&["volume", "prune", "-f", "-a", "--filter", "label!=tier"]).await;
    assert_eq!(volume_names(&docker, &[]).await, ["one", "two"]);
    docker.run(&["volume", "prune", "-f", "-a"]).await;
    assert_eq!(volume_names(&docker, &[]).await, ["two"]);
    assert!(node.home.join("logs").is_dir());
    docker.run(&["rm", "user"]).await;
}

#[tokio::test]
async fn docker_names_of_volumes_lead_nowhere() {
    let (_node, docker) = node().await;
    for name in ["..", "../x", "a/b", ".x", "x", "-x", "a\\u0000b", "a b"] {
        let body = format!(r#"{{"Name":"{name}"}}"#);
        let reply = docker.post("/volumes/create", Some(&body)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{name}: {reply:?}");
        reply.message();
    }
    for path in ["/volumes/..%2F..%2Fetc", "/volumes/nobody", "/volumes/%00"] {
        for method in [Method::GET, Method::DELETE] {
            let reply = docker.request(method, path, None).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
            assert!(reply.message().ends_with("no such volume"), "{path}");
        }
    }
    let forced = docker.request(Method::DELETE, "/volumes/nobody?force=1", None).await;
    assert_eq!(forced.status, StatusCode::NO_CONTENT);
    for (body, status) in [
        (r#"{"Name":"ab","Driver":"nfs"}"#, StatusCode::NOT_FOUND),
        (r#"{"Name":"ab","DriverOpts":{"type":"nfs"}}"#, StatusCode::NOT_IMPLEMENTED),
    ] {
        let reply = docker.post("/volumes/create", Some(body)).await;
        assert_eq!(reply.status, status, "{body}");
    }
    // What failed leaves nothing behind, not even the volumes that it made first.
    let refused = ["create", "-v", "fresh:/a", "-v", "no/name:/b", "busybox"];
    docker.refused(&refused).await;
    let body = r#"{"Image":"busybox","HostConfig":{"Binds":["fresh:/a","x:/b"]}}"#;
    let reply = docker.post("/containers/create", Some(body)).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{reply:?}");
    assert!(volume_names(&docker, &[]).await.is_empty());
}
