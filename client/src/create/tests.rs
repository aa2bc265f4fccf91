use serde_json::{Value, json};

use super::{Flags, Surroundings};

fn body(change: impl FnOnce(&mut Flags)) -> Result<Value, String> {
    let mut flags = Flags { restart: "no".to_owned(), ..Flags::default() };
    change(&mut flags);
    flags.body("busybox", &[], Surroundings { is_detached: false, console: None })
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|&it| it.to_owned()).collect()
}

#[test]
fn nothing_that_was_not_said_is_sent() {
    let expected = json!({
        "Image": "busybox", "AttachStdout": true, "AttachStderr": true,
        "HostConfig": { "NetworkMode": "default" },
        "NetworkingConfig": { "EndpointsConfig": { "default": {} } },
    });
    assert_eq!(body(|_| {}).unwrap(), expected);
}

#[test]
fn ports_have_addresses_protocols_and_ranges() {
    let made = body(|flags| {
        flags.publish = texts(&[
            "8080:80",
            "127.0.0.1:53:53/udp",
            "[::1]:9:9",
            "7",
            "3000-3001:4000-4001",
            "5000-5009:50",
            "1.2.3.4::6",
        ]);
        flags.expose = texts(&["90-91/udp"]);
    });
    let made = made.unwrap();
    let binding = |ip: &str, port: &str| json!([{ "HostIp": ip, "HostPort": port }]);
    let expected = json!({
        "80/tcp": binding("", "8080"), "53/udp": binding("127.0.0.1", "53"), "9/tcp": binding("::1", "9"), "7/tcp": binding("", ""),
        "4000/tcp": binding("", "3000"), "4001/tcp": binding("", "3001"), "50/tcp": binding("", "5000-5009"), "6/tcp": binding("1.2.3.4", ""),
    });
    assert_eq!(made["HostConfig"]["PortBindings"], expected);
    assert_eq!(made["ExposedPorts"].as_object().unwrap().len(), 10);
    for (wrong, what) in [
        ("abc", "Invalid containerPort: abc"),
        ("x:80", "Invalid hostPort: x"),
        ("1-3:4-5", "Invalid ranges specified for container and host Ports: 4-5 and 1-3"),
        ("80/foo", "Invalid proto: foo"),
        ("nohost:1:2", "Invalid ip address: nohost"),
        ("99999", "Invalid containerPort: 99999"),
    ] {
        assert_eq!(body(|flags| flags.publish = texts(&[wrong])).unwrap_err(), what);
    }
}

#[test]
fn mounts_are_typed_and_binds_absolute() {
    let here = std::env::current_dir().unwrap();
    let made = body(|flags| {
        flags.volume = texts(&["./a/../b:/b:ro", "vol:/v", "/anon"]);
        flags.mount = texts(&[
            "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
            "type=bind,src=/x,target=/y,readonly,bind-recursive=writable",
        ]);
    })
    .unwrap();
    assert_eq!(
        made["HostConfig"]["Binds"],
        json!([format!("{}/b:/b:ro", here.display()), "vol:/v"])
    );
    assert_eq!(made["Volumes"], json!({ "/anon": {} }));
    assert_eq!(
        made["HostConfig"]["Mounts"],
        json!([
            { "Type": "tmpfs", "Target": "/t", "TmpfsOptions": { "SizeBytes": 1 << 20, "Mode": 0o1770 } },
            { "Type": "bind", "Source": "/x", "Target": "/y", "ReadOnly": true, "BindOptions": { "ReadOnlyNonRecursive": true } },
        ])
    );
    for wrong in [
        "type=bind",
        "type=bind,foo=1,dst=/x",
        "dst=/x,bogus",
        "type=bind,src=/a,dst=/b,volume-nocopy",
        "",
    ] {
        assert!(body(|flags| flags.mount = texts(&[wrong])).is_err(), "{wrong}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let refused = |change: fn(&mut Flags)| body(change).unwrap_err();
    let both = refused(|flags| {
        flags.rm = true;
        flags.restart = "always".to_owned();
    });
    assert_eq!(both, "conflicting options: cannot specify both --restart and --rm");
    let aliases = refused(|flags| flags.network_alias = texts(&["a"]));
    assert_eq!(aliases, "network-scoped aliases are only supported for user-defined networks");
    assert!(
        refused(|flags| flags.ulimit = texts(&["nofile=2:1"])).contains("soft limit must be less")
    );
    assert!(refused(|flags| flags.env = texts(&["=x"])).contains("invalid environment variable"));
    assert!(
        refused(|flags| flags.add_host = texts(&["a:b"]))
            .contains("invalid IP address in add-host")
    );
    assert!(
        refused(|flags| flags.env_file = texts(&["/no/such"]))
            .starts_with("open /no/such: no such file")
    );
}
