//! Requests that no client of good will sends, and clients that leave in the middle of one.

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::docker::Docker;
use crate::docker_containers::node;
use crate::node::Node;
use crate::wait::{LONG, until};

/// Bytes on a connection of their own; what comes back until the end, or until there is a head.
async fn raw(docker: &Docker, bytes: &[u8]) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(docker.socket()).await.unwrap();
    // It may be refused before all of it has been read.
    let _ = stream.write_all(bytes).await;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    let read = async {
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
            }
        }
    };
    timeout(LONG, read).await.expect("an answer or the end");
    (stream, String::from_utf8_lossy(&answer).into_owned())
}

fn descriptors(node: &Node) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.daemon())).unwrap().count()
}

#[tokio::test]
async fn docker_unknown_routes_and_methods_are_said_to_be_unknown() {
    let (_node, docker) = node().await;
    let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH];
    for path in
        ["/", "/v1.51/", "/containers/x/nothing", "/nothing/x", "/v1.51/v1.51/info", "//info"]
    {
        for method in &methods {
            let reply = docker.request(method.clone(), path, None).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{method} {path}");
            assert_eq!(reply.message(), "page not found", "{method} {path}");
        }
    }
    for (method, path) in [
        (Method::PUT, "/info"),
        (Method::DELETE, "/containers/json"),
        (Method::GET, "/containers/create"),
        (Method::POST, "/version"),
        (Method::OPTIONS, "/images/json"),
        (Method::TRACE, "/_ping"),
    ] {
        let reply = docker.request(method.clone(), path, None).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{method} {path}");
        reply.message();
    }
}

#[tokio::test]
async fn docker_bodies_that_are_not_what_they_should_be_are_refused() {
    let (_node, docker) = node().await;
    docker.run(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).await;
    let paths = [
        "/containers/create",
        "/containers/web/exec",
        "/networks/create",
        "/networks/bridge/connect",
        "/networks/bridge/disconnect",
        "/auth",
    ];
    for path in paths {
        let deep = "[".repeat(20_000);
        for body in ["{", "[]", "\"x\"", "7", "nul", "{\"a\":}", "\u{0}", &deep] {
            let reply = docker.post(path, Some(body)).await;
            let shown = &body[..body.len().min(9)];
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path} {shown}: {reply:?}");
            assert!(!reply.message().is_empty(), "{path} {shown}");
        }
    }
    for (path, body) in [
        ("/containers/create", r#"{"Image":"busybox","Cmd":{"a":1}}"#),
        ("/containers/create", r#"{"Image":"busybox","HostConfig":7}"#),
        ("/containers/create", r#"{"Image":"busybox","HostConfig":{"Memory":"much"}}"#),
        ("/containers/create", r#"{"Image":"busybox","Env":"A=1"}"#),
        ("/containers/create", r#"{"Image":"busybox","Labels":["a"]}"#),
        ("/containers/web/exec", r#"{"Cmd":"one word"}"#),
        ("/containers/web/exec", r#"{"Cmd":[]}"#),
        ("/networks/create", r#"{"Name":7}"#),
        ("/networks/create", r#"{"Name":"n","IPAM":{"Config":[{"Subnet":"x"}]}}"#),
        ("/volumes/create", r#"{"Name":[]}"#),
    ] {
        let reply = docker.post(path, Some(body)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path} {body}: {reply:?}");
        reply.message();
    }
    for path in [
        "/containers/json?limit=many",
        "/containers/json?filters=%5B%5D",
        "/containers/json?filters=%7B%22name%22%3A%5B%22%28%22%5D%7D",
        "/containers/web/logs?stdout=1&since=yesterday",
        "/networks?filters=%7B",
        "/volumes?filters=7",
        "/images/json?filters=%7B%22x%22%3A%7B%22y%22%3A7%7D%7D",
    ] {
        let reply = docker.get(path).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path}: {reply:?}");
        reply.message();
    }
    for path in [
        "/containers/web/stop?t=soon",
        "/containers/web/kill?signal=SIGNONE",
        "/containers/web/resize?h=x&w=1",
    ] {
        let reply = docker.post(path, None).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path}: {reply:?}");
    }
    assert_eq!(docker.run(&["ps", "-aq"]).await.lines().count(), 1);
    docker.run(&["rm", "-f", "web"]).await;
}

#[tokio::test]
async fn docker_names_with_dots_slashes_and_nul_lead_nowhere() {
    let (_node, docker) = node().await;
    let names = [
        "..",
        ".",
        "..%2F..%2Fetc",
        "a%00b",
        "%00",
        "%2F..",
        "%2e%2e",
        "a%2F..%2Fb",
        "%0A",
        "%F0%9F%90%8B",
    ];
    for name in names {
        for (method, path) in [
            (Method::GET, format!("/containers/{name}/json")),
            (Method::GET, format!("/containers/{name}/logs?stdout=1")),
            (Method::GET, format!("/containers/{name}/archive?path=/")),
            (Method::POST, format!("/containers/{name}/start")),
            (Method::DELETE, format!("/containers/{name}?force=1")),
            (Method::GET, format!("/exec/{name}/json")),
            (Method::GET, format!("/networks/{name}")),
            (Method::DELETE, format!("/networks/{name}")),
            (Method::GET, format!("/volumes/{name}")),
            (Method::DELETE, format!("/volumes/{name}?force=0")),
            (Method::GET, format!("/images/{name}/json")),
            (Method::DELETE, format!("/images/{name}")),
        ] {
            let reply = docker.request(method.clone(), &path, None).await;
            let is_refused =
                [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&reply.status);
            assert!(is_refused, "{method} {path}: {reply:?}");
            reply.message();
        }
        for path in ["/containers/create?name=", "/containers/web/rename?name="] {
            let reply = docker.post(&format!("{path}{name}"), Some(r#"{"Image":"busybox"}"#)).await;
            assert!(reply.status.is_client_error(), "{path}{name}: {reply:?}");
        }
    }
    for name in ["..", "a/b", "a\\u0000b", ".", "-a", "a b"] {
        let body = format!(r#"{{"Name":"{name}"}}"#);
        for path in ["/volumes/create", "/networks/create"] {
            let reply = docker.post(path, Some(&body)).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path} {name}: {reply:?}");
        }
    }
    let body = r#"{"Image":"busybox","Cmd":["a\u0000b"]}"#;
    let made = docker.post("/containers/create?name=nul", Some(body)).await;
    if made.status.is_success() {
        let started = docker.post("/containers/nul/start", None).await;
        assert_eq!(started.status, StatusCode::BAD_REQUEST, "{started:?}");
        docker.run(&["rm", "nul"]).await;
    }
    assert_eq!(docker.run(&["ps", "-aq"]).await, "");
    assert_eq!(docker.run(&["volume", "ls", "-q"]).await, "");
}

#[tokio::test]
async fn docker_what_is_too_large_is_refused_and_the_door_stays_open() {
    let (_node, docker) = node().await;
    let host = "Host: x\r\nContent-Type: application/json\r\n";
    // A body of more bytes than a request has, whole and only announced.
    let large = 6 << 20;
    let head = format!("POST /containers/create HTTP/1.1\r\n{host}Content-Length: {large}\r\n\r\n");
    let whole = [head.as_bytes(), &vec![b' '; large]].concat();
    let (_, answer) = raw(&docker, &whole).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let head = format!("POST /auth HTTP/1.1\r\n{host}Content-Length: 99999999999999999999\r\n\r\n");
    let (_, answer) = raw(&docker, head.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    // Pieces without an end that is announced.
    let head =
        format!("POST /containers/create HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n");
    let piece = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let (_, answer) = raw(&docker, (head + &piece.repeat(80)).as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let long = "a".repeat(1 << 20);
    for head in [
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET /info HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n"),
        format!("GET /info HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(5000)),
    ] {
        let (_, answer) = raw(&docker, head.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // Of what is small enough, all is read before it is refused.
    let body = format!("{{\"Image\":\"busybox\",\"Cmd\":[\"{}\"", "x".repeat(3 << 20));
    let reply = docker.post("/containers/create", Some(&body)).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    reply.message();
    assert_eq!(docker.get("/_ping").await.status, StatusCode::OK);
    assert_eq!(docker.run(&["ps", "-aq"]).await, "");
}

#[tokio::test]
async fn docker_clients_that_hang_up_leave_nothing_behind() {
    let (node, docker) = node().await;
    let words = ["run", "-d", "-i", "--name", "quiet", "busybox", "sh", "-c", "sleep 1000"];
    docker.run(&words).await;
    docker.run(&["create", "-i", "--name", "created", "busybox", "cat"]).await;
    // It ends with its input.
    let exec = r#"{"Cmd":["cat"],"AttachStdin":true,"AttachStdout":true}"#;
    let upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n";
    let mut requests = vec![
        "GET /containers/quiet/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /containers/created/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "POST /containers/quiet/wait HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "POST /containers/created/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
    ];
    for name in ["quiet", "created"] {
        let path = format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1&stderr=1");
        requests.push(format!("POST {path} HTTP/1.1\r\n{upgrade}\r\n"));
        requests.push(format!("POST {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    let made = docker.post("/containers/quiet/exec", Some(exec)).await.json();
    let path = format!("/exec/{}/start", made["Id"].as_str().unwrap());
    requests.push(format!("POST {path} HTTP/1.1\r\n{upgrade}Content-Length: 2\r\n\r\n{{}}"));
    // A connection that is kept open needs descriptors too; the first of them are not given back.
    assert_eq!(docker.get("/_ping").await.status, StatusCode::OK);
    let before = descriptors(&node);
    let mut clients = Vec::new();
    for _ in 0..5 {
        for request in &requests {
            if request.contains("/exec/") && clients.len() > requests.len() {
                continue;
            }
            let (client, answer) = raw(&docker, request.as_bytes()).await;
            let is_open = answer.starts_with("HTTP/1.1 101") || answer.starts_with("HTTP/1.1 200");
            assert!(is_open, "{request}: {answer}");
            clients.push(client);
        }
    }
    assert!(descriptors(&node) > before);
    drop(clients);
    until("the daemon to have let them go", async || descriptors(&node) <= before).await;
    // Whom they left is as it was.
    assert_eq!(docker.inspect("quiet").await["State"]["Status"], "running");
    assert_eq!(docker.try_run_with(&["start", "-ai", "created"], b"heard").await.stdout, "heard");
    docker.run(&["rm", "-f", "quiet", "created"]).await;
}

#[tokio::test]
async fn docker_a_client_that_half_closes_still_gets_its_answer() {
    let (_node, docker) = node().await;
    let script = "mkfifo /pipe; read x < /pipe; exit 3";
    docker.run(&["run", "-d", "--name", "web", "busybox", "sh", "-c", script]).await;
    let request = b"POST /containers/web/wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (mut client, head) = raw(&docker, request).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    client.shutdown().await.unwrap();
    until("the pipe", async || {
        docker.try_run(&["exec", "web", "test", "-p", "/pipe"]).await.code == 0
    })
    .await;
    docker.run(&["exec", "web", "sh", "-c", "echo > /pipe"]).await;
    let mut rest = String::new();
    timeout(LONG, client.read_to_string(&mut rest)).await.expect("the rest").unwrap();
    assert!((head + &rest).contains(r#"{"StatusCode":3}"#), "{rest}");
    docker.run(&["rm", "web"]).await;
}

#[tokio::test]
async fn docker_a_client_that_never_reads_holds_up_nobody() {
    let (node, docker) = node().await;
    let before = descriptors(&node);
    let script = "while :; do echo 0123456789012345678901234567890123456789; done";
    let limited = ["run", "-d", "--name", "loud", "--cpus", "0.2", "busybox", "sh", "-c", script];
    docker.run(&limited).await;
    let mut clients = Vec::new();
    for path in ["logs?stdout=1&follow=1", "attach?stream=1&stdout=1"] {
        let method = if path.starts_with("logs") { "GET" } else { "POST" };
        let request = format!("{method} /containers/loud/{path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut stream = UnixStream::connect(docker.socket()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.readable().await.unwrap();
        clients.push(stream);
    }
    assert_eq!(docker.run(&["exec", "loud", "echo", "yes"]).await, "yes");
    let tail = docker.run(&["logs", "--tail", "1", "loud"]).await;
    assert_eq!(tail.lines().count(), 1, "{tail}");
    // It can be ended while they still do not read, and nothing of it stays.
    docker.run(&["stop", "-t", "0", "loud"]).await;
    docker.run(&["rm", "loud"]).await;
    drop(clients);
    until("the daemon to have let them go", async || descriptors(&node) <= before).await;
}

#[tokio::test]
async fn docker_a_client_that_is_refused_while_it_sends_gets_its_answer() {
    const LENGTH: usize = 32 << 20;
    let (_node, docker) = node().await;
    let path =
        "/images/load?platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D";
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {LENGTH}\r\n\r\n");
    let mut client = UnixStream::connect(docker.socket()).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    // Some clients look for an answer when they have sent all they have, and no earlier.
    client.readable().await.unwrap();
    client.write_all(&vec![0; LENGTH]).await.expect("the whole body is taken");
    let mut buffer = [0; 4096];
    let count = timeout(LONG, client.read(&mut buffer)).await.expect("an answer").unwrap();
    let answer = String::from_utf8_lossy(&buffer[..count]);
    assert!(answer.contains("linux/s390x"), "{answer}");
}
