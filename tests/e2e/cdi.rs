//! Devices that a container asks for by name, as files on the host describe them.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use cais_proto::runtime::v1::CdiDevice;
use tonic::{Code, Status};

use crate::node::Node;

/// A node whose devices are described in two directories of its own, the second of which wins.
async fn node() -> (Node, [PathBuf; 2]) {
    let node = Node::boot().await;
    let directories = ["cdi", "cdi-run"].map(|name| node.home.join(name));
    for directory in &directories {
        fs::create_dir_all(directory).unwrap();
    }
    (node, directories)
}

fn named(names: &[&str]) -> Vec<CdiDevice> {
    names.iter().map(|&name| CdiDevice { name: name.to_owned() }).collect()
}

#[tokio::test]
async fn a_device_brings_nodes_mounts_variables_and_groups() {
    let (node, [fixed, _]) = node().await;
    let library = node.home.join("library");
    fs::create_dir_all(&library).unwrap();
    fs::write(library.join("driver"), "of the host").unwrap();
    let text = format!(
        "cdiVersion: 0.7.0\n\
         kind: vendor.example/gpu\n\
         containerEdits:\n\
         \x20 env: [\"VENDOR=example\"]\n\
         \x20 mounts:\n\
         \x20 - {{hostPath: {library}, containerPath: /opt/vendor, options: [ro, nosuid, bind]}}\n\
         devices:\n\
         - name: fuse\n\
         \x20 containerEdits:\n\
         \x20   env: [\"SHAPE=described\"]\n\
         \x20   additionalGids: [0, 4242]\n\
         \x20   deviceNodes:\n\
         \x20   - {{path: /dev/vendor/fuse, hostPath: /dev/fuse, permissions: rw, fileMode: 0640}}\n\
         - name: silent\n\
         \x20 containerEdits:\n\
         \x20   deviceNodes: [{{path: /dev/silent, type: c, major: 10, minor: 200, permissions: none}}]\n",
        library = library.display(),
    );
    fs::write(fixed.join("vendor.yaml"), text).unwrap();
    let pod = node.pod("device").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).env("SHAPE", "asked");
    let container = container.with(|config| {
        config.cdi_devices = named(&["vendor.example/gpu=fuse", "vendor.example/gpu=silent"]);
    });
    let container = container.start().await;
    assert_eq!(container.shell("echo $VENDOR $SHAPE").await, "example described");
    assert_eq!(container.shell("cat /opt/vendor/driver").await, "of the host");
    assert_ne!(container.exec(&["touch", "/opt/vendor/new"]).await.exit_code, 0);
    assert_eq!(container.shell("grep -c /opt/vendor /proc/self/mountinfo").await, "1");
    assert_eq!(container.shell("stat -c '%a %t %T' /dev/vendor/fuse").await, "640 a e5");
    assert_eq!(container.shell("exec 3<>/dev/vendor/fuse && echo open").await, "open");
    let closed = container.exec(&["sh", "-c", "exec 3<>/dev/silent"]).await;
    let error = String::from_utf8_lossy(&closed.stderr);
    assert!(closed.exit_code != 0 && error.contains("not permitted"), "{error}");
    let groups = container.shell("id -G").await;
    assert!(groups.split(' ').any(|group| group == "4242"), "{groups}");
    let user = container.status().await.user.unwrap().linux.unwrap();
    assert!(user.supplemental_groups.contains(&4242), "{user:?}");

    let plain = pod.container("plain").command(["sleep", "1000"]).start().await;
    let found = plain.exec(&["sh", "-c", "ls -d /dev/vendor /opt/vendor || exit 9"]).await;
    assert_eq!((found.exit_code, found.stdout.as_slice()), (9, &b""[..]));
}

#[tokio::test]
async fn the_later_directory_wins_and_an_annotation_asks_as_well() {
    let (node, [fixed, run]) = node().await;
    for (directory, origin) in [(&fixed, "fixed"), (&run, "run")] {
        let text = format!(
            r#"{{"cdiVersion": "0.3.0", "kind": "vendor.example/net", "devices": [
                {{"name": "a", "containerEdits": {{"env": ["FROM={origin}"]}}}},
                {{"name": "{origin}", "containerEdits": {{"env": ["OWN={origin}"]}}}}]}}"#
        );
        fs::write(directory.join("vendor.json"), text).unwrap();
    }
    let pod = node.pod("annotated").run().await;
    let container = pod.container("main").shell("echo $FROM $OWN").with(|config| {
        let devices = "vendor.example/net=a,vendor.example/net=fixed".to_owned();
        config.annotations = HashMap::from([("cdi.k8s.io/plugin_1".to_owned(), devices)]);
        config.cdi_devices = named(&["vendor.example/net=a"]);
    });
    assert_eq!(container.output().await, "run fixed\n");
}

#[tokio::test]
async fn a_device_that_cannot_be_had_is_named_and_others_stay_usable() {
    let (node, [fixed, _]) = node().await;
    let write = |name: &str, text: &str| fs::write(fixed.join(name), text).unwrap();
    let device = |name: &str, edits: &str| {
        format!(
            r#"{{"cdiVersion": "1.1.0", "kind": "vendor.example/{name}",
                "devices": [{{"name": "a", "containerEdits": {edits}}}]}}"#
        )
    };
    write("good.json", &device("good", r#"{"env": ["GOOD=yes"]}"#));
    write("broken.yaml", "cdiVersion: [");
    write("old.json", &device("old", r#"{"additionalGids": [5]}"#).replace("1.1.0", "0.5.0"));
    write("twice-1.json", &device("twice", r#"{"env": ["A=1"]}"#));
    write("twice-2.json", &device("twice", r#"{"env": ["A=2"]}"#));
    write(
        "hook.json",
        &device("hook", r#"{"hooks": [{"hookName": "createContainer", "path": "/bin/true"}]}"#),
    );
    write(
        "interface.json",
        &device("interface", r#"{"netDevices": [{"hostInterfaceName": "eth9", "name": "eth1"}]}"#),
    );
    write("gone.json", &device("gone", r#"{"deviceNodes": [{"path": "/dev/no-such-node"}]}"#));
    let missing = r#"{"mounts": [{"hostPath": "/no/such/file", "containerPath": "/f"}]}"#;
    write("missing.json", &device("missing", missing));
    let pod = node.pod("refused").run().await;
    let refused = async |name: &str| -> Status {
        let asked = pod.container("main").command(["true"]);
        let asked = asked.with(|config| config.cdi_devices = named(&[name])).try_create().await;
        asked.err().unwrap_or_else(|| panic!("{name} was accepted"))
    };
    for (name, code, parts) in [
        ("nobody.example/x=1", Code::InvalidArgument, ["nobody.example/x=1", "broken.yaml"]),
        ("vendor.example/old=a", Code::InvalidArgument, ["vendor.example/old=a", "additionalGids"]),
        ("vendor.example/twice=a", Code::InvalidArgument, ["twice-1.json", "twice-2.json"]),
        (
            "vendor.example/hook=a",
            Code::Unimplemented,
            ["vendor.example/hook=a", "createContainer"],
        ),
        ("vendor.example/interface=a", Code::Unimplemented, ["vendor.example/interface=a", "eth9"]),
        ("vendor.example/gone=a", Code::InvalidArgument, ["CDI", "/dev/no-such-node"]),
        ("vendor.example/missing=a", Code::InvalidArgument, ["CDI", "/no/such/file"]),
        ("vendor.example", Code::InvalidArgument, ["config.CDI_devices[0]", "vendor.example"]),
    ] {
        let refused = refused(name).await;
        assert_eq!(refused.code(), code, "{name}: {refused:?}");
        for part in parts {
            assert!(refused.message().contains(part), "{name}: {refused:?}");
        }
    }
    let good = pod.container("good").shell("echo $GOOD");
    let good = good.with(|config| config.cdi_devices = named(&["vendor.example/good=a"]));
    assert_eq!(good.output().await, "yes\n");
}
