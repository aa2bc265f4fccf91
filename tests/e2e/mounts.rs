//! Bind mounts: what the request adds, and what the host's own mounts forbid.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cais_proto::runtime::v1::{Capability, Mount, MountPropagation, StatusRequest};
use tonic::Code;

use crate::fake_registry::FakeRegistry;
use crate::node::Node;
use crate::same_tree::busybox_layer;

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
        run("umount", &["--recursive", self.0.to_str().unwrap()]);
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

fn with_propagation(mount: Mount, propagation: MountPropagation) -> Mount {
    Mount { propagation: propagation.into(), ..mount }
}

#[tokio::test]
async fn mounts_travel_as_far_as_the_propagation_says() {
    use MountPropagation::{
        PropagationBidirectional, PropagationHostToContainer, PropagationPrivate,
    };
    let node = Node::boot().await;
    let source = Tmpfs::mount(node.home.join("source"), "mode=755");
    run("mount", &["--make-shared", source.0.to_str().unwrap()]);
    for directory in ["of-host", "of-private", "of-slave", "of-both"] {
        fs::create_dir(source.0.join(directory)).unwrap();
    }
    let pod = node.pod("travel").run().await;
    let asked = vec![
        with_propagation(bind("/private", &source.0), PropagationPrivate),
        with_propagation(bind("/slave", &source.0), PropagationHostToContainer),
        with_propagation(bind("/both", &source.0), PropagationBidirectional),
    ];
    let container = pod.container("main").command(["sleep", "1000"]).security(|context| {
        let add_capabilities = vec!["SYS_ADMIN".to_owned()];
        context.capabilities = Some(Capability { add_capabilities, ..Default::default() });
    });
    let container = container.with(|config| config.mounts = asked.clone()).start().await;
    assert_eq!(container.status().await.mounts, asked);

    run("mount", &["-t", "tmpfs", "e2e", source.0.join("of-host").to_str().unwrap()]);
    fs::write(source.0.join("of-host/file"), "").unwrap();
    let listed = container.shell("ls /private/of-host /slave/of-host /both/of-host").await;
    assert_eq!(listed, "/both/of-host:\nfile\n\n/private/of-host:\n\n/slave/of-host:\nfile");

    for kind in ["private", "slave", "both"] {
        container
            .shell(&format!("mount -t tmpfs e2e /{kind}/of-{kind}; touch /{kind}/of-{kind}/file"))
            .await;
        let arrived = source.0.join(format!("of-{kind}/file")).exists();
        assert_eq!(arrived, kind == "both", "{kind}");
    }
    container.shell("umount /both/of-both").await;
    assert!(!source.0.join("of-both/file").exists());
    pod.remove().await;
    assert!(source.0.join("of-host/file").exists(), "the host's mount went with the container");
}

#[tokio::test]
async fn a_source_whose_mount_takes_no_part_cannot_propagate() {
    let node = Node::boot().await;
    let source = Tmpfs::mount(node.home.join("source"), "mode=755");
    run("mount", &["--make-private", source.0.to_str().unwrap()]);
    let pod = node.pod("alone").run().await;
    for propagation in
        [MountPropagation::PropagationHostToContainer, MountPropagation::PropagationBidirectional]
    {
        let mount = with_propagation(bind("/v", &source.0), propagation);
        let asked = pod.container("main").with(|config| config.mounts = vec![mount]);
        let refused = asked.try_create().await.err().expect("the mount is private");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        for part in [source.0.to_str().unwrap(), "shared"] {
            assert!(refused.message().contains(part), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn a_target_with_links_lies_inside_the_containers_root() {
    let node = Node::boot().await;
    let registry = FakeRegistry::start().await;
    node.trust(&registry.address);
    let outside = node.home.join("outside");
    fs::create_dir(&outside).unwrap();
    // The image has a directory of the same path.
    let inside = outside.strip_prefix("/").unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut directory = tar::Header::new_gnu();
    directory.set_entry_type(tar::EntryType::Directory);
    directory.set_mode(0o755);
    directory.set_size(0);
    builder.append_data(&mut directory, inside, &[][..]).unwrap();
    let climbing = format!("{}{}", "../".repeat(20), inside.display());
    for (name, target) in [
        ("absolute", outside.to_str().unwrap()),
        ("climbing", &climbing),
        ("dangling", "/nowhere"),
        ("round", "round"),
    ] {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, name, target).unwrap();
    }
    registry.image_of("links", &[busybox_layer().await, builder.into_inner().unwrap()]);
    let source = node.home.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "mounted").unwrap();
    let pod = node.pod("links").run().await;
    let through = |name: &str| {
        let container = pod.container(name).image(&registry.reference("links"));
        container.shell(&format!("cat /{name}/below/file {}/below/file", outside.display())).with(
            |config| {
                config.mounts = vec![bind(&format!("/{name}/below"), &source)];
            },
        )
    };
    for name in ["absolute", "climbing"] {
        assert_eq!(through(name).output().await, "mountedmounted", "{name}");
        let left = fs::read_dir(&outside).unwrap().count();
        assert_eq!(left, 0, "{name}: the host's own directory was changed");
    }
    for (name, why) in [("dangling", "leads nowhere"), ("round", "in a circle")] {
        let refused = through(name).try_create().await.err().expect("there is nothing to mount on");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        for part in [&format!("/{name}/below"), why] {
            assert!(refused.message().contains(part), "{refused:?}");
        }
    }
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
