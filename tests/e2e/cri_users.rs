//! Pods with users of their own, as KEP-127 has them: root inside, a number of a range outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cais_proto::runtime::v1::{
    Capability, ContainerStatusRequest, IdMapping, Int64Value, Mount, MountPropagation,
    NamespaceMode, NamespaceOption, StatusRequest, UserNamespace,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::Code;

use crate::node::{Container, ContainerBuilder, Node, Pod, PodBuilder};
use crate::streams::{crictl, run, text};
use crate::wait::until;

const FIRST: u32 = 200_000;
const LENGTH: u32 = 65536;

fn range(host_id: u32) -> Vec<IdMapping> {
    vec![IdMapping { host_id, container_id: 0, length: LENGTH }]
}

fn users(first: u32) -> UserNamespace {
    UserNamespace { mode: NamespaceMode::Pod.into(), uids: range(first), gids: range(first) }
}

fn pod<'n>(node: &'n Node, name: &str, first: u32) -> PodBuilder<'n> {
    node.pod(name).namespaces(|options| options.userns_options = Some(users(first)))
}

/// As kubelet asks: for the same users as the pod.
fn container<'n, 'p>(pod: &'p Pod<'n>, name: &str) -> ContainerBuilder<'n, 'p> {
    let options = pod.config.linux.clone().unwrap().security_context.unwrap().namespace_options;
    pod.container(name).security(|context| context.namespace_options = options)
}

fn mount(host: &Path, inside: &str, first: Option<u32>) -> Mount {
    let mappings = first.map_or_else(Vec::new, range);
    Mount {
        container_path: inside.to_owned(),
        host_path: host.to_str().unwrap().to_owned(),
        uid_mappings: mappings.clone(),
        gid_mappings: mappings,
        ..Default::default()
    }
}

/// The directory that takes what the container writes.
fn upper(node: &Node, container: &Container<'_>) -> PathBuf {
    node.home.join("root/containers").join(&container.id).join("upper")
}

fn owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    (found.uid(), found.gid())
}

/// The number of the container's first process on the host.
async fn pid(container: &Container<'_>) -> String {
    let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: true };
    let reply = container.node.runtime().container_status(request).await.unwrap().into_inner();
    let info: serde_json::Value = serde_json::from_str(&reply.info["info"]).unwrap();
    info["pid"].to_string()
}

fn adding(names: &[&str]) -> Option<Capability> {
    let add_capabilities = names.iter().map(|&name| name.to_owned()).collect();
    Some(Capability { add_capabilities, ..Default::default() })
}

#[tokio::test]
async fn root_inside_is_one_number_of_the_range_outside() {
    let node = Node::boot().await;
    let pod = pod(&node, "root", FIRST).run().await;
    let main = container(&pod, "main").command(["sleep", "1000"]).start().await;
    let script = "id -u; tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; \
        stat -c %u:%g / /bin/busybox /dev/null /dev/shm /etc/hosts /dev/pts/ptmx";
    let map = format!(" 0 {FIRST} {LENGTH}");
    let wanted = ["0", &map, &map, "0:0", "0:0", "0:0", "0:0", "0:0", "0:0"].join("\n");
    assert_eq!(main.shell(script).await, wanted);
    let process = pid(&main).await;
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    assert!(status.contains(&format!("\nUid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}\n")), "{status}");
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_ne!(of(&process), of("self"), "{kind}");
    }
    // What it makes and what it changes belongs to its numbers on disk; the layers stay as they are.
    main.shell("touch /made; mkdir /tmp/x; chown 1000:1001 /tmp/x; echo more >> /etc/passwd").await;
    let upper = upper(&node, &main);
    assert_eq!(owner(&upper), (FIRST, FIRST));
    assert_eq!(owner(&upper.join("made")), (FIRST, FIRST));
    assert_eq!(owner(&upper.join("tmp/x")), (FIRST + 1000, FIRST + 1001));
    assert_eq!(owner(&upper.join("etc/passwd")), (FIRST, FIRST));
    assert_eq!(main.shell("stat -c %u:%g /made /tmp/x").await, "0:0\n1000:1001");
    // Another user of the same container, with a group of its own, writes to its streams by name.
    let other = container(&pod, "other").shell("id -u; id -g; echo again > /dev/stdout");
    let other = other.security(|context| {
        context.run_as_user = Some(Int64Value { value: 1234 });
        context.run_as_group = Some(Int64Value { value: 4321 });
    });
    assert_eq!(other.output().await, "1234\n4321\nagain\n");
}

#[tokio::test]
async fn the_users_are_told_and_the_pod_outlives_the_daemon() {
    let node = Node::boot().await;
    let features = node.runtime().status(StatusRequest { verbose: false }).await.unwrap();
    let features = features.into_inner();
    let handler = features.runtime_handlers[0].features.unwrap();
    assert!(handler.user_namespaces && features.features.unwrap().user_namespaces_host_network);
    let pod = pod(&node, "told", FIRST).run().await;
    let volume = node.home.join("volume");
    fs::create_dir(&volume).unwrap();
    let main = container(&pod, "main").command(["sleep", "1000"]);
    let main = main.with(|config| config.mounts = vec![mount(&volume, "/data", Some(FIRST))]);
    let main = main.start().await;
    for restart in [false, true] {
        if restart {
            node.restart().await;
        }
        let status = pod.status().await;
        let options = status.linux.unwrap().namespaces.unwrap().options.unwrap();
        assert_eq!(options.userns_options, Some(users(FIRST)));
        assert_eq!(main.status().await.mounts[0].uid_mappings, range(FIRST));
        assert_eq!(
            main.shell("tr -s ' ' < /proc/self/uid_map").await,
            format!(" 0 {FIRST} {LENGTH}")
        );
        main.shell("echo x >> /data/file; touch /etc/hosts").await;
    }
    // The next daemon makes containers with the same users in it.
    let next = container(&pod, "next")
        .shell("cat /proc/self/uid_map | tr -s ' '; stat -c %u /")
        .output()
        .await;
    assert_eq!(next, format!(" 0 {FIRST} {LENGTH}\n0\n"));
    assert_eq!(owner(&volume.join("file")), (0, 0));
    main.stop(0).await;
    assert_eq!(main.wait_exit().await.code, 137);
    pod.remove().await;
}

#[tokio::test]
async fn pods_with_other_users_share_the_layers_and_nothing_else() {
    let node = Node::boot().await;
    let mut uppers = Vec::new();
    let script = "stat -c %u /bin/busybox; echo $0 > /etc/mine; cat /etc/mine";
    for (name, first) in [("one", 200_000), ("two", 400_000)] {
        let pod = pod(&node, name, first).run().await;
        let made = container(&pod, "main").command(["sh", "-c", script, name]).start().await;
        made.wait_exit().await;
        assert_eq!(made.output(), format!("0\n{name}\n"));
        uppers.push((upper(&node, &made), first));
    }
    let plain = node.pod("plain").run().await;
    let plain = plain.container("main").shell("stat -c %u /bin/busybox; ls /etc/mine || echo none");
    assert_eq!(plain.output().await, "0\nnone\n");
    for (upper, first) in &uppers {
        assert_eq!(owner(&upper.join("etc/mine")), (*first, *first));
    }
}

#[tokio::test]
async fn a_mapped_volume_shows_its_owners_and_another_shows_nobody() {
    let node = Node::boot().await;
    let volume = node.home.join("volume");
    fs::create_dir(&volume).unwrap();
    for (name, uid) in [("of-root", 0), ("of-user", 1000)] {
        fs::write(volume.join(name), "").unwrap();
        chown(volume.join(name), Some(uid), Some(uid)).unwrap();
    }
    let pod = pod(&node, "volumes", FIRST).run().await;
    let script = "stat -c %u /mapped/of-root /mapped/of-user /plain/of-root; \
        echo x > /mapped/made; (echo x > /plain/of-root) 2>/dev/null || echo refused";
    let main = container(&pod, "main").shell(script).with(|config| {
        config.mounts =
            vec![mount(&volume, "/mapped", Some(FIRST)), mount(&volume, "/plain", None)];
    });
    assert_eq!(main.output().await, "0\n1000\n65534\nrefused\n");
    assert_eq!(owner(&volume.join("made")), (0, 0));
    // A mapping other than the pod's is the request's own business.
    let script = "stat -c %u /mapped/of-user";
    let other = container(&pod, "other").shell(script).with(|config| {
        let shifted = vec![IdMapping { host_id: FIRST + 5, container_id: 1000, length: 1 }];
        let mut mount = mount(&volume, "/mapped", None);
        (mount.uid_mappings, mount.gid_mappings) = (shifted.clone(), shifted);
        config.mounts = vec![mount];
    });
    assert_eq!(other.output().await, "5\n");
    // A file system that cannot do it is named.
    let refused = container(&pod, "sys").command(["true"]).with(|config| {
        config.mounts = vec![mount(Path::new("/sys/class"), "/mapped", Some(FIRST))];
    });
    let Err(refused) = refused.try_create().await else { panic!("it was made") };
    assert!(refused.message().contains("/sys/class"), "{refused:?}");
    assert!(refused.message().contains("cannot map owners"), "{refused:?}");
}

#[tokio::test]
async fn power_inside_does_not_reach_the_host() {
    let node = Node::boot().await;
    let volume = node.home.join("volume");
    fs::create_dir(&volume).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    let panic_before = fs::read_to_string("/proc/sys/kernel/panic").unwrap();
    let disk = fs::read_dir("/dev").unwrap().flatten().map(|entry| entry.path()).find(|path| {
        std::os::unix::fs::FileTypeExt::is_block_device(&path.metadata().unwrap().file_type())
    });
    let disk = disk.expect("a disk").to_str().unwrap().to_owned();
    let pod = pod(&node, "power", FIRST).linux(|linux| {
        linux.security_context.get_or_insert_default().privileged = true;
    });
    let pod = pod.run().await;
    let script = format!(
        "grep CapEff /proc/self/status > /dev/shm/caps; \
         head -c 1 {disk} >/dev/null 2>&1 || echo no-read; \
         mount -t ext4 {disk} /mnt 2>/dev/null || echo no-mount; \
         mknod /tmp/disk b 254 0 2>/dev/null || echo no-node; \
         (echo 7 > /proc/sys/kernel/panic) 2>/dev/null || echo no-sysctl; \
         (echo b > /proc/sysrq-trigger) 2>/dev/null || echo no-sysrq; \
         mount -o remount,bind,rw /data 2>/dev/null || echo locked; \
         touch /data/x 2>/dev/null || echo read-only; \
         umount /data 2>/dev/null; ls /proc/1/root >/dev/null && echo own-root; \
         mount -t tmpfs none /tmp && echo own-mount; ip link add dummy0 type dummy 2>/dev/null; \
         chown 0:0 /etc/hosts && echo own-file"
    );
    let main = container(&pod, "main").shell(&script).security(|context| context.privileged = true);
    let main = main.with(|config| {
        config.mounts = vec![Mount { readonly: true, ..mount(&volume, "/data", None) }];
    });
    let wanted = [
        "no-read",
        "no-mount",
        "no-node",
        "no-sysctl",
        "no-sysrq",
        "locked",
        "read-only",
        "own-root",
        "own-mount",
        "own-file",
    ];
    assert_eq!(main.output().await.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(fs::read_to_string("/proc/sys/kernel/panic").unwrap(), panic_before);
}

#[tokio::test]
async fn a_shared_pid_namespace_is_the_users_own() {
    let node = Node::boot().await;
    let pod = pod(&node, "shared", FIRST)
        .namespaces(|options| options.pid = NamespaceMode::Pod.into())
        .run()
        .await;
    let first = container(&pod, "first").command(["sleep", "77"]).start().await;
    let script = "cat /proc/1/comm; grep -l '^sleep.77' /proc/[0-9]*/cmdline | wc -l; \
        kill -9 1; kill -9 $(pidof sleep) && echo killed";
    assert_eq!(container(&pod, "second").shell(script).output().await, "cais-init\n1\nkilled\n");
    assert_eq!(first.wait_exit().await.code, 137);
    // A debug container joins the processes of one that has its own.
    let own = container(&pod, "own").command(["sleep", "78"]);
    let own = own.security(|c| {
        c.namespace_options.get_or_insert_default().pid = NamespaceMode::Container.into();
    });
    let own = own.start().await;
    let debug = container(&pod, "debug").shell("tr '\\0' ' ' < /proc/1/cmdline").security(|c| {
        let options = c.namespace_options.get_or_insert_default();
        (options.pid, options.target_id) = (NamespaceMode::Target.into(), own.id.clone());
    });
    assert_eq!(debug.output().await, "sleep 78 ");
}

#[tokio::test]
async fn terminals_and_forwarded_ports_work_inside() {
    let node = Node::boot().await;
    let pod = pod(&node, "streams", FIRST).run().await;
    let script = "echo ready; while :; do echo forwarded | nc -l -p 8080; done";
    let server = container(&pod, "server").shell(script).start().await;
    server.wait_output("ready").await;
    let inner = format!(
        "stty rows 33 cols 77; crictl --runtime-endpoint unix://{}/cri.sock exec -it {} \
         sh -c 'tty; id -u; stat -c %u $(tty); until stty size | grep \"33 77\"; do sleep 0.05; done'",
        node.state.display(),
        server.id
    );
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &inner, "/dev/null"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = run(command, "").await;
    // `script` types an end of input, which the terminal echoes.
    let output = text(&done.stdout).replace("^@", "");
    assert!(output.ends_with("/dev/pts/0\n0\n0\n33 77\n"), "{done:?}");

    let script = "tty; stat -c %u $(tty) /dev/console; echo end";
    let terminal = container(&pod, "terminal").shell(script).with(|config| config.tty = true);
    let output = terminal.output().await.replace('\r', "");
    assert_eq!(output, "/dev/pts/0\n0\n0\nend\n");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut forward = crictl(&node, &["port-forward", &pod.id, &format!("{port}:8080")]);
    let mut forward = forward.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("an answer through the forward", async || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(1), stream.read_to_string(&mut answer));
        read.await.is_ok_and(|read| read.is_ok()) && answer == "forwarded\n"
    })
    .await;
    forward.kill().unwrap();
    forward.wait().unwrap();
}

#[tokio::test]
async fn the_hosts_network_goes_with_users_of_their_own() {
    let node = Node::boot().await;
    let pod = pod(&node, "hosted", FIRST)
        .namespaces(|options| options.network = NamespaceMode::Node.into())
        .run()
        .await;
    let script = "tr -s ' ' < /proc/self/uid_map; ls /sys/class/net; hostname; \
        (echo 1 > /proc/sys/net/ipv4/ip_forward) 2>/dev/null || echo refused; \
        hostname other 2>/dev/null || echo kept";
    let main = container(&pod, "main").shell(script).security(|context| {
        context.capabilities = adding(&["SYS_ADMIN", "NET_ADMIN"]);
    });
    let mut wanted = vec![format!(" 0 {FIRST} {LENGTH}")];
    let interfaces = fs::read_dir("/sys/class/net").unwrap().flatten();
    let mut interfaces: Vec<_> =
        interfaces.map(|entry| entry.file_name().into_string().unwrap()).collect();
    interfaces.sort();
    wanted.extend(interfaces);
    wanted.push(rustix::system::uname().nodename().to_str().unwrap().to_owned());
    wanted.extend(["refused", "kept"].map(str::to_owned));
    assert_eq!(main.output().await.lines().collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn an_unmasked_proc_is_had_inside_only() {
    let node = Node::boot().await;
    let pod = pod(&node, "proc", FIRST).run().await;
    let script = "mkdir /tmp/proc; mount -t proc proc /tmp/proc 2>/dev/null && echo mounted; \
        echo 1 > /proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward; \
        (echo 1 > /proc/sys/kernel/panic) 2>/dev/null || echo refused; \
        head -c 1 /proc/kcore 2>/dev/null | wc -c";
    let unmasked = container(&pod, "unmasked").shell(script);
    let unmasked =
        unmasked.security(|context| context.capabilities = adding(&["SYS_ADMIN", "NET_ADMIN"]));
    assert_eq!(unmasked.output().await, "mounted\n1\nrefused\n0\n");
    let script = "head -c 1 /proc/version | wc -c; touch /proc/sys/net/ipv4/ip_forward 2>/dev/null || echo refused";
    let masked = container(&pod, "masked").shell(script).security(|context| {
        context.capabilities = adding(&["NET_ADMIN"]);
        context.masked_paths = vec!["/proc/version".to_owned()];
        context.readonly_paths = vec!["/proc/sys".to_owned()];
    });
    assert_eq!(masked.output().await, "0\nrefused\n");
}

#[tokio::test]
async fn settings_limits_and_devices_hold_inside() {
    let node = Node::boot().await;
    let pod = pod(&node, "settings", FIRST).linux(|linux| {
        linux.sysctls.insert("kernel.shmmax".to_owned(), "1234567".to_owned());
        linux.sysctls.insert("net.ipv4.ping_group_range".to_owned(), "0 65535".to_owned());
    });
    let pod = pod.run().await;
    let script = "cat /proc/sys/kernel/shmmax; tr '\\t' ' ' < /proc/sys/net/ipv4/ping_group_range; hostname; \
        cat /etc/hostname; echo x > /dev/null; head -c 2 /dev/urandom | wc -c; \
        head -c 1 /dev/zero | wc -c; ls -d /dev/mqueue /sys/fs/cgroup; cat /proc/self/oom_score_adj";
    let main = container(&pod, "main").shell(script);
    let main = main.resources(|resources| resources.oom_score_adj = 300);
    let wanted = "1234567\n0 65535\nsettings\nsettings\n2\n1\n/dev/mqueue\n/sys/fs/cgroup\n300\n";
    assert_eq!(main.output().await, wanted);
    let hungry = container(&pod, "hungry").shell("tail /dev/zero").memory_limit_mib(32);
    let exit = hungry.start().await.wait_exit().await;
    assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"));
    // Not root, and not of the files' group: the pod's files are for everybody.
    let plain =
        container(&pod, "plain").shell("cat /etc/hostname; wc -c < /etc/resolv.conf > /dev/null");
    let plain = plain.security(|context| {
        context.run_as_user = Some(Int64Value { value: 1000 });
        context.run_as_group = Some(Int64Value { value: 1000 });
    });
    assert_eq!(plain.output().await, "settings\n");
}

#[tokio::test]
async fn what_cannot_be_had_with_users_is_refused_by_name() {
    let node = Node::boot().await;
    for (field, change) in [
        ("pid", (|options| options.pid = NamespaceMode::Node.into()) as fn(&mut NamespaceOption)),
        ("ipc", |options| options.ipc = NamespaceMode::Node.into()),
    ] {
        let Err(refused) = pod(&node, field, FIRST).namespaces(change).try_run().await else {
            panic!("{field} was given");
        };
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(&format!("namespace_options.{field}")), "{refused:?}");
    }
    let pod = pod(&node, "refused", FIRST).run().await;
    let other = container(&pod, "other").command(["true"]).security(|context| {
        let options = context.namespace_options.get_or_insert_default();
        options.userns_options = Some(users(FIRST + 1));
    });
    let beyond = container(&pod, "beyond").command(["true"]);
    let beyond =
        beyond.security(|context| context.run_as_user = Some(Int64Value { value: 70_000 }));
    let shared = container(&pod, "shared").command(["true"]).with(|config| {
        let mount = mount(&node.home, "/data", None);
        let propagation = MountPropagation::PropagationBidirectional.into();
        config.mounts = vec![Mount { propagation, ..mount }];
    });
    for (container, why) in [
        (pod.container("none").command(["true"]), "userns_options"),
        (other, "userns_options"),
        (beyond, "70000"),
        (shared, "BIDIRECTIONAL"),
    ] {
        let Err(refused) = container.try_create().await else { panic!("{why} was given") };
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(why), "{refused:?}");
    }
}
