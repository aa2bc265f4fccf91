//! Namespaces that a container shares with another, or with the host.

use std::path::Path;
use std::process::Stdio;

use crate::docker::{Client, Docker, by_both_clients, output};
use crate::docker_containers::node;
use crate::node::monitors_below;
use crate::wait::until;

by_both_clients!(ipc_shareable_and_container_are_one_shared_memory,);

/// What a namespace of this process is called, which is the daemon's and the host's.
fn of_host(kind: &str) -> String {
    let link = std::fs::read_link(Path::new("/proc/self/ns").join(kind)).unwrap();
    link.to_str().unwrap().to_owned()
}

async fn namespace(docker: &Docker, options: &[&str], kind: &str) -> String {
    let link = format!("/proc/self/ns/{kind}");
    let words = [&["run", "--rm"], options, &["busybox", "readlink", &link]].concat();
    docker.run(&words).await
}

async fn status(docker: &Docker, name: &str) -> String {
    docker.inspect(name).await["State"]["Status"].as_str().unwrap().to_owned()
}

async fn ipc_shareable_and_container_are_one_shared_memory(client: Client) {
    let (node, docker) = node().await;
    let docker = docker.by(client);
    docker.run(&["pull", "-q", "ubuntu:20.04"]).await;
    // As it is typed, on a terminal.
    let line = "docker run --init --rm -it --name process-a --ipc=shareable --shm-size 1g \
                ubuntu:20.04 bash -c 'while true; do date > /dev/shm/date.txt; sleep 1; done'";
    let mut terminal = docker.command_of("script", &["-qec", line, "/dev/null"]);
    let first = terminal.stdin(Stdio::piped()).spawn().unwrap();
    let second = async |script: &str| {
        let words =
            ["run", "--rm", "--ipc", "container:process-a", "ubuntu:20.04", "bash", "-c", script];
        docker.try_run(&words).await
    };
    until("the date in the second container", async || {
        let read = second("cat /dev/shm/date.txt").await;
        read.code == 0 && read.stdout.contains(':')
    })
    .await;

    // The other way, with the size, and with what is no file.
    let script = "echo back > /dev/shm/back; df -k /dev/shm | tail -n 1; ipcmk -M 4096 >/dev/null";
    let told = second(script).await.stdout;
    assert!(told.split_whitespace().any(|word| word == "1048576"), "{told}");
    assert_eq!(docker.run(&["exec", "process-a", "cat", "/dev/shm/back"]).await, "back");
    let segments = docker.run(&["exec", "process-a", "ipcs", "-m"]).await;
    assert!(segments.contains("4096"), "{segments}");
    let size = docker.run(&["exec", "process-a", "df", "-k", "/dev/shm"]).await;
    assert!(size.contains("1048576"), "{size}");

    // A daemon that is killed changes nothing, and the next one can join as well.
    node.restart().await;
    assert_eq!(second("cat /dev/shm/back").await.stdout, "back\n");
    docker.run(&["stop", "process-a"]).await;
    // The terminal itself ended with the daemon's connection.
    output(first, "docker run -it").await;
    until("nothing to be left", async || monitors_below(&node.state).is_empty()).await;
}

#[tokio::test]
async fn docker_the_end_of_the_donor_takes_no_shared_memory_away() {
    let (node, docker) = node().await;
    docker
        .run(&["run", "-d", "--name", "first", "--ipc", "shareable", "busybox", "sleep", "1000"])
        .await;
    let joined =
        ["run", "-d", "--name", "second", "--ipc", "container:first", "busybox", "sleep", "1000"];
    docker.run(&joined).await;
    docker.run(&["exec", "first", "sh", "-c", "echo kept > /dev/shm/x"]).await;
    // Who joined can be joined.
    let third = ["run", "--rm", "--ipc", "container:second", "busybox", "cat", "/dev/shm/x"];
    assert_eq!(docker.run(&third).await, "kept");
    let before = docker.run(&["exec", "second", "readlink", "/proc/self/ns/ipc"]).await;

    docker.run(&["rm", "-f", "first"]).await;
    assert_eq!(docker.run(&["exec", "second", "cat", "/dev/shm/x"]).await, "kept");
    docker.run(&["exec", "second", "sh", "-c", "echo more > /dev/shm/y"]).await;
    assert_eq!(docker.run(&["exec", "second", "readlink", "/proc/self/ns/ipc"]).await, before);
    node.restart().await;
    assert_eq!(docker.run(&third).await, "kept");

    // Once it has ended there is nothing to join any more.
    docker.run(&["stop", "-t", "0", "second"]).await;
    let refused = docker.refused(&["start", "second"]).await;
    assert!(
        refused.contains("can't join IPC of container") && refused.contains("No such"),
        "{refused}"
    );
    assert_eq!(status(&docker, "second").await, "exited");
    docker.run(&["rm", "second"]).await;
}

#[tokio::test]
async fn docker_ipc_that_cannot_be_shared_is_refused_in_its_words() {
    let (_node, docker) = node().await;
    for (name, mode) in [("private", ""), ("none", "none"), ("host", "host")] {
        let words = ["run", "-d", "--name", name, "--ipc", mode, "busybox", "sleep", "1000"];
        docker.run(&words).await;
        let id = docker.inspect(name).await["Id"].as_str().unwrap().to_owned();
        let mode = format!("container:{name}");
        let refused = docker.try_run(&["run", "--rm", "--ipc", &mode, "busybox"]).await;
        let words = format!(
            "can't join IPC of container {id}: non-shareable IPC (hint: use IpcMode:shareable for \
             the donor container)"
        );
        assert!(refused.code == 125 && refused.stderr.contains(&words), "{refused:?}");
    }
    docker.run(&["create", "--name", "created", "--ipc", "shareable", "busybox"]).await;
    let id = docker.inspect("created").await["Id"].as_str().unwrap().to_owned();
    for kind in ["ipc", "pid"] {
        let refused = ["run", "--rm", &format!("--{kind}"), "container:created", "busybox"];
        let refused = docker.refused(&refused).await;
        assert!(refused.contains(&format!("container {id} is not running")), "{refused}");
        let refused = ["run", "--rm", &format!("--{kind}"), "container:nobody", "busybox"];
        let refused = docker.try_run(&refused).await;
        let words = refused.stderr.contains("No such container: nobody");
        assert!(refused.code == 125 && words, "{refused:?}");
    }
    // Its mode decides what it has: private is the default, `none` has no shared memory at all.
    assert_eq!(docker.inspect("private").await["HostConfig"]["IpcMode"], "private");
    let shm = async |name| docker.try_run(&["exec", name, "test", "-d", "/dev/shm"]).await.code;
    assert_eq!((shm("private").await, shm("none").await), (0, 1));
    let ipc = async |name| docker.run(&["exec", name, "readlink", "/proc/self/ns/ipc"]).await;
    assert_eq!(ipc("host").await, of_host("ipc"));
    assert_ne!(ipc("none").await, of_host("ipc"));
    assert_ne!(ipc("none").await, ipc("private").await);
    docker.run(&["rm", "-f", "private", "none", "host", "created"]).await;
}

#[tokio::test]
async fn docker_pid_of_another_container_or_of_the_host() {
    let (node, docker) = node().await;
    for init in [&[][..], &["--init"]] {
        let words =
            [&["run", "-d", "--name", "first"], init, &["busybox", "sleep", "54321"]].concat();
        docker.run(&words).await;
        let joined = [
            "run",
            "-d",
            "--name",
            "second",
            "--pid",
            "container:first",
            "busybox",
            "sleep",
            "999",
        ];
        docker.run(&joined).await;
        for name in ["first", "second"] {
            let seen = docker.run(&["exec", name, "ps", "-o", "args"]).await;
            assert!(seen.contains("sleep 54321") && seen.contains("sleep 999"), "{name}: {seen}");
        }
        node.restart().await;
        let kill = "kill $(pgrep -f 'sleep 99[9]')";
        let third = ["run", "--rm", "--pid", "container:second", "busybox", "sh", "-c", kill];
        docker.run(&third).await;
        until("its end", async || status(&docker, "second").await == "exited").await;
        assert_eq!(docker.inspect("second").await["State"]["ExitCode"], 143);
        // The namespace is the first one's, and ends with it.
        docker.run(&["start", "second"]).await;
        docker.run(&["rm", "-f", "first"]).await;
        until("its end", async || status(&docker, "second").await == "exited").await;
        assert_eq!(docker.inspect("second").await["State"]["ExitCode"], 137);
        docker.run(&["rm", "second"]).await;
    }
    assert_eq!(namespace(&docker, &["--pid", "host"], "pid").await, of_host("pid"));
    assert_ne!(namespace(&docker, &[], "pid").await, of_host("pid"));
}

#[tokio::test]
async fn docker_uts_and_cgroup_namespaces_are_the_hosts_when_asked() {
    let (_node, docker) = node().await;
    for (option, kind) in [("--uts", "uts"), ("--cgroupns", "cgroup"), ("--userns", "user")] {
        assert_eq!(namespace(&docker, &[option, "host"], kind).await, of_host(kind), "{option}");
    }
    for (options, kind) in
        [(&[][..], "uts"), (&["--cgroupns", "private"], "cgroup"), (&[], "cgroup")]
    {
        assert_ne!(namespace(&docker, options, kind).await, of_host(kind), "{options:?}");
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let script = "hostname; cat /etc/hostname";
    let words = ["run", "--rm", "--uts", "host", "busybox", "sh", "-c", script];
    assert_eq!(docker.run(&words).await, format!("{name}\n{name}"));
    for (words, text) in [
        (
            &["--uts", "host", "--hostname", "web"][..],
            "conflicting options: hostname and the UTS mode",
        ),
        (&["--uts", "odd"], "invalid UTS mode"),
        (&["--cgroupns", "odd"], "invalid cgroup"),
        (&["--userns", "odd"], "invalid user"),
        (&["--ipc", "odd"], "invalid IPC mode"),
        (&["--pid", "odd"], "invalid PID mode"),
    ] {
        let done = docker.try_run(&[&["run", "--rm"], words, &["busybox"]].concat()).await;
        assert!(
            done.code == 125 && done.stderr.to_lowercase().contains(&text.to_lowercase()),
            "{done:?}"
        );
    }
}
