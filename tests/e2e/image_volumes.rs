//! The files of an image as a volume of a container.

use cais_proto::runtime::v1::{ImageSpec, Mount};
use tonic::Code;

use crate::node::{BUSYBOX, Node};
use crate::wait::until;

const MARKED: &str = "gcr.io/k8s-staging-cri-tools/test-image-1:latest";
/// Has every kind of link; its base has an /etc/passwd and no /etc/hostname.
const ODD: &str = "cais/odd:latest";
const FAILED: &str = "ImageVolumeMountFailed";

/// As kubelet asks: by the id that the pull answered.
fn volume(container_path: &str, id: &str, image_sub_path: &str) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        readonly: true,
        image: Some(ImageSpec {
            image: id.to_owned(),
            user_specified_image: MARKED.to_owned(),
            ..Default::default()
        }),
        image_sub_path: image_sub_path.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_image_volume_is_read_only_may_be_executed_and_is_reported_with_its_digest() {
    let node = Node::boot().await;
    let id = node.pull(MARKED).await;
    let pod = node.pod("model").run().await;
    let mounts = [volume("/models//one/", &id, ""), {
        let options = vec!["noexec".to_owned(), "noexec".to_owned()];
        Mount { mount_options: options, ..volume("/data", &id, "") }
    }];
    let container = pod.container("main").command(["sleep", "1000"]);
    let container = container.with(|config| config.mounts = mounts.to_vec()).start().await;
    assert_eq!(container.shell("cat /models/one/test-image-1").await, "test-image-1");
    assert_eq!(container.shell("/models/one/bin/echo runs").await, "runs");
    for (script, complaint) in [
        ("touch /models/one/new", "Read-only"),
        ("rm /data/test-image-1", "Read-only"),
        ("/data/bin/echo runs", "Permission denied"),
    ] {
        let refused = container.exec(&["sh", "-c", script]).await;
        assert_ne!(refused.exit_code, 0, "{script}");
        let error = String::from_utf8_lossy(&refused.stderr);
        assert!(error.contains(complaint), "{script}: {error}");
    }
    let flags = container.shell("grep ' /models/one ' /proc/self/mountinfo").await;
    assert!(flags.contains(" ro,nosuid,nodev,"), "{flags}");

    node.restart().await;
    let reported = container.status().await.mounts;
    for asked in &mounts {
        let image = ImageSpec { image_ref: id.clone(), ..asked.image.clone().unwrap() };
        let expected = Mount { image: Some(image), ..asked.clone() };
        assert!(reported.contains(&expected), "{expected:?} is not in {reported:?}");
    }
}

#[tokio::test]
async fn a_sub_path_shows_a_directory_or_a_file_and_links_stay_inside_the_image() {
    let node = Node::boot().await;
    let id = node.pull(ODD).await;
    let pod = node.pod("part").run().await;
    let container = pod.container("main").command(["sleep", "1000"]).with(|config| {
        config.mounts = vec![
            volume("/directory", &id, "odd/opaque"),
            volume("/file", &id, "odd/replaced"),
            volume("/through-link", &id, "odd/link-to-kinds/"),
            volume("/absolute-link", &id, "odd/kinds/absolute"),
        ];
    });
    let container = container.start().await;
    assert_eq!(container.shell("ls /directory; cat /file").await, "c\nnew");
    assert_eq!(container.shell("cat /through-link/file").await, "linked");
    assert_eq!(container.shell("cmp /absolute-link /etc/passwd && echo same").await, "same");
    for path in ["/directory/new", "/through-link/new"] {
        assert_ne!(container.exec(&["touch", path]).await.exit_code, 0, "{path}");
    }
    let mounts = container.shell("cut -d ' ' -f 4,5 /proc/self/mountinfo").await;
    assert!(mounts.contains("/odd/opaque /directory"), "{mounts}");
    assert!(!mounts.contains("/whole"), "{mounts}");
}

#[tokio::test]
async fn an_image_volume_that_cannot_be_is_refused_by_field() {
    let node = Node::boot().await;
    let id = node.pull(ODD).await;
    let pod = node.pod("refused").run().await;
    let absent = format!("sha256:{}", "0".repeat(64));
    let bind = Mount { host_path: "/srv".to_owned(), ..volume("/v", &id, "") };
    let cases = [
        (volume("/v", &id, "odd/nowhere"), Code::InvalidArgument, "odd/nowhere", FAILED),
        (volume("/v", &id, "odd/kinds/upwards"), Code::InvalidArgument, "upwards", FAILED),
        (volume("/v", &id, "odd/kinds/fifo"), Code::InvalidArgument, "neither", FAILED),
        (volume("/v", &id, "../etc"), Code::InvalidArgument, "image_sub_path", FAILED),
        (volume("/v", &id, "/etc"), Code::InvalidArgument, "image_sub_path", FAILED),
        (volume("/v", &absent, ""), Code::NotFound, "not present", FAILED),
        (
            Mount { readonly: false, ..volume("/v", &id, "") },
            Code::InvalidArgument,
            "config.mounts[0].readonly",
            "",
        ),
        (bind, Code::InvalidArgument, "config.mounts[0].host_path", ""),
    ];
    for (mount, code, part, prefix) in cases {
        let container = pod.container("main").command(["true"]);
        let asked = container.with(|config| config.mounts = vec![mount.clone()]);
        let Err(refused) = asked.try_create().await else { panic!("{mount:?} was accepted") };
        assert_eq!(refused.code(), code, "{refused:?}");
        let message = refused.message();
        assert!(message.starts_with(prefix) && message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn an_image_in_a_volume_keeps_its_files_until_the_container_is_removed() {
    let node = Node::boot().await;
    let id = node.pull(MARKED).await;
    node.pull(BUSYBOX).await;
    let pod = node.pod("kept").run().await;
    let container = pod.container("main").command(["sleep", "1000"]);
    let container = container.with(|config| config.mounts = vec![volume("/v", &id, "")]);
    let container = container.start().await;
    let layers = node.home.join("root/images/layers");
    let count = || std::fs::read_dir(&layers).unwrap().count();
    let before = count();

    node.remove_image(MARKED).await;
    assert!(node.image(MARKED).await.is_none());
    node.restart().await;
    assert_eq!(container.shell("cat /v/test-image-1").await, "test-image-1");
    assert_eq!(count(), before, "a layer in use was removed");

    container.remove().await;
    until("the layer of the removed image to go", async || count() < before).await;
}
