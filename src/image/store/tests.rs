use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::{ImageStore, LayerKey, Settings};
use crate::image::registry::fake::{Fake, Reply, archive, noise, store};
use crate::image::{Credentials, Life, Writable};

async fn pull(store: &ImageStore, fake: &Fake, name: &str) -> super::ImageId {
    store.pull(&format!("{}/{name}", fake.host), Credentials::anonymous()).await.unwrap()
}

/// Opens the store again; the task of a pull that just ended may hold it for a moment.
fn reopen(root: &Path) -> ImageStore {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match ImageStore::open(&root.join("images"), Settings::default()) {
            Ok(store) => return store,
            Err(error) => assert!(Instant::now() < deadline, "{}", error.chain()),
        }
        std::thread::yield_now();
    }
}

fn names(root: &Path, part: &str) -> HashSet<String> {
    let entries = std::fs::read_dir(root.join("images").join(part)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn read(mount: impl AsFd, path: &str) -> Option<Vec<u8>> {
    let fd = rustix::fs::openat(mount, path, OFlags::RDONLY, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(fd), &mut bytes).unwrap();
    Some(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_image_is_there_after_a_restart_and_mounts() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::start(|_, _| None).await;
    let layers = [
        archive("etc/a", b"lower"),
        archive("etc/b", b"b"),
        archive("etc/.wh.b", b""),
        archive("etc/a", b"upper"),
    ];
    fake.content.image("a/web", "v1", &layers);
    let id = pull(&store(temp.path()), &fake, "a/web:v1").await;

    let store = reopen(temp.path());
    let image = store.resolve(id.hex()).unwrap();
    assert_eq!(image.config.user, "7");
    assert_eq!(image.layers.len(), 4);
    assert!(image.size > 0 && image.digests.len() == 1 && store.usage().inodes >= 4);

    let read_only = store.mount(&image, None, None).unwrap();
    assert_eq!(read(&read_only, "etc/a").unwrap(), b"upper");
    assert_eq!(read(&read_only, "etc/b"), None);
    let denied = rustix::fs::openat(&read_only, "new", OFlags::WRONLY | OFlags::CREATE, Mode::RWXU);
    assert_eq!(denied.unwrap_err(), rustix::io::Errno::ROFS);

    let (upper, work) = (temp.path().join("upper"), temp.path().join("work"));
    std::fs::create_dir(&upper).unwrap();
    std::fs::create_dir(&work).unwrap();
    let writable = Some(Writable { upper: &upper, work: &work, life: Life::Short });
    let mount = store.mount(&image, writable, None).unwrap();
    rustix::fs::openat(&mount, "new", OFlags::WRONLY | OFlags::CREATE, Mode::RWXU).unwrap();
    assert!(upper.join("new").exists());
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(&*temp.path().to_string_lossy()), "the host sees the mount");
}

/// Members: a path and either its data or what it is a link to.
fn archive_of(members: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for &(path, kind, text) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o751);
        header.set_uid(7);
        header.set_mtime(1_000_000_000);
        if matches!(kind, tar::EntryType::Link | tar::EntryType::Symlink) {
            builder.append_link(&mut header, path, text).unwrap();
        } else {
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_link_to_a_file_of_a_layer_below_is_one_file_with_it() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};

    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::start(|_, _| None).await;
    let base = archive_of(&[
        ("dir", Directory, ""),
        ("dir/file", Regular, "below"),
        ("dir/soft", Symlink, "nowhere"),
        ("way", Symlink, "dir"),
    ]);
    let links = archive_of(&[
        ("new", Directory, ""),
        ("new/hard", Link, "dir/file"),
        ("again", Link, "dir/file"),
        ("more", Link, "new/hard"),
        ("soft", Link, "dir/soft"),
        ("by-link", Link, "way/file"),
        ("taken", Link, "dir/soft"),
        ("taken", Regular, "mine"),
    ]);
    fake.content.image("a/web", "v1", &[base.clone(), archive("dir/other", b"x"), links]);
    let store = store(temp.path());
    let id = pull(&store, &fake, "a/web:v1").await;

    let image = store.resolve(&id.to_string()).unwrap();
    let mount = store.mount(&image, None, None).unwrap();
    let stat = |name: &str| {
        rustix::fs::statat(&mount, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap()
    };
    let old = stat("dir/file");
    assert_eq!((old.st_nlink, old.st_uid, old.st_mode & 0o7777), (4, 7, 0o751));
    assert_eq!(old.st_mtime, 1_000_000_000);
    for name in ["new/hard", "again", "more"] {
        assert_eq!(stat(name).st_ino, old.st_ino, "{name}");
    }
    assert_eq!(read(&mount, "more").unwrap(), b"below");
    assert_eq!(read(&mount, "taken").unwrap(), b"mine");
    assert_eq!(read(&mount, "by-link").unwrap(), b"below");
    assert_eq!(stat("soft").st_ino, stat("dir/soft").st_ino);
    let soft = rustix::fs::readlinkat(&mount, "soft", Vec::new()).unwrap();
    assert_eq!(soft.to_bytes(), b"nowhere");
    let way = rustix::fs::readlinkat(&mount, "way", Vec::new()).unwrap();
    assert_eq!(way.to_bytes(), b"dir");
    // What only the new names needed looks as it did.
    assert_eq!((stat("dir").st_uid, stat("dir").st_mode & 0o7777), (7, 0o751));
    assert_eq!((stat("new").st_mtime, stat("dir").st_mtime), (1_000_000_000, 1_000_000_000));

    let nothing = archive_of(&[("hard", Link, "dir/nothing")]);
    fake.content.image("a/bad", "v1", &[base, nothing]);
    let name = format!("{}/a/bad:v1", fake.host);
    let error = store.pull(&name, Credentials::anonymous()).await.unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::InvalidArgument);
    assert!(error.chain().contains("hard link to \"dir/nothing\""), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_share_layers_and_removal_gives_back_what_nobody_needs() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::start(|_, _| None).await;
    let base = archive("base", &noise(10_000));
    fake.content.image("a/one", "v1", &[base.clone(), archive("one", b"1")]);
    fake.content.image("a/two", "v1", &[base, archive("two", b"2")]);
    let store = store(temp.path());
    let one = pull(&store, &fake, "a/one:v1").await;
    let fetched = fake.requests("/blobs/").len();
    let two = pull(&store, &fake, "a/two:v1").await;
    assert_eq!(fake.requests("/blobs/").len(), fetched + 2, "the base was fetched again");
    assert_eq!(names(temp.path(), "layers").len(), 3);

    let two_layers: HashSet<LayerKey> =
        store.resolve(&two.to_string()).unwrap().layers.iter().cloned().collect();
    store.remove(&one.to_string(), HashSet::new).await.unwrap();
    assert_eq!(names(temp.path(), "layers").len(), 2);
    // A container still runs on the second image.
    store
        .remove(two.hex(), {
            let it = two_layers.clone();
            || it
        })
        .await
        .unwrap();
    assert!(store.list().is_empty());
    assert_eq!(names(temp.path(), "layers").len(), 2);
    store.sweep(|| two_layers).await.unwrap();
    assert_eq!(names(temp.path(), "layers").len(), 2);
    store.sweep(HashSet::new).await.unwrap();
    assert_eq!(store.usage().bytes, 0);
    for part in ["layers", "images", "blobs/sha256", "ingest"] {
        assert!(names(temp.path(), part).is_empty(), "{part}");
    }
    store.remove(two.hex(), HashSet::new).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_moves_to_the_image_it_names_now() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::start(|_, _| None).await;
    fake.content.image("a/web", "v1", &[archive("f", b"old")]);
    let store = store(temp.path());
    let old = pull(&store, &fake, "a/web:v1").await;
    fake.content.image("a/web", "v1", &[archive("f", b"new")]);
    let new = pull(&store, &fake, "a/web:v1").await;

    let name = format!("{}/a/web:v1", fake.host);
    let check = |store: &ImageStore| {
        assert_eq!(store.resolve(&name).unwrap().id, new);
        let old = store.resolve(&old.to_string()).unwrap();
        assert!(old.tags.is_empty() && old.digests.len() == 1);
    };
    check(&store);
    drop(store);
    check(&reopen(temp.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pulls_share_one_download() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::start(|_, _| None).await;
    let base = archive("base", &noise(2_000_000));
    let digest = fake.content.image("a/one", "v1", &[base.clone(), archive("one", b"1")]).remove(0);
    fake.content.image("a/two", "v1", &[base, archive("two", b"2")]);
    let store = store(temp.path());
    let pulls =
        ["a/one:v1", "a/one:v1", "a/two:v1", "a/two:v1"].map(|name| pull(&store, &fake, name));
    let ids = futures_util::future::join_all(pulls).await;

    assert!(ids[0] == ids[1] && ids[2] == ids[3] && ids[0] != ids[2]);
    assert_eq!(fake.requests(&digest.to_string()).len(), 1);
    assert_eq!(fake.requests("/a/one/manifests").len(), 1);
    assert_eq!(names(temp.path(), "layers").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_that_leaves_does_not_stop_the_pull() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::start(|_, _| None).await;
    fake.content.image("a/web", "v1", &[archive("f", &noise(1_000_000))]);
    let store = store(temp.path());
    let leaving =
        tokio::time::timeout(Duration::from_millis(1), pull(&store, &fake, "a/web:v1")).await;
    assert!(leaving.is_err(), "the pull was too quick for this test");

    let deadline = Instant::now() + Duration::from_secs(20);
    while store.list().is_empty() {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_layer_stops_the_others_and_the_next_pull_works() {
    let temp = tempfile::tempdir().unwrap();
    let big = archive("big", &noise(3_000_000));
    let small = archive("small", b"x");
    let is_broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let switch = std::sync::Arc::clone(&is_broken);
    let fake = Fake::start(move |request, content| {
        if !switch.load(std::sync::atomic::Ordering::Relaxed) || !request.path.contains("/blobs/") {
            return None;
        }
        let mut reply = content.answer(request);
        match reply.body.len() {
            0..1000 if request.path.contains("blobs") && !reply.body.starts_with(b"{") => {
                Some(Reply::new(404, ""))
            }
            1_000_000.. => {
                reply.cut = Some(500_000);
                reply.hang = true;
                Some(reply)
            }
            _ => None,
        }
    })
    .await;
    fake.content.image("a/web", "v1", &[big, small]);
    let store = store(temp.path());
    let name = format!("{}/a/web:v1", fake.host);
    store.pull(&name, Credentials::anonymous()).await.unwrap_err();

    is_broken.store(false, std::sync::atomic::Ordering::Relaxed);
    store.pull(&name, Credentials::anonymous()).await.unwrap();
    assert_eq!(names(temp.path(), "layers").len(), 2);
}

/// What a kill can leave, at each step of a pull or a removal.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_drops_what_a_kill_left_and_keeps_whole_images() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::start(|_, _| None).await;
    fake.content.image("a/kept", "v1", &[archive("f", b"1")]);
    fake.content.image("a/torn", "v1", &[archive("f", b"2")]);
    let (kept, torn) = {
        let store = store(temp.path());
        (pull(&store, &fake, "a/kept:v1").await, pull(&store, &fake, "a/torn:v1").await)
    };
    let images = temp.path().join("images");
    let torn_layer = {
        let store = reopen(temp.path());
        images.join("layers").join(store.resolve(torn.hex()).unwrap().layers[0].as_str())
    };
    std::fs::rename(&torn_layer, images.join("ingest/half")).unwrap();
    let copy = |from: PathBuf, to: PathBuf| std::fs::copy(from, to).unwrap();
    let orphan = "f".repeat(64);
    copy(images.join("blobs/sha256").join(kept.hex()), images.join("blobs/sha256").join(&orphan));
    std::fs::create_dir(images.join("layers").join(&orphan)).unwrap();
    std::fs::File::create(images.join("images").join(".x.json.new")).unwrap();
    copy(
        images.join("images").join(format!("{}.json", kept.hex())),
        images.join("images/other.json"),
    );

    let store = reopen(temp.path());
    let listed: Vec<_> = store.list().iter().map(|image| image.id.clone()).collect();
    assert_eq!(listed, [kept]);
    let damaged = format!("{}.json.damaged", torn.hex());
    assert!(names(temp.path(), "images").contains(&damaged));
    assert!(!names(temp.path(), "blobs/sha256").contains(&orphan));
    assert!(!names(temp.path(), "layers").contains(&orphan));
    let error = ImageStore::open(&images, Settings::default()).err().unwrap();
    assert_eq!(error.kind(), crate::error::Kind::Busy);
}
