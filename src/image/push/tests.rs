use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tokio::sync::mpsc;

use super::{Event, push};
use crate::error::{Kind, Result};
use crate::image::compression::Compression;
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::image::registry::fake::{self, Fake, Reply, archive, noise, patient_store, store};
use crate::image::registry::uploads::{Fault, Uploads};
use crate::image::{Credentials, ImageStore, pieces};

/// Sends one blob past these faults.
async fn send(faults: &[(&'static str, Fault)]) -> (Uploads, Result<()>, bool) {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    let registry = Uploads::start(faults, 0).await;
    let name = Reference::parse(&format!("{}/a/web:v1", registry.host)).unwrap();
    let session = store.shared.registry.session(&name, &Credentials::anonymous()).unwrap();
    let data = noise(500_000);
    let digest = Digest::of(&data);
    let sent = Arc::new(AtomicU64::new(0));
    let blob = || pieces::whole(data.clone());
    let pushed = session.push_blob((&digest, 500_000), &blob, None, &sent).await;
    assert!(sent.load(Ordering::Relaxed) <= 500_000);
    let is_whole = registry.blob(&digest.to_string()) == Some(data);
    (registry, pushed, is_whole)
}

/// The ranges of the PATCH requests.
fn ranges(registry: &Uploads) -> Vec<String> {
    let patches = registry.seen("PATCH");
    patches.iter().map(|it| it.split(' ').nth(2).unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_from_what_the_registry_has_of_it() {
    let cut = |after| ("PATCH", Fault::Cut { after });
    let (registry, pushed, is_whole) = send(&[cut(100_000), cut(50_000), cut(1_000)]).await;
    pushed.unwrap();
    assert!(is_whole);
    assert_eq!(ranges(&registry), ["", "100000-499999", "150000-499999", "151000-499999"]);
    assert_eq!(registry.seen("POST").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_registry_gave_up_begins_anew() {
    for fault in [
        Fault::CutForGood { after: 100_000 },
        Fault::Forgotten,
        Fault::Refused(416, None),
        Fault::Refused(503, Some(0)),
    ] {
        let (registry, pushed, is_whole) = send(&[("PATCH", fault)]).await;
        pushed.unwrap_or_else(|error| panic!("{fault:?}: {}", error.chain()));
        assert!(is_whole, "{fault:?}");
        assert_eq!(ranges(&registry), ["", ""], "{fault:?}");
    }
    let (registry, pushed, is_whole) = send(&[("PUT", Fault::Forgotten)]).await;
    pushed.unwrap();
    assert!(is_whole && registry.seen("POST").len() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_without_an_answer_is_not_sent_again() {
    for faults in [
        &[("PATCH", Fault::Silent)][..],
        &[("PATCH", Fault::Hanging)],
        &[("PATCH", Fault::Silent), ("GET", Fault::Silent)],
        &[("PUT", Fault::Silent)],
        &[("PUT", Fault::Hanging)],
        &[("PUT", Fault::Refused(502, None))],
        &[("POST", Fault::Refused(429, Some(0)))],
    ] {
        let (registry, pushed, is_whole) = send(faults).await;
        pushed.unwrap_or_else(|error| panic!("{faults:?}: {}", error.chain()));
        assert!(is_whole, "{faults:?}");
        assert_eq!(ranges(&registry), [""], "{faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_a_push_with_the_registrys_words_and_patience_ends_too() {
    for (method, status, kind) in [
        ("POST", 400, Kind::Unavailable),
        ("PATCH", 403, Kind::Denied),
        ("PUT", 400, Kind::Unavailable),
    ] {
        let (registry, pushed, is_whole) = send(&[(method, Fault::Refused(status, None))]).await;
        let error = pushed.unwrap_err();
        assert_eq!(error.kind(), kind, "{method}");
        assert!(error.chain().contains("TOLD_SO: by the test"), "{}", error.chain());
        assert!(!is_whole && registry.seen(method).len() == 1, "{method}");
    }
    let busy = [("POST", Fault::Refused(429, Some(0))); 3];
    let (registry, pushed, _) = send(&busy).await;
    assert_eq!(pushed.unwrap_err().kind(), Kind::Exhausted);
    assert_eq!(registry.seen("POST").len(), 3);
    // Fewer bytes each than count as progress.
    let (registry, pushed, _) = send(&[("PATCH", Fault::Cut { after: 10 }); 3]).await;
    assert_eq!(pushed.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(registry.seen("PATCH").len(), 3);
}

/// An image of one registry under a name of another.
async fn pulled(store: &ImageStore, layers: usize, name: &str) {
    let fake = Fake::start(|_, _| None).await;
    let layers: Vec<_> = (0..layers).map(|n| archive("data", &noise(10_000 + n))).collect();
    fake.content.image("a/web", "v1", &layers);
    let from = format!("{}/a/web:v1", fake.host);
    let id = store.pull(&from, Credentials::anonymous()).await.unwrap();
    store.tag(&id, Reference::parse(name).unwrap()).await.unwrap();
}

async fn pushed(store: &ImageStore, name: &str) -> Vec<Event> {
    let (events, mut told) = mpsc::channel(64);
    let reference = Reference::parse(name).unwrap();
    let held = store.hold(name).unwrap();
    push(store, (held, Compression::GZIP), (&reference, &Credentials::anonymous()), &events)
        .await
        .unwrap();
    drop(events);
    let mut all = Vec::new();
    while let Some(event) = told.recv().await {
        all.push(event);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn four_layers_are_on_their_way_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let store = patient_store(temp.path());
    let registry = Uploads::start(&[], 4).await;
    let name = format!("{}/b/web:v1", registry.host);
    pulled(&store, 6, &name).await;
    let events = pushed(&store, &name).await;
    assert_eq!(registry.most_together(), 4);
    let done = events.iter().filter(|it| matches!(it, Event::Pushed(_))).count();
    assert_eq!(done, 6, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_has_elsewhere_is_mounted_as_it_is_there_and_else_sent_by_the_same_upload()
{
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    let registry = Uploads::start(&[], 0).await;
    let [one, two, three] =
        ["one", "two", "three"].map(|it| format!("{}/b/{it}:v1", registry.host));
    pulled(&store, 2, &one).await;
    let id = store.resolve(&one).unwrap().id.clone();
    for name in [&two, &three] {
        store.tag(&id, Reference::parse(name).unwrap()).await.unwrap();
    }
    let events = pushed(&store, &one).await;
    assert!(events.iter().all(|it| !matches!(it, Event::Mounted(..))), "{events:?}");
    let sent = ranges(&registry).len();

    registry.let_mount("b/one");
    registry.forget_blobs();
    let events = pushed(&store, &two).await;
    let mounted =
        events.iter().filter(|it| matches!(it, Event::Mounted(_, from) if from == "b/one"));
    assert_eq!(mounted.count(), 2, "{events:?}");
    // The configuration alone.
    assert_eq!(ranges(&registry).len(), sent + 1);

    registry.let_mount("nothing");
    registry.forget_blobs();
    let before = registry.seen("POST").len();
    let events = pushed(&store, &three).await;
    let done = events.iter().filter(|it| matches!(it, Event::Pushed(_))).count();
    assert_eq!(done, 2, "{events:?}");
    // Two layers and the configuration: no upload was begun in vain.
    assert_eq!(registry.seen("POST").len(), before + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_came_compressed_is_mounted_so_and_the_image_keeps_its_id() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    let fake = Fake::start(|request, _| match request.method.as_str() {
        "POST" if request.path.contains("from=a%2Fweb") => Some(Reply::new(201, "")),
        "POST" => Some(Reply::new(202, "").with("location", "/v2/upload")),
        "PATCH" => Some(Reply::new(202, "").with("location", "/v2/upload")),
        "PUT" => Some(Reply::new(201, "")),
        _ => None,
    })
    .await;
    let layers = [archive("one", &noise(1_000)), archive("two", &noise(2_000))];
    let digests = fake.content.image("a/web", "v1", &layers);
    let from = format!("{}/a/web:v1", fake.host);
    let id = store.pull(&from, Credentials::anonymous()).await.unwrap();
    // Known after a restart, too.
    drop(store);
    let store = fake::store(temp.path());
    let name = format!("{}/b/web:v1", fake.host);
    store.tag(&id, Reference::parse(&name).unwrap()).await.unwrap();
    let events = pushed(&store, &name).await;
    let mounted = events.iter().filter(|it| matches!(it, Event::Mounted(..))).count();
    assert_eq!(mounted, 2, "{events:?}");

    let put = fake.requests("b/web/manifests/v1").remove(0);
    let manifest: Value = serde_json::from_str(&put.body).unwrap();
    assert_eq!(manifest["config"]["digest"], id.to_string());
    for (layer, digest) in manifest["layers"].as_array().unwrap().iter().zip(&digests) {
        assert_eq!(layer["digest"], digest.to_string());
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    }
    // They go with their layers.
    store.remove(&name, HashSet::new).await.unwrap();
    let left = std::fs::read_dir(temp.path().join("images/sources")).unwrap().count();
    assert_eq!(left, 0);
}
