//! The two clients side by side on one daemon: what they print, where, and the codes they end with.

use crate::docker_containers::node;

/// Containers in every state, a volume, a network: something to list.
async fn furnished() -> (crate::node::Node, crate::docker::Docker) {
    let (node, docker) = node().await;
    docker.run(&["volume", "create", "data"]).await;
    docker.run(&["network", "create", "mine"]).await;
    let words = [
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "127.0.0.1::80",
        "-l",
        "a=b",
        "-l",
        "c",
        "-v",
        "data:/v",
        "-v",
        "/tmp:/t",
        "--network",
        "mine",
        "busybox",
        "sleep",
        "1000",
    ];
    docker.run(&words).await;
    docker.run(&["create", "--name", "cold", "busybox", "echo", "a\tb \"quoted\""]).await;
    docker
        .try_run(&["run", "--name", "dead", "busybox", "sh", "-c", "echo one; echo two; exit 3"])
        .await;
    (node, docker)
}

#[tokio::test]
async fn cais_lists_what_docker_lists() {
    let (_node, docker) = furnished().await;
    let all = "{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.CreatedAt}} {{.Ports}} {{.State}} {{.Size}} {{.Labels}} \
               {{.Label \"a\"}} {{.Mounts}} {{.LocalVolumes}} {{.Networks}}";
    for words in [
        &["ps"][..],
        &["ps", "-a"],
        &["ps", "-aq"],
        &["ps", "-aq", "--no-trunc"],
        &["ps", "-a", "--no-trunc"],
        &["ps", "-as"],
        &["ps", "-n", "1"],
        &["ps", "-l"],
        &["ps", "-a", "-f", "name=web", "-f", "label=a"],
        &["container", "ls", "-a"],
        &["ps", "-a", "--format", "json"],
        &["ps", "-a", "--format", "{{json .}}"],
        &["ps", "-a", "--format", all],
        &["ps", "--format", "table {{.Names}}\\t{{.Image | upper}}"],
        &["ps", "-a", "--format", "{{if eq .State \"exited\"}}{{.Names}}{{else}}-{{end}}"],
        &["images"],
        &["images", "-q", "--no-trunc"],
        &["images", "--digests"],
        &["images", "--format", "json"],
        &["images", "busybox"],
        &["images", "nobody"],
        &[
            "image",
            "ls",
            "--format",
            "{{.Repository}}:{{.Tag}} {{.Digest}} {{.CreatedAt}} {{.Containers}}",
        ],
        &["history", "busybox"],
        &["history", "--no-trunc", "-H=false", "busybox"],
        &["history", "--format", "json", "busybox"],
        &["volume", "ls"],
        &["volume", "ls", "-q"],
        &["volume", "ls", "--format", "json"],
        &["network", "ls"],
        &["network", "ls", "--no-trunc", "-q"],
        &["network", "ls", "--format", "json"],
        &["system", "df"],
        &["system", "df", "-v"],
        &["context", "ls"],
        &["context", "ls", "--format", "json"],
        &["context", "show"],
        &["context", "use", "default"],
        &["context", "inspect"],
        &["context", "inspect", "-f", "{{.Endpoints.docker.Host}}"],
        &["system", "df", "--format", "json"],
        &["port", "web"],
        &["port", "web", "80"],
        &["port", "web", "99"],
        &["diff", "web"],
        &["logs", "dead"],
        &["logs", "-t", "-n", "1", "dead"],
    ] {
        docker.clients_agree(words).await;
    }
}

#[tokio::test]
async fn cais_inspects_as_docker_inspects() {
    let (_node, docker) = furnished().await;
    for template in [
        "{{.State.Status}} {{.Config.Image}} {{.NetworkSettings.Networks.mine.IPAddress}}",
        "{{json .State}}",
        "{{json .Config.Labels}}",
        "{{range .Mounts}}{{.Type}} {{.Destination}}{{\"\\n\"}}{{end}}",
        "{{range $port, $on := .NetworkSettings.Ports}}{{$port}} {{(index $on 0).HostPort}}{{end}}",
        "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}",
        "{{index .NetworkSettings.Ports \"80/tcp\" 0 \"HostIp\"}}",
        "{{.Config.Env}} {{.Config.Labels}} {{.HostConfig.PortBindings}}",
        "{{.Config.Entrypoint}} {{.Config.Volumes}} {{.Config.Healthcheck}} {{.State.Health}} {{.HostConfig.CapAdd}}",
        "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}",
        "{{.HostConfig.Memory}} {{.HostConfig.Privileged}} {{.Config.WorkingDir}}|{{.Config.User}}|",
        "{{len .Mounts}} {{printf \"%.12s\" .Id}} {{.Name | println}}",
        "{{.Nothing}}",
        "{{nothing}}",
    ] {
        docker.clients_agree(&["inspect", "-f", template, "web"]).await;
    }
    for words in [
        &["inspect", "web"][..],
        &["inspect", "web", "dead", "nobody"],
        &["inspect", "nobody"],
        &["inspect", "-s", "-f", "{{.SizeRw}}", "web"],
        &["inspect", "--type", "image", "busybox"],
        &["inspect", "--type", "image", "web"],
        &["inspect", "data"],
        &["inspect", "mine"],
        &["image", "inspect", "busybox"],
        &["image", "inspect", "nobody"],
        &["container", "inspect", "nobody"],
        &["volume", "inspect", "data", "nobody"],
        &["network", "inspect", "mine", "nobody"],
    ] {
        docker.clients_agree(words).await;
    }
}

#[tokio::test]
async fn cais_called_as_docker_refuses_in_dockers_words() {
    let (_node, docker) = furnished().await;
    for words in [
        "ps --nothing",
        "ps -az",
        "ps word",
        "ps -f a",
        "ps --last",
        "ps --format {{.Nothing}}",
        "ps --format {{nothing}}",
        "run",
        "run --nothing x",
        "run --name",
        "run -m abc busybox",
        "run -p abc busybox",
        "run -e =x busybox",
        "run --rm=x busybox",
        "run --stop-timeout x busybox",
        "run -it busybox",
        "run -d --rm",
        "run --mount foo busybox",
        "run --rm --restart always busybox",
        "run --restart x:y busybox",
        "run --ulimit x busybox",
        "run --rm A",
        "run --rm -d -a stdout busybox",
        "run --network-alias a busybox",
        "run --cpus x busybox",
        "run --rm --name web busybox",
        "run --rm --mount type=bind,src=/no/such,dst=/x busybox",
        "run --rm --pull never nobody",
        "run --env-file /no/such busybox",
        "exec web",
        "exec nobody true",
        "exec dead true",
        "exec -it web sh",
        "exec -w /no/such web true",
        "logs",
        "logs a b",
        "logs nobody",
        "logs --since yesterday dead",
        "rm nobody",
        "rm web",
        "rm -f nobody",
        "stop nobody",
        "kill nobody",
        "kill dead",
        "pause dead",
        "unpause web",
        "start nobody",
        "restart nobody",
        "rename web",
        "rename nobody x",
        "wait nobody",
        "top nobody",
        "diff nobody",
        "port nobody",
        "port web x",
        "attach nobody",
        "attach dead",
        "commit nobody",
        "export nobody",
        "save nobody",
        "rmi nobody",
        "rmi -f nobody",
        "rmi busybox",
        "tag nobody x",
        "tag busybox A",
        "pull Busy",
        "push nobody",
        "nothing",
        "sytem prune",
        "container nothing",
        "system prun",
        "volume rm nobody",
        "volume rm data",
        "network connect nobody web",
        "network disconnect nobody web",
        "network create mine",
        "cp a b",
        "cp a:b c:d",
        "cp nobody:/x /tmp",
        "cp web:/no/such /tmp",
        "login",
        "version --nothing",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        docker.clients_agree(&words).await;
    }
}

#[tokio::test]
async fn cais_under_its_own_name_says_what_was_meant() {
    let (_node, docker) = node().await;
    let typo = docker.cais_refused(&["sytem", "prune", "-a"]).await;
    assert!(typo.contains("unknown command: cais sytem"), "{typo}");
    assert!(typo.contains("Did you mean: cais system prune -a"), "{typo}");
    let lacking = docker.cais_refused(&["search", "nginx"]).await;
    assert!(lacking.contains("command of docker's that is not supported"), "{lacking}");
    assert!(!lacking.contains("Did you mean"), "{lacking}");
    let failed = docker.try_cais(&["run", "--rm", "--network", "nowhere", "busybox"]).await;
    assert_eq!(failed.code, 125);
    assert!(failed.stderr.starts_with("cais: Error response from daemon: "), "{failed:?}");
    let refused = docker.cais_refused(&["build", "/no/such/directory"]).await;
    assert!(refused.starts_with("unable to prepare context: /no/such/directory: "), "{refused}");

    let nowhere = ["-H", "unix:///no/such.sock", "ps"];
    let ours = docker.cais_refused(&nowhere).await;
    let known =
        "Cannot connect to the Cais daemon at unix:///no/such.sock. Is the cais daemon running?";
    assert!(ours.starts_with(known) && ours.contains("systemctl start caisd"), "{ours}");
    docker.clients_agree(&nowhere).await;

    for shell in ["bash", "zsh", "fish"] {
        let script = docker.cais(&["completion", shell]).await;
        for flag in ["detach-keys", "build-arg", "abort-on-container-exit"] {
            assert!(script.contains(flag), "{shell}: {flag}");
        }
    }
    let pages = tempfile::tempdir().unwrap();
    docker.cais(&["man", pages.path().to_str().unwrap()]).await;
    for (name, words) in [
        ("cais-container-run", "Create and run a new container"),
        ("cais-build", "Build an image from a Dockerfile"),
        ("cais-compose-up", "abort\\-on\\-container\\-exit"),
        ("cais", "cais\\-compose(1)"),
    ] {
        let page = std::fs::read_to_string(pages.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains(words), "{name}: {page}");
    }
    for words in [&["version"][..], &["info"]] {
        let shown = docker.cais(words).await;
        assert!(shown.contains("Client: Cais") && shown.contains("Server:"), "{shown}");
    }
    let both =
        docker.cais(&["version", "-f", "{{.Client.ApiVersion}} {{.Server.ApiVersion}}"]).await;
    assert_eq!(both, "1.51 1.51");
    docker.clients_agree(&["info", "-f", "{{.Driver}} {{.CgroupVersion}} {{.OSType}}"]).await;
}

#[tokio::test]
async fn cais_changes_measures_and_follows_as_docker_does() {
    let (_node, docker) = furnished().await;
    for words in [
        &["update", "--memory", "64m", "--cpus", "0.5", "web"][..],
        &["update", "--restart", "on-failure:3", "web", "cold"],
        &["update", "--memory", "64m", "nobody"],
        &["update", "--memory", "1k", "web"],
        &["update", "web"],
        &["inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", "web"],
        &["stats", "--no-stream", "--format", "{{.Name}} {{.ID}} {{.PIDs}} {{.Container}}", "web"],
        &["stats", "--no-stream", "--format", "table {{.Name}}\\t{{.PIDs}}", "web"],
        &["stats", "--no-stream", "--no-trunc", "--format", "{{.Container}}", "web"],
        &["stats", "--no-stream", "nobody"],
    ] {
        docker.clients_agree(words).await;
    }
    // What is over by then is the same for both.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let until = now.as_secs().to_string();
    let past = ["events", "--since", "0", "--until", until.as_str()];
    for more in [
        &[][..],
        &["--filter", "container=web", "--filter", "event=start"],
        &[
            "--filter",
            "type=network",
            "--format",
            "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}",
        ],
        &["--format", "json"],
        &["--filter", "nothing"],
    ] {
        docker.clients_agree(&[&past[..], more].concat()).await;
    }
}
