//! Containers by our own client: run, started, executed in, signalled, ended, with docker's codes.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use crate::docker::output;
use crate::docker_containers::node;
use crate::node::Node;
use crate::wait::until;

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[tokio::test]
async fn cais_run_pulls_runs_and_removes() {
    let node = Node::boot().await;
    let docker = node.docker();
    let done = docker.try_cais(&["run", "--rm", "busybox", "echo", "hi"]).await;
    assert_eq!((done.code, done.stdout.as_str()), (0, "hi\n"), "{done:?}");
    assert!(done.stderr.contains("Unable to find image 'busybox:latest' locally"), "{done:?}");
    assert!(done.stderr.contains("Downloaded newer image for busybox:latest"), "{done:?}");
    let again =
        docker.try_cais(&["run", "--rm", "busybox", "sh", "-c", "echo a; echo b >&2"]).await;
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("a\n", "b\n"));
    assert_eq!(docker.run(&["ps", "-aq"]).await, "");
}

#[tokio::test]
async fn cais_exit_codes_tell_what_went_wrong() {
    let (node, docker) = node().await;
    for (words, code) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["no-such-program"], 127),
        (&["/no/such/program"], 127),
        (&["/etc/passwd"], 126),
        (&["/etc"], 126),
    ] {
        let done = docker.try_cais(&[&["run", "--rm", "busybox"], words].concat()).await;
        assert_eq!(done.code, code, "run {words:?}: {done:?}");
    }
    let killed = ["run", "--rm", "--init", "busybox", "sh", "-c", "kill -KILL $$"];
    assert_eq!(docker.try_cais(&killed).await.code, 137);
    for words in
        [&["--network", "nowhere", "busybox"][..], &["--name", "..", "busybox"], &["--bogus"]]
    {
        let done = docker.try_cais(&[&["run", "--rm"], words].concat()).await;
        assert_eq!(done.code, 125, "{words:?}: {done:?}");
    }
    docker.cais(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).await;
    for (words, code) in [
        (&["sh", "-c", "exit 9"][..], 9),
        (&["no-such-program"], 127),
        (&["/etc"], 126),
        (&["sh", "-c", "kill -TERM $$"], 143),
    ] {
        let done = docker.try_cais(&[&["exec", "web"], words].concat()).await;
        assert_eq!(done.code, code, "exec {words:?}: {done:?}");
    }
    docker.cais(&["rm", "-f", "web"]).await;
    drop(node);
}

#[tokio::test]
async fn cais_everything_behind_the_image_is_the_command() {
    let (_node, docker) = node().await;
    let said = docker.cais(&["run", "--rm", "busybox", "echo", "--rm", "-it", "--", "-x"]).await;
    assert_eq!(said, "--rm -it -- -x");
    let flags = [
        "run",
        "--rm=true",
        "-t=false",
        "--sig-proxy=false",
        "-eA=1",
        "-e",
        "B=2",
        "--",
        "busybox",
        "sh",
        "-c",
        "echo $A$B",
    ];
    assert_eq!(docker.cais(&flags).await, "12");
    let id = docker.cais(&["run", "-itd", "--name", "web", "busybox"]).await;
    assert_eq!(id.len(), 64);
    assert_eq!(docker.cais(&["exec", "web", "echo", "-n", "--help"]).await, "--help");
    assert_eq!(docker.inspect("web").await["Config"]["Tty"], true);
    docker.cais(&["rm", "-fv", "web"]).await;
}

#[tokio::test]
async fn cais_carries_streams_whole() {
    let (_node, docker) = node().await;
    let input: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut child = docker.spawn_cais(&["run", "--rm", "-i", "busybox", "md5sum"]);
    let mut stdin = child.stdin.take().unwrap();
    let sending = input.clone();
    tokio::spawn(async move { stdin.write_all(&sending).await });
    let ours = output(child, "cais run -i").await;
    let theirs = docker.try_run_with(&["run", "--rm", "-i", "busybox", "md5sum"], &input).await;
    assert_eq!(ours, theirs);

    // More than both pipes hold, there and back.
    let mut child = docker.spawn_cais(&["run", "--rm", "-i", "busybox", "cat"]);
    let mut stdin = child.stdin.take().unwrap();
    let sending = vec![b'x'; 1 << 20];
    tokio::spawn(async move { stdin.write_all(&sending).await });
    let back = output(child, "cais run -i cat").await;
    assert_eq!((back.code, back.stdout.len()), (0, 1 << 20));
}

#[tokio::test]
async fn cais_passes_signals_on_unless_told_not_to() {
    let (_node, docker) = node().await;
    let script = "trap 'echo got it; exit 9' USR1; echo ready; while :; do sleep 0.05; done";
    let child = docker.spawn_cais(&["run", "--name", "web", "busybox", "sh", "-c", script]);
    until("the trap", async || docker.try_run(&["logs", "web"]).await.stdout.contains("ready"))
        .await;
    signal(&child, Signal::USR1);
    let done = output(child, "cais run").await;
    assert_eq!((done.code, done.stdout.as_str()), (9, "ready\ngot it\n"), "{done:?}");

    docker.run(&["start", "web"]).await;
    let child = docker.spawn_cais(&["attach", "--sig-proxy=false", "web"]);
    // Attached once what it says arrives here: a client that does not pass signals on ends by them.
    signal(&child, Signal::TERM);
    assert_eq!(output(child, "cais attach").await.code, -1);
    assert_eq!(docker.inspect("web").await["State"]["Running"], true);
    docker.run(&["rm", "-f", "web"]).await;
}

#[tokio::test]
async fn cais_start_attach_wait_and_restart() {
    let (_node, docker) = node().await;
    let script = "read x; echo \"got $x\"; exit 4";
    docker.cais(&["create", "-i", "--name", "asks", "busybox", "sh", "-c", script]).await;
    let mut child = docker.spawn_cais(&["start", "-ai", "asks"]);
    child.stdin.take().unwrap().write_all(b"word\n").await.unwrap();
    let done = output(child, "cais start -ai").await;
    assert_eq!((done.code, done.stdout.as_str()), (4, "got word\n"), "{done:?}");
    assert_eq!(docker.cais(&["wait", "asks"]).await, "4");

    docker.cais(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).await;
    let waiting = docker.spawn_cais(&["wait", "web"]);
    docker.cais(&["restart", "-t", "0", "web"]).await;
    assert_eq!(output(waiting, "cais wait").await.stdout, "137\n");
    assert_eq!(docker.cais(&["pause", "web"]).await, "web");
    assert_eq!(docker.cais(&["ps", "--format", "{{.State}}"]).await, "paused");
    docker.cais(&["unpause", "web"]).await;
    docker.cais(&["rename", "web", "new"]).await;
    assert!(docker.cais(&["top", "new"]).await.contains("sleep 1000"));
    assert_eq!(docker.cais(&["stop", "-t", "0", "new"]).await, "new");
    assert_eq!(docker.cais(&["rm", "asks", "new"]).await, "asks\nnew");
}

#[tokio::test]
async fn cais_cidfile_holds_the_id_or_is_not_there() {
    let (node, docker) = node().await;
    let file = node.home.join("cid");
    let path = file.to_str().unwrap();
    let id = docker.cais(&["run", "-d", "--cidfile", path, "busybox", "true"]).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id);
    let taken = docker.cais_refused(&["run", "--cidfile", path, "busybox", "true"]).await;
    assert!(taken.contains("container ID file found"), "{taken}");
    std::fs::remove_file(&file).unwrap();
    docker.cais_refused(&["run", "--cidfile", path, "--network", "nowhere", "busybox"]).await;
    assert!(!file.exists());
    docker.cais(&["rm", "-f", &id]).await;
}

#[tokio::test]
async fn cais_gives_containers_the_proxies_of_its_configuration() {
    let (node, docker) = node().await;
    let directory = node.home.join("docker-config");
    std::fs::create_dir_all(&directory).unwrap();
    let text = r#"{"proxies":{"default":{"httpProxy":"http://p:1","noProxy":"localhost"}}}"#;
    std::fs::write(directory.join("config.json"), text).unwrap();
    let script = "env | grep -i proxy | sort";
    let words = ["run", "--rm", "-e", "NO_PROXY=own", "busybox", "sh", "-c", script];
    docker.clients_agree(&words).await;
    let expected = "HTTP_PROXY=http://p:1\nNO_PROXY=own\nhttp_proxy=http://p:1\nno_proxy=localhost";
    assert_eq!(docker.cais(&words).await, expected);
}

#[tokio::test]
async fn cais_logs_follow_to_the_end() {
    let (_node, docker) = node().await;
    let script = "echo one; read x; echo two >&2; exit 0";
    docker.cais(&["run", "-di", "--name", "web", "busybox", "sh", "-c", script]).await;
    let mut following = docker.cais_command(&["logs", "-f", "web"]);
    let following = following.stdin(Stdio::null()).spawn().unwrap();
    let mut child = docker.spawn_cais(&["attach", "web"]);
    child.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
    output(child, "cais attach").await;
    let done = output(following, "cais logs -f").await;
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "one\n", "two\n"));
    assert_eq!(docker.cais(&["logs", "--tail", "1", "web"]).await, "");
    docker.cais(&["rm", "web"]).await;
}
