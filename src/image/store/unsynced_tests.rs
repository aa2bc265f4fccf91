//! What was built, before it is on the disk and after: by a store that another boot opens, and one of the same boot.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::unsynced_tests::Opened::{AfterCut, AfterKill};
use super::{Boot, ImageId, ImageStore, NewImage, NewLayer, Settings, Stack, StackedLayer};
use crate::image::config::ConfigDocument;
use crate::image::digest::Digest;
use crate::image::manifest::{self, LayerBlob};
use crate::image::reference::Reference;
use crate::image::registry::fake::{Fake, archive, store};
use crate::image::{Credentials, pack};

#[derive(Clone, Copy)]
enum Opened {
    AfterKill,
    AfterCut,
}

/// The store again; what had it may hold it for a moment.
fn open(root: &Path, how: Opened) -> ImageStore {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let boot = match how {
            AfterKill => Boot::now().unwrap(),
            AfterCut => Boot::other(),
        };
        match ImageStore::open_in(boot, &root.join("images"), Settings::default()) {
            Ok(store) => return store,
            Err(error) => assert!(Instant::now() < deadline, "{}", error.chain()),
        }
        std::thread::yield_now();
    }
}

/// A layer of one file, made as a build makes it.
async fn layer(store: &ImageStore, text: &str) -> StackedLayer {
    let site = store.begin_site(&Stack::default(), None, None).unwrap();
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CREATE;
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let file = rustix::fs::openat(site.mount(), "file", flags, mode).unwrap();
    rustix::io::write(&file, text.as_bytes()).unwrap();
    drop(file);
    let layer = site.finish().unwrap();
    layer.settled().await.unwrap();
    layer
}

/// An image of it, which nobody writes out.
async fn image(store: &ImageStore, layer: &StackedLayer, tag: &str) -> ImageId {
    let stored = layer.settled().await.unwrap();
    let document = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [stored.diff_id.to_string()] },
    });
    let document = document.to_string().into_bytes();
    let described = [LayerBlob::plain(stored.diff_id.clone(), 0)];
    let manifest = manifest::write(&document, &described).unwrap();
    let lease = store.shared.layers.leases.take(stored.key.clone());
    let new = NewImage {
        tags: vec![format!("docker.io/library/{tag}")],
        digest: None,
        manifest: (Digest::of(&manifest), manifest),
        values: ConfigDocument::parse(&document).unwrap().config,
        config: (Digest::of(&document), document),
        annotations: Default::default(),
        layers: vec![NewLayer::Present(stored.diff_id, lease)],
        is_synced: false,
    };
    store.shared.commit(&new).unwrap()
}

async fn build(store: &ImageStore, text: &str, tag: &str) -> ImageId {
    image(store, &layer(store, text).await, tag).await
}

fn named(store: &ImageStore, tag: &str) -> Option<ImageId> {
    store.resolve(tag).map(|image| image.id.clone())
}

fn count(root: &Path, part: &str) -> usize {
    fs::read_dir(root.join("images").join(part)).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_built_is_there_after_a_kill_and_gone_after_a_power_cut() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), AfterKill);
    let id = build(&store, "one", "web:1").await;
    drop(store);

    let store = open(temp.path(), AfterKill);
    let image = store.resolve("web:1").unwrap();
    assert_eq!(image.id, id);
    let files = store.open_layer(&image.layers[0]).unwrap();
    assert!(pack::write(&files, Vec::new()).unwrap().windows(3).any(|it| it == b"one"));
    assert!(store.configuration(&image).is_ok());
    drop((files, store));

    let store = open(temp.path(), AfterCut);
    assert!(store.list().is_empty());
    for part in ["images", "layers", "blobs/sha256"] {
        assert_eq!(count(temp.path(), part), 0, "{part}");
    }
    // The same build makes it again.
    assert_eq!(build(&store, "one", "web:1").await, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_out_is_there_after_a_power_cut() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), AfterKill);
    let id = build(&store, "one", "web:1").await;
    store.write_out().await.unwrap();
    // Made after that.
    build(&store, "two", "web:2").await;
    drop(store);

    let store = open(temp.path(), AfterCut);
    assert_eq!((named(&store, "web:1"), named(&store, "web:2")), (Some(id), None));
    assert_eq!((count(temp.path(), "images"), count(temp.path(), "layers")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_written_out_without_anybody_waiting_for_it() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), AfterKill);
    build(&store, "one", "web:1").await;
    store.write_out_soon();
    let is_marked = || store.list().iter().any(|image| image.unsynced.is_some());
    let deadline = Instant::now() + Duration::from_secs(60);
    while is_marked() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    drop(store);
    assert!(named(&open(temp.path(), AfterCut), "web:1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_lost_on_the_disk_when_who_took_it_is_there() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), AfterKill);
    let old = build(&store, "old", "web:1").await;
    store.write_out().await.unwrap();
    let new = build(&store, "new", "web:1").await;
    assert_eq!(named(&store, "web:1"), Some(new.clone()));
    assert!(store.resolve(old.hex()).unwrap().tags.is_empty());
    drop(store);

    let store = open(temp.path(), AfterKill);
    assert_eq!(named(&store, "web:1"), Some(new.clone()));
    drop(store);
    let copy = temp.path().join("copy");
    fs::create_dir_all(copy.join("images")).unwrap();
    let mut copying = std::process::Command::new("cp");
    // The rest is what builds had in the making, and is being removed.
    let parts = ["images", "layers", "blobs"].map(|part| temp.path().join("images").join(part));
    copying.arg("-a").args(parts).arg(copy.join("images"));
    assert!(copying.status().unwrap().success());
    assert_eq!(named(&open(&copy, AfterCut), "web:1"), Some(old.clone()));

    // Written out, or taken away: it does not come back.
    let store = open(temp.path(), AfterKill);
    store.write_out().await.unwrap();
    drop(store);
    let store = open(temp.path(), AfterCut);
    assert_eq!(named(&store, "web:1"), Some(new));
    let newest = build(&store, "newest", "web:1").await;
    store.remove(newest.hex(), Default::default).await.unwrap();
    drop(store);
    assert_eq!(named(&open(temp.path(), AfterKill), "web:1"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_given_or_taken_meanwhile_is_as_the_image() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path(), AfterKill);
    let old = build(&store, "old", "web:1").await;
    store.write_out().await.unwrap();
    let new = build(&store, "new", "web:1").await;
    store.tag(&new, Reference::parse("web:2").unwrap()).await.unwrap();
    // Whose record would be written without the first: the other is there then.
    store.tag(&old, Reference::parse("web:3").unwrap()).await.unwrap();
    let names = |store: &ImageStore| ["web:1", "web:2", "web:3"].map(|tag| named(store, tag));
    let expected = [Some(new.clone()), Some(new), Some(old)];
    assert_eq!(names(&store), expected);
    drop(store);
    assert_eq!(names(&open(temp.path(), AfterCut)), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_image_of_a_layer_that_was_built_is_on_the_disk() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    let made = layer(&store, "shared").await;
    let stored = made.settled().await.unwrap();
    let bytes = pack::write(&store.open_layer(&stored.key).unwrap(), Vec::new()).unwrap();
    let fake = Fake::start(|_, _| None).await;
    fake.content.image("a/web", "v1", &[bytes, archive("etc/b", b"b")]);
    let name = format!("{}/a/web:v1", fake.host);
    let id = store.pull(&name, Credentials::anonymous()).await.unwrap();
    assert_eq!(store.resolve(&name).unwrap().layers[0], stored.key);
    drop((stored, made, store));

    let store = open(temp.path(), AfterCut);
    assert_eq!(named(&store, &name), Some(id));
    assert_eq!(count(temp.path(), "layers"), 2);
}
