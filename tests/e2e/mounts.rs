//! Bind mounts: what the request adds, and what the host's own mounts forbid.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cais_proto::runtime::v1::{Mount, StatusRequest};
use tonic::Code;

use crate::node::Node;

/// A tmpfs on the host, gone when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&path).unwrap();
        run("mount", &["-t", "tmpfs", "-o", options, "e2e", path.to_str().unwrap()]);
        Self(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run("umount", &[self.0.to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

fn bind(container_path: &str, host_path: &Path) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.to_str().unwrap().to_owned(),
        ..Default::default()
    }
}

fn options(options: &[&str]) -> Vec<String> {
    options.iter().map(|&option| option.to_owned()).collect()
}

#[tokio::test]
async fn mount_options_hold_for_their_mount_alone_and_are_reported() {
    let node = Node::boot().await;
    let status = node.runtime().status(StatusRequest { verbose: false }).await.unwrap();
    assert!(status.into_inner().features.unwrap().mount_options);
    let source = node.home.join("shared");
    fs::create_dir_all(&source).unwrap();
    let pod = node.pod("options").run().await;
    let closed = Mount {
        mount_options: options(&["noexec", "nodev", "nosuid", "nodev"]),
        ..bind("/closed", &source)
    };
    let asked = vec![bind("/open", &source), closed];
    let container = pod.container("main").command(["sleep", "1000"]);
    let container = container.with(|config| config.mounts = asked.clone()).start().await;
    container.shell("echo 'echo runs' > /open/script; chmod +x /open/script").await;
    assert_eq!(container.shell("/open/script").await, "runs");
    assert_eq!(container.exec(&["sh", "-c", "/closed/script"]).await.exit_code, 126);
    let flags = container.shell("grep ' /closed ' /proc/self/mountinfo").await;
    assert!(flags.contains(" rw,nosuid,nodev,noexec,"), "{flags}");
    let flags = container.shell("grep ' /open ' /proc/self/mountinfo").await;
    assert!(!flags.contains("noexec"), "{flags}");
    assert_eq!(container.status().await.mounts, asked);
}

#[tokio::test]
async fn any_other_mount_option_is_refused() {
    let node = Node::boot().await;
    let pod = node.pod("strange").run().await;
    for option in ["exec", "suid", "ro", "NOEXEC", "noexec,nodev", "uid=0", ""] {
        let mount = Mount { mount_options: options(&[option]), ..bind("/v", &node.home) };
        let asked = pod.container("main").with(|config| config.mounts = vec![mount]);
        let Err(refused) = asked.try_create().await else { panic!("{option:?} was accepted") };
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains("config.mounts[0].mount_options"), "{refused:?}");
    }
}

#[tokio::test]
async fn what_the_hosts_mount_forbids_stays_forbidden() {
    let node = Node::boot().await;
    let locked = Tmpfs::mount(node.home.join("locked"), "nosuid,nodev,noexec");
    fs::write(locked.0.join("script"), "echo runs").unwrap();
    run("chmod", &["+x", locked.0.join("script").to_str().unwrap()]);
    let pod = node.pod("locked").run().await;
    let container = pod.container("main").command(["sleep", "1000"]);
    let container = container.with(|config| config.mounts = vec![bind("/v", &locked.0)]);
    let container = container.start().await;
    assert_eq!(container.shell("echo kept > /v/file; cat /v/file").await, "kept");
    assert_eq!(container.exec(&["sh", "-c", "/v/script"]).await.exit_code, 126);
    let flags = container.shell("grep ' /v ' /proc/self/mountinfo").await;
    assert!(flags.contains(" rw,nosuid,nodev,noexec,"), "{flags}");
    pod.remove().await;
}

#[tokio::test]
async fn recursive_read_only_reaches_the_mounts_below_and_plain_read_only_does_not() {
    let node = Node::boot().await;
    let source = node.home.join("tree");
    let below = Tmpfs::mount(source.join("below"), "mode=755");
    let pod = node.pod("recursive").run().await;
    let plain = Mount { readonly: true, ..bind("/plain", &source) };
    let all = Mount { readonly: true, recursive_read_only: true, ..bind("/all", &source) };
    let container = pod.container("main").command(["sleep", "1000"]);
    let container = container.with(|config| config.mounts = vec![plain, all]).start().await;
    container.shell("echo > /plain/below/file").await;
    assert!(below.0.join("file").exists());
    for path in ["/plain/file", "/all/file", "/all/below/other"] {
        let refused = container.exec(&["touch", path]).await;
        let error = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.exit_code != 0 && error.contains("Read-only"), "{path}: {error}");
    }
    let reported = container.status().await.mounts;
    assert!(reported.iter().any(|m| m.container_path == "/all" && m.recursive_read_only));
    pod.remove().await;
}
