//! Our own client on a terminal: its size, its keys, and how it is given back.

use tokio::io::AsyncWriteExt;

use crate::docker::output;
use crate::docker_build::{Context, nothing_left};
use crate::docker_containers::node;
use crate::wait::until;

/// What `stty -a` says of a terminal that is not raw.
fn is_given_back(shown: &str) -> bool {
    let words: Vec<&str> = shown.split_whitespace().collect();
    ["icanon", "echo", "isig"].iter().all(|it| words.contains(it))
}

#[tokio::test]
async fn cais_run_it_follows_the_size_of_the_terminal() {
    let (_node, docker) = node().await;
    let inside = "until [ \"$(stty size)\" = \"33 77\" ]; do sleep 0.05; done; touch /seen; \
                  until [ \"$(stty size)\" = \"44 88\" ]; do sleep 0.05; done; tty; exit 6";
    let line = format!(
        "stty rows 33 cols 77; \
         (until \"$cais\" exec web test -e /seen; do sleep 0.1; done; stty rows 44 cols 88 </dev/tty) 2>/dev/null & \
         \"$cais\" run --rm -it --name web busybox sh -c '{inside}'; echo \"code $?\"; stty -a"
    );
    let done = output(docker.on_a_terminal(&line), "cais run -it").await;
    assert!(done.stdout.contains("/dev/pts/0") && done.stdout.contains("code 6"), "{done:?}");
    assert!(is_given_back(&done.stdout), "{done:?}");
}

#[tokio::test]
async fn cais_exec_it_has_a_terminal_and_carries_keys() {
    let (_node, docker) = node().await;
    docker.run(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).await;
    let line = "stty rows 31 cols 71; \"$cais\" exec -it -e A=b web sh; echo \"code $?\"; stty -a";
    let mut child = docker.on_a_terminal(line);
    let mut keys = child.stdin.take().unwrap();
    // The interrupt ends the sleep, which only a terminal makes of it; the shell stays.
    let typed = b"until [ \"$(stty size)\" = \"31 71\" ]; do sleep 0.05; done; echo size-$A; touch /asleep; sleep 1000\r";
    keys.write_all(typed).await.unwrap();
    until("the shell to sleep", async || {
        docker.try_run(&["exec", "web", "test", "-e", "/asleep"]).await.code == 0
    })
    .await;
    let mut keys_again = keys;
    keys_again.write_all(b"\x03").await.unwrap();
    keys_again.write_all(b"exit 5\r").await.unwrap();
    let done = output(child, "cais exec -it").await;
    assert!(done.stdout.contains("size-b") && done.stdout.contains("code 5"), "{done:?}");
    assert!(is_given_back(&done.stdout), "{done:?}");
    docker.run(&["rm", "-f", "web"]).await;
}

#[tokio::test]
async fn cais_detach_keys_leave_the_container_running() {
    let (_node, docker) = node().await;
    let line = "\"$cais\" run -it --name web busybox sh; echo \"code $?\"; stty -a";
    let mut child = docker.on_a_terminal(line);
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"touch /here\r").await.unwrap();
    until("the shell", async || {
        docker.try_run(&["exec", "web", "test", "-e", "/here"]).await.code == 0
    })
    .await;
    keys.write_all(b"\x10\x11").await.unwrap();
    let done = output(child, "cais run -it").await;
    assert!(done.stdout.contains("code 0") && is_given_back(&done.stdout), "{done:?}");
    assert_eq!(docker.inspect("web").await["State"]["Running"], true);

    let line = "\"$cais\" attach --detach-keys ctrl-a,x web; echo \"code $?\"";
    let mut child = docker.on_a_terminal(line);
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"\x10\x11touch /again\r").await.unwrap();
    until("the second shell", async || {
        docker.try_run(&["exec", "web", "test", "-e", "/again"]).await.code == 0
    })
    .await;
    keys.write_all(b"\x01x").await.unwrap();
    let done = output(child, "cais attach").await;
    assert!(done.stdout.contains("read escape sequence"), "{done:?}");
    assert_eq!(docker.inspect("web").await["State"]["Running"], true);
    docker.run(&["rm", "-f", "web"]).await;
}

#[tokio::test]
async fn cais_ended_by_a_signal_gives_the_terminal_back() {
    let (node, docker) = node().await;
    let pid = node.home.join("pid");
    let line = format!(
        "sh -c 'echo $$ >{pid}; exec \"$cais\" run -it --name web busybox sh'; echo \"code $?\"; stty -a",
        pid = pid.display()
    );
    let mut child = docker.on_a_terminal(&line);
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"touch /here\r").await.unwrap();
    until("the shell", async || {
        docker.try_run(&["exec", "web", "test", "-e", "/here"]).await.code == 0
    })
    .await;
    let number: i32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let client = rustix::process::Pid::from_raw(number).unwrap();
    rustix::process::kill_process(client, rustix::process::Signal::TERM).unwrap();
    let done = output(child, "cais run -it").await;
    assert!(done.stdout.contains("code 143") && is_given_back(&done.stdout), "{done:?}");
    docker.run(&["rm", "-f", "web"]).await;
    drop(keys);
}

#[tokio::test]
async fn cais_build_draws_its_steps() {
    let (node, docker) = node().await;
    let dockerfile = "FROM busybox AS base\nRUN echo one; echo two; touch /a\nFROM busybox\nENV A=b\n\
                      COPY --from=base /a /\n";
    let context = Context::new(&node, "context", &[("Dockerfile", dockerfile)]);
    let file = node.home.join("id");
    let line = format!(
        "stty rows 40 cols 100; \"$cais\" build -t drawn --iidfile {} {}; echo \"code $?\"",
        file.display(),
        context.path()
    );
    for state in ["", "CACHED "] {
        let done = output(docker.on_a_terminal(&line), "cais build").await;
        let shown = |text: &str| assert!(done.stdout.contains(text), "{text}: {}", done.stdout);
        shown("(5/5) FINISHED");
        shown(&format!("=> {state}[base 2/2] RUN echo one; echo two; touch /a"));
        shown("code 0");
        assert!(!done.stdout.contains("Step 1/"), "{}", done.stdout);
        let id = docker.inspect("drawn").await["Id"].as_str().unwrap().to_owned();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), id);
    }
    context.write("Dockerfile", "FROM busybox\nRUN echo why; exit 3\n");
    let done = output(docker.on_a_terminal(&line), "cais build").await;
    for text in [
        "=> ERROR [2/2] RUN echo why; exit 3",
        " > [2/2] RUN echo why; exit 3:\r\nwhy\r\n",
        "code 3",
    ] {
        assert!(done.stdout.contains(text), "{text}: {}", done.stdout);
    }
    // Elsewhere there are lines.
    let said = docker.cais_refused(&["build", "--progress", "tty", context.path()]).await;
    assert!(said.contains("standard output is no terminal"), "{said}");
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}
