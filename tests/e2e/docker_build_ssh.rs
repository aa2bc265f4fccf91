//! `RUN --mount=type=ssh` with a real ssh agent, by buildx and by `cais build`.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::docker_build::{Context, nothing_left};
use crate::docker_buildx::{build, refused, with_buildx};
use crate::wait::until;

/// An agent with one key.
struct Agent {
    socket: PathBuf,
    child: Child,
}

impl Agent {
    async fn new(directory: &Path) -> Self {
        fs::create_dir(directory).unwrap();
        let (socket, key) = (directory.join("agent"), directory.join("key"));
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "key-of-the-test", "-f"])
            .arg(&key)
            .status();
        assert!(made.unwrap().success());
        let child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let agent = Self { socket, child };
        until("ssh-agent to listen", async || UnixStream::connect(&agent.socket).is_ok()).await;
        let added = Command::new("ssh-add")
            .args([Path::new("-q"), &key])
            .env("SSH_AUTH_SOCK", &agent.socket)
            .status();
        assert!(added.unwrap().success());
        agent
    }

    fn of(&self, id: &str) -> String {
        format!("{id}={}", self.socket.display())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ASKS: &str = "\
FROM busybox
RUN --mount=type=ssh true
RUN --mount=source=tools,target=/tools --mount=type=ssh,required \
  /tools/ld.so --library-path /tools /tools/ssh-add -l && stat -c '%a %u %n' $SSH_AUTH_SOCK
USER nobody
RUN --mount=source=tools,target=/tools --mount=type=ssh,id=mine,target=/x/a,mode=0660,uid=65534,gid=7 \
  stat -c '%F %a %u %g %n' $SSH_AUTH_SOCK && /tools/ld.so --library-path /tools /tools/ssh-add -l
";

const EXPECTED: [&str; 3] =
    ["key-of-the-test (ED25519)", "600 0 /run/buildkit/ssh_agent.0", "socket 660 65534 7 /x/a"];

#[tokio::test]
async fn builds_ask_the_clients_ssh_agent_and_keep_nothing_of_it() {
    let (node, docker) = with_buildx().await;
    let agent = Agent::new(&node.home.join("agent")).await;
    let context = Context::new(&node, "context", &[("Dockerfile", ASKS)]);
    context.add_program("ssh-add");
    let (default, mine) = (agent.of("default"), agent.of("mine"));
    let words = ["--ssh", &default, "--ssh", &mine, "-t", "asked:v1"];
    let said = build(&docker, &context, &words).await;
    for expected in EXPECTED {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let list = ["run", "--rm", "-u0", "asked:v1", "find", "/run", "/x", "-mindepth", "1"];
    let left = docker.try_run(&list).await;
    assert!(!left.stdout.contains("ssh") && left.stderr.contains("/x: No such file"), "{left:?}");

    let words =
        [&["build", "--no-cache", "--ssh", &default, "--ssh", &mine][..], &[context.path()]];
    let said = docker.cais(&words.concat()).await;
    for expected in EXPECTED {
        assert!(said.contains(expected), "{expected}: {said}");
    }

    // What a build must have and the client does not lend is missed by name; what it need not have is not.
    context.write("Dockerfile", "FROM busybox\nRUN --mount=type=ssh,required echo must\n");
    for words in [&[][..], &["--ssh", &mine]] {
        let said = refused(&docker, &context, words).await;
        assert!(said.contains("no SSH key \"default\" forwarded from the client"), "{said}");
        let done = docker.try_cais(&[&["build"], words, &[context.path()]].concat()).await;
        assert!(done.code == 1 && done.stderr.contains("no SSH key \"default\""), "{done:?}");
    }
    context.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=ssh ! test -e $SSH_AUTH_SOCK && echo without\n",
    );
    assert!(build(&docker, &context, &[]).await.contains(" without\n"));
    let said = docker.cais_refused(&["build", "--ssh", "x=/etc/passwd", context.path()]).await;
    assert!(said.contains("no agent's socket"), "{said}");
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}
