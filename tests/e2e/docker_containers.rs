//! Containers by the docker client: made, run, seen, ended and removed, with its words and codes.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::docker::{Docker, output};
use crate::node::Node;
use crate::wait::until;

/// A node whose Docker door has the image.
pub(crate) async fn node() -> (Node, Docker) {
    let node = Node::boot().await;
    let docker = node.docker();
    docker.run(&["pull", "-q", "busybox"]).await;
    (node, docker)
}

#[tokio::test]
async fn docker_run_pulls_runs_and_removes() {
    let node = Node::boot().await;
    let docker = node.docker();

    let done = docker.try_run(&["run", "--rm", "busybox", "echo", "hi"]).await;
    assert_eq!((done.code, done.stdout.as_str()), (0, "hi\n"), "{done:?}");
    assert!(done.stderr.contains("Unable to find image 'busybox:latest' locally"), "{done:?}");
    assert!(done.stderr.contains("Downloaded newer image for busybox:latest"), "{done:?}");
    assert_eq!(docker.run(&["ps", "-aq"]).await, "");
    let again = docker.try_run(&["run", "--rm", "busybox", "sh", "-c", "echo a; echo b >&2"]).await;
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("a\n", "b\n"));
}

#[tokio::test]
async fn docker_exit_codes_tell_what_went_wrong() {
    let (node, docker) = node().await;
    for (words, code) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["no-such-program"], 127),
        (&["/no/such/program"], 127),
        (&["/etc/passwd"], 126),
        (&["/etc"], 126),
    ] {
        let done = docker.try_run(&[&["run", "--rm", "busybox"], words].concat()).await;
        assert_eq!(done.code, code, "{words:?}: {done:?}");
    }
    // With an init the program is not PID 1, which no signal of its own can end.
    for (signal, code) in [("KILL", 137), ("TERM", 143)] {
        let script = format!("kill -{signal} $$");
        let words = ["run", "--rm", "--init", "busybox", "sh", "-c", &script];
        let done = docker.try_run(&words).await;
        assert_eq!(done.code, code, "{signal}: {done:?}");
    }
    for words in [&["--network", "nowhere", "busybox"][..], &["--name", "..", "busybox"]] {
        let done = docker.try_run(&[&["run", "--rm"], words].concat()).await;
        assert_eq!(done.code, 125, "{words:?}: {done:?}");
    }
    let missing = docker.try_run(&["run", "--name", "lame", "busybox", "no-such-program"]).await;
    assert!(missing.stderr.contains("executable file not found in $PATH"), "{missing:?}");
    let lame = docker.inspect("lame").await;
    assert_eq!(lame["State"]["Status"], "created");
    assert_eq!(lame["State"]["ExitCode"], 127);
    docker.run(&["rm", "lame"]).await;
    drop(node);
}

#[tokio::test]
async fn docker_run_i_carries_standard_input_to_its_end() {
    let (_node, docker) = node().await;
    let input: Vec<u8> = (0..200_000_u32).flat_map(|it| it.to_be_bytes()).collect();
    let script = "wc -c; echo done";
    let words = ["run", "--rm", "-i", "busybox", "sh", "-c", script];
    let done = docker.try_run_with(&words, &input).await;
    assert_eq!((done.code, done.stdout.as_str()), (0, "800000\ndone\n"), "{done:?}");

    let text = docker.try_run_with(&["run", "--rm", "-i", "busybox", "cat"], b"over and out").await;
    assert_eq!(text.stdout, "over and out");
}

#[tokio::test]
async fn docker_run_it_has_a_terminal_of_the_clients_size() {
    let (_node, docker) = node().await;
    // The size is told after the start.
    let script = "until [ \"$(stty size)\" = '33 77' ]; do sleep 0.05; done; tty; exit 6";
    let line = format!(
        "stty rows 33 cols 77; docker run --rm -it busybox sh -c '{}'",
        script.replace('\'', "'\\''")
    );
    let words = [std::ffi::OsString::from("-qec"), line.into(), "/dev/null".into()];
    let mut command = docker.command_of("script", &words);
    let done = output(command.spawn().unwrap(), "docker run -it").await;
    assert_eq!(done.code, 6, "{done:?}");
    assert!(done.stdout.contains("/dev/pts/0"), "{done:?}");
}

#[tokio::test]
async fn docker_a_large_output_is_whole() {
    let (_node, docker) = node().await;
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
    let done = docker.try_run(&["run", "--rm", "busybox", "sh", "-c", script]).await;
    let expected: String = (0..20_000).map(|i| format!("line {i}\n")).collect();
    assert_eq!(done.stdout.len(), expected.len());
    assert!(done.stdout == expected);
}

#[tokio::test]
async fn docker_a_container_lives_on_its_own_and_is_seen() {
    let (node, docker) = node().await;
    let id = docker.run(&["run", "-d", "-it", "--name", "web", "-l", "a=b", "busybox"]).await;
    assert_eq!(id.len(), 64);

    let row =
        docker.run(&["ps", "--format", "{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.State}}"]);
    assert_eq!(row.await, format!("{} web busybox \"sh\" running", &id[..12]));
    let web = docker.inspect("web").await;
    assert_eq!(web["Id"], id.as_str());
    assert_eq!(web["Name"], "/web");
    assert_eq!(web["Config"]["Tty"], true);
    assert_eq!(web["Config"]["Labels"]["a"], "b");
    assert_eq!(web["HostConfig"]["NetworkMode"], "bridge");
    assert_eq!(web["State"]["Running"], true);
    assert!(web["State"]["Pid"].as_i64().unwrap() > 0);
    let address = web["NetworkSettings"]["IPAddress"].as_str().unwrap();
    assert!(address.parse::<std::net::Ipv4Addr>().is_ok(), "{address}");
    assert_eq!(web["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], address);
    // By its id's beginning and with a slash.
    for name in [&id[..5], "/web"] {
        assert_eq!(docker.inspect(name).await["Id"], id.as_str(), "{name}");
    }
    let taken = docker.refused(&["run", "-d", "--name", "web", "busybox"]).await;
    assert!(
        taken.contains("Conflict. The container name \"/web\" is already in use by container"),
        "{taken}"
    );
    // A kubelet sees nothing of it, and cannot end what it does not know.
    assert!(node.pod_ids().await.is_empty());

    let refused = docker.refused(&["rm", "web"]).await;
    assert!(refused.contains("container is running: stop the container before removing"));
    assert_eq!(docker.run(&["rm", "-f", "web"]).await, "web");
    let gone = docker.get("/containers/web/json").await;
    assert_eq!(
        (gone.status, gone.message()),
        (StatusCode::NOT_FOUND, "No such container: web".into())
    );
}

#[tokio::test]
async fn docker_stop_start_and_restart_keep_the_files() {
    let (_node, docker) = node().await;
    let script = "echo $$ >> /runs; trap 'exit 3' TERM; while :; do sleep 0.05; done";
    docker.run(&["run", "-d", "--name", "web", "busybox", "sh", "-c", script]).await;
    let runs = async || docker.run(&["exec", "web", "sh", "-c", "wc -l < /runs"]).await;
    until("the first run", async || {
        docker.try_run(&["exec", "web", "test", "-s", "/runs"]).await.code == 0
    })
    .await;

    docker.run(&["stop", "web"]).await;
    let state = docker.inspect("web").await["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(3)));
    assert_eq!(docker.post("/containers/web/stop", None).await.status, StatusCode::NOT_MODIFIED);
    assert!(docker.refused(&["exec", "web", "true"]).await.contains("is not running"));
    assert!(docker.refused(&["kill", "web"]).await.contains("is not running"));

    docker.run(&["start", "web"]).await;
    assert_eq!(docker.post("/containers/web/start", None).await.status, StatusCode::NOT_MODIFIED);
    until("the second run", async || runs().await == "2").await;
    docker.run(&["restart", "web"]).await;
    until("the third run", async || runs().await == "3").await;
    docker.run(&["kill", "web"]).await;
    assert_eq!(docker.inspect("web").await["State"]["ExitCode"], 137);
    docker.run(&["rm", "web"]).await;
}

#[tokio::test]
async fn docker_logs_are_told_from_the_start_the_end_and_as_they_come() {
    let (_node, docker) = node().await;
    let script = "echo one; echo two >&2; echo three; cat; echo four";
    let words = ["run", "-d", "-i", "--name", "talk", "busybox", "sh", "-c", script];
    docker.run(&words).await;
    until("three lines", async || {
        let all = docker.try_run(&["logs", "talk"]).await;
        all.stdout.contains("three") && all.stderr.contains("two")
    })
    .await;

    let all = docker.try_run(&["logs", "talk"]).await;
    assert_eq!((all.stdout.as_str(), all.stderr.as_str()), ("one\nthree\n", "two\n"));
    // Which of the two streams has the last line is not the container's to say.
    let tail = async |words: &[&str]| {
        let done = docker.try_run(&[&["logs"], words, &["talk"]].concat()).await;
        done.stdout + &done.stderr
    };
    assert_eq!(tail(&["--tail", "1"]).await.lines().count(), 1);
    assert_eq!(tail(&["--tail", "2"]).await.lines().count(), 2);
    assert_eq!(tail(&["--tail", "0"]).await, "");
    assert_eq!(tail(&["--since", "2100-01-01T00:00:00Z"]).await, "");
    assert_eq!(tail(&["--until", "2000-01-01T00:00:00Z"]).await, "");
    let stamped = tail(&["-t", "--tail", "1"]).await;
    let (at, text) = stamped.trim_end().split_once(' ').unwrap();
    assert!(["two", "three"].contains(&text), "{stamped}");
    assert_eq!(at.len(), "2026-01-01T00:00:00.000000000Z".len(), "{stamped}");
    let neither = docker.get("/containers/talk/logs").await;
    assert_eq!(neither.status, StatusCode::BAD_REQUEST);

    let following = docker.spawn(&["logs", "-f", "talk"]);
    // Its end is the end of those who follow.
    docker.run(&["stop", "-t", "0", "talk"]).await;
    let followed = output(following, "docker logs -f").await;
    assert_eq!((followed.code, followed.stdout.as_str()), (0, "one\nthree\n"));
    docker.run(&["rm", "talk"]).await;
}

#[tokio::test]
async fn docker_logs_add_no_newline_and_tell_details_when_asked() {
    let (_node, docker) = node().await;
    let options = ["-l", "tier=a b", "-e", "A=1", "--log-opt", "labels=tier", "--log-opt", "env=A"];
    let words = ["--name", "half", "busybox", "printf", "one\\ntwo"];
    docker.run(&[&["run"], &options[..], &words[..]].concat()).await;
    let told = docker.try_run(&["logs", "--details", "half"]).await.stdout;
    assert_eq!(told, "A=1,tier=a+b one\nA=1,tier=a+b two");
    let logs = async |tail: &str| docker.try_run(&["logs", "--tail", tail, "half"]).await.stdout;
    assert_eq!((logs("all").await, logs("1").await), ("one\ntwo".into(), "two".into()));
    docker.run(&["start", "-a", "half"]).await;
    assert_eq!(logs("all").await, "one\ntwoone\ntwo");
    assert_eq!((logs("2").await, logs("3").await), ("one\ntwo".into(), "twoone\ntwo".into()));
    docker.run(&["rm", "half"]).await;
}

#[tokio::test]
async fn docker_exec_runs_beside_with_its_own_settings() {
    let (_node, docker) = node().await;
    docker.run(&["run", "-d", "--name", "web", "-e", "A=1", "busybox", "sleep", "1000"]).await;

    let words = ["exec", "-e", "B=2", "-w", "/tmp", "web", "sh", "-c", "echo $A$B $PWD; exit 5"];
    let done = docker.try_run(&words).await;
    assert_eq!((done.code, done.stdout.as_str()), (5, "12 /tmp\n"), "{done:?}");
    let fed = docker.try_run_with(&["exec", "-i", "web", "cat"], b"through").await;
    assert_eq!(fed.stdout, "through");
    let user = docker.run(&["exec", "-u", "65534:7", "web", "sh", "-c", "id -u; id -g"]).await;
    assert_eq!(user, "65534\n7");
    let errors = docker.try_run(&["exec", "web", "sh", "-c", "echo no >&2"]).await;
    assert_eq!((errors.stdout.as_str(), errors.stderr.as_str()), ("", "no\n"));
    for (program, code) in [("no-such-program", 127), ("/etc/passwd", 126)] {
        let done = docker.try_run(&["exec", "web", program]).await;
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.stdout.contains("OCI runtime exec failed"), "{done:?}");
    }
    docker.run(&["exec", "-d", "web", "touch", "/made"]).await;
    until("the file", async || {
        docker.try_run(&["exec", "web", "test", "-e", "/made"]).await.code == 0
    })
    .await;
    let top = docker.run(&["top", "web"]).await;
    assert!(top.contains("sleep 1000") && top.contains("PID"), "{top}");

    let created = docker.post("/containers/web/exec", Some(r#"{"Cmd":["true"]}"#)).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let id = created.json()["Id"].as_str().unwrap().to_owned();
    let exec = docker.get(&format!("/exec/{id}/json")).await.json();
    assert_eq!((&exec["Running"], &exec["ExitCode"]), (&json!(false), &Value::Null));
    let nobody = docker.get("/exec/nobody/json").await;
    assert_eq!(nobody.message(), "No such exec instance: nobody");
    docker.run(&["rm", "-f", "web"]).await;
}

#[tokio::test]
async fn docker_limits_and_confinement_reach_the_container() {
    let (node, docker) = node().await;
    let host = node.home.join("page");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("index"), "hello").unwrap();
    let bind = format!("{}:/page:ro", host.display());
    let script = "cat /page/index; echo; touch /page/x 2>/dev/null || echo read-only; \
                  touch /x 2>/dev/null || echo no-root; touch /tmp/x && echo tmpfs; \
                  ulimit -n; id -u; hostname; grep CapBnd /proc/self/status; cat /etc/hosts";
    let words = [
        "run",
        "--rm",
        "-v",
        &bind,
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--ulimit",
        "nofile=77",
        "-u",
        "12",
        "--hostname",
        "inside",
        "--cap-drop",
        "ALL",
        "--add-host",
        "db:10.9.8.7",
        "--memory",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    let said = docker.run(&words).await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..7],
        ["hello", "read-only", "no-root", "tmpfs", "77", "12", "inside"],
        "{said}"
    );
    assert!(lines[7].ends_with("0000000000000000"), "{said}");
    assert!(said.contains("10.9.8.7\tdb"), "{said}");

    let all = docker.run(&[
        "run",
        "--rm",
        "--privileged",
        "busybox",
        "grep",
        "CapBnd",
        "/proc/self/status",
    ]);
    assert!(!all.await.ends_with("0000000000000000"));
    let hog = [
        "run",
        "--memory",
        "16m",
        "--name",
        "hog",
        "busybox",
        "sh",
        "-c",
        "x=x; while :; do x=$x$x; done",
    ];
    assert_eq!(docker.try_run(&hog).await.code, 137);
    assert_eq!(docker.inspect("hog").await["State"]["OOMKilled"], true);
    docker.run(&["rm", "hog"]).await;
    let missing = docker.refused(&[
        "run",
        "--rm",
        "--mount",
        "type=bind,source=/no/such,target=/x",
        "busybox",
    ]);
    assert!(missing.await.contains("bind source path does not exist: /no/such"));
}

#[tokio::test]
async fn docker_networks_are_the_nodes_the_hosts_another_ones_or_none() {
    let (_node, docker) = node().await;
    let words = ["run", "-d", "--name", "first", "busybox", "sleep", "1000"];
    docker.run(&words).await;
    let address = docker.inspect("first").await["NetworkSettings"]["IPAddress"].clone();
    let address = address.as_str().unwrap();

    let joined = ["run", "--rm", "--network", "container:first", "busybox", "ip", "-4", "addr"];
    assert!(docker.run(&joined).await.contains(address));
    let none = ["run", "--rm", "--network", "none", "busybox", "ip", "addr"];
    let none = docker.run(&none).await;
    assert!(none.contains("127.0.0.1") && !none.contains("eth0"), "{none}");
    let host = ["run", "--rm", "--network", "host", "busybox", "hostname"];
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(docker.run(&host).await, name);
    docker.run(&["stop", "-t", "0", "first"]).await;
    let refused = docker.refused(&joined).await;
    assert!(refused.contains("cannot join network of a non running container"), "{refused}");
    docker.run(&["rm", "first"]).await;
}

#[tokio::test]
async fn docker_published_ports_lead_inside_and_a_taken_one_is_said() {
    let (_node, docker) = node().await;
    let serve = "while :; do echo hello | nc -l -p 80; done";
    let words =
        ["run", "-d", "--name", "first", "-p", "127.0.0.1::80", "busybox", "sh", "-c", serve];
    docker.run(&words).await;
    let port = docker.run(&["port", "first", "80/tcp"]).await;
    assert!(port.starts_with("127.0.0.1:"), "{port}");
    until("an answer", async || {
        let Ok(mut stream) = tokio::net::TcpStream::connect(&port).await else { return false };
        let mut text = String::new();
        let read = tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await;
        read.is_ok() && text == "hello\n"
    })
    .await;
    let shown = docker.run(&["ps", "--format", "{{.Ports}}"]).await;
    assert_eq!(shown, format!("{port}->80/tcp"));

    let taken =
        ["run", "-d", "--name", "second", "-p", &format!("{port}:80"), "busybox", "sleep", "9"];
    let taken = docker.try_run(&taken).await;
    assert_eq!(taken.code, 125, "{taken:?}");
    assert!(taken.stderr.contains("port is already allocated"), "{taken:?}");
    assert_eq!(docker.inspect("second").await["State"]["Status"], "created");
    docker.run(&["rm", "-f", "first", "second"]).await;
}

#[tokio::test]
async fn docker_ps_is_narrowed_by_every_spelling() {
    let (_node, docker) = node().await;
    docker.run(&["create", "--name", "one", "-l", "tier=db", "busybox"]).await;
    docker
        .try_run(&["run", "--name", "two", "-l", "tier=web", "busybox", "sh", "-c", "exit 4"])
        .await;
    docker.try_run(&["run", "-d", "--name", "three", "busybox", "sleep", "1000"]).await;

    let names = async |words: &[&str]| {
        let words = [&["ps", "--format", "{{.Names}}"], words].concat();
        docker.run(&words).await.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]).await, ["three"]);
    assert_eq!(names(&["-a"]).await, ["three", "two", "one"]);
    assert_eq!(names(&["-n", "2"]).await, ["three", "two"]);
    for (filter, expected) in [
        ("status=created", &["one"][..]),
        ("exited=4", &["two"]),
        ("label=tier", &["two", "one"]),
        ("label=tier=db", &["one"]),
        ("name=t", &["three", "two"]),
        ("name=^/one$", &["one"]),
        ("before=three", &["two", "one"]),
        ("since=one", &["three", "two"]),
        ("ancestor=busybox", &["three", "two", "one"]),
        ("ancestor=nobody", &[]),
        ("network=bridge", &["three", "two", "one"]),
    ] {
        assert_eq!(names(&["-a", "-f", filter]).await, expected, "{filter}");
    }
    for filters in [r#"{"label":["tier=db"]}"#, r#"{"label":{"tier=db":true}}"#] {
        let query: String = form_urlencoded::byte_serialize(filters.as_bytes()).collect();
        let listed = docker.get(&format!("/containers/json?all=True&filters={query}")).await.json();
        assert_eq!(listed[0]["Names"], json!(["/one"]), "{filters}");
    }
    assert!(docker.refused(&["ps", "-f", "colour=red"]).await.contains("invalid filter"));
    assert!(docker.refused(&["ps", "-f", "status=odd"]).await.contains("invalid filter"));
    docker.run(&["rm", "-f", "one", "two", "three"]).await;
}

#[tokio::test]
async fn docker_pause_rename_and_wait() {
    let (_node, docker) = node().await;
    docker.run(&["run", "-d", "--name", "old", "busybox", "sleep", "1000"]).await;
    docker.run(&["pause", "old"]).await;
    assert_eq!(docker.inspect("old").await["State"]["Status"], "paused");
    assert!(docker.refused(&["pause", "old"]).await.contains("is already paused"));
    assert!(docker.refused(&["exec", "old", "true"]).await.contains("is paused"));
    docker.run(&["unpause", "old"]).await;
    assert_eq!(docker.run(&["exec", "old", "echo", "back"]).await, "back");
    docker.run(&["rename", "old", "new"]).await;
    assert_eq!(docker.inspect("new").await["Name"], "/new");

    let waiting = docker.spawn(&["wait", "new"]);
    docker.run(&["stop", "-t", "0", "new"]).await;
    assert_eq!(output(waiting, "docker wait").await.stdout, "137\n");
    // Of one that does not run, it is the last code.
    assert_eq!(docker.run(&["wait", "new"]).await, "137");
    docker.run(&["rm", "new"]).await;
}

#[tokio::test]
async fn docker_sees_a_kubelets_container_and_leaves_it_alone() {
    let (node, docker) = node().await;
    let pod = node.pod("web").run().await;
    let container = pod.container("main").shell("echo from the pod; sleep 1000").start().await;
    container.wait_output("from the pod").await;

    let name = docker.run(&["ps", "--format", "{{.Names}}", "--no-trunc"]).await;
    assert!(name.starts_with("k8s_main_web_"), "{name}");
    assert_eq!(docker.inspect(&name).await["Id"], container.id.as_str());
    assert_eq!(docker.run(&["logs", &container.id]).await, "from the pod");
    assert_eq!(docker.run(&["exec", &container.id[..12], "echo", "hi"]).await, "hi");
    for words in [&["rm", "-f"][..], &["stop"], &["kill"], &["pause"]] {
        let refused = docker.refused(&[words, &[&name]].concat()).await;
        assert!(refused.contains("belongs to a Kubernetes pod"), "{words:?} {refused}");
    }
    assert_eq!(container.shell("echo alive").await, "alive");
    pod.remove().await;
}

#[tokio::test]
async fn docker_an_image_in_use_is_safe_from_both_doors() {
    let (node, docker) = node().await;
    docker.run(&["create", "--name", "user", "busybox", "echo", "still"]).await;
    let refused = docker.refused(&["rmi", "busybox"]).await;
    let words = "unable to remove repository reference \"busybox\" (must force) - container";
    assert!(refused.contains(words), "{refused}");
    let request = cais_proto::runtime::v1::RemoveImageRequest {
        image: Some(crate::node::named(crate::node::BUSYBOX)),
    };
    let by_cri = node.images().remove_image(request).await.unwrap_err();
    assert_eq!(by_cri.code(), tonic::Code::FailedPrecondition);
    assert_eq!(docker.run(&["start", "-a", "user"]).await, "still");
    docker.run(&["rm", "user"]).await;
    docker.run(&["rmi", "busybox"]).await;
}

#[tokio::test]
async fn docker_nonsense_is_refused_and_nothing_is_left() {
    let (_node, docker) = node().await;
    for (body, status) in [
        ("", StatusCode::BAD_REQUEST),
        ("{", StatusCode::BAD_REQUEST),
        ("[]", StatusCode::BAD_REQUEST),
        ("{}", StatusCode::BAD_REQUEST),
        (r#"{"Image":7}"#, StatusCode::BAD_REQUEST),
        (r#"{"Image":"no-such-image"}"#, StatusCode::NOT_FOUND),
        (r#"{"Image":"busybox","Env":["=x"]}"#, StatusCode::BAD_REQUEST),
        (r#"{"Image":"busybox","StopSignal":"SIGNONE"}"#, StatusCode::BAD_REQUEST),
        (r#"{"Image":"busybox","HostConfig":{"Binds":["a"]}}"#, StatusCode::BAD_REQUEST),
        (r#"{"Image":"busybox","HostConfig":{"Binds":["../a:/b"]}}"#, StatusCode::BAD_REQUEST),
        (r#"{"Image":"busybox","HostConfig":{"NetworkMode":"x"}}"#, StatusCode::NOT_FOUND),
        (r#"{"Image":"busybox","HostConfig":{"VolumesFrom":["x"]}}"#, StatusCode::NOT_FOUND),
    ] {
        let reply = docker.post("/containers/create", Some(body)).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        reply.message();
    }
    let body = Some(r#"{"Image":"busybox"}"#);
    for name in ["..", "a%2Fb", "a%00b", "-x", "a"] {
        let reply = docker.post(&format!("/containers/create?name={name}"), body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{name}");
    }
    for (method, path) in [
        (Method::GET, "/containers/nobody/json"),
        (Method::POST, "/containers/nobody/start"),
        (Method::POST, "/containers/nobody/wait"),
        (Method::POST, "/containers/nobody/attach"),
        (Method::DELETE, "/containers/nobody"),
        (Method::GET, "/containers/nobody/logs?stdout=1"),
    ] {
        let reply = docker.request(method, path, None).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(reply.message(), "No such container: nobody", "{path}");
    }
    assert_eq!(docker.run(&["ps", "-aq"]).await, "");
}

#[tokio::test]
async fn docker_logs_are_rotated_and_read_as_one() {
    let (_node, docker) = node().await;
    let script = "trap 'seq 3001 6000' USR1; seq 1 3000; while true; do sleep 0.05; done";
    let words = ["run", "-d", "--name", "loud", "--log-opt", "max-size=64k", "--log-opt"];
    docker.run(&[&words[..], &["max-file=2", "busybox", "sh", "-c", script]].concat()).await;
    let numbers = async || -> Vec<u32> {
        docker.run(&["logs", "loud"]).await.lines().map(|line| line.parse().unwrap()).collect()
    };
    let path = docker.inspect("loud").await["LogPath"].as_str().unwrap().to_owned();
    let older = std::path::Path::new(&path).with_added_extension("1");
    until("the log to be moved on", async || {
        older.exists() && numbers().await.last() == Some(&3000)
    })
    .await;
    let shown = numbers().await;
    assert!(shown.is_sorted() && shown.len() == (3001 - shown[0]) as usize, "{shown:?}");
    assert_eq!(
        docker.run(&["logs", "--tail", "2", "loud"]).await,
        "2999
3000"
    );
    assert_eq!(docker.run(&["logs", "--tail", "2000", "loud"]).await.lines().next(), Some("1001"));

    docker.run(&["kill", "-s", "USR1", "loud"]).await;
    until("the first of it to go", async || {
        let shown = numbers().await;
        shown.last() == Some(&6000) && shown.first() > Some(&1)
    })
    .await;
    let shown = numbers().await;
    assert!(shown.is_sorted() && shown.len() == (6001 - shown[0]) as usize, "{shown:?}");
    for (option, why) in
        [("max-sise=1m", "unknown log opt 'max-sise'"), ("max-file=0", "less than 1")]
    {
        let refused = docker.refused(&["run", "--log-opt", option, "busybox"]).await;
        assert!(refused.contains(why), "{option}: {refused}");
    }
}
