//! Images: how they are pulled, named, listed and removed.

use cais_proto::runtime::v1::{
    ImageFilter, ImageFsInfoRequest, ListImagesRequest, RemoveImageRequest,
};
use serde_json::json;

use crate::fake_registry::{FakeRegistry, MANIFEST, digest, gzip, tar_with};
use crate::node::{BUSYBOX, Node, named};
use crate::streams::{crictl, run};

const TAGS: &str = "gcr.io/k8s-staging-cri-tools/test-image-tags";

#[tokio::test]
async fn an_image_is_found_by_every_name_it_has() {
    let node = Node::boot().await;
    assert!(node.image(BUSYBOX).await.is_none());
    let id = node.pull("busybox").await;
    let image = node.image(BUSYBOX).await.unwrap();
    assert_eq!(image.id, id);
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(image.repo_tags, [BUSYBOX]);
    assert_eq!(image.repo_digests.len(), 1);
    assert!(image.size > 0);
    assert!(!image.pinned);
    let digest = image.repo_digests[0].clone();
    assert!(digest.starts_with("docker.io/library/busybox@sha256:"), "{digest}");
    let hex = id.strip_prefix("sha256:").unwrap();
    for name in ["busybox", "busybox:latest", "library/busybox", &digest, &id, hex, &hex[..12]] {
        let found = node.image(name).await.unwrap_or_else(|| panic!("{name} is not found"));
        assert_eq!(found.id, id, "{name}");
    }
    assert!(node.image("busybox:other").await.is_none());
    assert!(node.image("gcr.io/busybox").await.is_none());
}

#[tokio::test]
async fn an_image_pulled_by_digest_has_no_tag() {
    let node = Node::boot().await;
    node.pull(BUSYBOX).await;
    let digest = node.image(BUSYBOX).await.unwrap().repo_digests[0].clone();
    node.remove_image(BUSYBOX).await;
    assert!(node.all_images().await.is_empty());

    let id = node.pull(&digest).await;
    let image = node.image(&digest).await.unwrap();
    assert_eq!((image.id, image.repo_digests), (id, vec![digest]));
    assert!(image.repo_tags.is_empty(), "{:?}", image.repo_tags);
}

#[tokio::test]
async fn tags_of_one_image_are_one_image() {
    let node = Node::boot().await;
    let mut ids = Vec::new();
    for tag in ["1", "2", "3"] {
        ids.push(node.pull(&format!("{TAGS}:{tag}")).await);
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let images = node.all_images().await;
    assert_eq!(images.len(), 1);
    let mut tags = images[0].repo_tags.clone();
    tags.sort();
    assert_eq!(tags, ["1", "2", "3"].map(|tag| format!("{TAGS}:{tag}")));

    // Kubelet removes images by any name it knows, and means the image.
    node.remove_image(&format!("{TAGS}:2")).await;
    assert!(node.all_images().await.is_empty());
    for name in ["1", "2", "3"].map(|tag| format!("{TAGS}:{tag}")).iter().chain([&ids[0]]) {
        assert!(node.image(name).await.is_none(), "{name}");
    }
    node.remove_image(&ids[0]).await;
}

/// Sections may follow what [`Node::boot_asking`] takes.
const PINNED: &str = "[images]\npinned = [\"busybox\"]";

#[tokio::test]
async fn a_pinned_image_is_told_and_stays_until_it_is_no_more_pinned() {
    let node = Node::boot_asking(PINNED).await;
    let id = node.pull(BUSYBOX).await;
    let other = node.pull(&format!("{TAGS}:1")).await;
    let pinned = async |id: &str| node.image(id).await.unwrap().pinned;
    assert!(pinned(&id).await && !pinned(&other).await);
    let digest = node.image(&id).await.unwrap().repo_digests[0].clone();
    for name in [BUSYBOX, "busybox", &digest, &id] {
        let request = RemoveImageRequest { image: Some(named(name)) };
        let refused = node.images().remove_image(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
        for part in [BUSYBOX, "images.pinned"] {
            assert!(refused.message().contains(part), "{refused:?}");
        }
    }
    // What nobody uses goes, but for the pinned.
    let done = run(crictl(&node, &["rmi", "--prune"]), "").await;
    assert!(done.status.success(), "{done:?}");
    assert!(node.image(&other).await.is_none());
    let pod = node.pod("pinned").run().await;
    assert_eq!(pod.container("main").shell("echo runs").output().await, "runs\n");
    pod.remove().await;

    let file = node.home.join("config.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace(PINNED, "")).unwrap();
    node.restart().await;
    assert!(!pinned(&id).await);
    node.remove_image(BUSYBOX).await;
    assert!(node.all_images().await.is_empty());
}

#[tokio::test]
async fn an_index_without_this_machines_platform_is_refused_by_its_name() {
    let node = Node::boot().await;
    let registry = FakeRegistry::start().await;
    node.trust(&registry.address);
    let tar = tar_with("file", b"content");
    registry.image("other", &gzip(&tar), &digest(&tar), |_| {});
    let entry = |architecture: &str| {
        json!({
            "mediaType": MANIFEST, "digest": digest(architecture.as_bytes()), "size": 5,
            "platform": {"architecture": architecture, "os": "linux"},
        })
    };
    registry.put_manifest(
        "other",
        &json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry("s390x"), entry("riscv64")],
        }),
    );
    let refused = node.try_pull(&registry.reference("other")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound, "{refused:?}");
    assert!(refused.message().contains("linux/amd64"), "{refused:?}");
    assert!(node.all_images().await.is_empty());
}

#[tokio::test]
async fn listing_can_be_narrowed_to_one_image() {
    let node = Node::boot().await;
    node.pull(BUSYBOX).await;
    node.pull(&format!("{TAGS}:1")).await;
    let request = ListImagesRequest { filter: Some(ImageFilter { image: Some(named(BUSYBOX)) }) };
    let listed = node.images().list_images(request).await.unwrap().into_inner().images;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].repo_tags, [BUSYBOX]);
    assert_eq!(node.all_images().await.len(), 2);
}

#[tokio::test]
async fn the_space_that_images_take_is_told_and_given_back() {
    let node = Node::boot().await;
    let used = async || {
        let reply = node.images().image_fs_info(ImageFsInfoRequest {}).await.unwrap().into_inner();
        let [images] = &reply.image_filesystems[..] else { panic!("{reply:?}") };
        let path = images.fs_id.as_ref().unwrap().mountpoint.clone();
        assert!(path.starts_with(node.home.to_str().unwrap()), "{path}");
        assert!(images.timestamp > 1_700_000_000_000_000_000, "{}", images.timestamp);
        assert_eq!(reply.container_filesystems.len(), 1);
        (images.used_bytes.unwrap().value, images.inodes_used.unwrap().value)
    };
    let empty = used().await;
    let id = node.pull(BUSYBOX).await;
    let full = used().await;
    assert!(full.0 > empty.0 + 100_000 && full.1 > empty.1 + 20, "{empty:?} {full:?}");
    node.remove_image(&id).await;
    assert_eq!(used().await, empty);
}

#[tokio::test]
async fn the_user_of_an_image_is_told_by_number_or_name() {
    let node = Node::boot().await;
    let of = async |name: &str| {
        let image = format!("gcr.io/k8s-staging-cri-tools/{name}:latest");
        node.pull(&image).await;
        let image = node.image(&image).await.unwrap();
        (image.uid.map(|uid| uid.value), image.username)
    };
    assert_eq!(of("test-image-user-uid").await, (Some(1002), String::new()));
    assert_eq!(of("test-image-user-username").await, (None, "www-data".to_owned()));
    assert_eq!(of("test-image-user-uid-group").await, (Some(1003), String::new()));
    assert_eq!(of("test-image-user-username-group").await, (None, "www-data".to_owned()));
}

#[tokio::test]
async fn every_form_of_layer_is_unpacked_and_runs() {
    let node = Node::boot().await;
    let pod = node.pod("forms").run().await;
    for (name, image) in [
        ("zstd", "registry.k8s.io/cais/zstd:latest"),
        ("plain", "registry.k8s.io/cais/plain:latest"),
        ("platforms", "registry.k8s.io/cais/platforms:latest"),
        ("docker", "docker.io/library/nginx:latest"),
    ] {
        let container = pod.container(name).image(image).shell("echo runs");
        assert_eq!(container.output().await, "runs\n", "{image}");
    }
    let platform = pod.container("marker").image("registry.k8s.io/cais/platforms:latest");
    assert_eq!(platform.shell("ls /amd64 /arm64 2>/dev/null; true").output().await, "/amd64\n");
}

#[tokio::test]
async fn an_absent_image_is_not_found_and_its_removal_succeeds() {
    let node = Node::boot().await;
    for image in ["docker.io/library/no-such:latest", "docker.io/library/busybox:no-such"] {
        let refused = node.try_pull(image).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound, "{refused:?}");
        assert!(refused.message().contains(image), "{refused:?}");
        assert!(node.image(image).await.is_none());
        node.remove_image(image).await;
    }
}

#[tokio::test]
async fn a_container_of_an_absent_image_is_refused() {
    let node = Node::boot().await;
    let pod = node.pod("absent").run().await;
    let id = "sha256:".to_owned() + &"0".repeat(64);
    let request = cais_proto::runtime::v1::CreateContainerRequest {
        pod_sandbox_id: pod.id.clone(),
        config: Some(cais_proto::runtime::v1::ContainerConfig {
            metadata: Some(cais_proto::runtime::v1::ContainerMetadata {
                name: "main".to_owned(),
                attempt: 0,
            }),
            image: Some(named(&id)),
            ..Default::default()
        }),
        sandbox_config: Some(pod.config.clone()),
    };
    let refused = node.runtime().create_container(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound, "{refused:?}");
    assert!(refused.message().contains(&id[..19]), "{refused:?}");
}

#[tokio::test]
async fn an_image_in_use_keeps_its_containers_running_when_removed() {
    let node = Node::boot().await;
    let pod = node.pod("used").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).start().await;
    let id = container.status().await.image_id;
    node.remove_image(&id).await;
    assert_eq!(container.shell("echo still here").await, "still here");
}

#[tokio::test]
async fn twenty_pulls_at_once_are_one_image() {
    let node = Node::boot().await;
    let pulls = (0..20).map(|_| node.pull(BUSYBOX));
    let ids = futures_util::future::join_all(pulls).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(node.all_images().await.len(), 1);
}
