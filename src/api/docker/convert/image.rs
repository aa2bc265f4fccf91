//! Images as Docker's clients read them.

use serde_json::{Value, json};

use super::time;
use crate::api::docker::wire::image::{
    Details, Document, GraphDriver, HistoryItem, Metadata, OldDetails, Removed, RootFs, Step,
    Summary,
};
use crate::engine::image::Removal;
use crate::image::Image;
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, OCI_MANIFEST};
use crate::image::reference::Reference;

/// `docker.io/library/busybox:latest` as `busybox:latest`.
pub(crate) fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar())
}

fn all_familiar(names: &[String]) -> Vec<String> {
    names.iter().map(|name| familiar(name)).collect()
}

pub(crate) fn created(image: &Image) -> i64 {
    image.config.created.as_deref().map_or(0, time::seconds_of)
}

pub(crate) fn summary(image: &Image) -> Summary {
    Summary {
        id: image.id.to_string(),
        parent_id: "",
        repo_tags: all_familiar(&image.tags),
        repo_digests: all_familiar(&image.digests),
        created: created(image),
        size: image.size,
        shared_size: -1,
        labels: image.config.labels.clone(),
        containers: -1,
        manifests: None,
    }
}

/// The manifest that an image of this store has, and what it takes: the documents are kept as they came, layers unpacked.
/// `containers` are the ids of those that are made from it.
pub(crate) fn manifest(
    image: &Image,
    document: &[u8],
    unpacked: u64,
    containers: &[String],
) -> Value {
    let platform = &image.config.platform;
    let descriptor =
        Descriptor::new(media_type(document), image.manifest.clone(), document.len() as u64);
    let mut shown = json!({ "architecture": platform.architecture, "os": platform.os });
    if let Some(variant) = &platform.variant {
        shown["variant"] = variant.as_str().into();
    }
    json!({
        "ID": image.manifest.to_string(),
        "Descriptor": descriptor.to_json(),
        "Available": true,
        "Kind": "image",
        "Size": { "Content": image.size.saturating_sub(unpacked), "Total": image.size },
        "ImageData": {
            "Platform": shown,
            "Containers": containers,
            "Size": { "Unpacked": unpacked },
        },
    })
}

/// As the document names it.
fn media_type(document: &[u8]) -> &'static str {
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let named = serde_json::from_slice::<Value>(document).ok();
    match named.as_ref().and_then(|it| it["mediaType"].as_str()) {
        Some(DOCKER) => DOCKER,
        _ => OCI_MANIFEST,
    }
}

/// What went, in the order of its going.
pub(crate) fn removed(removal: Removal) -> impl Iterator<Item = Removed> {
    let Removal { untagged, deleted } = removal;
    let untagged = untagged.into_iter().map(|name| Removed::Untagged(familiar(&name)));
    untagged.chain(deleted.into_iter().map(Removed::Deleted))
}

pub(crate) fn details(image: &Image, document: Document, layers: &[(Digest, u64)]) -> Details {
    let platform = &image.config.platform;
    Details {
        id: image.id.to_string(),
        repo_tags: all_familiar(&image.tags),
        repo_digests: all_familiar(&image.digests),
        parent: "",
        comment: document.comment.unwrap_or_default(),
        created: image.config.created.clone().unwrap_or_else(|| time::NEVER.to_owned()),
        docker_version: "",
        author: document.author.unwrap_or_default(),
        config: config(document.config),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        os: platform.os.clone(),
        size: image.size,
        graph_driver: GraphDriver::default(),
        root_fs: RootFs {
            kind: "layers",
            layers: layers.iter().map(|(diff_id, _)| diff_id.to_string()).collect(),
        },
        metadata: Metadata {
            last_tag_time: image.tagged_at.map_or_else(|| time::NEVER.to_owned(), time::text),
        },
        old: None,
    }
}

/// As dockerd 28 has it: what the image's configuration says, empty where it says nothing.
pub(crate) fn old_details(document: &mut Document) -> OldDetails {
    let mut all = json!({
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "Tty": false,
        "OpenStdin": false,
        "StdinOnce": false,
        "Env": null,
        "Cmd": null,
        "Image": "",
        "Volumes": null,
        "WorkingDir": "",
        "Entrypoint": null,
        "OnBuild": null,
        "Labels": null,
    });
    if let (Some(all), Some(Value::Object(written))) =
        (all.as_object_mut(), document.container_config.take())
    {
        all.extend(written);
    }
    OldDetails {
        container: document.container.take().unwrap_or_default(),
        container_config: all,
        virtual_size: None,
    }
}

/// The fields that clients look for without asking whether they are there.
fn config(written: Option<Value>) -> Value {
    let mut all = json!({
        "Cmd": null,
        "Entrypoint": null,
        "Env": null,
        "ExposedPorts": null,
        "Labels": null,
        "OnBuild": null,
        "User": "",
        "Volumes": null,
        "WorkingDir": "",
    });
    if let (Some(all), Some(Value::Object(written))) = (all.as_object_mut(), written) {
        all.extend(written);
    }
    all
}

/// The newest first. Only the newest step is an image of its own.
pub(crate) fn history(
    image: &Image,
    steps: Vec<Step>,
    layers: &[(Digest, u64)],
) -> Vec<HistoryItem> {
    let mut sizes = layers.iter().map(|(_, size)| *size);
    let mut items: Vec<_> = steps
        .into_iter()
        .map(|step| HistoryItem {
            id: "<missing>".to_owned(),
            created: step.created.as_deref().map_or(0, time::seconds_of),
            created_by: step.created_by.unwrap_or_default(),
            tags: None,
            size: match step.empty_layer {
                Some(true) => 0,
                Some(false) | None => sizes.next().unwrap_or_default(),
            },
            comment: step.comment.unwrap_or_default(),
        })
        .collect();
    // An image need not tell how it was made.
    items.extend(sizes.map(|size| HistoryItem {
        id: "<missing>".to_owned(),
        created: created(image),
        created_by: String::new(),
        tags: None,
        size,
        comment: String::new(),
    }));
    items.reverse();
    if let Some(newest) = items.first_mut() {
        newest.id = image.id.to_string();
        newest.tags = Some(all_familiar(&image.tags)).filter(|tags| !tags.is_empty());
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageId;
    use crate::image::config::ImageConfig;

    fn image() -> Image {
        let digest = Digest::of(b"image");
        Image {
            id: ImageId::new(digest.clone()),
            tags: vec!["docker.io/library/web:1".into(), "quay.io/a/web:2".into()],
            digests: Vec::new(),
            manifest: digest,
            layers: Vec::new(),
            size: 30,
            config: ImageConfig::default(),
            annotations: Default::default(),
            tagged_at: None,
            generation: 1,
            unsynced: None,
            pinned: false,
        }
    }

    #[test]
    fn history_gives_each_step_that_wrote_something_the_size_of_its_layer() {
        let step = |by: &str, empty: bool| Step {
            created_by: Some(by.to_owned()),
            empty_layer: Some(empty),
            ..Step::default()
        };
        let layers = [10, 20].map(|size| (Digest::of(b"layer"), size));
        let steps = vec![step("ADD", false), step("CMD", true), step("RUN", false)];

        let history = history(&image(), steps, &layers);

        let seen: Vec<_> =
            history.iter().map(|item| (item.created_by.as_str(), item.size)).collect();
        assert_eq!(seen, [("RUN", 20), ("CMD", 0), ("ADD", 10)]);
        assert_eq!(history[0].tags.as_deref().unwrap(), ["web:1", "quay.io/a/web:2"]);
        assert_eq!(history[1].id, "<missing>");
    }
}
