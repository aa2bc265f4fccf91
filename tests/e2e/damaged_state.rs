//! Files of the daemon's own that are damaged: set aside, named in the log, and no harm to the rest.

use std::fs;
use std::path::{Path, PathBuf};

use cais_proto::runtime::v1::{ListContainersRequest, PodSandboxStatusRequest};

use crate::node::{BUSYBOX, Container, Node, Pod, monitors_below};
use crate::wait::until;

/// A node with two pods that run, `good` and `bad`.
struct Pair<'n> {
    good: Pod<'n>,
    bad: Pod<'n>,
    of_good: Container<'n>,
    of_bad: Container<'n>,
}

impl<'n> Pair<'n> {
    async fn run(node: &'n Node) -> Self {
        let (good, bad) = (node.pod("good").run().await, node.pod("bad").run().await);
        let of_good = good.container("main").command(["sleep", "1000"]).start().await;
        let of_bad = bad.container("main").command(["sleep", "1000"]).start().await;
        Self { good, bad, of_good, of_bad }
    }

    /// The daemon starts over the damaged file, says so, and all that it does not concern works.
    async fn survives(&self, node: &Node, file: &Path) {
        damage(node, file).await;
        assert!(self.good.is_ready().await);
        assert_eq!(self.of_good.shell("echo fine").await, "fine");
        let mut taken = Vec::new();
        for id in node.pod_ids().await {
            let request = PodSandboxStatusRequest { pod_sandbox_id: id, verbose: false };
            let status = node.runtime().pod_sandbox_status(request).await.unwrap().into_inner();
            taken.push(status.status.unwrap().network.unwrap().ip);
        }
        let next = node.pod("next").run().await;
        assert!(!taken.contains(&next.ip().await), "an address in use was given again");
        assert_eq!(next.container("main").shell("echo runs").output().await, "runs\n");
        next.remove().await;
    }
}

/// Spoils the file between two daemons; the second must name it.
async fn damage(node: &Node, file: &Path) {
    node.kill();
    assert!(file.exists(), "{}", file.display());
    fs::write(file, "{ this is nothing").unwrap();
    node.start().await;
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(node.log().contains(name), "the log does not name {name}: {}", node.log_tail());
}

fn aside(file: &Path) -> PathBuf {
    file.with_added_extension("damaged")
}

async fn container_ids(node: &Node) -> Vec<String> {
    let listed = node.runtime().list_containers(ListContainersRequest::default()).await.unwrap();
    listed.into_inner().containers.into_iter().map(|container| container.id).collect()
}

#[tokio::test]
async fn a_damaged_pod_record_costs_that_pod_and_leaves_nothing_of_it() {
    let node = Node::boot().await;
    let pair = Pair::run(&node).await;
    let file = node.state.join("pods").join(format!("{}.json", pair.bad.id));
    let monitors = node.state.join("pods").join(&pair.bad.id);
    assert_eq!(monitors_below(&monitors).len(), 1);
    pair.survives(&node, &file).await;
    assert!(aside(&file).exists());
    assert_eq!(node.pod_ids().await, [pair.good.id.as_str()]);
    assert_eq!(container_ids(&node).await, [pair.of_good.id.as_str()]);
    // What ran in it belongs to nobody now.
    until("its monitor to be gone", async || monitors_below(&monitors).is_empty()).await;
}

#[tokio::test]
async fn a_damaged_container_record_costs_that_container() {
    let node = Node::boot().await;
    let pair = Pair::run(&node).await;
    let other = pair.bad.container("other").command(["sleep", "1000"]).start().await;
    let file = node.state.join("containers").join(format!("{}.json", pair.of_bad.id));
    pair.survives(&node, &file).await;
    assert!(aside(&file).exists());
    assert!(!container_ids(&node).await.contains(&pair.of_bad.id));
    assert!(pair.bad.is_ready().await);
    assert_eq!(other.shell("echo fine").await, "fine");
    // The same one can be made again.
    let again = pair.bad.container("main").shell("echo again").output().await;
    assert_eq!(again, "again\n");
    pair.bad.remove().await;
}

#[tokio::test]
async fn a_damaged_lease_is_written_again_for_the_pod_that_has_the_address() {
    let node = Node::boot().await;
    let pair = Pair::run(&node).await;
    let ip = pair.bad.ip().await;
    let file = node.state.join("leases").join(&ip);
    pair.survives(&node, &file).await;
    assert!(aside(&file).exists());
    assert_eq!(pair.bad.ip().await, ip);
    assert_eq!(fs::read_to_string(&file).unwrap(), pair.bad.id);
    pair.bad.remove().await;
    until("the lease to be given back", async || !file.exists()).await;
}

#[tokio::test]
async fn a_damaged_journal_of_events_and_what_an_exec_starts_from_cost_nothing_else() {
    let node = Node::boot().await;
    let pair = Pair::run(&node).await;
    node.kill();
    fs::write(node.state.join("events/current"), "{ this is nothing\n").unwrap();
    node.start().await;
    assert!(node.log().contains("journal"), "{}", node.log_tail());
    assert_eq!(pair.of_bad.shell("echo fine").await, "fine");

    let file = node.state.join("containers").join(format!("{}.process", pair.of_bad.id));
    node.kill();
    fs::write(&file, "nothing").unwrap();
    node.start().await;
    let refused = pair.of_bad.try_exec(&["true"], 10).await.unwrap_err();
    assert!(refused.message().contains(&pair.of_bad.id[..12]), "{refused:?}");
    assert_eq!(pair.of_good.shell("echo fine").await, "fine");
    pair.of_bad.stop(0).await;
    assert_eq!(pair.of_bad.wait_exit().await.code, 137);
    pair.bad.remove().await;
}

/// The only files of this kind below a directory.
fn files_named(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_named(&entry.path(), ending));
        } else if entry.file_name().to_str().is_some_and(|name| name.ends_with(ending)) {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test]
async fn a_damaged_image_or_layer_counts_as_absent_and_is_pulled_again() {
    let node = Node::boot().await;
    let images = node.home.join("root/images");
    for (directory, ending) in [("images", ".json"), ("layers", "meta.json")] {
        let id = node.pull(BUSYBOX).await;
        let files = files_named(&images.join(directory), ending);
        let file = files.first().unwrap();
        node.kill();
        fs::write(file, "{ this is nothing").unwrap();
        node.start().await;
        let named = if directory == "images" { file } else { file.parent().unwrap() };
        assert!(node.log().contains(named.file_name().unwrap().to_str().unwrap()));
        assert!(node.image(BUSYBOX).await.is_none(), "{directory}");
        let set_aside = files_named(&images.join("images"), ".json.damaged");
        assert_eq!(set_aside.len(), 1, "{directory}: {set_aside:?}");
        assert_eq!(node.pull(BUSYBOX).await, id);
        let pod = node.pod(directory).run().await;
        assert_eq!(pod.container("main").shell("echo runs").output().await, "runs\n");
        pod.remove().await;
        node.remove_image(&id).await;
        fs::remove_file(&set_aside[0]).unwrap();
    }
}
