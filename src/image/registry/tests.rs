use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;

use super::fake::{Fake, Reply, Request, archive, noise, store};
use crate::error::{Error, Kind};
use crate::image::store::ImageId;
use crate::image::{CredentialFields, Credentials, ImageStore};

const BLOB: &str = "/blobs/sha256:";

async fn pull(store: &ImageStore, fake: &Fake) -> Result<ImageId, Error> {
    store.pull(&format!("{}/a/web:v1", fake.host), Credentials::anonymous()).await
}

/// Nothing of a failed pull may stay.
fn assert_untouched(store: &ImageStore, root: &Path) {
    assert!(store.list().is_empty());
    assert_eq!(store.usage().bytes, 0);
    for part in ["layers", "images", "blobs/sha256"] {
        let left = std::fs::read_dir(root.join("images").join(part)).unwrap().count();
        assert_eq!(left, 0, "{part}");
    }
    // What was being unpacked is removed beside.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while std::fs::read_dir(root.join("images/ingest")).unwrap().count() > 0 {
        assert!(std::time::Instant::now() < deadline, "ingest is not emptied");
        std::thread::yield_now();
    }
}

fn is_blob(request: &Request, size: usize, content: &super::fake::Content) -> bool {
    request.path.contains(BLOB) && content.answer(request).body.len() > size
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_are_resumed_where_they_broke() {
    for ignores_ranges in [false, true] {
        let temp = tempfile::tempdir().unwrap();
        let count = AtomicUsize::new(0);
        let fake = Fake::start(move |request, content| {
            let mut request = request.clone();
            if ignores_ranges {
                request.headers.remove("range");
            }
            let mut reply = content.answer(&request);
            if request.path.contains(BLOB) && reply.body.len() > 1000 {
                // Each connection of a server without ranges must get further than the last.
                let step =
                    if ignores_ranges { 1 + count.fetch_add(1, Ordering::Relaxed) } else { 1 };
                reply.cut = Some(100_000 * step);
            }
            Some(reply)
        })
        .await;
        let data = noise(500_000);
        fake.content.image("a/web", "v1", &[archive("data", &data)]);
        let store = store(temp.path());
        let id = pull(&store, &fake).await.unwrap();

        let image = store.resolve(&id.to_string()).unwrap();
        let layer = temp.path().join("images/layers").join(image.layers[0].as_str());
        assert_eq!(std::fs::read(layer.join("fs/data")).unwrap(), data);
        let resumed = fake.requests(BLOB);
        let resumed = resumed.iter().filter(|request| request.header("range").is_some()).count();
        assert!(resumed >= 4, "{resumed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_does_wrong_is_named_and_leaves_nothing() {
    type Fault = fn(&Request, &super::fake::Content) -> Option<Reply>;
    let cases: [(Fault, Kind, &str); 9] = [
        (
            |request, content| {
                let mut reply = content.answer(request);
                let last = reply.body.last_mut().filter(|_| is_blob(request, 2000, content))?;
                *last ^= 1;
                Some(reply)
            },
            Kind::InvalidArgument,
            "layer sha256",
        ),
        (
            |request, content| {
                let other = archive("data", b"another blob");
                is_blob(request, 2000, content).then(|| Reply::new(200, other))
            },
            Kind::Unavailable,
            "the blob ended after",
        ),
        (
            |request, content| {
                let mut reply = content.answer(request);
                reply.body.extend_from_slice(&[0; 10]);
                is_blob(request, 2000, content).then_some(reply)
            },
            Kind::InvalidArgument,
            "more than the",
        ),
        (
            |request, content| {
                let mut reply = content.answer(request);
                reply.cut = Some(50);
                reply.hang = true;
                is_blob(request, 2000, content).then_some(reply)
            },
            Kind::Unavailable,
            "too slow",
        ),
        (
            |request, _| request.path.contains("manifests").then(|| Reply::new(404, "")),
            Kind::NotFound,
            "not found",
        ),
        (|_, _| Some(Reply::new(429, "slow down")), Kind::Exhausted, "limits the rate"),
        (|_, _| Some(Reply::new(503, "")), Kind::Unavailable, "503"),
        (
            |request, content| {
                let mut reply = content.answer(request);
                reply.body = vec![b' '; 5 << 20];
                request.path.contains("manifests").then_some(reply)
            },
            Kind::InvalidArgument,
            "larger than",
        ),
        (
            |request, _| {
                request
                    .path
                    .contains(BLOB)
                    .then(|| Reply::new(302, "").with("location", "ftp://x/"))
            },
            Kind::Unavailable,
            "redirects",
        ),
    ];
    for (fault, kind, text) in cases {
        let temp = tempfile::tempdir().unwrap();
        let fake = Fake::start(fault).await;
        fake.content.image("a/web", "v1", &[archive("data", &noise(50_000))]);
        let store = store(temp.path());
        let error = pull(&store, &fake).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.chain());
        assert!(error.chain().contains(text), "{text}: {}", error.chain());
        assert!(error.chain().contains("a/web"), "{}", error.chain());
        assert_untouched(&store, temp.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_its_digest_says_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::start(|_, _| None).await;
    let layers = fake.content.image("a/web", "v1", &[archive("data", b"right")]);
    // A valid gzip of a valid archive of the same length, but not the one that was promised.
    let other = fake.content.image("a/other", "v1", &[archive("data", b"wrong")]);
    let wrong = Request { path: format!("/v2/a/other/blobs/{}", other[0]), ..Request::default() };
    let wrong = fake.content.answer(&wrong).body;
    fake.content.put(format!("a/web/blobs/{}", layers[0]), "", &wrong);

    let store = store(temp.path());
    let error = pull(&store, &fake).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{}", error.chain());
    assert!(error.chain().contains("digest"), "{}", error.chain());
    assert_untouched(&store, temp.path());

    let name = format!("{}/a/web@sha256:{}", fake.host, "0".repeat(64));
    fake.content.put(format!("a/web/manifests/sha256:{}", "0".repeat(64)), "", b"{}");
    let error = store.pull(&name, Credentials::anonymous()).await.unwrap_err();
    assert!(error.chain().contains("digest"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_is_unreachable() {
    let temp = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("{}/a/web", listener.local_addr().unwrap());
    drop(listener);
    let error = store(temp.path()).pull(&name, Credentials::anonymous()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.chain().contains("cannot be reached"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_failure_is_tried_again() {
    let temp = tempfile::tempdir().unwrap();
    let count = AtomicUsize::new(0);
    let fake = Fake::start(move |_, _| {
        let fails = count.fetch_add(1, Ordering::Relaxed) % 3 != 2;
        fails.then(|| Reply::new(502, ""))
    })
    .await;
    fake.content.image("a/web", "v1", &[archive("data", b"x")]);
    pull(&store(temp.path()), &fake).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_in_order_and_names_are_kept() {
    let temp = tempfile::tempdir().unwrap();
    let broken = Fake::start(|_, _| Some(Reply::new(404, ""))).await;
    let good = Fake::start(|_, _| None).await;
    good.content.image("library/web", "latest", &[archive("data", b"x")]);
    let directory = temp.path().join("certs.d/docker.io");
    crate::store::private_dir(&directory).unwrap();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n[host.\"http://127.0.0.1:1\"]\n\
         [host.\"http://127.0.0.1:1\".header]\nx-team = \"a\"\n",
        good.host, broken.host
    );
    let files = crate::store::atomic::Directory::open(
        &directory,
        crate::store::atomic::Durability::UntilReboot,
    );
    files.unwrap().replace("hosts.toml", text.as_bytes()).unwrap();

    let store = store(temp.path());
    let fields =
        CredentialFields { username: "u".into(), password: "p".into(), ..Default::default() };
    store.pull("web", Credentials::from_fields(fields).unwrap()).await.unwrap();
    assert_eq!(store.list()[0].tags, ["docker.io/library/web:latest"]);
    assert!(broken.requests("manifests")[0].path.ends_with("?ns=docker.io"));
    assert!(good.requests("ns=").is_empty());
}

fn basic(username: &str, password: &str) -> String {
    let pair = format!("{username}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// A registry that wants a token, and the server that gives it.
async fn guarded() -> Fake {
    Fake::start(|request, _| {
        if request.path.starts_with("/token") {
            let is_password = request.header("authorization") == Some(&basic("u", "p"))
                && request.path.contains("scope=repository%3Aa%2Fweb%3Apull")
                && request.path.contains("service=the+fake");
            let is_refresh =
                request.method == "POST" && request.body.contains("refresh_token=refresh");
            return Some(match is_password || is_refresh {
                true => Reply::new(200, r#"{"access_token":"good","expires_in":300}"#),
                false => Reply::new(401, r#"{"details":"who are you"}"#),
            });
        }
        if request.header("authorization") == Some("Bearer good") {
            return None;
        }
        let realm = format!("http://{}/token", request.header("host").unwrap());
        let challenge = format!(
            "Bearer realm=\"{realm}\",service=\"the fake\",scope=\"repository:a/web:pull\""
        );
        Some(Reply::new(401, "").with("www-authenticate", challenge))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_credentials_opens_a_guarded_registry() {
    let fake = guarded().await;
    fake.content.image("a/web", "v1", &[archive("data", b"x")]);
    let name = format!("{}/a/web:v1", fake.host);
    let empty = CredentialFields::default;
    let good = [
        CredentialFields { username: "u".into(), password: "p".into(), ..empty() },
        CredentialFields {
            auth: basic("u", "p")[6..].into(),
            server_address: fake.host.clone(),
            ..empty()
        },
        CredentialFields { identity_token: "refresh".into(), ..empty() },
        CredentialFields { registry_token: "good".into(), ..empty() },
    ];
    for fields in good {
        let temp = tempfile::tempdir().unwrap();
        let credentials = Credentials::from_fields(fields).unwrap();
        store(temp.path()).pull(&name, credentials).await.unwrap();
    }
    let bad = [
        empty(),
        CredentialFields { username: "u".into(), password: "secret".into(), ..empty() },
        CredentialFields { registry_token: "secret".into(), ..empty() },
        CredentialFields {
            username: "u".into(),
            password: "p".into(),
            server_address: "other".into(),
            ..empty()
        },
    ];
    for fields in bad {
        let temp = tempfile::tempdir().unwrap();
        let credentials = Credentials::from_fields(fields).unwrap();
        let error = store(temp.path()).pull(&name, credentials).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{}", error.chain());
        assert!(!error.chain().contains("secret"), "{}", error.chain());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_to_the_registry_and_not_where_it_redirects() {
    let temp = tempfile::tempdir().unwrap();
    let elsewhere = Fake::start(|_, _| None).await;
    elsewhere.content.image("a/web", "v1", &[archive("data", &noise(9000))]);
    let target = elsewhere.host.clone();
    let fake = Fake::start(move |request, content| {
        if request.header("authorization") != Some(&basic("u", "p")) {
            return Some(Reply::new(401, "").with("www-authenticate", "Basic realm=\"x\""));
        }
        let location = format!("http://{target}{}", request.path);
        is_blob(request, 2000, content).then(|| Reply::new(307, "").with("location", location))
    })
    .await;
    fake.content.image("a/web", "v1", &[archive("data", &noise(9000))]);
    let fields =
        CredentialFields { username: "u".into(), password: "p".into(), ..Default::default() };
    let credentials = Credentials::from_fields(fields).unwrap();
    store(temp.path()).pull(&format!("{}/a/web:v1", fake.host), credentials).await.unwrap();

    let followed = elsewhere.requests(BLOB);
    assert_eq!(followed.len(), 1);
    assert_eq!(followed[0].header("authorization"), None);
}
