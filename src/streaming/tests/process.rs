//! Exec and attach.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use super::Server;
use super::client::{Spdy, WebSocket, request};
use crate::streaming::spdy::frame::{Frame, Reset};

const V4: &str = "v4.channel.k8s.io";

fn status(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[tokio::test]
async fn all_output_comes_before_the_exit_code() {
    let server = Server::start().await;
    let path = server.exec("head -c 300000 /dev/zero; echo oops >&2; exit 7", "oe");
    let mut client = Spdy::connect(server.address, &path, V4).await;
    let ids = client.open_all(&["error", "stdout", "stderr"]).await;

    let read = client.read_all(&ids).await;

    assert_eq!(read[&ids[1]], vec![0; 300_000]);
    assert_eq!(read[&ids[2]], b"oops\n");
    let status = status(&read[&ids[0]]);
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "7");
}

#[tokio::test]
async fn a_half_closed_stdin_is_end_of_file_for_the_process() {
    let server = Server::start().await;
    let path = server.exec("wc -c", "io");
    let mut client = Spdy::connect(server.address, &path, V4).await;
    let ids = client.open_all(&["error", "stdin", "stdout"]).await;
    for _ in 0..40 {
        client.write(ids[1], vec![b'x'; 100_000], false).await;
    }
    client.write(ids[1], Bytes::new(), true).await;

    let read = client.read_all(&[ids[0], ids[2]]).await;

    assert_eq!(String::from_utf8_lossy(&read[&ids[2]]).trim(), "4000000");
    assert_eq!(status(&read[&ids[0]])["status"], "Success");
}

#[tokio::test]
async fn a_terminal_has_the_size_that_the_client_says() {
    let server = Server::start().await;
    let path = server.exec("read line; stty size", "iot");
    let mut client = Spdy::connect(server.address, &path, V4).await;
    let ids = client.open_all(&["error", "stdin", "stdout", "resize"]).await;
    client.write(ids[3], r#"{"Width":111,"Height":33}"#, false).await;
    client.write(ids[1], "\n", false).await;

    let read = client.read_all(&[ids[0], ids[2]]).await;

    assert!(read[&ids[2]].ends_with(b"33 111\r\n"), "{:?}", read[&ids[2]]);
}

#[tokio::test]
async fn an_exec_that_cannot_start_is_told_on_the_error_stream() {
    let server = Server::start().await;
    for (protocol, is_json) in [(V4, true), ("v2.channel.k8s.io", false)] {
        let path = server.exec("fail", "o");
        let mut client = Spdy::connect(server.address, &path, protocol).await;
        let ids = client.open_all(&["error", "stdout"]).await;
        let read = client.read_all(&ids).await;
        let text = String::from_utf8_lossy(&read[&ids[0]]);
        assert!(text.contains("container c1"), "{text}");
        assert_eq!(text.starts_with('{'), is_json);
    }
}

#[tokio::test]
async fn attach_ends_with_success_when_the_container_ends() {
    let server = Server::start().await;
    let mut client = Spdy::connect(server.address, &server.attach("ioe"), V4).await;
    let ids = client.open_all(&["error", "stdin", "stdout", "stderr"]).await;
    client.write(ids[1], "hello", true).await;

    let read = client.read_all(&[ids[0], ids[2], ids[3]]).await;

    assert_eq!((&read[&ids[2]][..], &read[&ids[3]][..]), (&b"hello"[..], &b"done\n"[..]));
    assert_eq!(status(&read[&ids[0]])["status"], "Success");
}

#[tokio::test]
async fn a_child_that_keeps_the_pipe_does_not_keep_the_session() {
    let server = Server::start().await;
    let path = server.exec("sleep 30 & echo started", "o");
    let mut client = Spdy::connect(server.address, &path, V4).await;
    let ids = client.open_all(&["error", "stdout"]).await;
    let start = Instant::now();

    let read = client.read_all(&ids).await;

    assert_eq!(read[&ids[1]], b"started\n");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_client_that_leaves_hangs_up_on_its_command_even_with_stdin_stuck() {
    let server = Server::start().await;
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("hung-up");
    // Never reads its input, and says nothing until the hang-up must have come.
    let script =
        format!("trap '' PIPE; echo one; sleep 7; echo two && exit; echo yes > {}", mark.display());
    let mut client = Spdy::connect(server.address, &server.exec(&script, "io"), V4).await;
    let ids = client.open_all(&["error", "stdin", "stdout"]).await;
    client.wait_for(|frame| matches!(frame, Frame::Data { .. })).await;
    for _ in 0..20 {
        client.write(ids[1], vec![0; 100_000], false).await;
    }
    drop(client);

    let mut looks = tokio::time::interval(Duration::from_millis(100));
    let start = Instant::now();
    while !mark.exists() {
        assert!(start.elapsed() < Duration::from_secs(15), "the command was not hung up");
        looks.tick().await;
    }
}

#[tokio::test]
async fn a_client_that_keeps_windows_is_never_overrun() {
    let server = Server::start().await;
    let path = server.exec("read go; head -c 5000 /dev/zero", "io");
    let mut client = Spdy::connect(server.address, &path, V4).await;
    client.send(&Frame::Settings { initial_window: Some(1000) }).await;
    let ids = client.open_all(&["error", "stdin", "stdout"]).await;
    client.write(ids[1], "go\n", false).await;

    let mut read = 0;
    while read < 5000 {
        let is_data = |frame: &Frame| matches!(frame, Frame::Data { id, .. } if *id == ids[2]);
        let Frame::Data { data, .. } = client.wait_for(is_data).await else { panic!() };
        read += data.len();
        assert!(data.len() <= 1000);
        if read % 1000 == 0 && read < 5000 {
            // Nothing but the answer may come while the window is shut.
            client.send(&Frame::Ping { id: 1 }).await;
            let next = client.wait_for(|frame| is_data(frame) || *frame == Frame::Ping { id: 1 });
            assert_eq!(next.await, Frame::Ping { id: 1 });
            client.send(&Frame::WindowUpdate { id: ids[2], delta: 1000 }).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_keeps_windows_and_overruns_ours_loses_the_stream() {
    let server = Server::start().await;
    let path = server.exec("sleep 20", "io");
    let mut client = Spdy::connect(server.address, &path, V4).await;
    client.send(&Frame::WindowUpdate { id: 0, delta: 1000 }).await;
    let ids = client.open_all(&["error", "stdin", "stdout"]).await;
    client.write(ids[1], vec![0; 600_000], false).await;

    let reset = client.wait_for(|frame| matches!(frame, Frame::RstStream { .. })).await;
    assert_eq!(reset, Frame::RstStream { id: ids[1], reset: Reset::FlowControl });
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_ends_its_own_session_only() {
    use tokio::io::AsyncWriteExt;

    let server = Server::start().await;
    let mut good = Spdy::connect(server.address, &server.exec("cat", "io"), V4).await;
    let ids = good.open_all(&["error", "stdin", "stdout"]).await;
    let mut bad = Spdy::connect(server.address, &server.exec("cat", "io"), V4).await;
    bad.socket.write_all(&[0x80, 3, 0, 1, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]).await.unwrap();

    bad.wait_for(|frame| matches!(frame, Frame::GoAway { status: 1, .. })).await;
    while bad.frame().await.is_some() {}

    good.write(ids[1], "still here", true).await;
    let read = good.read_all(&[ids[0], ids[2]]).await;
    assert_eq!(read[&ids[2]], b"still here");
}

#[tokio::test]
async fn tokens_open_the_right_route_once_and_requests_must_upgrade() {
    let server = Server::start().await;
    let path = server.exec("true", "o");
    let upgrade = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ";
    let spdy = |version: &str| format!("{upgrade}{version}\r\n");

    assert_eq!(request(server.address, &path, "").await.0, 400);
    assert_eq!(request(server.address, &path, &spdy(V4)).await.0, 404);
    assert_eq!(request(server.address, "/exec/nonsense", &spdy(V4)).await.0, 404);
    let wrong_route = server.exec("true", "o").replace("exec", "attach");
    assert_eq!(request(server.address, &wrong_route, &spdy(V4)).await.0, 404);
    let path = server.exec("true", "o");
    let (code, head, _) = request(server.address, &path, &spdy("v9.channel.k8s.io")).await;
    assert_eq!(code, 403);
    assert!(head.contains("x-accepted-stream-protocol-versions: v4.channel.k8s.io"), "{head}");
}

#[tokio::test]
async fn websocket_version_5_half_closes_stdin() {
    let server = Server::start().await;
    let path = server.exec("cat; exit 3", "io");
    let mut client = WebSocket::connect(server.address, &path, "v5.channel.k8s.io").await;
    client.send(false, b"\x00typed").await;
    client.send(false, &[255, 0]).await;

    let messages = client.read_all().await;

    assert_eq!(messages[0], [1]);
    assert_eq!(messages[1], b"\x01typed");
    let (channel, body) = messages.last().unwrap().split_first().unwrap();
    assert_eq!((*channel, &status(body)["reason"]), (3, &Value::from("NonZeroExitCode")));
}

#[tokio::test]
async fn websocket_base64_messages_are_text_with_a_digit_in_front() {
    let server = Server::start().await;
    let path = server.exec("head -n 1; exit 0", "io");
    let mut client = WebSocket::connect(server.address, &path, "v4.base64.channel.k8s.io").await;
    client.send(true, b"0aGVsbG8K").await;

    let messages = client.read_all().await;

    assert_eq!(messages[..2], [b"1".to_vec(), b"1aGVsbG8K".to_vec()]);
    assert_eq!(messages.last().unwrap()[0], b'3');
}
