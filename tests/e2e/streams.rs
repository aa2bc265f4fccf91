//! Exec, attach and port-forward with the real crictl.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::node::Node;
use crate::wait::{LONG, eventually};

pub(crate) fn crictl(node: &Node, words: &[&str]) -> Command {
    let mut command = Command::new("crictl");
    let socket = format!("unix://{}/cri.sock", node.state.display());
    command.args(["--runtime-endpoint", &socket, "--image-endpoint", &socket]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it off the test's thread: crictl talks with servers that live here too.
pub(crate) async fn run(mut command: Command, input: &str) -> Output {
    let input = input.to_owned();
    let running = tokio::task::spawn_blocking(move || {
        let mut child =
            command.stdin(Stdio::piped()).spawn().expect("crictl: run hack/build-tools");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    tokio::time::timeout(LONG, running).await.expect("crictl took too long").unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}

#[tokio::test]
async fn exec_carries_input_both_outputs_and_the_exit_code() {
    for transport in ["spdy", "websocket"] {
        let node = Node::boot().await;
        let pod = node.pod("exec").run().await;
        let container = pod.container("main").command(["sleep", "1000"]).start().await;
        let script = "cat; echo err >&2; exit 7";
        let command = crictl(
            &node,
            &["exec", "--transport", transport, "-i", &container.id, "sh", "-c", script],
        );
        let done = run(command, "from outside\n").await;
        assert_eq!(text(&done.stdout), "from outside\n", "{transport}: {done:?}");
        assert!(text(&done.stderr).contains("err\n"), "{transport}: {done:?}");
        assert!(
            text(&done.stderr).contains("exit code 7") || done.status.code() == Some(7),
            "{transport}: {done:?}"
        );
    }
}

#[tokio::test]
async fn exec_with_a_terminal_gives_one_of_the_right_size() {
    let node = Node::boot().await;
    let pod = node.pod("tty").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let socket = format!("unix://{}/cri.sock", node.state.display());
    // `script` gives crictl a terminal of its own.
    let inner = format!(
        "stty rows 33 cols 77; crictl --runtime-endpoint {socket} exec -it {} sh -c 'tty; sleep 0.5; stty size'",
        container.id
    );
    let mut command = Command::new("script");
    command.args(["-qec", &inner, "/dev/null"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = run(command, "").await;
    let output = text(&done.stdout);
    assert!(output.contains("/dev/pts/"), "{done:?}");
    assert!(output.contains("33 77"), "{done:?}");
}

#[tokio::test]
async fn attach_speaks_with_the_containers_own_process() {
    let node = Node::boot().await;
    let pod = node.pod("attach").run().await;
    let script = "while read line; do echo heard $line; [ \"$line\" = end ] && exit 0; done";
    let container = pod.container("main").shell(script);
    let container = container.with(|c| (c.stdin, c.stdin_once) = (true, true)).start().await;
    let done = run(crictl(&node, &["attach", "-i", &container.id]), "one\nend\n").await;
    let output = text(&done.stdout);
    assert!(output.contains("heard one\n") && output.contains("heard end\n"), "{done:?}");
    container.wait_exit().await;
    // What an attached client sees is in the log too.
    assert_eq!(container.output(), "heard one\nheard end\n");
}

#[tokio::test]
async fn a_forwarded_port_answers() {
    let node = Node::boot().await;
    let pod = node.pod("forward").run().await;
    let script = "echo ready; while :; do echo forwarded | nc -l -p 8080; done";
    let server = pod.container("server").shell(script).start().await;
    server.wait_output("ready").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    for transport in ["spdy", "websocket"] {
        let ports = format!("{port}:8080");
        let mut forward =
            crictl(&node, &["port-forward", "--transport", transport, &pod.id, &ports]);
        let mut forward = forward.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let answer = eventually("an answer through the forward", LONG, async || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
            let mut text = String::new();
            let read = stream.read_to_string(&mut text);
            tokio::time::timeout(Duration::from_secs(3), read).await.ok()?.ok()?;
            (!text.is_empty()).then_some(text)
        });
        let answer = answer.await;
        forward.kill().unwrap();
        forward.wait().unwrap();
        assert_eq!(answer, "forwarded\n", "{transport}");
    }
}

#[tokio::test]
async fn an_open_exec_outlives_the_daemon() {
    let node = Node::boot().await;
    let pod = node.pod("session").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let flag = "while [ ! -e /go ]; do sleep 0.05; done; echo went on; exit 3";
    let mut command =
        crictl(&node, &["exec", &container.id, "sh", "-c", &format!("touch /began; {flag}")]);
    let session = command.spawn().expect("crictl: run hack/build-tools");
    crate::wait::until("the session to begin", async || {
        container.exec(&["test", "-e", "/began"]).await.exit_code == 0
    })
    .await;
    node.restart().await;
    container.shell("touch /go").await;
    let done = tokio::task::spawn_blocking(|| session.wait_with_output().unwrap());
    let done = tokio::time::timeout(LONG, done).await.expect("the session hangs").unwrap();
    assert_eq!(text(&done.stdout), "went on\n", "{done:?}");
    assert!(
        text(&done.stderr).contains("exit code 3") || done.status.code() == Some(3),
        "{done:?}"
    );
}

#[tokio::test]
async fn an_address_is_good_for_one_connection() {
    let node = Node::boot().await;
    let pod = node.pod("token").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let request = cais_proto::runtime::v1::ExecRequest {
        container_id: container.id.clone(),
        cmd: vec!["true".to_owned()],
        stdout: true,
        ..Default::default()
    };
    let url = node.runtime().exec(request).await.unwrap().into_inner().url;
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let (authority, path) = url["http://".len()..].split_once('/').unwrap();
    let mut codes = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(authority).await.unwrap();
        let request = format!(
            "POST /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
        );
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        codes.push(String::from_utf8_lossy(&head[9..]).into_owned());
    }
    assert_eq!(codes[0], "101");
    assert!(codes[1].starts_with('4'), "{codes:?}");
}
