use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tokio::sync::mpsc;

use super::{Event, push};
use crate::error::{Error, Kind, Result};
use crate::image::compression::Compression;
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::image::registry::auth::CredentialFields;
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

/// Pushes an image of one layer of noise past these faults, and tells whether the registry has what its manifest says.
async fn stream(faults: &[(&'static str, Fault)]) -> (Uploads, Result<(), Error>) {
    let temp = tempfile::tempdir().unwrap();
    // Who hangs is waited for to the end.
    let hangs = faults.iter().any(|(_, fault)| matches!(fault, Fault::Hanging));
    let store = if hangs { store(temp.path()) } else { patient_store(temp.path()) };
    let registry = Uploads::start(faults, 0).await;
    let name = format!("{}/b/web:v1", registry.host);
    pulled_of(&store, &[3_000_000], &name).await;
    let fields = CredentialFields {
        username: "who".to_owned(),
        password: "secret".to_owned(),
        ..CredentialFields::default()
    };
    let credentials = Credentials::from_fields(fields).unwrap();
    let (events, _told) = mpsc::channel(64);
    let reference = Reference::parse(&name).unwrap();
    let held = store.hold(&name).unwrap();
    let image = held.image.clone();
    let pushed = push(&store, (held, Compression::GZIP), (&reference, &credentials), &events).await;
    if pushed.is_ok() {
        let source = store.sources(&image.layers[0], &registry.host).remove(0).blob();
        let blob = registry.blob(&source.descriptor.digest.to_string()).unwrap();
        assert_eq!(blob.len() as u64, source.descriptor.size);
        let mut archive = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&blob[..]), &mut archive)
            .unwrap();
        assert_eq!(Digest::of(&archive), source.diff_id);
        assert!(archive.len() > 3_000_000);
    }
    (registry, pushed.map(drop))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_sent_while_it_is_compressed_and_what_broke_off_goes_on_with_the_same_bytes() {
    const ALL: &str = "chunked";
    let cut = |after| ("PATCH", Fault::Cut { after });
    // What the layer's PATCH requests say of their part of it, and how many uploads were begun for it.
    for (faults, said, begun) in [
        (&[][..], &[ALL][..], 1),
        (&[cut(1_000_000)], &[ALL, "1000000-"], 1),
        (&[cut(1_000_000), cut(50_000)], &[ALL, "1000000-", "1050000-"], 1),
        (&[("PATCH", Fault::CutForGood { after: 1_000_000 })], &[ALL, ""], 2),
        (&[("PATCH", Fault::Forgotten)], &[ALL, ""], 2),
        // Not one that takes a body of an unknown length.
        (&[("PATCH", Fault::Refused(411, None))], &[ALL, ""], 1),
        (&[("PATCH", Fault::Refused(503, None))], &[ALL, ""], 1),
        (&[("PATCH", Fault::Challenged)], &[ALL, ""], 1),
        (&[("POST", Fault::Challenged)], &[ALL], 2),
        (&[("POST", Fault::Refused(429, Some(0)))], &[ALL], 2),
        // All of it arrived.
        (&[("PATCH", Fault::Silent)], &[ALL], 1),
        (&[("PATCH", Fault::Hanging)], &[ALL], 1),
        (&[("PUT", Fault::Silent)], &[ALL], 1),
        (&[("PUT", Fault::Forgotten)], &[ALL, ""], 2),
    ] {
        let (registry, pushed) = stream(faults).await;
        pushed.unwrap_or_else(|error| panic!("{faults:?}: {}", error.chain()));
        let mut ranges = ranges(&registry);
        // The configuration's.
        assert_eq!(ranges.pop().unwrap(), "", "{faults:?}");
        let is_like = |(range, said): (&String, &&str)| match said.ends_with('-') {
            true => range.starts_with(said),
            false => range == said,
        };
        let is_all = ranges.len() == said.len() && ranges.iter().zip(said).all(is_like);
        assert!(is_all, "{faults:?}: {ranges:?} for {said:?}");
        assert_eq!(registry.seen("POST").len(), begun + 1, "{faults:?}");
    }
    for (method, status) in [("POST", 403), ("POST", 400), ("PATCH", 403)] {
        let (registry, pushed) = stream(&[(method, Fault::Refused(status, None))]).await;
        let error = pushed.unwrap_err().chain();
        assert!(error.contains("TOLD_SO: by the test"), "{method} {status}: {error}");
        assert!(registry.seen(method).len() == 1 && registry.seen("PUT").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_asked_for_the_archives_that_others_have() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    let [one, two] = [Uploads::start(&[], 0).await, Uploads::start(&[], 0).await];
    let [first, second] = [&one, &two].map(|it| format!("{}/b/web:v1", it.host));
    pulled(&store, 1, &first).await;
    let id = store.resolve(&first).unwrap().id.clone();
    store.tag(&id, Reference::parse(&second).unwrap()).await.unwrap();
    pushed(&store, &first).await;
    // As somebody else would have sent it there.
    let layer = store.sources(&store.resolve(&first).unwrap().layers[0], &one.host).remove(0);
    let digest = layer.blob().descriptor.digest.to_string();
    two.have(&digest, one.blob(&digest).unwrap());
    let events = pushed(&store, &second).await;
    assert!(events.iter().any(|it| matches!(it, Event::Present(_))), "{events:?}");
    // The configuration alone.
    assert_eq!(ranges(&two).len(), 1);
}

async fn pulled(store: &ImageStore, layers: usize, name: &str) {
    let sizes: Vec<_> = (0..layers).map(|n| 10_000 + n).collect();
    pulled_of(store, &sizes, name).await;
}

/// An image of one registry, with layers of so many bytes, under a name of another.
async fn pulled_of(store: &ImageStore, layers: &[usize], name: &str) {
    let fake = Fake::start(|_, _| None).await;
    let layers: Vec<_> = layers.iter().map(|size| archive("data", &noise(*size))).collect();
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
