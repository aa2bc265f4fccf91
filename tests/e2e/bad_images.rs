//! Images that are wrong: the error names what, and the disk is as before.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tonic::{Code, Status};

use crate::fake_registry::{FakeRegistry, Pace, digest, gzip, header, tar_with};
use crate::node::Node;

/// Everything below the image directory, except the files of an empty store.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Pulls `name`, which must fail, and compares the disk with what it was.
async fn refused(node: &Node, registry: &FakeRegistry, name: &str) -> Status {
    node.trust(&registry.address);
    let root = node.home.join("root");
    let before = files_below(&root);
    let error = node.try_pull(&registry.reference(name)).await.unwrap_err();
    assert!(node.all_images().await.is_empty());
    crate::wait::until("the disk to be as before", async || files_below(&root) == before).await;
    error
}

async fn set_up() -> (Node, FakeRegistry) {
    (Node::boot().await, FakeRegistry::start().await)
}

#[tokio::test]
async fn an_honest_image_of_the_fake_registry_is_pulled() {
    let (node, registry) = set_up().await;
    let tar = tar_with("file", b"content");
    registry.image("good", &gzip(&tar), &digest(&tar), |_| {});
    node.trust(&registry.address);
    node.pull(&registry.reference("good")).await;
    assert_eq!(node.all_images().await.len(), 1);
}

#[tokio::test]
async fn a_layer_with_another_digest_is_refused() {
    let (node, registry) = set_up().await;
    let tar = tar_with("file", b"content");
    let wrong = digest(b"something else");
    registry.image("wrong", &gzip(&tar), &digest(&tar), |manifest| {
        manifest["layers"][0]["digest"] = wrong.clone().into();
    });
    let error = refused(&node, &registry, "wrong").await;
    assert!(error.message().contains(&wrong[7..19]), "{error:?}");
}

#[tokio::test]
async fn a_layer_that_unpacks_to_another_diff_id_is_refused() {
    let (node, registry) = set_up().await;
    let tar = tar_with("file", b"content");
    registry.image("diff", &gzip(&tar), &digest(b"another tar"), |_| {});
    let error = refused(&node, &registry, "diff").await;
    assert!(error.message().to_lowercase().contains("diff"), "{error:?}");
}

#[tokio::test]
async fn a_layer_of_another_size_is_refused() {
    for (change, how) in [(-1, "more than the"), (1, "ended after")] {
        let (node, registry) = set_up().await;
        let tar = tar_with("file", b"content");
        registry.image("size", &gzip(&tar), &digest(&tar), |manifest| {
            let size = manifest["layers"][0]["size"].as_i64().unwrap();
            manifest["layers"][0]["size"] = (size + change).into();
        });
        let error = refused(&node, &registry, "size").await;
        assert!(error.message().contains(how), "{error:?}");
        assert!(error.message().contains(&digest(&gzip(&tar))), "{error:?}");
    }
}

#[tokio::test]
async fn a_broken_stream_is_refused() {
    let (node, registry) = set_up().await;
    let tar = tar_with("file", &[7; 100_000]);
    let mut layer = gzip(&tar);
    let middle = layer.len() / 2;
    layer.truncate(middle);
    registry.image("broken", &layer, &digest(&tar), |_| {});
    let error = refused(&node, &registry, "broken").await;
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    assert!(error.message().contains(&digest(&layer)), "{error:?}");
}

#[tokio::test]
async fn a_layer_that_grows_out_of_proportion_is_refused() {
    let (node, registry) = set_up().await;
    let mut tar = header("bomb", 200_000_000).as_bytes().to_vec();
    tar.resize(tar.len() + 200_000_000, 0);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    let layer = gzip(&tar);
    assert!(layer.len() < 1_000_000, "{}", layer.len());
    registry.image("bomb", &layer, &digest(&tar), |_| {});
    let error = refused(&node, &registry, "bomb").await;
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    for part in ["decompression bomb", &digest(&layer)] {
        assert!(error.message().contains(part), "{error:?}");
    }
}

#[tokio::test]
async fn members_that_point_outside_are_refused_and_named() {
    let outside = Path::new("/run/cais-e2e-escaped");
    for name in ["../../../../../../../../run/cais-e2e-escaped", "/run/cais-e2e-escaped"] {
        let (node, registry) = set_up().await;
        let tar = tar_with(name, b"escaped");
        registry.image("escape", &gzip(&tar), &digest(&tar), |_| {});
        let error = refused(&node, &registry, "escape").await;
        assert!(!outside.exists(), "{name} was written to the host");
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
        assert!(error.message().contains(name), "{error:?}");
    }
}

#[tokio::test]
async fn a_link_to_the_host_is_not_followed() {
    let (node, registry) = set_up().await;
    let mut builder = tar::Builder::new(Vec::new());
    let mut link = header("way", 0);
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_link_name("/run").unwrap();
    link.set_cksum();
    builder.append(&link, &[][..]).unwrap();
    builder.append(&header("way/cais-e2e-followed", 3), &b"out"[..]).unwrap();
    let tar = builder.into_inner().unwrap();
    registry.image("link", &gzip(&tar), &digest(&tar), |_| {});
    node.trust(&registry.address);
    let _ = node.try_pull(&registry.reference("link")).await;
    assert!(!Path::new("/run/cais-e2e-followed").exists());
}

#[tokio::test]
async fn a_registry_that_cannot_be_reached_is_named() {
    let node = Node::boot().await;
    node.trust("127.0.0.1:1");
    let error = node.try_pull("127.0.0.1:1/none:latest").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    assert!(error.message().contains("127.0.0.1:1"), "{error:?}");
}

#[tokio::test]
async fn a_pull_over_its_deadline_is_answered_at_once() {
    let (node, registry) = set_up().await;
    node.trust(&registry.address);
    let tar = tar_with("file", &[7; 1_000_000]);
    let layer = gzip(&tar);
    registry.image("slow", &layer, &digest(&tar), |_| {});
    let blob = format!("/v2/slow/blobs/{}", digest(&layer));
    registry.pace(&blob, Pace::Stalling(100));
    let reference = registry.reference("slow");
    let mut request = tonic::Request::new(cais_proto::runtime::v1::PullImageRequest {
        image: Some(crate::node::named(&reference)),
        ..Default::default()
    });
    request.set_timeout(Duration::from_secs(1));
    let started = Instant::now();
    let error = node.images().pull_image(request).await.unwrap_err();
    assert!(matches!(error.code(), Code::DeadlineExceeded | Code::Cancelled), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    // It goes on for whoever asks next, and is no image before its end.
    assert!(node.image(&reference).await.is_none());
}

/// What the slow registries below are pulled with, and the longest a refusal may take: five tries of two seconds, and the
/// pauses between them.
const IMPATIENT: &str = "patience_secs = 2";
const BOUND: Duration = Duration::from_secs(30);

async fn refused_as_slow(pace: Pace, part: &str) {
    let node = Node::boot_asking(IMPATIENT).await;
    let registry = FakeRegistry::start().await;
    let tar = tar_with("file", &noise(200_000));
    let layer = gzip(&tar);
    registry.image("slow", &layer, &digest(&tar), |_| {});
    let path = match part {
        "manifest" => "/v2/slow/manifests/latest".to_owned(),
        _ => format!("/v2/slow/blobs/{}", digest(&layer)),
    };
    registry.pace(&path, pace);
    let started = Instant::now();
    let error = refused(&node, &registry, "slow").await;
    let waited = started.elapsed();
    assert!(waited < BOUND, "{waited:?}");
    assert!(matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded), "{error:?}");
    assert!(error.message().contains(&registry.address), "{error:?}");
    // Who asks again when it has recovered gets the image.
    registry.pace(&path, Pace::AtOnce);
    node.pull(&registry.reference("slow")).await;
}

/// Bytes that do not compress away.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn a_registry_that_never_answers_is_given_up_and_named() {
    refused_as_slow(Pace::Never, "manifest").await;
}

#[tokio::test]
async fn a_layer_whose_answer_never_begins_is_given_up_and_the_registry_named() {
    refused_as_slow(Pace::Never, "layer").await;
}

#[tokio::test]
async fn a_layer_that_stands_still_is_given_up_and_the_registry_named() {
    refused_as_slow(Pace::Stalling(100), "layer").await;
}

#[tokio::test]
async fn a_layer_that_trickles_is_given_up_and_the_registry_named() {
    refused_as_slow(Pace::Trickling, "layer").await;
}
