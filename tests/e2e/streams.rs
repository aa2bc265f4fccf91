//! Exec, attach and port-forward with the real crictl.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cais_proto::runtime::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::network::free_port;
use crate::node::{Node, Pod, monitors_below};
use crate::wait::{LONG, eventually};

const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];

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
    for transport in TRANSPORTS {
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
    for transport in TRANSPORTS {
        let socket = format!("unix://{}/cri.sock", node.state.display());
        // `script` gives crictl a terminal of its own. The size comes some time after the start.
        let inner = format!(
            "stty rows 33 cols 77; crictl --runtime-endpoint {socket} exec --transport {transport} -it {} \
             sh -c 'tty; until stty size | grep \"33 77\"; do sleep 0.05; done'",
            container.id
        );
        let mut command = Command::new("script");
        command.args(["-qec", &inner, "/dev/null"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let done = run(command, "").await;
        let output = text(&done.stdout);
        // The end of the input may be echoed between the two.
        let is_right = output.contains("/dev/pts/0\n") && output.contains("33 77\n");
        assert!(is_right, "{transport}: {done:?}");
    }
}

/// A stream that ends leaves those of the other direction as they are.
#[tokio::test]
async fn an_output_that_ends_first_leaves_the_input_open() {
    let node = Node::boot().await;
    let pod = node.pod("half").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let input = "0123456789\n".repeat(50_000);
    for transport in TRANSPORTS {
        let script = "echo first; exec 1>&-; wc -c >&2";
        let words = ["exec", "--transport", transport, "-i", &container.id, "sh", "-c", script];
        let done = run(crictl(&node, &words), &input).await;
        assert_eq!(text(&done.stdout), "first\n", "{transport}: {done:?}");
        assert!(text(&done.stderr).contains("550000\n"), "{transport}: {:?}", text(&done.stderr));
    }
}

/// Answers each line of its input and ends with the line `end`.
const ANSWERING: &str =
    "while read line; do echo heard $line; [ \"$line\" = end ] && exit 0; done; echo end of input";

#[tokio::test]
async fn attach_speaks_with_the_containers_own_process() {
    let node = Node::boot().await;
    let pod = node.pod("attach").run().await;
    for transport in TRANSPORTS {
        let container = pod.container(transport).shell(ANSWERING);
        let container = container.with(|c| (c.stdin, c.stdin_once) = (true, true)).start().await;
        let attach = ["attach", "--transport", transport, "-i", &container.id];
        let done = run(crictl(&node, &attach), "one\nend\n").await;
        let output = text(&done.stdout);
        assert!(output.contains("heard one\n") && output.contains("heard end\n"), "{done:?}");
        container.wait_exit().await;
        // What an attached client sees is in the log too.
        assert_eq!(container.output(), "heard one\nheard end\n");
    }
}

#[tokio::test]
async fn input_ends_with_its_first_client_only_when_it_is_for_one() {
    let node = Node::boot().await;
    let pod = node.pod("stdin").run().await;
    let once = pod.container("once").shell(ANSWERING);
    let once = once.with(|c| (c.stdin, c.stdin_once) = (true, true)).start().await;
    run(crictl(&node, &["attach", "-i", &once.id]), "one\n").await;
    assert_eq!(once.wait_exit().await.code, 0);
    assert_eq!(once.output(), "heard one\nend of input\n");

    let open = pod.container("open").shell(ANSWERING).with(|c| c.stdin = true).start().await;
    let mut first =
        crictl(&node, &["attach", "-i", &open.id]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = first.stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    drop(input);
    open.wait_output("heard one").await;
    first.kill().unwrap();
    first.wait().unwrap();
    let second = run(crictl(&node, &["attach", "-i", &open.id]), "two\nend\n").await;
    assert!(text(&second.stdout).contains("heard two\nheard end\n"), "{second:?}");
    assert_eq!(open.wait_exit().await.code, 0);
    assert_eq!(open.output(), "heard one\nheard two\nheard end\n");
}

#[tokio::test]
async fn a_forwarded_port_answers() {
    let node = Node::boot().await;
    let pod = node.pod("forward").run().await;
    let script = "echo ready; while :; do echo forwarded | nc -l -p 8080; done";
    let server = pod.container("server").shell(script).start().await;
    server.wait_output("ready").await;
    let port = free_port().await;
    for transport in TRANSPORTS {
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
async fn an_open_attach_outlives_the_daemon() {
    let node = Node::boot().await;
    let pod = node.pod("session").run().await;
    for transport in TRANSPORTS {
        let container = pod.container(transport).shell(ANSWERING).with(|c| c.stdin = true);
        let container = container.start().await;
        let attach = ["attach", "--transport", transport, "-i", &container.id];
        let mut session = crictl(&node, &attach).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = session.stdin.take().unwrap();
        input.write_all(b"before\n").unwrap();
        container.wait_output("heard before").await;
        node.kill();
        input.write_all(b"meanwhile\n").unwrap();
        container.wait_output("heard meanwhile").await;
        node.start().await;
        input.write_all(b"end\n").unwrap();
        let done = tokio::task::spawn_blocking(|| session.wait_with_output().unwrap());
        let done = tokio::time::timeout(LONG, done).await.expect("the session hangs").unwrap();
        let expected = "heard before\nheard meanwhile\nheard end\n";
        assert_eq!(text(&done.stdout), expected, "{transport}: {done:?}");
        assert_eq!(container.wait_exit().await.code, 0);
        drop(input);
    }
}

/// A listener in the pod's network.
async fn listen_inside(node: &Node, pod: &Pod<'_>, port: u16) -> TcpListener {
    let monitor = monitors_below(&node.state.join("pods").join(&pod.id))[0];
    let network = std::fs::File::open(format!("/proc/{monitor}/ns/net")).unwrap();
    // On a thread of its own, which ends where it went.
    let listening = std::thread::spawn(move || {
        let kind = LinkNameSpaceType::Network;
        move_into_link_name_space(network.as_fd(), Some(kind)).unwrap();
        std::net::TcpListener::bind(("0.0.0.0", port)).unwrap()
    });
    let listener = listening.join().unwrap();
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

#[tokio::test]
async fn an_open_port_forward_outlives_the_daemon_and_half_closes() {
    let node = Node::boot().await;
    let pod = node.pod("session").run().await;
    let inside = listen_inside(&node, &pod, 8080).await;
    for transport in TRANSPORTS {
        let port = free_port().await;
        let ports = format!("{port}:8080");
        let words = ["port-forward", "--transport", transport, &pod.id, &ports];
        let mut forward = crictl(&node, &words);
        let mut forward = forward.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let connect = async || {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
            // Without a listener a connection may meet itself.
            (stream.local_addr().unwrap() != stream.peer_addr().unwrap()).then_some(stream)
        };
        let mut client = eventually("crictl to listen", LONG, connect).await;
        let (mut server, _) = within(inside.accept()).await.unwrap();
        say(&mut client, &mut server, b"before").await;
        node.kill();
        say(&mut server, &mut client, b"meanwhile").await;
        node.start().await;
        say(&mut client, &mut server, b"after").await;
        // A connection that begins now goes the same way.
        let mut other = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut other_server, _) = within(inside.accept()).await.unwrap();
        say(&mut other, &mut other_server, b"other").await;

        client.write_all(&[7; 300_000]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        within(server.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(heard.len(), 300_000, "{transport}");
        server.write_all(b"the last word").await.unwrap();
        drop(server);
        let mut answer = String::new();
        within(client.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer, "the last word", "{transport}");
        forward.kill().unwrap();
        forward.wait().unwrap();
    }
}

async fn say(from: &mut TcpStream, to: &mut TcpStream, word: &[u8]) {
    from.write_all(word).await.unwrap();
    let mut heard = vec![0; word.len()];
    within(to.read_exact(&mut heard)).await.unwrap();
    assert_eq!(heard, word);
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("it takes too long")
}

#[tokio::test]
async fn an_address_is_good_for_one_connection() {
    let node = Node::boot().await;
    let pod = node.pod("token").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let mut runtime = node.runtime();
    let exec = ExecRequest {
        container_id: container.id.clone(),
        cmd: vec!["true".to_owned()],
        stdout: true,
        ..Default::default()
    };
    let attach =
        AttachRequest { container_id: container.id.clone(), stdout: true, ..Default::default() };
    let forward = PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![80] };
    let urls = [
        ("exec", runtime.exec(exec).await.unwrap().into_inner().url),
        ("attach", runtime.attach(attach).await.unwrap().into_inner().url),
        ("portforward", runtime.port_forward(forward).await.unwrap().into_inner().url),
    ];
    for (kind, url) in urls {
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        let (authority, path) = url["http://".len()..].split_once('/').unwrap();
        assert!(path.starts_with(&format!("{kind}/")), "{url}");
        let protocol =
            if kind == "portforward" { "portforward.k8s.io" } else { "v4.channel.k8s.io" };
        let mut codes = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(authority).await.unwrap();
            let request = format!(
                "POST /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                 X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut head = [0; 12];
            within(stream.read_exact(&mut head)).await.unwrap();
            codes.push(String::from_utf8_lossy(&head[9..]).into_owned());
        }
        assert_eq!(codes[0], "101", "{kind}");
        assert!(codes[1].starts_with('4'), "{kind}: {codes:?}");
    }
}
