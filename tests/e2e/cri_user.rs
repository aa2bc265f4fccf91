//! Users, groups, capabilities and profiles of a container's process.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use cais_proto::runtime::v1::security_profile::ProfileType;
use cais_proto::runtime::v1::{Capability, Int64Value, SecurityProfile, SupplementalGroupsPolicy};

use crate::node::Node;

const IDS: &str = "id -u; id -g; id -G";

#[tokio::test]
async fn numbers_and_names_choose_the_user_and_its_groups() {
    let node = Node::boot().await;
    let pod = node.pod("users").run().await;
    let root = pod.container("root").shell(IDS).output().await;
    assert!(root.starts_with("0\n0\n"), "{root}");

    let number = pod.container("number").shell(IDS).security(|context| {
        context.run_as_user = Some(Int64Value { value: 1234 });
        context.run_as_group = Some(Int64Value { value: 4321 });
        context.supplemental_groups = vec![77, 88];
    });
    assert_eq!(number.output().await, "1234\n4321\n4321 77 88\n");

    let name = pod.container("name").shell(IDS);
    let name = name.security(|context| context.run_as_username = "www-data".to_owned());
    assert_eq!(name.output().await, "33\n33\n33\n");

    let unknown = pod.container("unknown").command(["true"]);
    let unknown = unknown.security(|context| context.run_as_username = "nobody-knows".to_owned());
    let refused = match unknown.try_create().await {
        Err(refused) => refused,
        Ok(container) => container.start().await.unwrap_err(),
    };
    assert!(refused.message().contains("nobody-knows"), "{refused:?}");
}

#[tokio::test]
async fn groups_of_the_image_are_added_unless_the_policy_is_strict() {
    const IMAGE: &str = "gcr.io/k8s-staging-cri-tools/test-image-predefined-group:latest";
    let node = Node::boot().await;
    let pod = node.pod("groups").run().await;
    let merged = pod.container("merged").image(IMAGE).shell(IDS);
    let merged = merged.security(|context| context.supplemental_groups = vec![77]).start().await;
    merged.wait_exit().await;
    assert_eq!(merged.output(), "1000\n1000\n1000 77 50000\n");
    let user = merged.status().await.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid), (1000, 1000));

    let strict = pod.container("strict").image(IMAGE).shell(IDS).security(|context| {
        context.supplemental_groups = vec![77];
        context.supplemental_groups_policy = SupplementalGroupsPolicy::Strict.into();
    });
    assert_eq!(strict.output().await, "1000\n1000\n1000 77\n");
}

fn effective(status: &str) -> u64 {
    set(status, "CapEff:")
}

fn set(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[tokio::test]
async fn capabilities_are_few_and_change_as_asked() {
    const SYS_ADMIN: u64 = 1 << 21;
    const NET_ADMIN: u64 = 1 << 12;
    const CHOWN: u64 = 1;
    let node = Node::boot().await;
    let pod = node.pod("caps").run().await;
    let read = "cat /proc/self/status";
    let plain = effective(&pod.container("plain").shell(read).output().await);
    assert_eq!(plain & (SYS_ADMIN | NET_ADMIN), 0, "{plain:x}");
    assert_ne!(plain & CHOWN, 0, "{plain:x}");
    let changed = pod.container("changed").shell(read).security(|context| {
        context.capabilities = Some(Capability {
            add_capabilities: vec!["NET_ADMIN".to_owned()],
            drop_capabilities: vec!["CHOWN".to_owned()],
            ..Default::default()
        });
    });
    assert_eq!(effective(&changed.output().await), (plain | NET_ADMIN) & !CHOWN);
    let none = pod.container("none").shell(read).security(|context| {
        context.capabilities =
            Some(Capability { drop_capabilities: vec!["ALL".to_owned()], ..Default::default() });
    });
    assert_eq!(effective(&none.output().await), 0);
}

#[tokio::test]
async fn another_user_has_only_the_capabilities_that_are_ambient() {
    const NET_BIND_SERVICE: u64 = 1 << 10;
    let node = Node::boot().await;
    let pod = node.pod("ambient").run().await;
    let as_user = |name: &str, ambient: &[&str]| {
        let ambient = ambient.iter().map(|&name| name.to_owned()).collect();
        pod.container(name).shell("cat /proc/self/status").security(|context| {
            context.run_as_user = Some(Int64Value { value: 1000 });
            context.capabilities =
                Some(Capability { add_ambient_capabilities: ambient, ..Default::default() });
        })
    };
    assert_eq!(effective(&as_user("none", &[]).output().await), 0);
    let some = as_user("some", &["NET_BIND_SERVICE"]).output().await;
    assert_eq!(effective(&some), NET_BIND_SERVICE);
    assert_eq!(set(&some, "CapAmb:"), NET_BIND_SERVICE);
}

#[tokio::test]
async fn a_privileged_container_needs_a_privileged_pod() {
    let node = Node::boot().await;
    let plain = node.pod("plain").run().await;
    let privileged = plain.container("main").command(["true"]).security(|c| c.privileged = true);
    let Err(refused) = privileged.try_create().await else { panic!("it was made") };
    assert!(refused.message().contains("privileged"), "{refused:?}");

    let pod = node.pod("privileged").linux(|linux| {
        linux.security_context.get_or_insert_default().privileged = true;
    });
    let pod = pod.run().await;
    let container = pod.container("main").command(["sleep", "1000"]).security(|context| {
        context.privileged = true;
        // All of these give way.
        context.seccomp = Some(SecurityProfile::default());
        context.masked_paths = vec!["/proc/version".to_owned()];
        context.readonly_paths = vec!["/proc/sys".to_owned()];
    });
    let container = container.start().await;
    let status = container.shell("cat /proc/self/status").await;
    let of_host = fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(effective(&status), set(&of_host, "CapBnd:"));
    assert!(status.contains("Seccomp:\t0"), "{status}");
    assert_ne!(container.shell("cat /proc/version").await, "");
    container.shell("echo 1 > /proc/sys/net/ipv4/ip_forward").await;
    let flags = container.shell("grep -E ' /sys(/fs/cgroup)? ' /proc/self/mountinfo").await;
    assert!(flags.lines().count() >= 2 && !flags.contains(" ro,"), "{flags}");
    // Every device of the host, and each can be used.
    let disks = fs::read_dir("/dev").unwrap().flatten().map(|entry| entry.path());
    let disk = disks.into_iter().find(|path| {
        path.symlink_metadata().is_ok_and(|found| found.file_type().is_block_device())
    });
    let disk = disk.expect("a disk").to_str().unwrap().to_owned();
    assert_eq!(container.shell(&format!("test -b {disk} && echo there")).await, "there");
    assert_eq!(container.shell("exec 3<> /dev/fuse && echo opened").await, "opened");
}

const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}"#;

/// A profile is compiled once and kept: by its content, so that an edit counts.
#[tokio::test]
async fn a_profile_of_the_hosts_filters_the_process_and_its_commands_as_the_file_says_now() {
    let node = Node::boot().await;
    let pod = node.pod("localhost").run().await;
    let profile = node.home.join("profile.json");
    let with_profile = |name: &str| {
        pod.container(name).command(["sleep", "1000"]).security(|context| {
            context.seccomp = Some(SecurityProfile {
                profile_type: ProfileType::Localhost.into(),
                localhost_ref: profile.to_str().unwrap().to_owned(),
            });
        })
    };
    fs::write(&profile, PROFILE).unwrap();
    for name in ["first", "again"] {
        let filtered = with_profile(name).start().await;
        assert_eq!(filtered.shell("grep Seccomp: /proc/1/status").await, "Seccomp:\t2");
        let refused = filtered.exec(&["mkdir", "/made"]).await;
        let error = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.exit_code != 0 && error.contains("Permission denied"), "{error}");
    }
    fs::write(&profile, PROFILE.replace("13", "28")).unwrap();
    let edited = with_profile("edited").start().await.exec(&["mkdir", "/made"]).await;
    let error = String::from_utf8_lossy(&edited.stderr);
    assert!(error.contains("No space left on device"), "{error}");

    fs::write(&profile, "{ no profile").unwrap();
    let refused = with_profile("broken").try_create().await.err().expect("no profile");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains(profile.to_str().unwrap()), "{refused:?}");
}

#[tokio::test]
async fn the_default_profile_filters_and_no_new_privs_is_set_when_asked() {
    let node = Node::boot().await;
    let pod = node.pod("profiles").run().await;
    let read = "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status";
    let with_profile = |profile: ProfileType| SecurityProfile {
        profile_type: profile.into(),
        localhost_ref: String::new(),
    };
    let default =
        pod.container("default").shell(&format!("{read}; unshare -m true || echo refused"));
    let default = default.security(|context| {
        context.seccomp = Some(with_profile(ProfileType::RuntimeDefault));
        context.no_new_privs = true;
    });
    assert_eq!(default.output().await, "NoNewPrivs:\t1\nSeccomp:\t2\nrefused\n");
    let open = pod.container("open").shell(read).security(|context| {
        context.seccomp = Some(with_profile(ProfileType::Unconfined));
    });
    assert_eq!(open.output().await, "NoNewPrivs:\t0\nSeccomp:\t0\n");
}

#[tokio::test]
async fn masked_and_read_only_paths_and_root_are_closed() {
    let node = Node::boot().await;
    let pod = node.pod("closed").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).security(|context| {
        context.masked_paths = vec!["/proc/kcore".to_owned(), "/proc/not-there".to_owned()];
        context.readonly_paths = vec!["/proc/sys".to_owned()];
        context.readonly_rootfs = true;
    });
    let container = container.start().await;
    assert_eq!(container.shell("head -c 1 /proc/kcore | wc -c").await, "0");
    let script = "echo 1 > /proc/sys/net/ipv4/ip_forward";
    assert_ne!(container.exec(&["sh", "-c", script]).await.exit_code, 0);
    assert_ne!(container.exec(&["touch", "/made"]).await.exit_code, 0);
    container.shell("touch /dev/shm/made").await;
}
