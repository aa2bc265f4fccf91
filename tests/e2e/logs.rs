//! Log files: nothing lost, nothing doubled, in the form that kubelet reads.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use cais_proto::runtime::v1::ReopenContainerLogRequest;

use crate::node::{LogLine, Node, joined, parse_log};
use crate::wait::until;

fn entry(stream: &str, text: &str) -> LogLine {
    LogLine { stream: stream.to_owned(), partial: false, text: text.to_owned() }
}

#[tokio::test]
async fn both_outputs_are_logged_with_time_stream_and_tag() {
    let node = Node::boot().await;
    let pod = node.pod("plain").run().await;
    let container =
        pod.container("main").shell("echo one; echo; sleep 0.2; echo two >&2").start().await;
    container.wait_exit().await;
    let expected = [entry("stdout", "one"), entry("stdout", ""), entry("stderr", "two")];
    assert_eq!(container.logs(), expected);
}

#[tokio::test]
async fn a_logs_directories_are_made_and_it_is_reopened_only_while_somebody_writes_it() {
    let node = Node::boot().await;
    let pod = node.pod("modes").run().await;
    let container = pod.container("main").shell("echo words; exec sleep 1000");
    let container =
        container.with(|config| config.log_path = "deep/main/0.log".to_owned()).start().await;
    container.wait_output("words").await;
    let path = container.log_path();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o640);
    assert_eq!(mode(path.parent().unwrap()), 0o755);
    assert_eq!(mode(path.parent().unwrap().parent().unwrap()), 0o755);
    assert_eq!(container.status().await.log_path, path.to_str().unwrap());
    container.reopen_log().await;
    container.stop(0).await;
    let request = ReopenContainerLogRequest { container_id: container.id.clone() };
    let refused = node.runtime().reopen_container_log(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
    assert_eq!(container.output(), "words\n");
}

#[tokio::test]
async fn a_link_in_the_place_of_a_log_is_not_written_through() {
    let node = Node::boot().await;
    let pod = node.pod("links").run().await;
    let outside = node.home.join("outside");
    fs::create_dir(&outside).unwrap();
    let logs = pod.log_directory();
    fs::create_dir_all(&logs).unwrap();
    symlink(outside.join("target"), logs.join("main.log")).unwrap();
    let refused = pod.container("main").shell("echo words").try_create().await;
    let refused = refused.err().expect("the log is a link");
    assert!(refused.message().contains("main.log"), "{refused:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(pod.container("next").shell("echo fine").output().await, "fine\n");
}

#[tokio::test]
async fn a_last_line_without_newline_is_kept() {
    let node = Node::boot().await;
    let pod = node.pod("open").run().await;
    let container = pod.container("main").shell("printf 'no end'").start().await;
    container.wait_exit().await;
    let logs = container.logs();
    let texts: String = logs.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, "no end", "{logs:?}");
    // As one line of the file, which says that no newline was written.
    assert!(logs.len() == 1 && logs[0].partial, "{logs:?}");
}

#[tokio::test]
async fn lines_are_split_at_16_kib() {
    const LIMIT: usize = 16 * 1024;
    let node = Node::boot().await;
    let pod = node.pod("split").run().await;
    let script =
        "head -c 40000 /dev/zero | tr '\\0' a; echo; head -c 16384 /dev/zero | tr '\\0' b; echo";
    let container = pod.container("main").shell(script).start().await;
    container.wait_exit().await;
    let logs = container.logs();
    let shape: Vec<(usize, bool)> =
        logs.iter().map(|line| (line.text.len(), line.partial)).collect();
    assert!(shape.iter().all(|&(length, _)| length <= LIMIT), "{shape:?}");
    assert_eq!(
        shape[..3],
        [(LIMIT, true), (LIMIT, true), (40_000 - 2 * LIMIT, false)],
        "{shape:?}"
    );
    let expected = format!("{}\n{}\n", "a".repeat(40_000), "b".repeat(LIMIT));
    assert_eq!(joined(&logs, "stdout"), expected);
}

#[tokio::test]
async fn no_line_is_lost_or_doubled_while_the_log_is_rotated() {
    let node = Node::boot().await;
    let pod = node.pod("rotated").run().await;
    let script = "i=0; while [ ! -e /enough ]; do echo line $i; i=$((i+1)); done; echo lines: $i";
    let container = pod.container("main").shell(script).start().await;
    container.wait_output("line 10\n").await;
    let mut rotated = Vec::new();
    for number in 0..20 {
        let aside = container.log_path().with_extension(number.to_string());
        fs::rename(container.log_path(), &aside).unwrap();
        container.reopen_log().await;
        rotated.push(aside);
        let path = container.log_path();
        let grows = async || fs::metadata(&path).is_ok_and(|file| file.len() > 0);
        until("the new log to be written", grows).await;
    }
    container.shell("touch /enough").await;
    container.wait_exit().await;
    rotated.push(container.log_path());
    let texts = rotated.iter().map(|path| fs::read_to_string(path).unwrap());
    let all: Vec<LogLine> = texts.flat_map(|text| parse_log(&text)).collect();
    let output = joined(&all, "stdout");
    let lines = output.lines().count() - 1;
    // By line: a difference of megabytes is unreadable.
    for (number, line) in output.lines().take(lines).enumerate() {
        assert_eq!(line, format!("line {number}"));
    }
    assert!(output.ends_with(&format!("\nlines: {lines}\n")), "{lines} lines were logged");
}

#[tokio::test]
async fn a_terminal_is_logged_as_one_stream() {
    let node = Node::boot().await;
    let pod = node.pod("tty").run().await;
    let script = "test -t 0 && test -t 1 && test -t 2 && echo terminal; echo err >&2; tty";
    let container =
        pod.container("main").shell(script).with(|config| config.tty = true).start().await;
    let exit = container.wait_exit().await;
    assert_eq!(exit.code, 0, "{:?}", container.logs());
    let logs = container.logs();
    assert!(logs.iter().all(|line| line.stream == "stdout"), "{logs:?}");
    let output = container.output().replace('\r', "");
    assert_eq!(output, "terminal\nerr\n/dev/pts/0\n");
}

#[tokio::test]
async fn a_container_without_a_log_path_logs_nowhere() {
    let node = Node::boot().await;
    let pod = node.pod("silent").run().await;
    let container = pod.container("main").shell("head -c 1000000 /dev/zero");
    let container = container.with(|config| config.log_path.clear()).start().await;
    assert_eq!(container.wait_exit().await.code, 0);
    let written = fs::read_dir(pod.log_directory()).into_iter().flatten().count();
    assert_eq!(written, 0);
}

#[tokio::test]
async fn a_log_outlives_its_container() {
    let node = Node::boot().await;
    let pod = node.pod("kept").run().await;
    let container = pod.container("main").shell("echo last words").start().await;
    container.wait_exit().await;
    container.remove().await;
    pod.remove().await;
    assert_eq!(container.output(), "last words\n");
}

#[tokio::test]
async fn closed_outputs_do_not_end_the_log_of_the_other() {
    let node = Node::boot().await;
    let pod = node.pod("closed").run().await;
    let script = "exec 1>&-; echo before >&2; sleep 0.2; echo after >&2";
    let container = pod.container("main").shell(script).start().await;
    container.wait_exit().await;
    assert_eq!(container.logs(), [entry("stderr", "before"), entry("stderr", "after")]);
}
