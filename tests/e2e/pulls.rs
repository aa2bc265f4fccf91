//! How layers travel: several at once, unpacked as they come, shared by who needs them, and on from where a connection broke.

use std::path::Path;

use crate::bad_images::noise;
use crate::cutting::{Cut, Cutting};
use crate::fake_registry::{FakeRegistry, Pace, digest, gzip, header, tar_with};
use crate::node::Node;
use crate::wait::until;

#[tokio::test]
async fn a_broken_download_goes_on_by_range_where_it_broke() {
    let node = Node::boot().await;
    let registry = std::env::var("CAIS_REGISTRY").expect("run hack/e2e");
    let cutting = Cutting::start(registry, Cut::Answers(200_000)).await;
    node.trust(&cutting.address);
    let image = format!("{}/library/busybox:latest", cutting.address);
    node.pull(&image).await;
    let ranges = cutting.ranges();
    assert!(ranges.len() >= 2, "the layer came whole: {ranges:?}");
    assert!(ranges.is_sorted_by(|one, next| one + 100_000 < *next), "{ranges:?}");
    let pod = node.pod("resumed").run().await;
    assert_eq!(pod.container("main").image(&image).shell("echo runs").output().await, "runs\n");
}

/// Files of noise, so that the compressed layer is as long as the plain one.
fn files(count: usize) -> Vec<u8> {
    let content = noise(10_000);
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..count {
        let mut own = number.to_be_bytes().to_vec();
        own.extend_from_slice(&content);
        builder.append(&header(&format!("file-{number}"), own.len() as u64), &own[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Every regular file below a directory.
fn all_files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(all_files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_two_images_share_is_fetched_once_beside_the_others_and_unpacked_as_it_comes()
{
    let node = Node::boot().await;
    let registry = FakeRegistry::start().await;
    node.trust(&registry.address);
    let base = files(300);
    let (one, two) = (tar_with("one", b"1"), tar_with("two", b"2"));
    registry.image_of("one", &[base.clone(), one.clone()]);
    registry.image_of("two", &[base.clone(), two.clone()]);
    let compressed = gzip(&base);
    let [base, one, two] = [&base, &one, &two].map(|tar| digest(&gzip(tar)));
    for name in ["one", "two"] {
        let blob = format!("/v2/{name}/blobs/{base}");
        registry.pace(&blob, Pace::Gated(compressed.len() / 2));
    }
    let root = node.home.join("root");
    let named = |name: &str| all_files(&root).iter().any(|path| path.ends_with(name));
    let images = ["one", "two"].map(|name| registry.reference(name));
    let both = async { tokio::join!(node.pull(&images[0]), node.pull(&images[1])) };
    let meanwhile = async {
        // Each image has come to its own layer while the one below is still on its way.
        let begun = || [&base, &one, &two].iter().all(|digest| registry.requests(digest) == 1);
        until("all layers to be asked for", async || begun()).await;
        until("the first files", async || named("file-50")).await;
        assert!(!named("file-299"));
        for path in all_files(&root) {
            let bytes = std::fs::read(&path).unwrap_or_default();
            assert!(!compressed.starts_with(&bytes) || bytes.is_empty(), "{path:?} is a copy");
        }
        assert!(node.all_images().await.is_empty());
        registry.open_gate();
    };
    let ((first, second), ()) = tokio::join!(both, meanwhile);
    assert_ne!(first, second);
    assert_eq!(registry.requests(&base), 1, "the shared layer was fetched again");
    assert!(named("file-299"));
    let copies = all_files(&root).iter().filter(|path| path.ends_with("file-299")).count();
    assert_eq!(copies, 1, "the shared layer was unpacked twice");
    node.remove_image(&first).await;
    assert!(named("file-299"), "the other image needs it");
    node.remove_image(&second).await;
    until("the space to be free", async || !named("file-299")).await;
}
