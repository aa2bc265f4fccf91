//! `docker cp`, `docker diff` and `docker export`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::docker::Docker;
use crate::docker_containers::node;
use crate::node::Node;
use crate::wait::until;

/// One container that runs, and one that never did.
async fn two() -> (Node, Docker) {
    let (node, docker) = node().await;
    let words = ["--name", "up", "-v", "up:/vol", "busybox", "sleep", "1000"];
    docker.run(&[&["run", "-d"], &words[..]].concat()).await;
    let words = ["--name", "down", "-v", "down:/vol", "busybox", "sleep", "1000"];
    docker.run(&[&["create"], &words[..]].concat()).await;
    (node, docker)
}

/// A directory of the host with a file, a program and a link in it.
fn tree(node: &Node) -> std::path::PathBuf {
    let tree = node.home.join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("file"), "from the host\n").unwrap();
    fs::write(tree.join("sub/.wh.odd"), "a name like others\n").unwrap();
    fs::set_permissions(tree.join("file"), fs::Permissions::from_mode(0o751)).unwrap();
    symlink("file", tree.join("link")).unwrap();
    tree
}

/// An archive of one member, as no client of good will would make it.
fn archive(name: &str, kind: tar::EntryType, link: Option<&str>) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    if let Some(link) = link {
        header.set_link_name(link).unwrap();
    }
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend([0; 1024]);
    bytes
}

async fn put(docker: &Docker, path: &str, body: Vec<u8>) -> (StatusCode, String) {
    let request = http::Request::put(path).header("Host", "docker");
    let request = request.body(http_body_util::Full::new(bytes::Bytes::from(body))).unwrap();
    let io = TokioIo::new(UnixStream::connect(docker.socket()).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// What the header of an archive says of a path.
async fn path_stat(docker: &Docker, path: &str) -> Value {
    let reply = docker.request(Method::HEAD, path, None).await;
    assert_eq!(reply.status, StatusCode::OK, "{path}");
    let header = reply.headers["x-docker-container-path-stat"].as_bytes();
    serde_json::from_slice(&STANDARD.decode(header).unwrap()).unwrap()
}

#[tokio::test]
async fn docker_cp_carries_trees_both_ways() {
    let (node, docker) = two().await;
    let tree = tree(&node);
    let (tree, back) = (tree.to_str().unwrap(), node.home.join("back"));
    for name in ["up", "down"] {
        for place in ["/new", "/tmp", "/vol/new"] {
            docker.run(&["cp", tree, &format!("{name}:{place}")]).await;
        }
        let _ = fs::remove_dir_all(&back);
        // Into one that is there it goes under its own name.
        for (place, root) in [("/new", ""), ("/tmp", "tree"), ("/vol/new", ""), ("/new/.", "")] {
            docker.run(&["cp", &format!("{name}:{place}"), back.to_str().unwrap()]).await;
            let root = back.join(root);
            assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "from the host\n");
            assert_eq!(fs::metadata(root.join("file")).unwrap().mode() & 0o777, 0o751, "{place}");
            assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("file"));
            let odd = fs::read_to_string(root.join("sub/.wh.odd")).unwrap();
            assert_eq!(odd, "a name like others\n");
            fs::remove_dir_all(&back).unwrap();
        }
        let one = node.home.join("one");
        docker.run(&["cp", &format!("{name}:/etc/passwd"), one.to_str().unwrap()]).await;
        assert!(fs::read_to_string(&one).unwrap().starts_with("root:x:0:0"));
        fs::remove_file(one).unwrap();
    }
    // What was put into one that did not run is there when it does, and in its volume.
    docker.run(&["start", "down"]).await;
    let script = "cat /new/file /vol/new/link; stat -c %a /tmp/tree/file";
    let seen = docker.run(&["exec", "down", "sh", "-c", script]).await;
    assert_eq!(seen, "from the host\nfrom the host\n751");
    let seen = docker.run(&["exec", "up", "sh", "-c", script]).await;
    assert_eq!(seen, "from the host\nfrom the host\n751");
    docker.run(&["rm", "-f", "up", "down"]).await;
}

#[tokio::test]
async fn docker_cp_resolves_links_inside_the_container() {
    let (node, docker) = two().await;
    let script = "ln -s /etc /to-etc; ln -s ../../../../etc/hostname /tmp/up; ln -s /gone /to-gone; \
                  ln -s / /root/top; mkdir /etc/mine";
    docker.run(&["exec", "up", "sh", "-c", script]).await;
    let at = |path: &str| format!("/containers/up/archive?path={path}");

    let hosts = path_stat(&docker, &at("/to-etc/hosts")).await;
    assert_eq!((&hosts["name"], &hosts["linkTarget"]), (&"hosts".into(), &"".into()));
    assert_eq!(path_stat(&docker, &at("/to-etc")).await["linkTarget"], "/etc");
    assert_eq!(path_stat(&docker, &at("/tmp/up")).await["linkTarget"], "/etc/hostname");
    assert_eq!(path_stat(&docker, &at("/to-gone")).await["linkTarget"], "/gone");
    assert_eq!(path_stat(&docker, &at("/root/top/../..")).await["name"], "/");

    let out = node.home.join("hostname");
    docker.run(&["cp", "-L", "up:/tmp/up", out.to_str().unwrap()]).await;
    let own = docker.run(&["exec", "up", "hostname"]).await;
    assert_eq!(fs::read_to_string(&out).unwrap().trim(), own);
    // Through a link, into the container's own directory.
    docker.run(&["cp", out.to_str().unwrap(), "up:/to-etc/mine/"]).await;
    assert_eq!(docker.run(&["exec", "up", "cat", "/etc/mine/hostname"]).await, own);
    assert!(!Path::new("/etc/mine").exists());

    for (path, status, words) in [
        ("/no/such", StatusCode::NOT_FOUND, "Could not find the file /no/such in container up"),
        ("/to-gone/", StatusCode::NOT_FOUND, "Could not find the file"),
        ("/etc/passwd/", StatusCode::BAD_REQUEST, "not a directory"),
    ] {
        let reply = docker.get(&at(path)).await;
        assert_eq!(reply.status, status, "{path} {reply:?}");
        assert!(reply.message().contains(words), "{path} {reply:?}");
    }
    assert_eq!(docker.get("/containers/up/archive").await.status, StatusCode::BAD_REQUEST);
    docker.run(&["rm", "-f", "up", "down"]).await;
}

#[tokio::test]
async fn docker_cp_refuses_what_leads_outside_and_changes_nothing() {
    let (node, docker) = two().await;
    let mut good = archive("good", tar::EntryType::Regular, None);
    good.truncate(512);
    for name in ["up", "down"] {
        for (bad, why) in [
            (archive("../out", tar::EntryType::Regular, None), "leaves the layer"),
            (archive("a/../../out", tar::EntryType::Regular, None), "leaves the layer"),
            (archive("in", tar::EntryType::Link, Some("../../etc/passwd")), "hard link"),
        ] {
            let body = [good.clone(), bad].concat();
            let (status, text) =
                put(&docker, &format!("/containers/{name}/archive?path=/tmp"), body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
            assert!(text.contains(why), "{why} {text}");
        }
        let at = format!("/containers/{name}/archive?path=/etc");
        for (query, member, kind) in [
            ("&noOverwriteDirNonDir=true", "passwd", tar::EntryType::Directory),
            ("&noOverwriteDirNonDir=true", "../etc", tar::EntryType::Regular),
        ] {
            let body = [good.clone(), archive(member, kind, None)].concat();
            let (status, text) = put(&docker, &format!("{at}{query}"), body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        }
        let (status, text) = put(&docker, &at, b"this is no archive".repeat(100)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        let at = format!("/containers/{name}/archive?path=/etc/passwd");
        let (status, text) = put(&docker, &at, good.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(text.contains("extraction point is not a directory"), "{text}");
        let listed = docker.run(&["diff", name]).await;
        assert_eq!(listed, "", "{name}");
    }
    // A client that hangs up in the middle leaves nothing either.
    let mut stream = UnixStream::connect(docker.socket()).await.unwrap();
    let head = "PUT /containers/up/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nContent-Length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&good).await.unwrap();
    drop(stream);
    assert_eq!(docker.run(&["diff", "up"]).await, "");
    assert!(!Path::new("/out").exists() && !node.home.join("out").exists());

    docker
        .run(&[
            "create",
            "--name",
            "sealed",
            "--read-only",
            "-v",
            "down:/vol",
            "-v",
            "down:/shut:ro",
            "busybox",
        ])
        .await;
    let file = node.home.join("file");
    fs::write(&file, "x").unwrap();
    let refused = docker.refused(&["cp", file.to_str().unwrap(), "sealed:/tmp"]).await;
    assert!(refused.contains("container rootfs is marked read-only"), "{refused}");
    let refused = docker.refused(&["cp", file.to_str().unwrap(), "sealed:/shut/"]).await;
    assert!(refused.contains("mounted volume is marked read-only"), "{refused}");
    docker.run(&["cp", file.to_str().unwrap(), "sealed:/vol/"]).await;
    docker.run(&["rm", "-f", "up", "down", "sealed"]).await;
}

#[tokio::test]
async fn docker_cp_of_much_is_streamed_and_ends_with_its_client() {
    let (node, docker) = two().await;
    let script = "dd if=/dev/zero of=/big bs=1M count=200 2>/dev/null; ls -l /big";
    docker.run(&["exec", "up", "sh", "-c", script]).await;
    let back = node.home.join("big");
    docker.run(&["cp", "up:/big", back.to_str().unwrap()]).await;
    assert_eq!(fs::metadata(&back).unwrap().len(), 200 << 20);
    docker.run(&["cp", back.to_str().unwrap(), "down:/big"]).await;
    fs::remove_file(&back).unwrap();
    let size = path_stat(&docker, "/containers/down/archive?path=/big").await["size"].clone();
    assert_eq!(size, 200 << 20);

    // Who reads a little and goes is missed by nobody: the container can be removed.
    let mut stream = UnixStream::connect(docker.socket()).await.unwrap();
    let head = "GET /containers/down/archive?path=/big HTTP/1.1\r\nHost: d\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    drop(stream);
    docker.run(&["rm", "-f", "up", "down"]).await;
    until("the files to be gone", async || {
        fs::read_dir(node.home.join("root/trash")).unwrap().count() == 0
    })
    .await;
}

#[tokio::test]
async fn docker_diff_tells_what_was_changed() {
    let (_node, docker) = node().await;
    let script = "echo x > /tmp/new; mkdir /dir; touch /dir/file; rm /etc/group; chmod 700 /var; \
                  echo y >> /etc/passwd; echo z > /vol/z";
    docker.run(&["run", "--name", "one", "-v", "/vol", "busybox", "sh", "-c", script]).await;
    let expected =
        "A /dir\nA /dir/file\nC /etc\nD /etc/group\nC /etc/passwd\nC /tmp\nA /tmp/new\nC /var";
    let mut lines: Vec<String> =
        docker.run(&["diff", "one"]).await.lines().map(str::to_owned).collect();
    lines.sort_by(|a, b| a[2..].cmp(&b[2..]));
    assert_eq!(lines.join("\n"), expected);
    docker.run(&["create", "--name", "two", "busybox"]).await;
    assert_eq!(docker.run(&["diff", "two"]).await, "");
    docker.run(&["run", "--name", "three", "busybox", "true"]).await;
    assert_eq!(docker.run(&["diff", "three"]).await, "");
    docker.run(&["rm", "-v", "one", "two", "three"]).await;
}

#[tokio::test]
async fn docker_export_is_the_containers_own_tree() {
    let (node, docker) = two().await;
    docker
        .run(&["exec", "up", "sh", "-c", "echo own > /own; rm /etc/group; echo v > /vol/v"])
        .await;
    for name in ["up", "down"] {
        let file = node.home.join("export.tar");
        docker.run(&["export", "-o", file.to_str().unwrap(), name]).await;
        let mut names = Vec::new();
        let mut archive = tar::Archive::new(fs::File::open(&file).unwrap());
        for entry in archive.entries().unwrap() {
            names.push(entry.unwrap().path().unwrap().display().to_string());
        }
        let has = |path: &str| names.iter().any(|name| name == path);
        assert!(has("etc/passwd") && has("bin/busybox"), "{names:?}");
        assert_eq!(has("own"), name == "up");
        assert_eq!(has("etc/group"), name == "down");
        assert!(!has("vol/v") && !names.iter().any(|name| name.starts_with("proc/")), "{names:?}");
    }
    docker.run(&["rm", "-f", "up", "down"]).await;
}
