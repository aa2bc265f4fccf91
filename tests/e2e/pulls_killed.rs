//! A daemon that is killed while it pulls: an image is whole or absent, and the next pull works.

use std::time::Duration;

use crate::fake_registry::{FakeRegistry, digest, gzip, header};
use crate::node::{BUSYBOX, Node, named};

/// Moments from an early one to one at which most pulls are over. Not random: a failure must come again.
const MOMENTS: [u64; 8] = [1, 5, 10, 20, 35, 60, 100, 170];

fn many_files() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..1000 {
        let content = format!("content of {number}\n").repeat(20);
        let header = header(&format!("file-{number}"), content.len() as u64);
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn an_image_is_whole_or_absent_after_a_kill_at_any_moment() {
    let node = Node::boot().await;
    let registry = FakeRegistry::start().await;
    node.trust(&registry.address);
    let tar = many_files();
    registry.image("many", &gzip(&tar), &digest(&tar), |_| {});
    let reference = registry.reference("many");
    let mut absent = 0;
    for moment in MOMENTS {
        let pull = tokio::time::timeout(Duration::from_millis(moment), node.try_pull(&reference));
        let _ = pull.await;
        node.restart().await;
        match node.image(&reference).await {
            None => absent += 1,
            Some(image) => assert!(image.size > 0, "after {moment} ms: {image:?}"),
        }
        // Whatever was left, it is no obstacle and becomes no part of the image.
        let id = node.pull(&reference).await;
        check_whole(&node, &reference, moment).await;
        node.remove_image(&id).await;
        assert!(node.image(&reference).await.is_none());
    }
    assert!(absent > 0, "no pull was interrupted: the moments are too late");
}

/// Reads every file through a container: busybox of its own, the image mounted as it was unpacked.
async fn check_whole(node: &Node, reference: &str, moment: u64) {
    let directory = unpacked(node, "file-999");
    let directory =
        directory.unwrap_or_else(|| panic!("after {moment} ms {reference} lacks files"));
    for number in 0..1000 {
        let path = directory.join(format!("file-{number}"));
        let content = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("after {moment} ms: {}: {error}", path.display());
        });
        assert_eq!(content, format!("content of {number}\n").repeat(20), "after {moment} ms");
    }
}

/// The directory of the one layer that holds the file.
fn unpacked(node: &Node, file: &str) -> Option<std::path::PathBuf> {
    let mut todo = vec![node.home.join("root")];
    while let Some(directory) = todo.pop() {
        if directory.join(file).exists() {
            return Some(directory);
        }
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
        }
    }
    None
}

#[tokio::test]
async fn other_images_are_untouched_by_a_kill_during_a_pull() {
    let node = Node::boot().await;
    let registry = FakeRegistry::start().await;
    node.trust(&registry.address);
    node.pull(BUSYBOX).await;
    let before = node.image(BUSYBOX).await.unwrap();
    let tar = many_files();
    registry.image("many", &gzip(&tar), &digest(&tar), |_| {});
    let reference = registry.reference("many");
    let pull = node.try_pull(&reference);
    let _ = tokio::time::timeout(Duration::from_millis(20), pull).await;
    node.restart().await;
    assert_eq!(node.image(BUSYBOX).await.unwrap(), before);
    let pod = node.pod("after").run().await;
    assert_eq!(pod.container("main").shell("echo runs").output().await, "runs\n");
}

#[tokio::test]
async fn a_removal_gives_the_space_back() {
    let node = Node::boot().await;
    let registry = FakeRegistry::start().await;
    node.trust(&registry.address);
    let tar = many_files();
    registry.image("many", &gzip(&tar), &digest(&tar), |_| {});
    let id = node.pull(&registry.reference("many")).await;
    assert!(unpacked(&node, "file-1").is_some());
    let request = cais_proto::runtime::v1::RemoveImageRequest { image: Some(named(&id)) };
    node.images().remove_image(request).await.unwrap();
    crate::wait::until("the files to be gone", async || unpacked(&node, "file-1").is_none()).await;
}
