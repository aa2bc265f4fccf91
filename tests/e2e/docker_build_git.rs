//! ADD of git repositories, from a real `git daemon`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::docker_build::{Context, build, nothing_left, try_build};
use crate::docker_containers::node;
use crate::wait::until;

/// Repositories below a directory, served on loopback.
pub(crate) struct Served {
    pub(crate) directory: PathBuf,
    port: u16,
    daemon: Child,
}

impl Served {
    pub(crate) async fn new(directory: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::create_dir(directory).unwrap();
        // As a program of its own: `git daemon` starts it, and would leave it behind when it is killed.
        let programs = Command::new("git").arg("--exec-path").output().unwrap().stdout;
        let programs = String::from_utf8(programs).unwrap();
        let daemon = Command::new(Path::new(programs.trim()).join("git-daemon"))
            .args(["--listen=127.0.0.1", "--export-all", "--reuseaddr"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", directory.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = ("127.0.0.1", port);
        until("git daemon to listen", async || std::net::TcpStream::connect(address).is_ok()).await;
        Self { directory: directory.to_owned(), port, daemon }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }

    /// In one of the repositories; what it prints.
    pub(crate) fn git(&self, name: &str, words: &[&str]) -> String {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=x",
                "-c",
                "user.email=x@example.com",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(words)
            .current_dir(self.directory.join(name))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The commit that has these files.
    pub(crate) fn commit(&self, name: &str, files: &[(&str, &str)]) -> String {
        let root = self.directory.join(name);
        if !root.exists() {
            fs::create_dir(&root).unwrap();
            self.git(name, &["init", "--quiet"]);
        }
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.git(name, &["add", "--all"]);
        self.git(name, &["commit", "--quiet", "--message=x"]);
        self.git(name, &["rev-parse", "HEAD"])
    }

    /// A repository that has another one's commit at `inner`, as its .gitmodules says.
    fn nest(&self, name: &str, modules: &str, commit: &str) {
        self.commit(name, &[(".gitmodules", modules), ("own", "own")]);
        let entry = format!("160000,{commit},inner");
        self.git(name, &["update-index", "--add", "--cacheinfo", &entry]);
        self.git(name, &["commit", "--quiet", "--message=inner"]);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[tokio::test]
async fn docker_build_adds_git_repositories_and_nothing_else() {
    let (node, docker) = node().await;
    let served = Served::new(&node.home.join("repositories")).await;
    served.commit("plain", &[("sub/script", "#!/bin/sh\necho one\n"), ("top", "top")]);
    let script = served.directory.join("plain/sub/script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", served.directory.join("plain/sub/link")).unwrap();
    let first = served.commit("plain", &[]);
    served.git("plain", &["tag", "v1"]);
    let second = served.commit("plain", &[("sub/script", "echo two\n")]);
    let module =
        |name: &str, url: &str| format!("[submodule \"{name}\"]\n\tpath = inner\n\turl = {url}\n");
    served.nest("nested", &module("inner", "../plain"), &second);

    let (plain, nested) = (served.url("plain"), served.url("nested"));
    let dockerfile = format!(
        "FROM busybox\nADD {plain}#v1:sub /sub\nADD --keep-git-dir=true {nested} /nested\n\
         ADD --checksum={first} --chmod=u=rw,go= {plain}?ref=v1 /old/\n\
         RUN /sub/script && stat -c '%a %u %n' /sub/* /old/top && readlink /sub/link && ls -A /sub /nested/inner && cat /nested/inner/sub/script && ls -d /nested/.git\n"
    );
    let context = Context::new(&node, "context", &[("Dockerfile", &dockerfile)]);
    let said = build(&docker, &context, &[]).await;
    for line in [
        "one\n",
        "777 0 /sub/link\n",
        "755 0 /sub/script\n",
        "600 0 /old/top\n",
        "\n/etc/shadow\n",
        "/nested/inner:\n.git\nsub\ntop\n\n/sub:\nlink\nscript\n",
        "echo two\n/nested/.git\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }

    // A submodule may not be a directory of the node, nor lie outside.
    served.nest(
        "local",
        &module("inner", served.directory.join("plain").to_str().unwrap()),
        &second,
    );
    served.nest("outside", &module("../../../escaped", "../plain"), &second);
    for (add, expected) in [
        (served.url("local"), "transport 'file' not allowed"),
        (served.url("outside"), "No url found for submodule path 'inner'"),
        (served.url("nowhere"), "git fetch"),
        (format!("{plain}#v1:../../.."), "ok"),
        (format!("{plain}#v1:top"), "Not a directory"),
        (format!("--checksum={second} {plain}#v1"), "expected checksum to match"),
        ("git@127.0.0.1:x --upload-pack=id".to_owned(), "failed"),
        ("--checksum=abc top /".to_owned(), "checksum can't be specified for multiple sources"),
    ] {
        context.write(
            "Dockerfile",
            &format!("FROM busybox\nADD {add} /x/\nRUN ls /x/top && echo ok\n"),
        );
        let done = try_build(&docker, &context, &[]).await;
        assert_eq!(done.code == 0, expected == "ok", "{add}: {done:?}");
        let all = format!("{}{}", done.stdout, done.stderr);
        assert!(all.contains(expected), "{add}: {all}");
    }
    nothing_left(&node).await;
}
