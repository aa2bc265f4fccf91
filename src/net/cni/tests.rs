//! CNI with plugins of our own for every fault, and with Debian's for real use.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::error::Kind;
use crate::net::testing::Netns;

/// A directory each for configuration, plugins, records and what the plugins note.
struct Node {
    temp: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self { temp: tempfile::tempdir().unwrap() };
        for name in ["net.d", "bin", "notes"] {
            std::fs::create_dir(node.path(name)).unwrap();
        }
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        // Replaced, not rewritten: a plugin that runs cannot be opened for writing.
        let new = self.path("new");
        std::fs::File::create(&new).unwrap().write_all(text.as_bytes()).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path
    }

    /// A shell script that first notes its command and input.
    fn plugin(&self, name: &str, body: &str) {
        let notes = self.path("notes");
        let text = format!(
            "#!/bin/sh\nN={}\nI=$(cat)\n\
             if [ \"$CNI_COMMAND\" = VERSION ]; then\n\
             echo '{{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.4.0\",\"1.0.0\",\"1.1.0\"]}}'\n\
             exit 0\nfi\n\
             echo \"{name} $CNI_COMMAND\" >> $N/calls\n\
             echo \"$I\" > $N/{name}.$CNI_COMMAND\nenv > $N/{name}.$CNI_COMMAND.env\n{body}\n",
            notes.display()
        );
        let path = self.write(&format!("bin/{name}"), &text);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn configure(&self, version: &str, plugins: &str) {
        let text = format!(r#"{{"cniVersion":"{version}","name":"net","plugins":[{plugins}]}}"#);
        self.write("net.d/10-net.conflist", &text);
    }

    fn cni(&self) -> Cni {
        self.cni_with(Duration::from_secs(20))
    }

    fn cni_with(&self, timeout: Duration) -> Cni {
        Cni::open(CniConfig {
            config_dirs: vec![self.path("net.d")],
            plugin_dirs: vec![self.path("bin"), "/usr/lib/cni".into()],
            timeout,
            records: self.path("records"),
        })
        .unwrap()
    }

    fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.path("notes/calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    fn note(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("notes").join(name)).unwrap()
    }

    fn records(&self) -> usize {
        std::fs::read_dir(self.path("records")).unwrap().count()
    }
}

const RESULT: &str = r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/24"}]}'"#;

fn identity() -> PodIdentity {
    PodIdentity {
        pod: PodId::generate().unwrap(),
        name: "web".to_owned(),
        namespace: "default".to_owned(),
        uid: "u-1".to_owned(),
    }
}

fn netns() -> &'static Path {
    Path::new("/proc/self/ns/net")
}

async fn add(cni: &Cni, identity: &PodIdentity) -> Result<Attachment> {
    cni.add(identity, netns(), Map::new()).await
}

#[tokio::test]
async fn the_chain_passes_results_on_and_goes_back_in_reverse() {
    let node = Node::new();
    node.plugin("one", RESULT);
    node.plugin("two", r#"echo '{"ips":[{"address":"10.1.0.6/24"}]}'"#);
    node.configure(
        "1.0.0",
        r#"{"type":"one","x":1,"capabilities":{"portMappings":true}},{"type":"two"}"#,
    );
    let (cni, identity) = (node.cni(), identity());
    cni.ready().await.unwrap();
    let arguments = json!({"portMappings":[{"hostPort":80}],"dns":{}});
    let arguments = arguments.as_object().unwrap().clone();

    let attachment = cni.add(&identity, netns(), arguments).await.unwrap();

    assert_eq!(attachment.addresses, ["10.1.0.6/24".parse().unwrap()]);
    let one: Value = serde_json::from_str(&node.note("one.ADD")).unwrap();
    assert_eq!(
        one,
        json!({"type":"one","x":1,"name":"net","cniVersion":"1.0.0",
               "runtimeConfig":{"portMappings":[{"hostPort":80}]}})
    );
    let two: Value = serde_json::from_str(&node.note("two.ADD")).unwrap();
    assert_eq!(two["prevResult"]["ips"][0]["address"], "10.1.0.5/24");
    assert!(two.get("runtimeConfig").is_none());

    cni.check(&identity.pod, netns()).await.unwrap();
    // The operator changes the configuration while the pod lives; a new daemon deletes it.
    node.configure("1.0.0", r#"{"type":"three"}"#);
    let cni = node.cni();
    assert!(cni.knows(&identity.pod).unwrap());
    cni.delete(&identity.pod, Some(netns())).await.unwrap();
    cni.delete(&identity.pod, None).await.unwrap();

    let two: Value = serde_json::from_str(&node.note("two.DEL")).unwrap();
    assert_eq!(two["prevResult"]["ips"][0]["address"], "10.1.0.6/24");
    assert_eq!(
        node.calls(),
        ["one ADD", "two ADD", "one CHECK", "two CHECK", "two DEL", "one DEL"]
    );
    assert_eq!(node.records(), 0);
}

#[tokio::test]
async fn a_plugin_sees_the_environment_of_the_specification_and_nothing_else() {
    let node = Node::new();
    node.plugin("one", RESULT);
    node.configure("1.0.0", r#"{"type":"one"}"#);
    let identity = identity();
    add(&node.cni(), &identity).await.unwrap();

    let pod = &identity.pod;
    let mut seen: BTreeMap<String, String> = node
        .note("one.ADD.env")
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(
        seen.remove("CNI_ARGS").unwrap(),
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;\
         K8S_POD_INFRA_CONTAINER_ID={pod};K8S_POD_UID=u-1"
        )
    );
    assert_eq!(seen["CNI_CONTAINERID"], pod.as_str());
    assert_eq!(seen["CNI_IFNAME"], "eth0");
    assert_eq!(seen["CNI_NETNS"], "/proc/self/ns/net");
    assert_eq!(seen["PWD"], "/");
    // PWD and `_` are the shell's own.
    let names: Vec<&str> = seen.keys().map(String::as_str).collect();
    let expected =
        ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH", "PATH", "PWD"];
    let names: Vec<&str> = names.into_iter().filter(|name| *name != "_").collect();
    assert_eq!(names, expected);
}

/// Adds a pod whose second plugin does this, and returns the error after checking that nothing
/// is left.
async fn fault(body: &str) -> Error {
    let node = Node::new();
    node.plugin("one", RESULT);
    node.plugin("bad", &format!("[ $CNI_COMMAND = DEL ] && exit 0\n{body}"));
    node.configure("1.0.0", r#"{"type":"one"},{"type":"bad"}"#);
    let cni = node.cni_with(Duration::from_secs(2));
    let error = add(&cni, &identity()).await.unwrap_err();
    assert_eq!(node.calls(), ["one ADD", "bad ADD", "bad DEL", "one DEL"], "{body}");
    assert_eq!(node.records(), 0, "{body}");
    assert!(error.chain().contains("CNI plugin bad ADD"), "{}", error.chain());
    error
}

#[tokio::test]
async fn a_plugins_own_error_is_passed_on() {
    let error =
        fault(r#"echo '{"code":100,"msg":"no more addresses","details":"pool a"}'; exit 1"#).await;
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.chain().contains("no more addresses (pool a), code 100"), "{}", error.chain());
}

#[tokio::test]
async fn an_exit_without_an_error_shows_what_was_said() {
    let error = fault("printf 'bad\\033[31m\\nthings' >&2; exit 3").await;
    assert!(error.chain().contains("exit status: 3"), "{}", error.chain());
    assert!(error.chain().contains("bad [31m things"), "{}", error.chain());
    let error = fault("kill -9 $$").await;
    assert!(error.chain().contains("signal: 9"), "{}", error.chain());
}

#[tokio::test]
async fn garbage_is_refused() {
    for body in ["echo nonsense", "true", "echo '[1]'", "echo '{\"ips\":[{\"address\":1}]}'"] {
        let error = fault(body).await;
        assert_eq!(error.kind(), Kind::Unavailable, "{body}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let error = fault("exec yes").await;
    assert!(error.chain().contains("longer than 1 MiB"), "{}", error.chain());
}

#[tokio::test]
async fn a_plugin_that_hangs_is_killed_with_its_children() {
    let node = Node::new();
    node.plugin(
        "bad",
        "[ $CNI_COMMAND = DEL ] && exit 0\nsleep 1000 & echo $! > $N/child; sleep 1000",
    );
    node.configure("1.0.0", r#"{"type":"bad"}"#);
    let cni = node.cni_with(Duration::from_millis(500));
    let started = Instant::now();

    let error = add(&cni, &identity()).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Timeout);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(error.chain().contains("no answer within 500ms"), "{}", error.chain());
    let child = node.note("child");
    let gone = || {
        // A killed orphan may wait a moment for its new parent.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    };
    while !gone() {
        assert!(started.elapsed() < Duration::from_secs(10), "the child lives");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_child_that_keeps_the_pipes_does_not_hold_up_the_answer() {
    let node = Node::new();
    node.plugin("one", &format!("sleep 1000 &\n{RESULT}"));
    node.configure("1.0.0", r#"{"type":"one"}"#);
    let started = Instant::now();
    add(&node.cni(), &identity()).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_del_that_fails_is_owed_until_it_succeeds() {
    let node = Node::new();
    let fails = format!("[ $CNI_COMMAND = DEL ] && [ ! -e $N/works ] && exit 1\n{RESULT}");
    node.plugin("one", &fails);
    node.plugin("two", RESULT);
    node.configure("1.0.0", r#"{"type":"one"},{"type":"two"}"#);
    let (cni, identity) = (node.cni(), identity());
    add(&cni, &identity).await.unwrap();

    cni.delete(&identity.pod, None).await.unwrap_err();
    assert_eq!(node.calls()[2..], ["two DEL", "one DEL", "one DEL"], "tried twice");
    assert_eq!(node.records(), 1);
    assert!(node.note("one.DEL.env").contains("CNI_NETNS=\n"));

    // The next daemon pays it, and leaves the living alone.
    node.write("notes/works", "");
    let living = self::identity();
    add(&cni, &living).await.unwrap();
    node.cni().collect(&BTreeSet::from([living.pod.clone()])).await.unwrap();
    assert!(!cni.knows(&identity.pod).unwrap());
    assert!(cni.knows(&living.pod).unwrap());
}

#[tokio::test]
async fn version_1_1_brings_status_and_gc() {
    let node = Node::new();
    node.plugin(
        "one",
        &format!(
            "[ $CNI_COMMAND = STATUS ] && [ -e $N/down ] && \
             echo '{{\"code\":50,\"msg\":\"warming up\"}}' && exit 1\n{RESULT}"
        ),
    );
    node.write(
        "net.d/10-net.conflist",
        r#"{"cniVersion":"0.4.0","cniVersions":["1.0.0","1.1.0"],"name":"net",
            "plugins":[{"type":"one"}]}"#,
    );
    let (cni, identity) = (node.cni(), identity());
    cni.ready().await.unwrap();
    node.write("notes/down", "");
    let error = cni.ready().await.unwrap_err();
    assert!(error.chain().contains("warming up"), "{}", error.chain());

    cni.collect(&BTreeSet::from([identity.pod.clone()])).await.unwrap();
    let gc: Value = serde_json::from_str(&node.note("one.GC")).unwrap();
    assert_eq!(gc["cniVersion"], "1.1.0");
    assert_eq!(gc["cni.dev/valid-attachments"][0]["containerID"], identity.pod.as_str());
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let node = Node::new();
    let cni = node.cni();
    let reason = async || cni.ready().await.unwrap_err().chain();
    assert!(reason().await.contains("no CNI configuration in"));
    assert!(!cni.is_configured().unwrap());

    node.configure("1.0.0", r#"{"type":"nowhere"}"#);
    assert!(reason().await.contains("plugin nowhere is not in"));

    node.configure("1.0.0", r#"{"type":"old"}"#);
    node.plugin("old", "");
    let old = r#"echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}'"#;
    let path = node.write("bin/old", &format!("#!/bin/sh\n{old}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(reason().await.contains("old speaks 0.3.1, 0.4.0, network net needs 1.0.0"));

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o757)).unwrap();
    assert!(reason().await.contains("must be writable by root only"));

    node.write("net.d/00-first.conf", "{");
    assert!(reason().await.contains("00-first.conf"));
}

#[tokio::test]
async fn a_pod_name_that_would_forge_an_argument_is_refused() {
    let node = Node::new();
    node.plugin("one", RESULT);
    node.configure("1.0.0", r#"{"type":"one"}"#);
    for name in ["a;K8S_POD_NAMESPACE=kube-system", "a\nb", "a=b"] {
        let identity = PodIdentity { name: name.to_owned(), ..identity() };
        let error = add(&node.cni(), &identity).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }
    assert!(node.calls().is_empty());
}

/// A host of its own with Debian's plugins, and a pod in it.
struct DebianNode {
    host: Netns,
    pod: Netns,
    node: Arc<Node>,
    identity: PodIdentity,
}

impl DebianNode {
    fn new(more_plugins: &str) -> Self {
        let node = Arc::new(Node::new());
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"ct-net","plugins":[
            {{"type":"bridge","bridge":"ct-br1","isGateway":true,
              "ipam":{{"type":"host-local","dataDir":"{}","ranges":[[{{"subnet":"10.66.0.0/24"}}]],
                       "routes":[{{"dst":"0.0.0.0/0"}}]}}}}{more_plugins}]}}"#,
            node.path("ipam").display()
        );
        node.write("net.d/10-net.conflist", &text);
        Self { host: Netns::new(), pod: Netns::for_pod(), node, identity: identity() }
    }

    /// Runs one call of a daemon that has just started, in the host's namespace.
    fn call<T: Send + 'static>(
        &self,
        call: impl AsyncFnOnce(Cni, PodIdentity, PathBuf) -> Result<T> + Send + 'static,
    ) -> T {
        let (cni, identity, netns) = (self.node.cni(), self.identity.clone(), self.pod.path());
        self.host.run(move || block_on(call(cni, identity, netns))).unwrap()
    }

    fn add(&self, arguments: Value) -> Attachment {
        self.call(async move |cni, identity, netns| {
            cni.ready().await?;
            cni.add(&identity, &netns, arguments.as_object().cloned().unwrap_or_default()).await
        })
    }

    fn delete(&self) {
        self.call(async |cni, identity, netns| cni.delete(&identity.pod, Some(&netns)).await);
    }
}

#[test]
fn debians_plugins_give_a_pod_its_network_and_take_it_back() {
    let world = DebianNode::new(r#",{"type":"tuning","sysctl":{"net.core.somaxconn":"333"}}"#);
    let attachment = world.add(json!({}));

    assert_eq!(attachment.addresses, ["10.66.0.2/24".parse().unwrap()]);
    assert!(world.pod.ip("addr show eth0").contains("10.66.0.2/24"));
    assert!(world.pod.ip("route").contains("default via 10.66.0.1"));
    assert_eq!(world.pod.command("sysctl -n net.core.somaxconn").trim(), "333");
    let cable = attachment.host_interface.unwrap();
    assert!(world.host.ip("link").contains(&cable));

    world.call(async |cni, identity, netns| cni.check(&identity.pod, &netns).await);
    world.pod.ip("addr flush dev eth0");
    let error = world.call(async |cni, identity, netns| {
        Ok(cni.check(&identity.pod, &netns).await.unwrap_err().chain())
    });
    assert!(error.contains("CNI plugin bridge CHECK"), "{error}");

    world.delete();
    assert!(!world.host.ip("link").contains(&cable));
    assert!(!world.pod.ip("link").contains("eth0"));
    assert!(!world.node.path("ipam/ct-net/10.66.0.2").exists(), "the address is given back");
}

#[test]
fn debians_portmap_publishes_a_port_and_takes_it_back() {
    let world = DebianNode::new(r#",{"type":"portmap","capabilities":{"portMappings":true}}"#);
    let outside = Netns::new();
    world.host.cable(&outside, "wan", ["10.1.0.1/24", "10.1.0.2/24"]);
    world.add(json!({"portMappings":
        [{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":""}]}));

    let listener = world.pod.run(|| std::net::TcpListener::bind(("0.0.0.0", 80)).unwrap());
    outside.run(|| std::net::TcpStream::connect(("10.1.0.1", 8080)).unwrap());
    listener.accept().unwrap();

    world.delete();
    assert!(!world.host.command("iptables-save -t nat").contains("10.66.0.2"));
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    // One thread: what it executes starts in this thread's network namespace.
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
