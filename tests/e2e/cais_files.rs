//! `cais cp`, beside `docker cp`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::docker::output;
use crate::docker_containers::node;

/// Names, kinds, modes and contents below a directory, sorted.
fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mode = metadata.permissions().mode();
        found.push(if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            format!("{name}/ {mode:o}")
        } else if metadata.is_symlink() {
            format!("{name} -> {}", fs::read_link(&path).unwrap().display())
        } else {
            format!("{name} {mode:o} {}", fs::read_to_string(&path).unwrap())
        });
    }
    found.sort();
    found
}

#[tokio::test]
async fn cais_cp_out_follows_the_rules_of_docker_cp() {
    let (node, docker) = node().await;
    let script = "mkdir -p /src/sub; echo one >/src/a; echo two >/src/sub/b; chmod 700 /src/sub; \
                  ln -s a /src/link; ln /src/a /src/hard; ln -s /src /toplink; sleep 1000";
    docker.run(&["run", "-d", "--name", "web", "busybox", "sh", "-c", script]).await;
    crate::wait::until("the files", async || {
        docker.try_run(&["exec", "web", "test", "-e", "/toplink"]).await.code == 0
    })
    .await;
    for (row, (source, target)) in [
        ("/src", "."),
        ("/src", "new"),
        ("/src/.", "there"),
        ("/src/a", "."),
        ("/src/a", "named"),
        ("/src/a", "file"),
        ("/src/link", "."),
        ("-L /src/link", "."),
        ("-L /toplink", "."),
        ("/toplink", "new"),
        ("/src", "file"),
        ("/src/a", "no/such"),
        ("/src/a", "nodirectory/"),
        ("/no/such", "."),
    ]
    .into_iter()
    .enumerate()
    {
        let mut results = Vec::new();
        for name in ["docker", "cais"] {
            let place = node.home.join(format!("{name}{row}"));
            fs::create_dir_all(place.join("there")).unwrap();
            fs::write(place.join("file"), "old").unwrap();
            let (flag, source) =
                source.strip_prefix("-L ").map_or((None, source), |it| (Some("-L"), it));
            let source = format!("web:{source}");
            let words: Vec<&str> =
                ["cp"].into_iter().chain(flag).chain([source.as_str(), target]).collect();
            let mut command =
                if name == "docker" { docker.command(&words) } else { docker.cais_command(&words) };
            let done = output(command.current_dir(&place).spawn().unwrap(), name).await;
            results.push((done.code, tree(&place)));
        }
        assert_eq!(results[0], results[1], "cp {source} {target}");
    }
    let archive = docker.try_cais(&["cp", "web:/src/a", "-"]).await;
    assert!(archive.code == 0 && archive.stdout.contains("one"), "{archive:?}");
    docker.run(&["rm", "-f", "web"]).await;
}

#[tokio::test]
async fn cais_cp_in_follows_the_rules_of_docker_cp() {
    let (node, docker) = node().await;
    let place = node.home.join("src");
    fs::create_dir_all(place.join("sub")).unwrap();
    fs::write(place.join("a"), "one").unwrap();
    fs::write(place.join("sub/b"), "two").unwrap();
    fs::set_permissions(place.join("sub"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("a", place.join("link")).unwrap();
    let shown = "cd /; find in there file named -exec ls -ldn {} + 2>/dev/null | awk '{print $1,$3,$4,$5,$9,$10,$11}' | sort; \
                 cat file named 2>/dev/null";
    for (source, target) in [
        ("src", "/there"),
        ("src", "/in"),
        ("src/.", "/there"),
        ("src/a", "/there"),
        ("src/a", "/there/"),
        ("src/a", "/named"),
        ("src/a", "/file"),
        ("src/link", "/there"),
        ("-L src/link", "/there"),
        ("src/a", "/way"),
        ("src", "/way"),
        ("src", "/file"),
        ("src/a", "/no/such"),
        ("src/a", "/nodirectory/"),
        ("nothing", "/there"),
    ] {
        let mut results = Vec::new();
        for name in ["docker", "cais"] {
            let script = "mkdir /there; echo old >/file; ln -s there /way; sleep 1000";
            docker.run(&["run", "-d", "--name", "web", "busybox", "sh", "-c", script]).await;
            crate::wait::until("the files", async || {
                docker.try_run(&["exec", "web", "test", "-L", "/way"]).await.code == 0
            })
            .await;
            let (flag, source) =
                source.strip_prefix("-L ").map_or((None, source), |it| (Some("-L"), it));
            let target = format!("web:{target}");
            let words: Vec<&str> =
                ["cp"].into_iter().chain(flag).chain([source, target.as_str()]).collect();
            let mut command =
                if name == "docker" { docker.command(&words) } else { docker.cais_command(&words) };
            let done = output(command.current_dir(&node.home).spawn().unwrap(), name).await;
            let files = docker.try_run(&["exec", "web", "sh", "-c", shown]).await.stdout;
            results.push((done.code, files));
            docker.run(&["rm", "-f", "web"]).await;
        }
        assert_eq!(results[0], results[1], "cp {source} {target}");
    }
}
