//! Commands run inside a container.

use std::time::{Duration, Instant};

use crate::node::Node;
use crate::wait::until;

#[tokio::test]
async fn a_command_answers_both_outputs_and_its_code() {
    let node = Node::boot().await;
    let pod = node.pod("exec").run().await;
    let container =
        pod.container("main").env("COLOUR", "red").command(["sleep", "1000"]).start().await;
    let done = container.exec(&["sh", "-c", "echo out $COLOUR; echo err >&2; exit 5"]).await;
    assert_eq!(done.stdout, b"out red\n");
    assert_eq!(done.stderr, b"err\n");
    assert_eq!(done.exit_code, 5);
    let killed = container.exec(&["sh", "-c", "kill -9 $$"]).await;
    assert_eq!(killed.exit_code, 137);
}

#[tokio::test]
async fn large_output_arrives_whole() {
    let node = Node::boot().await;
    let pod = node.pod("large").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let done = container.exec(&["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"]).await;
    assert_eq!(done.stdout.len(), 3_000_000);
    assert!(done.stdout.iter().all(|&byte| byte == b'x'));
}

#[tokio::test]
async fn a_timeout_kills_the_whole_tree_and_answers_at_once() {
    let node = Node::boot().await;
    let pod = node.pod("slow").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let before = Instant::now();
    let late = container.try_exec(&["sh", "-c", "sleep 777 & sleep 778; wait"], 1).await;
    let waited = before.elapsed();
    assert_eq!(late.unwrap_err().code(), tonic::Code::DeadlineExceeded);
    assert!(waited >= Duration::from_millis(900) && waited < Duration::from_secs(4), "{waited:?}");
    until("the killed tree to be gone", async || {
        let listed =
            container.shell("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; true").await;
        !listed.contains("sleep 777") && !listed.contains("sleep 778")
    })
    .await;
}

#[tokio::test]
async fn a_child_that_keeps_the_pipe_does_not_hold_the_answer_back() {
    let node = Node::boot().await;
    let pod = node.pod("pipe").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let before = Instant::now();
    let done = container.try_exec(&["sh", "-c", "sleep 60 & echo started"], 30).await.unwrap();
    assert_eq!(done.stdout, b"started\n");
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_command_sees_the_containers_namespaces_and_user() {
    let node = Node::boot().await;
    let pod = node.pod("inside").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).security(|context| {
        context.run_as_user = Some(cais_proto::runtime::v1::Int64Value { value: 1234 });
        context.no_new_privs = true;
    });
    let container = container.start().await;
    assert_eq!(container.shell("id -u").await, "1234");
    assert_eq!(container.shell("hostname").await, "inside");
    let script = "grep NoNewPrivs /proc/self/status | cut -f2";
    assert_eq!(container.shell(script).await, "1");
    for namespace in ["pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let script = format!(
            "[ $(readlink /proc/self/ns/{namespace}) = $(readlink /proc/1/ns/{namespace}) ] && echo same"
        );
        assert_eq!(container.shell(&script).await, "same", "{namespace}");
    }
    let group = "[ \"$(cat /proc/self/cgroup)\" = \"$(cat /proc/1/cgroup)\" ] && echo same";
    assert_eq!(container.shell(group).await, "same");
}

#[tokio::test]
async fn a_missing_program_and_an_ended_container_are_errors() {
    let node = Node::boot().await;
    let pod = node.pod("errors").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    // An answer, not an error of the call: kubelet's probes fail on nothing else.
    for (program, code, reason) in [
        ("/no/such/program", 127, "/no/such/program"),
        ("nonesuch", 127, "executable file not found in $PATH"),
        ("/etc/passwd", 126, "Permission denied"),
        ("/etc", 126, "Permission denied"),
    ] {
        let done = container.exec(&[program]).await;
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!((done.exit_code, done.stdout.as_slice()), (code, &b""[..]), "{program}");
        assert!(stderr.contains(reason), "{program}: {stderr}");
    }
    container.stop(0).await;
    let refused = container.try_exec(&["true"], 10).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
}

#[tokio::test]
async fn a_hundred_commands_at_once_all_answer() {
    let node = Node::boot().await;
    let pod = node.pod("many").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let commands = (0..100).map(|number| {
        let container = &container;
        async move { container.shell(&format!("echo {number}")).await }
    });
    let answers = futures_util::future::join_all(commands).await;
    let expected: Vec<String> = (0..100).map(|number: i32| number.to_string()).collect();
    assert_eq!(answers, expected);
}
