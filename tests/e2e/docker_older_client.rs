//! The docker client of Debian 12, which is of 2022: another version of the API, older forms of its requests and replies.

use serde_json::Value;

use crate::docker::{Client, output};
use crate::docker_containers::node;

#[tokio::test]
async fn docker_20_10_pulls_builds_and_runs() {
    let (node, docker) = node().await;
    let docker = docker.by(Client::Docker2010);
    let versions =
        docker.run(&["version", "-f", "{{.Client.Version}} {{.Client.APIVersion}}"]).await;
    assert!(versions.starts_with("20.10.") && versions.ends_with(" 1.41"), "{versions}");
    docker.run(&["pull", "busybox"]).await;

    // It sends `cachefrom=[]` with a build, and looks for the words at its end.
    let context = node.home.join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("page"), "built").unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM busybox\nCOPY page /www/\nEXPOSE 80\n")
        .unwrap();
    let said = docker.run(&["build", "-t", "web", context.to_str().unwrap()]).await;
    assert!(said.contains("Step 2/3 : COPY page /www/"), "{said}");
    assert!(said.ends_with("Successfully tagged web:latest"), "{said}");
    let shown = docker.inspect("web").await;
    assert_eq!(shown["ContainerConfig"]["Cmd"], Value::Null);
    assert_eq!(docker.run(&["images", "-q", "web"]).await.len(), 12);
    assert!(docker.run(&["history", "web"]).await.contains("COPY"));

    docker.run(&["network", "create", "back"]).await;
    docker.run(&["volume", "create", "data"]).await;
    let words = ["run", "-d", "--name", "web", "--network", "back", "-v", "data:/data"];
    let serve = ["-p", "127.0.0.1::80", "web", "httpd", "-f", "-h", "/www"];
    docker.run(&[&words[..], &serve].concat()).await;
    let get = ["run", "--rm", "--network", "back", "busybox", "wget", "-qO-", "http://web/page"];
    assert_eq!(docker.run(&get).await, "built");
    let row =
        docker.run(&["ps", "--format", "{{.Names}} {{.Image}} {{.State}} {{.Networks}}"]).await;
    assert_eq!(row, "web web running back");
    assert!(docker.run(&["port", "web"]).await.starts_with("80/tcp -> 127.0.0.1:"));
    assert_eq!(docker.run(&["exec", "-e", "A=b", "web", "sh", "-c", "echo $A"]).await, "b");
    assert!(docker.run(&["top", "web"]).await.contains("httpd"));
    let stats = ["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "web"];
    assert_eq!(docker.run(&stats).await, "web 1");
    let out = node.home.join("page");
    docker.run(&["cp", "web:/www/page", out.to_str().unwrap()]).await;
    assert_eq!(std::fs::read_to_string(out).unwrap(), "built");
    docker.run(&["update", "--memory", "64m", "--memory-swap", "64m", "web"]).await;
    docker.run(&["stop", "-t", "0", "web"]).await;
    let ended = docker.run(&["ps", "-a", "--format", "{{.Status}}", "-f", "exited=137"]).await;
    assert!(ended.starts_with("Exited (137)"), "{ended}");

    for (words, code) in [
        (&["run", "--rm", "busybox", "sh", "-c", "exit 7"][..], 7),
        (&["run", "--rm", "busybox", "/no/such"], 127),
        (&["run", "--rm", "busybox", "/etc"], 126),
        (&["run", "--rm", "--network", "nowhere", "busybox", "true"], 125),
    ] {
        assert_eq!(docker.try_run(words).await.code, code, "{words:?}");
    }
    let typed = docker.try_run_with(&["run", "--rm", "-i", "busybox", "cat"], b"typed").await;
    assert_eq!((typed.code, &*typed.stdout), (0, "typed"));
    let line = "docker run --rm -it busybox tty";
    let terminal = docker.command_of("script", &["-qec", line, "/dev/null"]).spawn().unwrap();
    let shown = output(terminal, line).await;
    assert!(shown.code == 0 && shown.stdout.contains("/dev/pts/0"), "{shown:?}");

    let events = ["events", "--since", "0s", "--until", "0s", "-f", "container=web", "--format"];
    docker.run(&[&events[..], &["{{.Action}}"]].concat()).await;
    assert!(docker.run(&["system", "df", "-v"]).await.contains("Local Volumes space usage:"));
    let said = docker.run(&["system", "prune", "-af", "--volumes"]).await;
    for words in ["Deleted Containers:", "Deleted Networks:\nback", "Deleted Images:"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}
