//! Command lines as people type them, with the images and the ports that they name.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::timeout;

use crate::docker::{Client, Docker, by_both_clients, output};
use crate::docker_containers::node;
use crate::node::Node;
use crate::wait::{LONG, until};

by_both_clients!(
    run_it_rm_d_p_nginx,
    run_restart_always_nginx,
    run_itd_u_p_mynode_app,
    run_limits_are_the_kernels,
    run_security_flags_reach_the_container,
    system_prune_takes_containers_networks_images_in_this_order,
    logs_f_since_tail_follow_from_where_they_are_told,
    attach_is_left_by_its_keys_and_the_container_goes_on,
    ps_shows_every_column_and_is_narrowed_by_every_filter,
);

async fn node_for(client: Client) -> (Node, Docker) {
    let (node, docker) = node().await;
    (node, docker.by(client))
}

/// The lines say so, and it may be somebody else's for a while.
async fn port_8080() {
    until("port 8080 to be free", async || TcpListener::bind("0.0.0.0:8080").is_ok()).await;
}

/// Runs a line in a shell, whose words it has.
async fn line(docker: &Docker, line: &str) -> String {
    let done = output(docker.command_of("sh", &["-c", line]).spawn().unwrap(), line).await;
    assert_eq!(done.code, 0, "{line}: {done:?}");
    done.stdout.trim_end().to_owned()
}

/// Runs a line on a terminal; what is typed goes to its standard input.
fn on_a_terminal(docker: &Docker, line: &str) -> Child {
    let mut terminal = docker.command_of("script", &["-qec", line, "/dev/null"]);
    terminal.stdin(Stdio::piped()).spawn().unwrap()
}

/// The page behind a port of this machine, with its head.
async fn page(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("localhost", port)).await.ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text).filter(|text| !text.is_empty())
}

async fn until_page(port: u16, words: &str) {
    let what = format!("{words:?} at port {port}");
    until(&what, async || page(port).await.is_some_and(|page| page.contains(words))).await;
}

async fn pid(docker: &Docker, name: &str) -> Option<Pid> {
    let state = docker.inspect(name).await["State"].clone();
    let is_up = state["Status"] == "running";
    state["Pid"]
        .as_i64()
        .filter(|_| is_up)
        .and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap()))
}

async fn run_it_rm_d_p_nginx(client: Client) {
    let node = Node::boot().await;
    let docker = node.docker().by(client);
    port_8080().await;
    let id = line(&docker, "docker run -it --rm -d -p 8080:80 --name web nginx").await;
    assert_eq!(id.len(), 64, "{id}");
    until_page(8080, "Welcome to nginx!").await;
    let shown = line(&docker, "docker ps --format '{{.Names}} {{.Ports}}'").await;
    assert!(shown.starts_with("web 0.0.0.0:8080->80/tcp"), "{shown}");
    assert!(docker.refused(&["run", "--name", "web", "nginx"]).await.contains("Conflict."));
    line(&docker, "docker stop web").await;
    until("its name to be free", async || line(&docker, "docker ps -aq").await.is_empty()).await;
    assert!(page(8080).await.is_none());

    // With a page of one's own, whose directory is made for it.
    let own = Path::new("/tmp/page");
    let had = own.exists();
    let mount =
        "docker run -it --rm -d -p 8080:80 --name web -v /tmp/page:/usr/share/nginx/html nginx";
    line(&docker, mount).await;
    std::fs::write(own.join("index.html"), "a page of one's own").unwrap();
    until_page(8080, "a page of one's own").await;
    std::fs::write(own.join("index.html"), "another page").unwrap();
    until_page(8080, "another page").await;
    line(&docker, "docker stop web").await;
    if !had {
        std::fs::remove_dir_all(own).unwrap();
    }
}

async fn run_restart_always_nginx(client: Client) {
    let node = Node::boot().await;
    let docker = node.docker().by(client);
    port_8080().await;
    line(&docker, "docker run -d --restart always -p 8080:80 --name web nginx").await;
    for restarts in 1..=2 {
        until_page(8080, "Welcome").await;
        let first = pid(&docker, "web").await.expect("it runs");
        kill_process(first, Signal::KILL).unwrap();
        until("the next run", async || pid(&docker, "web").await.is_some_and(|it| it != first))
            .await;
        assert_eq!(docker.inspect("web").await["RestartCount"], restarts);
    }
    node.restart().await;
    until_page(8080, "Welcome").await;
    // Stopped by hand it rests, until the next daemon starts.
    line(&docker, "docker stop web").await;
    node.restart().await;
    until_page(8080, "Welcome").await;
    line(&docker, "docker rm -f web").await;
}

#[tokio::test]
async fn docker_restarts_wait_a_tenth_of_a_second_and_twice_as_long_each_time() {
    let (_node, docker) = node().await;
    docker.run(&["pull", "-q", "ubuntu:20.04"]).await;
    let script = "date +%s%N >> /runs; [ $(wc -l < /runs) -lt 5 ] || sleep 1000";
    let words = ["run", "-d", "--restart", "always", "--name", "again", "ubuntu:20.04"];
    docker.run(&[&words[..], &["bash", "-c", script]].concat()).await;
    let mut starts: Vec<u64> = Vec::new();
    until("the fifth run", async || {
        let runs = docker.try_run(&["exec", "again", "cat", "/runs"]).await;
        // Between two runs there is nothing to execute in, and the client says why instead.
        if runs.code != 0 {
            return false;
        }
        starts = runs.stdout.lines().map(|line| line.parse().unwrap()).collect();
        starts.len() == 5
    })
    .await;
    let waits: Vec<u64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).collect();
    for (wait, least) in waits.iter().zip([100, 200, 400, 800]) {
        assert!(*wait >= least, "{waits:?}");
    }
    docker.run(&["rm", "-f", "again"]).await;
}

async fn run_itd_u_p_mynode_app(client: Client) {
    let (_node, docker) = node_for(client).await;
    // As its build would have it: a user who is not root, and a port.
    docker.run(&["create", "--name", "made", "busybox"]).await;
    let serve = r#"CMD ["sh", "-c", "id -u > /www/index.html; exec httpd -f -p 3000 -h /www"]"#;
    let changes = ["-c", "USER 65534", "-c", "EXPOSE 3000", "-c", serve];
    docker.run(&[&["commit"], &changes[..], &["made", "mynode-app"]].concat()).await;
    docker.run(&["rm", "made"]).await;
    // Its directory is root's: with the image's user it could not be written.
    let whole = "docker run -itd --name web -u 0 -p 8080:3000 --tmpfs /www mynode-app";
    port_8080().await;
    line(&docker, whole).await;
    until_page(8080, "0\n").await;
    assert_eq!(docker.inspect("web").await["Config"]["User"], "0");
    line(&docker, "docker rm -f web").await;
}

async fn run_limits_are_the_kernels(client: Client) {
    let (node, docker) = node_for(client).await;
    let whole = "docker run -d --name web --memory 64m --cpus 0.5 --cpuset-cpus 0 --pids-limit 20 \
                 --ulimit nofile=77:99 --ulimit core=0 --blkio-weight 300 busybox sleep 1000";
    line(&docker, whole).await;
    let id = docker.inspect("web").await["Id"].as_str().unwrap().to_owned();
    let read = |controller: &str, names: [&str; 2]| cgroup_file(&node, &id, controller, names);
    assert_eq!(read("memory", ["memory.limit_in_bytes", "memory.max"]), "67108864");
    assert_eq!(read("cpuset", ["cpuset.cpus", "cpuset.cpus"]), "0");
    assert_eq!(read("pids", ["pids.max", "pids.max"]), "20");
    let cpu = read("cpu", ["cpu.cfs_quota_us", "cpu.max"]);
    assert!(["50000", "50000 100000"].contains(&cpu.as_str()), "{cpu}");
    let script = "ulimit -n; ulimit -Hn; ulimit -c";
    assert_eq!(docker.run(&["exec", "web", "sh", "-c", script]).await, "77\n99\n0");
    let shown = docker.inspect("web").await["HostConfig"].clone();
    for (key, value) in [
        ("Memory", Value::from(64 << 20)),
        ("NanoCpus", Value::from(500_000_000)),
        ("CpusetCpus", Value::from("0")),
        ("PidsLimit", Value::from(20)),
        ("BlkioWeight", Value::from(300)),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    line(&docker, "docker rm -f web").await;
    for (options, words) in [
        ("--ulimit nofile=9:8", "soft limit must be less than or equal to hard limit"),
        ("--cpuset-cpus 4000", ""),
        ("--blkio-weight 5", "blkio"),
    ] {
        let whole = format!("docker run --rm {options} busybox true");
        let done = output(docker.command_of("sh", &["-c", &whole]).spawn().unwrap(), &whole).await;
        assert!(done.code == 125 && done.stderr.to_lowercase().contains(words), "{done:?}");
    }
}

/// A file of the container's cgroup, by its v1 or its v2 name.
fn cgroup_file(node: &Node, id: &str, controller: &str, names: [&str; 2]) -> String {
    let root = Path::new("/sys/fs/cgroup");
    let bases = [root.join(controller), root.join("unified"), root.to_owned()];
    for base in bases {
        let Ok(pods) = std::fs::read_dir(base.join(&node.name)) else { continue };
        for pod in pods.flatten() {
            for name in names {
                if let Ok(text) = std::fs::read_to_string(pod.path().join(id).join(name)) {
                    return text.trim().to_owned();
                }
            }
        }
    }
    panic!("no {names:?} of {id}");
}

async fn run_security_flags_reach_the_container(client: Client) {
    let (node, docker) = node_for(client).await;
    for (options, script, expected) in [
        ("--device /dev/zero:/dev/nought", "head -c 3 /dev/nought | wc -c", "3"),
        // One that is not allowed anyway.
        (
            "--device /dev/kmsg:/dev/said:w",
            "head -c 1 /dev/said 2>&1 | grep -o permitted",
            "permitted",
        ),
        // One that may be made, but not opened, unless a rule says so.
        ("", "mknod /fuse c 10 229; head -c 0 /fuse 2>&1 | grep -c permitted", "1"),
        (
            "--device-cgroup-rule \"c 10:* rmw\"",
            "mknod /fuse c 10 229; head -c 0 /fuse 2>&1 | grep -c permitted; true",
            "0",
        ),
        ("--sysctl net.ipv4.ip_forward=1", "cat /proc/sys/net/ipv4/ip_forward", "1"),
        ("--sysctl kernel.msgmax=9999", "cat /proc/sys/kernel/msgmax", "9999"),
        ("--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
        ("", "grep Seccomp: /proc/self/status", "Seccomp:\t2"),
        ("--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status", "Seccomp:\t0"),
        ("--security-opt apparmor=unconfined --userns host", "cat /proc/self/uid_map | wc -l", "1"),
        (
            "--cap-drop ALL --cap-add CHOWN",
            "grep CapBnd /proc/self/status",
            "CapBnd:\t0000000000000001",
        ),
        ("--read-only", "touch /x 2>&1 | grep -o Read-only", "Read-only"),
        ("-u 12:34 --group-add 56", "id -u; id -G", "12\n34 56"),
        ("-u 12:34 --group-add audio", "id -G", "34 29"),
        (
            "--hostname web --domainname quay.example",
            "cat /proc/sys/kernel/domainname; hostname; grep -c \"web.quay.example web$\" /etc/hosts",
            "quay.example\nweb\n1",
        ),
        ("--privileged", "test -w /sys && echo yes", "yes"),
    ] {
        let whole = format!("docker run --rm {options} busybox sh -c '{script}'");
        assert_eq!(line(&docker, &whole).await, expected, "{whole}");
    }
    // A profile of one's own, which the client sends.
    let profile = node.home.join("profile.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&profile, text).unwrap();
    let whole = format!(
        "docker run --rm --security-opt seccomp={} busybox sh -c 'mkdir /x || touch /y && echo y'",
        profile.display()
    );
    assert_eq!(line(&docker, &whole).await, "y");
    std::fs::write(&profile, r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#).unwrap();
    for options in [
        "--sysctl kernel.panic=1",
        "--device /dev/no-such-device",
        "--device-cgroup-rule x",
        "--group-add nobodys",
        "--device-read-bps /dev/null:1mb",
        "--security-opt colour=red",
        &format!("--security-opt seccomp={}", profile.display()),
    ] {
        let whole = format!("docker run --rm {options} busybox true");
        let done = output(docker.command_of("sh", &["-c", &whole]).spawn().unwrap(), &whole).await;
        assert_eq!(done.code, 125, "{whole}: {done:?}");
    }
}

async fn system_prune_takes_containers_networks_images_in_this_order(client: Client) {
    let (_node, docker) = node_for(client).await;
    docker.run(&["pull", "-q", "cais/plain"]).await;
    docker.run(&["create", "--name", "old", "-v", "anonymous:/v", "busybox"]).await;
    docker.run(&["run", "-d", "--name", "up", "cais/plain", "sleep", "1000"]).await;
    docker.run(&["network", "create", "idle"]).await;
    docker.run(&["volume", "create", "kept"]).await;
    let said = docker.run(&["system", "prune", "-a", "-f"]).await;
    let places: Vec<usize> =
        ["Deleted Containers:", "Deleted Networks:", "Deleted Images:", "Total reclaimed space:"]
            .iter()
            .map(|words| said.find(words).unwrap_or_else(|| panic!("{words}: {said}")))
            .collect();
    assert!(places.is_sorted(), "{said}");
    assert!(said.contains("untagged: busybox:latest") && said.contains("\nidle\n"), "{said}");
    let left = async |words: &[&str]| docker.run(words).await;
    assert_eq!(left(&["ps", "-a", "--format", "{{.Names}}"]).await, "up");
    assert_eq!(left(&["images", "--format", "{{.Repository}}"]).await, "cais/plain");
    let volumes = left(&["volume", "ls", "-q"]).await;
    assert_eq!(volumes, "anonymous\nkept", "volumes stay");
    // Asked for, those without a name go as well, and the question can be answered.
    docker.run(&["create", "--name", "with", "-v", "/v", "cais/plain"]).await;
    let said = docker.try_run_with(&["system", "prune", "--volumes"], b"y\n").await;
    assert!(said.code == 0 && said.stdout.contains("Deleted Volumes:"), "{said:?}");
    assert_eq!(left(&["volume", "ls", "-q"]).await, "anonymous\nkept");
    docker.run(&["rm", "-f", "up"]).await;
}

async fn logs_f_since_tail_follow_from_where_they_are_told(client: Client) {
    let (node, docker) = node_for(client).await;
    let bind = format!("{}:/host", node.home.display());
    // One at a time: lines that are read at once have one time.
    let script = "echo one; until [ -e /host/two ]; do sleep 0.05; done; echo two; \
                  until [ -e /host/on ]; do sleep 0.05; done; echo three; \
                  until [ -e /host/end ]; do sleep 0.05; done";
    docker.run(&["run", "-d", "--name", "talk", "-v", &bind, "busybox", "sh", "-c", script]).await;
    until("a line", async || docker.run(&["logs", "talk"]).await == "one").await;
    std::fs::write(node.home.join("two"), "").unwrap();
    until("two lines", async || docker.run(&["logs", "talk"]).await == "one\ntwo").await;
    let stamped = docker.run(&["logs", "-t", "--tail", "1", "talk"]).await;
    let second = stamped.split_once(' ').unwrap().0.to_owned();
    let lines: [&[&str]; 2] =
        [&["--since", "10m", "--tail", "1", "-f"], &["--since", &second, "-f"]];
    let mut followers = Vec::new();
    for options in lines {
        let mut child = docker.spawn(&[&["logs"], options, &["talk"]].concat());
        let mut told = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        timeout(LONG, told.read_line(&mut line)).await.expect("a line").unwrap();
        assert_eq!(line, "two\n", "{options:?}");
        followers.push((child, told));
    }
    std::fs::write(node.home.join("on"), "").unwrap();
    until("three lines", async || docker.run(&["logs", "talk"]).await.ends_with("three")).await;
    std::fs::write(node.home.join("end"), "").unwrap();
    for (child, mut told) in followers {
        let mut rest = String::new();
        timeout(LONG, told.read_to_string(&mut rest)).await.expect("the rest").unwrap();
        assert_eq!(rest, "three\n");
        assert_eq!(output(child, "docker logs -f").await.code, 0);
    }
    assert_eq!(docker.run(&["logs", "--since", "10m", "--tail", "2", "talk"]).await, "two\nthree");
    docker.run(&["rm", "-f", "talk"]).await;
}

async fn attach_is_left_by_its_keys_and_the_container_goes_on(client: Client) {
    let (_node, docker) = node_for(client).await;
    docker.run(&["run", "-dit", "--name", "web", "busybox"]).await;
    for (options, keys) in [("", b"\x10\x11".as_slice()), ("--detach-keys ctrl-x,q", b"\x18q")] {
        let mut terminal = on_a_terminal(&docker, &format!("docker attach {options} web"));
        let mut typed = terminal.stdin.take().unwrap();
        let mark = format!("/typed{}", keys[0]);
        typed.write_all(format!("touch {mark}\r").as_bytes()).await.unwrap();
        until("the shell", async || {
            docker.try_run(&["exec", "web", "test", "-e", &mark]).await.code == 0
        })
        .await;
        typed.write_all(keys).await.unwrap();
        let left = output(terminal, "docker attach").await;
        assert!(left.stdout.contains("read escape sequence"), "{left:?}");
        assert!(pid(&docker, "web").await.is_some(), "it goes on");
    }
    // A client that leaves the keys to the daemon.
    let mut stream = tokio::net::UnixStream::connect(docker.socket()).await.unwrap();
    let head = "POST /containers/web/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,b HTTP/1.1\r\n\
                Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"touch /here\r\x01b").await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(LONG, stream.read_to_end(&mut answer)).await;
    read.expect("the daemon lets it go").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{answer:?}");
    until("its line", async || {
        docker.try_run(&["exec", "web", "test", "-e", "/here"]).await.code == 0
    })
    .await;
    let wrong = docker.post("/containers/web/attach?stdin=1&detachKeys=ctrl-1", None).await;
    assert_eq!(wrong.status, http::StatusCode::BAD_REQUEST);
    docker.run(&["rm", "-f", "web"]).await;
}

async fn ps_shows_every_column_and_is_narrowed_by_every_filter(client: Client) {
    let (_node, docker) = node_for(client).await;
    docker.run(&["network", "create", "back"]).await;
    let words = ["run", "-d", "--name", "web", "-l", "tier=web", "-p", "127.0.0.1::80/udp"];
    let more =
        ["-v", "data:/data", "--expose", "70", "--network", "back", "busybox", "sleep", "999"];
    docker.run(&[&words[..], &more].concat()).await;
    docker.run(&["run", "-d", "--name", "held", "busybox", "sleep", "1000"]).await;
    docker.run(&["pause", "held"]).await;
    docker.try_run(&["run", "--name", "over", "busybox", "sh", "-c", "exit 3"]).await;
    let id = docker.inspect("web").await["Id"].as_str().unwrap().to_owned();
    let network = docker.run(&["network", "inspect", "-f", "{{.Id}}", "back"]).await;
    let counts =
        "{{.Containers}} {{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}}";
    assert_eq!(docker.run(&["info", "-f", counts]).await, "3 1 1 1");
    let port = docker.run(&["port", "web", "80/udp"]).await;
    let number = port.rsplit(':').next().unwrap();

    let format = "{{.ID}}|{{.Image}}|{{.Command}}|{{.Names}}|{{.Label \"tier\"}}|{{.Labels}}|\
                  {{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}|{{.State}}|{{.Ports}}";
    let row = docker.run(&["ps", "-f", "name=web", "--format", format]).await;
    let expected = format!(
        "{}|busybox|\"sleep 999\"|web|web|tier=web|data|1|back|running|70/tcp, {port}->80/udp",
        &id[..12]
    );
    assert_eq!(row, expected);
    let rest = docker.run(&[
        "ps",
        "-s",
        "-f",
        "name=web",
        "--format",
        "{{.RunningFor}}|{{.Status}}|{{.Size}}",
    ]);
    let rest = rest.await;
    assert!(
        rest.contains("ago|Up ") && rest.contains("(virtual ") && !rest.contains("virtual 0B"),
        "{rest}"
    );
    let table =
        docker.run(&["ps", "-a", "--no-trunc", "--format", "table {{.ID}}\t{{.Status}}"]).await;
    assert!(table.starts_with("CONTAINER ID") && table.contains(&id), "{table}");
    let json = docker.run(&["ps", "-f", "name=web", "--format", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["Names"], "web");
    assert_eq!(docker.run(&["ps", "-q", "-l", "-a"]).await.len(), 12);

    for (filter, expected) in [
        (format!("id={}", &id[..7]), &["web"][..]),
        ("name=e".to_owned(), &["over", "held", "web"]),
        ("label=tier=web".to_owned(), &["web"]),
        ("exited=3".to_owned(), &["over"]),
        ("status=paused".to_owned(), &["held"]),
        ("status=running".to_owned(), &["web"]),
        ("status=exited".to_owned(), &["over"]),
        ("ancestor=busybox:latest".to_owned(), &["over", "held", "web"]),
        ("before=held".to_owned(), &["web"]),
        ("since=held".to_owned(), &["over"]),
        ("volume=data".to_owned(), &["web"]),
        ("volume=/data".to_owned(), &["web"]),
        ("network=back".to_owned(), &["web"]),
        (format!("network={}", &network[..12]), &["web"]),
        (format!("publish={number}/udp"), &["web"]),
        ("publish=1-65535/udp".to_owned(), &["web"]),
        ("publish=80".to_owned(), &[]),
        ("expose=70".to_owned(), &["web"]),
        ("expose=60-90/udp".to_owned(), &["web"]),
        ("health=none".to_owned(), &["over", "held", "web"]),
        ("is-task=false".to_owned(), &["over", "held", "web"]),
        ("is-task=true".to_owned(), &[]),
    ] {
        let words = ["ps", "-a", "--format", "{{.Names}}", "-f", &filter];
        let names = docker.run(&words).await;
        assert_eq!(names.lines().collect::<Vec<_>>(), expected, "{filter}");
    }
    docker.run(&["rm", "-f", "web", "held", "over"]).await;
}
