//! Promises of the spec. Whole specs are compared with the files of `tests/golden`: each has the
//! request as a patch over a plain one, and the spec that comes out. `CAIS_GOLDEN=write` writes them
//! anew for a person to read.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::error::{Error, Kind};

/// A root with a user database, and everything else a spec is made from.
struct Fixture {
    _directory: tempfile::TempDir,
    rootfs: OwnedFd,
    host: Host,
    files: PodFiles,
    filters: Cache,
    cdi: Edits,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let etc = directory.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let write = |name: &str, text: &str| {
            let mut file = std::fs::File::create(etc.join(name)).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        };
        write(
            "passwd",
            "root:x:0:0:root:/root:/bin/sh\n\
             web:x:1000:1001:Web,,,:/home/web:/bin/sh\n\
             far:x:99999999999:0::/:/bin/sh\n\
             # comment\nbroken\n",
        );
        write("group", "root:x:0:\ntty:x:5:\nweb:x:1001:\nextra:x:50000:web,other\n");
        let rootfs = std::fs::File::open(directory.path()).unwrap().into();
        Self {
            _directory: directory,
            rootfs,
            host: Host {
                hostname: "node".into(),
                capabilities: (1 << 41) - 1,
                has_apparmor: false,
                has_selinux: false,
            },
            files: PodFiles {
                hosts: "/run/pod/hosts".into(),
                resolv_conf: "/run/pod/resolv.conf".into(),
                hostname: "/run/pod/hostname".into(),
            },
            filters: Cache::default(),
            cdi: Edits::default(),
        }
    }

    /// Builds the spec of the plain request with `patch` merged over it.
    fn build(&self, patch: &Value) -> Result<Bundle> {
        let mut whole = plain();
        merge(&mut whole, patch);
        let config: Config = serde_json::from_value(whole["config"].clone()).unwrap();
        let pod: PodConfig = serde_json::from_value(whole["pod"].clone()).unwrap();
        let image: ImageConfig = serde_json::from_value(whole["image"].clone()).unwrap();
        build(&Input {
            pod: &pod,
            config: &config,
            image: &image,
            rootfs: self.rootfs.as_fd(),
            files: &self.files,
            host: &self.host,
            filters: &self.filters,
            cdi: &self.cdi,
        })
    }

    fn refuse(&self, patch: &Value) -> Error {
        self.build(patch).map(|bundle| bundle.spec).unwrap_err()
    }
}

fn plain() -> Value {
    let namespaces = json!({ "network": "Pod", "pid": "Container", "ipc": "Pod" });
    let image = json!({
        "entrypoint": ["/entry"], "cmd": ["image"], "env": ["PATH=/bin", "A=image", "LOST"],
        "working_dir": "", "user": "",
    });
    let pod = json!({
        "name": "p", "uid": "u", "namespace": "n", "attempt": 0, "hostname": "web-0",
        "log_directory": null, "dns": null, "ports": [], "labels": {}, "annotations": {},
        "cgroup_parent": "", "sysctls": {}, "overhead": null, "resources": null,
        "namespaces": namespaces, "user_namespace": null, "privileged": false,
        "readonly_rootfs": false, "run_as_user": null, "run_as_group": null,
        "supplemental_groups": [], "seccomp": "Unconfined", "apparmor": null, "selinux": null,
        "runtime_handler": "",
    });
    let security = json!({
        "add_capabilities": [], "drop_capabilities": [], "add_ambient_capabilities": [],
        "privileged": false, "namespaces": namespaces, "user_namespace": null,
        "user": "Image", "run_as_group": null, "supplemental_groups": [],
        "groups_policy": "Merge", "readonly_rootfs": false, "no_new_privileges": false,
        "masked_paths": [], "readonly_paths": [], "seccomp": "Unconfined",
        "apparmor": null, "selinux": null,
    });
    let config = json!({
        "name": "c", "attempt": 0, "image": "i", "user_specified_image": "", "command": [],
        "args": [], "working_dir": "", "env": [], "mounts": [], "devices": [],
        "cdi_devices": [], "labels": {}, "annotations": {}, "log_path": null, "stdin": false,
        "stdin_once": false, "tty": false, "stop_signal": null, "resources": {},
        "oom_score_adj": 0, "rlimits": [], "security": security,
    });
    json!({ "image": image, "pod": pod, "config": config })
}

fn merge(whole: &mut Value, patch: &Value) {
    match (whole, patch) {
        (Value::Object(whole), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(whole.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (whole, patch) => *whole = patch.clone(),
    }
}

fn security(patch: &Value) -> Value {
    json!({ "config": { "security": patch } })
}

fn mount(patch: &Value) -> Value {
    let mut whole = json!({
        "container_path": "/data", "source": { "Host": "/srv/data" }, "readonly": false,
        "recursive_readonly": false, "propagation": "Private", "selinux_relabel": false,
        "uid_mappings": [], "gid_mappings": [], "options": [],
    });
    merge(&mut whole, patch);
    whole
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The spec as JSON, sets sorted.
fn readable(bundle: &Bundle) -> Value {
    fn sort(value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let is_set = matches!(
                        key.as_str(),
                        "bounding" | "effective" | "permitted" | "inheritable" | "ambient"
                    );
                    if let (true, Value::Array(list)) = (is_set, &mut *value) {
                        list.sort_by_key(ToString::to_string);
                    }
                    sort(value);
                }
            }
            Value::Array(list) => list.iter_mut().for_each(sort),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut value = serde_json::to_value(&bundle.spec).unwrap();
    sort(&mut value);
    value
}

#[test]
fn requests_become_the_specs_of_the_golden_files() {
    let fixture = Fixture::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(golden("")).unwrap() {
        let path = entry.unwrap().path();
        let mut pair: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let spec = readable(&fixture.build(&pair["request"]).unwrap());
        if std::env::var_os("CAIS_GOLDEN").is_some_and(|value| value == "write") {
            pair["spec"] = spec;
            let text = serde_json::to_string_pretty(&pair).unwrap() + "\n";
            std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes())
                .unwrap();
        } else {
            assert_eq!(spec, pair["spec"], "{}", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 6, "only {seen} golden files");
}

#[test]
fn a_command_replaces_everything_and_arguments_only_the_images_cmd() {
    let fixture = Fixture::new();
    let args = |patch: &Value| {
        fixture.build(patch).unwrap().spec.process().clone().unwrap().args().clone().unwrap()
    };
    assert_eq!(args(&json!({})), ["/entry", "image"]);
    assert_eq!(args(&json!({ "config": { "args": ["x"] } })), ["/entry", "x"]);
    assert_eq!(args(&json!({ "config": { "command": ["/c"] } })), ["/c"]);
    assert_eq!(args(&json!({ "config": { "command": ["/c"], "args": ["x"] } })), ["/c", "x"]);
    let nothing = json!({ "image": { "entrypoint": [], "cmd": [] } });
    assert_eq!(fixture.refuse(&nothing).to_string(), "no command specified");
}

#[test]
fn the_last_value_of_a_variable_wins_and_need_not_be_text() {
    let fixture = Fixture::new();
    let patch = json!({ "config": { "tty": true, "env": [
        ["A", [114]], ["B", [255, 254]], ["A", [122]],
    ] } });
    let env = fixture.build(&patch).unwrap().env;
    let expected: [&[u8]; 6] =
        [b"PATH=/bin", b"TERM=xterm", b"HOSTNAME=web-0", b"A=z", b"B=\xff\xfe", b"HOME=/root"];
    assert_eq!(env, expected);
    for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
        let patch = json!({ "config": { "env": [["OK", []], [name, value.as_bytes()]] } });
        assert!(fixture.refuse(&patch).to_string().starts_with("envs[1]."), "{name:?}");
    }
}

#[test]
fn users_are_found_in_the_image_and_numbers_are_only_numbers() {
    let fixture = Fixture::new();
    let user = |patch: &Value| {
        let spec = fixture.build(patch).unwrap().spec;
        let user = spec.process().as_ref().unwrap().user().clone();
        (user.uid(), user.gid(), user.additional_gids().clone().unwrap())
    };
    let image = |user: &str| json!({ "image": { "user": user } });
    assert_eq!(user(&image("")), (0, 0, vec![0]));
    assert_eq!(user(&image("web")), (1000, 1001, vec![1001, 50000]));
    assert_eq!(user(&image("1000")), (1000, 1001, vec![1001, 50000]));
    assert_eq!(user(&image("4242")), (4242, 0, vec![0]));
    assert_eq!(user(&image("1:2")), (1, 2, vec![2]));
    assert_eq!(user(&image(":extra")), (0, 50000, vec![50000]));
    let bad = ["nobody", "4294967295", "4294967296", "-1", "+1", "1 ", "0:nothere", "a\nb", "far"];
    for bad in bad {
        let error = fixture.refuse(&image(bad));
        assert_eq!(error.kind(), Kind::InvalidArgument, "{bad}");
    }
    // Octal and hex are not numbers here; names like these do not exist.
    assert_eq!(user(&image("01")).0, 1);
    assert!(fixture.build(&image("0x1")).is_err());

    let merge = json!({ "user": { "Uid": 1000 }, "supplemental_groups": [60000, 50000] });
    assert_eq!(user(&security(&merge)), (1000, 1001, vec![1001, 50000, 60000]));
    let mut strict = merge.clone();
    strict["groups_policy"] = json!("Strict");
    assert_eq!(user(&security(&strict)), (1000, 1001, vec![1001, 60000, 50000]));
    let group = json!({ "user": { "Name": "web" }, "run_as_group": 7 });
    assert_eq!(user(&security(&group)), (1000, 7, vec![7, 50000]));
    let error = fixture.refuse(&security(&json!({ "run_as_group": 7 })));
    assert!(error.to_string().starts_with("run_as_group"), "{error}");
}

#[test]
fn a_user_database_that_is_no_plain_file_is_refused_at_once() {
    let fixture = Fixture::new();
    let etc = fixture._directory.path().join("etc");
    let passwd = etc.join("passwd");
    let refused = || fixture.refuse(&json!({})).to_string();

    std::fs::remove_file(&passwd).unwrap();
    std::os::unix::fs::symlink("/../../../../etc/hostname-of-nobody", &passwd).unwrap();
    fixture.build(&json!({})).unwrap();
    std::fs::remove_file(&passwd).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &passwd, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(refused(), "the image's /etc/passwd is not a regular file");
    std::fs::remove_file(&passwd).unwrap();
    std::fs::File::create(&passwd).unwrap().set_len(4 << 30).unwrap();
    assert_eq!(refused(), "the image's /etc/passwd is larger than 1 MiB");
}

#[test]
fn capabilities_follow_the_request_and_privileged_needs_a_privileged_pod() {
    let fixture = Fixture::new();
    let mask = |patch: &Value| {
        let bundle = fixture.build(patch).unwrap();
        let process = bundle.spec.process().clone().unwrap();
        let sets = process.capabilities().clone().unwrap();
        assert_eq!(sets.bounding(), sets.permitted());
        (capability_mask(sets.bounding().as_ref()), capability_mask(sets.ambient().as_ref()))
    };
    let default = mask(&json!({})).0;
    let of = |names: &[&str]| capability_set(names);
    let change = |add: Value, drop: Value| {
        security(&json!({ "add_capabilities": add, "drop_capabilities": drop }))
    };
    assert_eq!(
        mask(&change(json!(["NET_ADMIN"]), json!(["CAP_KILL"]))).0,
        (default | of(&["NET_ADMIN"])) & !of(&["KILL"])
    );
    assert_eq!(mask(&change(json!(["CHOWN"]), json!(["ALL"]))).0, of(&["CHOWN"]));
    assert_eq!(mask(&change(json!(["all"]), json!(["SYS_ADMIN"]))).0.count_ones(), 40);
    let ambient = mask(&security(&json!({ "add_ambient_capabilities": ["SYS_TIME"] })));
    assert_eq!(ambient, (default | of(&["SYS_TIME"]), of(&["SYS_TIME"])));

    let mut privileged = security(&json!({ "privileged": true }));
    assert!(fixture.refuse(&privileged).to_string().contains("privileged"));
    merge(&mut privileged, &json!({ "pod": { "privileged": true } }));
    assert_eq!(mask(&privileged).0, (1 << 41) - 1);
    assert_eq!(fixture.build(&privileged).unwrap().devices, None);
}

#[test]
fn what_cannot_be_served_is_refused_by_the_name_of_its_field() {
    let fixture = Fixture::new();
    let config = |patch: Value| json!({ "config": patch });
    let with_mount = |patch: &Value| config(json!({ "mounts": [mount(patch)] }));
    let cases = [
        ("working_dir", config(json!({ "working_dir": "a/b" }))),
        ("working_dir", config(json!({ "working_dir": "/a/../../b" }))),
        ("oom_score_adj", config(json!({ "oom_score_adj": 1001 }))),
        ("rlimits[0]", config(json!({ "rlimits": [{ "name": "nofile", "soft": 2, "hard": 1 }] }))),
        ("rlimits[0]", config(json!({ "rlimits": [{ "name": "files", "soft": 1, "hard": 1 }] }))),
        ("mounts[0].container_path", with_mount(&json!({ "container_path": "data" }))),
        ("mounts[0].container_path", with_mount(&json!({ "container_path": "/a/../b" }))),
        ("mounts[0].container_path", with_mount(&json!({ "container_path": "/" }))),
        ("mounts[0].container_path", with_mount(&json!({ "container_path": "/proc/self" }))),
        ("mounts[0].host_path", with_mount(&json!({ "source": { "Host": "srv" } }))),
        ("mounts[0].recursive_read_only", with_mount(&json!({ "recursive_readonly": true }))),
        ("mounts[0].mount_options", with_mount(&json!({ "options": ["suid"] }))),
        (
            "mounts[0].container_path",
            config(json!({ "mounts": [mount(&json!({})), mount(&json!({}))] })),
        ),
        (
            "devices[0].permissions",
            config(json!({ "devices": [
            { "container_path": "/dev/x", "host_path": "/dev/null", "permissions": "rx" }] })),
        ),
        (
            "devices[0].host_path",
            config(json!({ "devices": [
            { "container_path": "/dev/x", "host_path": "/dev/ct-conf-none", "permissions": "r" }] })),
        ),
        (
            "devices[0].host_path",
            config(json!({ "devices": [
            { "container_path": "/dev/x", "host_path": "/etc/passwd", "permissions": "r" }] })),
        ),
        (
            "linux.resources.memory_limit_in_bytes",
            config(json!({ "resources": { "memory_limit": -5 } })),
        ),
        ("capabilities.add_capabilities", security(&json!({ "add_capabilities": ["NET_ADMINS"] }))),
        ("masked_paths[0]", security(&json!({ "masked_paths": ["proc"] }))),
        ("apparmor", security(&json!({ "apparmor": { "Localhost": "own" } }))),
        ("namespace_options.network", security(&json!({ "namespaces": { "network": "Node" } }))),
    ];
    for (field, patch) in cases {
        let error = fixture.refuse(&patch);
        assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
        assert!(error.to_string().starts_with(field), "{field}: {error}");
    }
}

#[test]
fn a_requested_mount_takes_the_place_of_ours_and_parents_come_first() {
    let fixture = Fixture::new();
    let at = |path: &str| mount(&json!({ "container_path": path }));
    let patch = json!({ "config": { "mounts": [at("/a/b/c"), at("/etc/hosts"), at("/a"), at("/dev/shm")] } });
    let bundle = fixture.build(&patch).unwrap();
    let mounts = bundle.spec.mounts().clone().unwrap();
    let targets: Vec<&str> = mounts.iter().map(|it| it.destination().to_str().unwrap()).collect();
    assert_eq!(
        targets,
        [
            "/proc",
            "/dev",
            "/dev/pts",
            "/dev/mqueue",
            "/sys",
            "/sys/fs/cgroup",
            "/etc/resolv.conf",
            "/etc/hostname",
            "/a",
            "/etc/hosts",
            "/dev/shm",
            "/a/b/c",
        ]
    );
}

#[test]
fn a_pods_kernel_settings_stay_inside_its_own_namespaces() {
    let host = Fixture::new().host;
    let plan = |patch: Value| {
        let mut whole = plain();
        merge(&mut whole, &json!({ "pod": patch }));
        let pod: PodConfig = serde_json::from_value(whole["pod"].clone()).unwrap();
        pod_plan(&pod, &host, Joined::default())
    };
    let good = json!({ "sysctls": { "net/ipv4/ip_forward": "1", "kernel.shm_rmid_forced": "1" } });
    assert_eq!(
        plan(good.clone()).unwrap().sysctls,
        [
            ("kernel.shm_rmid_forced".to_owned(), "1".to_owned()),
            ("net.ipv4.ip_forward".to_owned(), "1".to_owned()),
        ]
    );
    let mut node = good;
    merge(&mut node, &json!({ "namespaces": { "network": "Node" } }));
    assert!(plan(node).unwrap_err().to_string().contains("host's network"));
    for key in [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "net/../kernel/core_pattern",
        "net..x",
        "net",
        "vm.swappiness",
        "net.ipv4.x\n",
        "fs.file-max",
    ] {
        let error = plan(json!({ "sysctls": { key: "1" } })).unwrap_err();
        assert!(error.to_string().starts_with("sysctls: "), "{key}: {error}");
    }
    for value in ["1\n2", "1\0"] {
        plan(json!({ "sysctls": { "net.ipv4.ip_forward": value } })).unwrap_err();
    }
    for name in ["a b", "x\n", &"a".repeat(65)] {
        let error = plan(json!({ "hostname": name })).unwrap_err();
        assert!(error.to_string().starts_with("hostname: "), "{error}");
    }
}

#[test]
fn the_filter_follows_profile_capabilities_and_privilege() {
    let fixture = Fixture::new();
    let filter = |patch: &Value| fixture.build(patch).unwrap().filter;
    assert_eq!(filter(&json!({})), None);
    let default = json!({ "seccomp": "RuntimeDefault" });
    let usual = filter(&security(&default)).unwrap();
    let mut more = security(&default);
    merge(&mut more, &security(&json!({ "add_capabilities": ["SYS_ADMIN"] })));
    assert_ne!(filter(&more).unwrap(), usual);
    merge(&mut more, &json!({ "pod": { "privileged": true } }));
    merge(&mut more, &security(&json!({ "privileged": true })));
    assert_eq!(filter(&more), None);

    let path = "/nowhere/ct-conf-profile.json";
    let error = fixture.refuse(&security(&json!({ "seccomp": { "Localhost": path } })));
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.chain().contains(path), "{}", error.chain());
}
