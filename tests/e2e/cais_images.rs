//! Images by our own client: pulled, named, archived, pushed, pruned.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;

use crate::docker::{Docker, Output, output};
use crate::docker_containers::node;
use crate::node::Node;
use crate::secure_registry::{PASSWORD, SecureRegistry, USER, write_htpasswd};

/// With something on its standard input.
async fn typed(docker: &Docker, words: &[&str], input: &[u8]) -> Output {
    let mut child = docker.spawn_cais(words);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end without having read all of it.
    tokio::spawn(async move { stdin.write_all(&input).await });
    output(child, &format!("cais {}", words.join(" "))).await
}

#[tokio::test]
async fn cais_pulls_names_and_removes_images() {
    let node = Node::boot().await;
    let docker = node.docker();
    let pulled = docker.try_cais(&["pull", "busybox"]).await;
    assert_eq!(pulled.code, 0, "{pulled:?}");
    let lines: Vec<&str> = pulled.stdout.lines().collect();
    assert_eq!(lines.first(), Some(&"Using default tag: latest"), "{pulled:?}");
    assert_eq!(lines.last(), Some(&"docker.io/library/busybox:latest"), "{pulled:?}");
    assert!(
        pulled.stdout.contains("Status: Downloaded newer image for busybox:latest"),
        "{pulled:?}"
    );
    docker.clients_agree(&["pull", "busybox"]).await;
    assert_eq!(
        docker.cais(&["pull", "-q", "busybox:latest"]).await,
        "docker.io/library/busybox:latest"
    );
    let missing = docker.cais_refused(&["pull", "localhost:1/nothing"]).await;
    assert!(missing.contains("the registry cannot be reached"), "{missing}");

    docker.cais(&["tag", "busybox", "mine:v1"]).await;
    let names = docker.cais(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).await;
    assert_eq!(names, "busybox:latest\nmine:v1");
    assert_eq!(docker.cais(&["rmi", "mine:v1"]).await, "Untagged: mine:v1");
    let removed = docker.cais(&["image", "rm", "busybox"]).await;
    assert!(
        removed.contains("Untagged: busybox:latest") && removed.contains("Deleted: sha256:"),
        "{removed}"
    );
    assert_eq!(docker.cais(&["images", "-q"]).await, "");
}

#[tokio::test]
async fn cais_progress_on_a_terminal_has_a_line_for_each_layer() {
    let node = Node::boot().await;
    let docker = node.docker();
    let done = output(docker.on_a_terminal("\"$cais\" pull busybox"), "cais pull").await;
    assert!(done.stdout.contains("\u{1b}[2K") && done.stdout.contains("Pull complete"), "{done:?}");
    assert!(done.stdout.trim_end().ends_with("docker.io/library/busybox:latest"), "{done:?}");
}

#[tokio::test]
async fn cais_commits_saves_loads_and_imports() {
    let (node, docker) = node().await;
    docker.cais(&["run", "--name", "one", "busybox", "sh", "-c", "echo new >/new"]).await;
    assert!(docker.cais(&["diff", "one"]).await.contains("A /new"));
    let id = docker.cais(&["commit", "-m", "words", "-c", "CMD cat /new", "one", "mine:v1"]).await;
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(docker.cais(&["run", "--rm", "mine:v1"]).await, "new");

    let file = node.home.join("mine.tar");
    let path = file.to_str().unwrap();
    docker.cais(&["save", "-o", path, "mine:v1"]).await;
    docker.cais(&["rmi", "mine:v1"]).await;
    assert_eq!(docker.cais(&["load", "-i", path]).await, "Loaded image: mine:v1");
    assert_eq!(docker.cais(&["run", "--rm", "mine:v1"]).await, "new");
    let archive = std::fs::read(&file).unwrap();
    let loaded = typed(&docker, &["load"], &archive).await;
    assert_eq!((loaded.code, loaded.stdout.as_str()), (0, "Loaded image: mine:v1\n"), "{loaded:?}");
    let nonsense = typed(&docker, &["load"], b"no archive").await;
    assert_ne!(nonsense.code, 0, "{nonsense:?}");

    let exported = node.home.join("one.tar");
    docker.cais(&["export", "-o", exported.to_str().unwrap(), "one"]).await;
    let id =
        docker.cais(&["import", "-c", "CMD cat /new", exported.to_str().unwrap(), "flat:v1"]).await;
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(docker.cais(&["run", "--rm", "flat:v1"]).await, "new");
    let missing = docker.cais_refused(&["save", "-o", path, "nobody"]).await;
    assert!(missing.contains("nobody"), "{missing}");
    assert_eq!(std::fs::read(&file).unwrap(), archive);
    docker.cais(&["rm", "one"]).await;
}

#[tokio::test]
async fn cais_logs_in_pushes_and_logs_out() {
    let (node, docker) = node().await;
    write_htpasswd(&node.home.join("certificates"));
    let auth = "auth:\n  htpasswd: {realm: test, path: DIR/htpasswd}";
    let registry = SecureRegistry::start_empty(&node, true, auth).await;
    registry.known_to(&node, "ca = \"DIR/ca.crt\"");
    let address = registry.address.as_str();
    let name = format!("{address}/cais/pushed:v1");
    docker.cais(&["tag", "busybox", &name]).await;
    let denied = docker.cais_refused(&["push", &name]).await;
    assert!(denied.contains("denied"), "{denied}");

    let login = ["login", "-u", USER, "--password-stdin", address];
    let wrong = typed(&docker, &login, b"wrong").await;
    assert!(wrong.code == 1 && wrong.stderr.contains("401"), "{wrong:?}");
    let done = typed(&docker, &login, PASSWORD.as_bytes()).await;
    assert_eq!((done.code, done.stdout.as_str()), (0, "Login Succeeded\n"), "{done:?}");
    let config = node.home.join("docker-config/config.json");
    assert_eq!(std::fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);

    let pushed = docker.cais(&["push", &name]).await;
    assert!(
        pushed.contains("The push refers to repository") && pushed.contains("v1: digest: sha256:"),
        "{pushed}"
    );
    docker.cais(&["rmi", &name]).await;
    // Each client reads what the other one wrote.
    docker.run(&["pull", "-q", &name]).await;
    docker.cais(&["logout", address]).await;
    assert!(!std::fs::read_to_string(&config).unwrap().contains(address));
    docker.cais_refused(&["push", &name]).await;
}

#[tokio::test]
async fn cais_credentials_come_from_helpers() {
    let (node, docker) = node().await;
    let place = node.home.join("docker-config");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("config.json"), r#"{"credsStore":"test"}"#).unwrap();
    let helper = node.home.join("docker-credential-test");
    let script = "#!/bin/sh\ncat >\"$0.$1\"\n[ $1 = get ] || exit 0\necho 'credentials not found in native keychain'\nexit 1\n";
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = docker.cais_command(&["logout", "registry.test"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", node.home.display()));
    let done = output(command.stdin(Stdio::null()).spawn().unwrap(), "cais logout").await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(std::fs::read_to_string(helper.with_extension("erase")).unwrap(), "registry.test");
    let mut command = docker.cais_command(&["pull", "-q", "busybox"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", node.home.display()));
    let done = output(command.spawn().unwrap(), "cais pull").await;
    assert_eq!(done.code, 0, "{done:?}");
    let asked = std::fs::read_to_string(helper.with_extension("get")).unwrap();
    assert_eq!(asked, "https://index.docker.io/v1/");
}

#[tokio::test]
async fn cais_prunes_when_the_answer_is_yes() {
    let (_node, docker) = node().await;
    docker.cais(&["create", "--name", "one", "-v", "/anonymous", "busybox"]).await;
    docker.cais(&["network", "create", "--subnet", "10.216.3.0/24", "mine"]).await;
    docker.cais(&["volume", "create", "named"]).await;
    for (words, question) in [
        (&["container", "prune"][..], "This will remove all stopped containers."),
        (&["system", "prune", "-a", "--volumes"], "  - all stopped containers"),
    ] {
        let no = typed(&docker, words, b"n\n").await;
        assert_eq!(no.code, 0, "{no:?}");
        assert!(no.stdout.contains(question) && no.stdout.ends_with("[y/N] "), "{no:?}");
    }
    let nobody = docker.try_cais(&["image", "prune"]).await;
    assert!(nobody.stdout.ends_with("[y/N] "), "{nobody:?}");
    assert_eq!(docker.cais(&["ps", "-a", "--format", "{{.Names}}"]).await, "one");

    let id = docker.cais(&["ps", "-aq", "--no-trunc"]).await;
    let yes = typed(&docker, &["container", "prune"], b"y\n").await;
    assert!(
        yes.stdout.contains(&format!("Deleted Containers:\n{id}\n\nTotal reclaimed space: ")),
        "{yes:?}"
    );
    assert_eq!(docker.cais(&["network", "prune", "-f"]).await, "Deleted Networks:\nmine");
    let volumes = docker.cais(&["volume", "prune", "-f"]).await;
    assert!(volumes.starts_with("Deleted Volumes:\n") && !volumes.contains("named"), "{volumes}");
    assert!(docker.cais(&["volume", "prune", "-af"]).await.contains("\nnamed\n"));
    let everything = docker.cais(&["system", "prune", "-af"]).await;
    assert!(everything.contains("untagged: busybox:latest"), "{everything}");
    assert_eq!(docker.cais(&["images", "-q"]).await, "");
}

#[tokio::test]
async fn images_are_shown_as_a_tree() {
    let (_node, docker) = node().await;
    docker.run(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).await;
    docker.run(&["tag", "busybox", "other:v1"]).await;
    let listed = docker.get("/images/json?manifests=1").await.json();
    let manifest = listed[0]["Manifests"][0].clone();
    let of_web = docker.inspect("web").await["Id"].clone();
    assert_eq!(manifest["ImageData"]["Containers"][0], of_web);
    let (total, unpacked) =
        (&manifest["Size"]["Total"], &manifest["ImageData"]["Size"]["Unpacked"]);
    assert_eq!(*total, listed[0]["Size"]);
    assert!(unpacked.as_u64().unwrap() > 0 && unpacked.as_u64() < total.as_u64());
    assert_eq!(manifest["ID"], manifest["Descriptor"]["digest"]);
    assert!(docker.get("/images/json").await.json()[0].get("Manifests").is_none());

    let id = &manifest["ID"].as_str().unwrap()["sha256:".len()..][..12];
    let theirs = docker.run(&["image", "ls", "--tree"]).await;
    assert!(theirs.contains("linux/amd64") && theirs.contains(id), "{theirs}");
    let ours = docker.cais(&["image", "ls", "--tree"]).await;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = ours.lines().map(words).collect();
    assert_eq!(lines[1][0], "busybox:latest");
    assert_eq!(lines[2][0], "other:v1");
    assert_eq!((lines[3][1].as_str(), lines[3][2].as_str()), ("linux/amd64", id), "{ours}");
    assert!(lines.iter().skip(1).all(|it| it.last().unwrap() == "yes"), "{ours}");
    docker.run(&["rm", "-f", "web"]).await;
}
