//! Building by the docker client that has no buildx: the classic door to the builder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::docker::{Docker, Output, output};
use crate::docker_containers::node;
use crate::node::{Node, monitors_below};
use crate::wait::{LONG, eventually, until};

/// A context in a directory of its own.
pub(crate) struct Context(pub(crate) PathBuf);

impl Context {
    pub(crate) fn new(node: &Node, name: &str, files: &[(&str, &str)]) -> Self {
        let context = Self(node.home.join(name));
        fs::create_dir(&context.0).unwrap();
        for (path, text) in files {
            context.write(path, text);
        }
        context
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// A program of this machine and all that it loads in `tools`, for an image that has nothing of it. It is run by
    /// `/tools/ld.so --library-path /tools`.
    pub(crate) fn add_program(&self, name: &str) {
        let tools = self.0.join("tools");
        fs::create_dir_all(&tools).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let program = std::env::split_paths(&path).map(|it| it.join(name)).find(|it| it.exists());
        let program = program.unwrap_or_else(|| panic!("no {name}: run hack/install"));
        let listed = std::process::Command::new("ldd").arg(&program).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        fs::copy(&program, tools.join(name)).unwrap();
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            let own = Path::new(library).file_name().unwrap();
            let own = if own.to_str().unwrap().starts_with("ld-") { "ld.so".as_ref() } else { own };
            fs::copy(library, tools.join(own)).unwrap();
        }
    }
}

pub(crate) async fn try_build(docker: &Docker, context: &Context, words: &[&str]) -> Output {
    let words = [&["build"], words, &[context.path()]].concat();
    let child = docker.command(&words).env("DOCKER_BUILDKIT", "0").spawn().unwrap();
    output(child, "docker build").await
}

/// What it said.
pub(crate) async fn build(docker: &Docker, context: &Context, words: &[&str]) -> String {
    let done = try_build(docker, context, words).await;
    assert_eq!(done.code, 0, "{done:?}");
    done.stdout
}

/// What runs builds, and what they have in the making.
pub(crate) fn left(node: &Node) -> Vec<String> {
    let building = fs::read_dir(node.home.join("root/images/building")).unwrap();
    let mut left: Vec<String> =
        building.map(|entry| entry.unwrap().path().display().to_string()).collect();
    left.extend(monitors_below(&node.state).iter().map(|monitor| format!("{monitor:?}")));
    left
}

pub(crate) async fn nothing_left(node: &Node) {
    until("nothing to be left of a build", async || left(node).is_empty()).await;
}

const WHOLE: &str = r#"
ARG BASE=busybox
FROM $BASE AS tools
RUN --mount=type=tmpfs,target=/scratch echo made > /scratch/x && cp /scratch/x /tool
FROM scratch AS unused
COPY nowhere /
FROM busybox
ARG WHO=nobody
ENV GREETING="hello $WHO" EMPTY=
LABEL tier=web
WORKDIR /srv/app
COPY --chown=5:6 src/ ./
COPY --from=tools /tool /usr/bin/tool
ADD files.tar /unpacked/
COPY <<EOF /heredoc
$GREETING
EOF
RUN <<EOF
echo "$GREETING from $(pwd)" > out
ls /scratch 2>/dev/null || echo none >> out
EOF
RUN --network=none --mount=type=bind,source=src,target=/seen ip link | grep -c '^[0-9]' > links && cat /seen/a > seen
EXPOSE 80 53/udp
VOLUME /data
USER 7:8
HEALTHCHECK --interval=5s CMD true
STOPSIGNAL SIGQUIT
ENTRYPOINT ["cat"]
CMD ["out", "links", "seen", "/heredoc", "/unpacked/in/it"]
"#;

#[tokio::test]
async fn docker_build_makes_what_the_dockerfile_says() {
    let (node, docker) = node().await;
    let context =
        Context::new(&node, "context", &[("Dockerfile", WHOLE), ("src/a", "A"), ("in/it", "tar")]);
    let tar =
        ["-C", context.path(), "-cf", &context.0.join("files.tar").display().to_string(), "in"]
            .map(str::to_owned);
    assert!(std::process::Command::new("tar").args(tar).status().unwrap().success());

    let words = ["-t", "mine:v1", "-t", "mine:v2", "--build-arg", "WHO=you", "--label", "a=b"];
    let said = build(&docker, &context, &words).await;
    for line in [
        "Step 1/20 : FROM $BASE AS tools",
        "Step 9/20 : COPY --from=tools /tool /usr/bin/tool",
        " ---> Running in ",
        "Successfully built ",
        "Successfully tagged mine:v1",
        "Successfully tagged mine:v2",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("nowhere"), "{said}");

    let expected = "hello you from /srv/app\nnone\n1\nAhello you\ntar";
    assert_eq!(docker.run(&["run", "--rm", "mine:v1"]).await, expected);
    let script =
        "stat -c '%u:%g %a' a; cat /usr/bin/tool; id -u; ls -a / | grep -c scratch; [ ! -e /seen ]";
    let seen =
        docker.try_run(&["run", "--rm", "--entrypoint", "sh", "mine:v2", "-c", script]).await;
    assert_eq!((seen.code, seen.stdout.as_str()), (0, "5:6 644\nmade\n7\n0\n"), "{seen:?}");
    let image = docker.inspect("mine:v1").await;
    let config = &image["Config"];
    assert_eq!(config["Labels"], json!({ "tier": "web", "a": "b" }));
    assert_eq!(config["ExposedPorts"], json!({ "80/tcp": {}, "53/udp": {} }));
    assert_eq!((&config["User"], &config["StopSignal"]), (&json!("7:8"), &json!("SIGQUIT")));
    assert_eq!(config["Healthcheck"]["Interval"], 5_000_000_000_u64);
    let history =
        docker.run(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "mine:v1"]).await;
    for step in ["WORKDIR /srv/app", "ENV GREETING=hello you EMPTY=", "RUN |1 WHO=you /bin/sh -c "]
    {
        assert!(history.contains(step), "{step}: {history}");
    }
    // The same image for the other door, without a push or a load.
    let pod = node.pod("web").run().await;
    let container = pod.container("main").image("mine:v1").command(["sleep", "1000"]).start().await;
    assert_eq!(container.shell("cat /srv/app/out").await, "hello you from /srv/app\nnone");
    pod.remove().await;
    nothing_left(&node).await;
}

#[tokio::test]
async fn docker_build_finds_layers_again_after_a_restart_and_by_content() {
    let (node, docker) = node().await;
    let dockerfile = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /first\nCOPY a /\n\
                      RUN cat /proc/sys/kernel/random/uuid > /second\nENV A=1\n";
    let context = Context::new(&node, "context", &[("Dockerfile", dockerfile), ("a", "1")]);
    let uuids =
        async |name: &str| docker.run(&["run", "--rm", name, "cat", "/first", "/second"]).await;
    build(&docker, &context, &["-t", "one"]).await;
    let (id, first) = (docker.inspect("one").await["Id"].clone(), uuids("one").await);
    node.restart().await;

    // Times are not content.
    let touched = fs::File::options().write(true).open(context.0.join("a")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    let said = build(&docker, &context, &["-t", "two"]).await;
    assert_eq!(said.matches(" ---> Using cache").count(), 4, "{said}");
    assert_eq!(docker.inspect("two").await["Id"], id);

    context.write("a", "2");
    build(&docker, &context, &["-t", "three"]).await;
    let third = uuids("three").await;
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&first)[0], lines(&third)[0]);
    assert_ne!(lines(&first)[1], lines(&third)[1]);
    build(&docker, &context, &["-q", "--no-cache", "-t", "four"]).await;
    assert_ne!(lines(&uuids("four").await)[0], lines(&first)[0]);

    // Images go, and what was kept for builds stays until it is pruned.
    let rows = docker.get("/system/df?type=build-cache").await.json();
    assert_eq!(rows["BuildCache"].as_array().unwrap().len(), 5, "{rows}");
    docker.run(&["rmi", "one", "two", "three", "four"]).await;
    let said = build(&docker, &context, &["-t", "five"]).await;
    assert_eq!(said.matches(" ---> Using cache").count(), 4, "{said}");
    assert!(docker.run(&["builder", "prune", "-f"]).await.contains("Total"));
    docker.run(&["rmi", "five"]).await;
    assert!(docker.run(&["builder", "prune", "-af"]).await.contains("Total"));
    let rows = docker.get("/system/df?type=build-cache").await.json();
    assert_eq!(rows["BuildCache"], json!([]));
    let layers = fs::read_dir(node.home.join("root/images/layers")).unwrap().count();
    assert_eq!(
        layers,
        docker.inspect("busybox").await["RootFS"]["Layers"].as_array().unwrap().len()
    );
}

#[tokio::test]
async fn docker_build_comes_to_the_same_image_with_source_date_epoch() {
    let (node, docker) = node().await;
    let dockerfile = "FROM busybox\nWORKDIR /made/here\nCOPY a .\nRUN echo b > b && ln -s b c && mkdir d\n\
                      ADD --chmod=u=rwx,go=rX a /x/\n";
    let context = Context::new(&node, "context", &[("Dockerfile", dockerfile), ("a", "1")]);
    let mut ids = Vec::new();
    for (epoch, modified) in [("1000000000", 1_500_000_000), ("1000000000", 1_600_000_000), ("", 0)]
    {
        let file = fs::File::options().write(true).open(context.0.join("a")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(modified))
            .unwrap();
        let argument = format!("SOURCE_DATE_EPOCH={epoch}");
        let mut words = vec!["--no-cache", "-t", "made"];
        if !epoch.is_empty() {
            words.extend(["--build-arg", &argument]);
        }
        build(&docker, &context, &words).await;
        ids.push(docker.inspect("made").await["Id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    // What is kept with other times is not taken for it.
    let words = ["-t", "made", "--build-arg", "SOURCE_DATE_EPOCH=1000000001"];
    let said = build(&docker, &context, &words).await;
    assert!(!said.contains("Using cache"), "{said}");
    let stat = "stat -c '%Y %a' /made/here/b /made/here/a /made/here /x/a";
    let times = docker.run(&["run", "--rm", "made", "sh", "-c", stat]).await;
    // As BSD and BuildKit have it, X looks at what the file was.
    assert_eq!(times, "1000000001 644\n0 644\n1000000001 755\n0 744");
}

#[tokio::test]
async fn docker_build_says_what_is_wrong_and_leaves_nothing() {
    let (node, docker) = node().await;
    for (name, dockerfile, why) in [
        ("command", "FROM busybox\nRUN echo before; exit 3\n", "returned a non-zero code: 3"),
        ("keyword", "FORM busybox\n", "unknown instruction: FORM"),
        (
            "source",
            "FROM busybox\nCOPY nowhere /\n",
            "COPY failed: file not found in build context",
        ),
        ("stage", "FROM busybox AS a\n", "target stage \"b\" could not be found"),
        ("host", "FROM busybox\nRUN --network=host true\n", "network.host is not allowed"),
        ("image", "FROM localhost:1/none\n", "localhost:1/none"),
        (
            "secret",
            "FROM busybox\nRUN --mount=type=secret,id=x,required true\n",
            "secret x: not found",
        ),
    ] {
        let context = Context::new(&node, name, &[("Dockerfile", dockerfile)]);
        let target: &[&str] = if name == "stage" { &["--target", "b"] } else { &[] };
        let done = try_build(&docker, &context, target).await;
        assert!(done.stderr.contains(why), "{name}: {done:?}");
        let code = if name == "command" { 3 } else { 1 };
        assert_eq!(done.code, code, "{name}: {done:?}");
    }
    let context = Context::new(&node, "empty", &[]);
    let reply = docker.post("/build?dockerfile=x", Some("")).await;
    assert!(reply.message().contains("Cannot locate specified Dockerfile: x"), "{reply:?}");
    drop(context);
    nothing_left(&node).await;

    // A client that hangs up cancels what runs.
    let sleeps = "FROM busybox\nRUN touch /here; echo runs; sleep 1000\n";
    let context = Context::new(&node, "sleeps", &[("Dockerfile", sleeps)]);
    let words = ["build", context.path()];
    let mut child = docker.command(&words).env("DOCKER_BUILDKIT", "0").spawn().unwrap();
    let building = node.home.join("root/images/building");
    until("the command to run", async || holds(&building, "here")).await;
    child.kill().await.unwrap();
    nothing_left(&node).await;
}

#[tokio::test]
async fn a_daemon_killed_in_a_build_leaves_nothing_to_its_successor() {
    let (node, docker) = node().await;
    let context = Context::new(&node, "context", &[]);
    let slow =
        "FROM busybox\nRUN echo made > /made\nRUN touch /here; while :; do echo x >> /y; done\n";
    let mut many = String::from("FROM busybox\n");
    for number in 0..200 {
        many.push_str(&format!("COPY big /copy{number}\n"));
    }
    many.push_str("RUN sleep 1000\n");
    context.write("big", &"x".repeat(1 << 20));
    let building = node.home.join("root/images/building");
    for (dockerfile, file) in [(slow, "y"), (many.as_str(), "copy1")] {
        context.write("Dockerfile", dockerfile);
        let mut child = docker
            .command(&["build", "-t", "half", context.path()])
            .env("DOCKER_BUILDKIT", "0")
            .spawn()
            .unwrap();
        eventually("the step to be done", LONG, async || holds(&building, file).then_some(()))
            .await;
        node.restart().await;
        // It has nobody to tell it any more.
        child.wait().await.unwrap();
        nothing_left(&node).await;
        assert!(docker.try_run(&["inspect", "half"]).await.code != 0);
    }
    // The store is whole.
    // Also where steps that change nothing come to one layer.
    context.write("Dockerfile", "FROM busybox\nCOPY big /big\nRUN true\nRUN true\nRUN true\n");
    build(&docker, &context, &["-t", "whole"]).await;
    assert_eq!(docker.run(&["run", "--rm", "whole", "wc", "-c", "/big"]).await, "1048576 /big");
}

/// Whether a layer in the making has the file.
pub(crate) fn holds(building: &Path, file: &str) -> bool {
    let parts = fs::read_dir(building).into_iter().flatten().flatten();
    parts.map(|part| part.path().join("layer/fs").join(file)).any(|path| path.exists())
        || layers_beside(building).any(|path| path.join("fs").join(file).exists())
}

fn layers_beside(building: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let layers = building.with_file_name("layers");
    fs::read_dir(layers).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[tokio::test]
async fn docker_build_stays_inside_its_context_and_its_image() {
    let (node, docker) = node().await;
    let canary = node.home.join("canary");
    fs::write(&canary, "secret token").unwrap();
    let dockerfile = "FROM busybox\nRUN ln -s / /out && ln -s /etc/motd /motd\nCOPY own /out/own\n\
                      COPY own /motd\n";
    let context = Context::new(&node, "context", &[("Dockerfile", dockerfile), ("own", "mine")]);
    build(&docker, &context, &["-t", "linked"]).await;
    // Links of the image mean what they mean inside of it.
    assert_eq!(
        docker.run(&["run", "--rm", "linked", "cat", "/own", "/etc/motd"]).await,
        "minemine"
    );

    symlink(&canary, context.0.join("stolen")).unwrap();
    symlink(node.home.join("nowhere"), context.0.join("dir")).unwrap();
    for source in ["stolen", "../canary", "dir/canary"] {
        context.write("Dockerfile", &format!("FROM busybox\nCOPY {source} /x\n"));
        let done = try_build(&docker, &context, &[]).await;
        assert!(done.code != 0 && done.stderr.contains("file not found"), "{source}: {done:?}");
    }
    // A Dockerfile that is a link, as an archive by another client may have it.
    fs::remove_file(context.0.join("Dockerfile")).unwrap();
    symlink(&canary, context.0.join("Dockerfile")).unwrap();
    let tar =
        std::process::Command::new("tar").args(["-C", context.path(), "-c", "."]).output().unwrap();
    let done = docker.try_run_with(&["build", "-"], &tar.stdout).await;
    assert!(done.code != 0 && !done.stderr.contains("secret"), "{done:?}");
    let bind = "FROM busybox\nRUN --mount=type=bind,source=stolen,target=/x cat /x\n";
    fs::remove_file(context.0.join("Dockerfile")).unwrap();
    context.write("Dockerfile", bind);
    let done = try_build(&docker, &context, &[]).await;
    assert!(done.code != 0 && !done.stdout.contains("secret"), "{done:?}");
    // What runs is confined as every container is.
    context.write(
        "Dockerfile",
        "FROM busybox\nRUN grep -E '^(CapInh|CapAmb|Seccomp):' /proc/self/status\n",
    );
    let said = build(&docker, &context, &[]).await;
    assert!(said.contains("Seccomp:\t2") && said.contains("CapInh:\t0000000000000000"), "{said}");
    assert_eq!(fs::read_to_string(&canary).unwrap(), "secret token");
    nothing_left(&node).await;
}
