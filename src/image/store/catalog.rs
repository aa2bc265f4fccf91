//! The images and layers that are there, as one value that readers take without a lock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::record::{Image, ImageId, Layer, LayerKey};
use crate::id::is_hex;
use crate::image::digest::Digest;
use crate::image::reference::Reference;

#[derive(Debug, Clone, Default)]
pub(super) struct Catalog {
    pub(super) images: HashMap<ImageId, Arc<Image>>,
    pub(super) layers: HashMap<LayerKey, Arc<Layer>>,
}

impl Catalog {
    /// Finds an image by whole id, name, digest, bare hex id or unambiguous prefix of one.
    pub(super) fn resolve(&self, text: &str) -> Option<&Arc<Image>> {
        if let Ok(id) = ImageId::parse(text)
            && let Some(image) = self.images.get(&id)
        {
            return Some(image);
        }
        // A name wins over a prefix: `cafe` may be both.
        if let Ok(reference) = Reference::parse(text)
            && let Some(image) = self.named(&reference)
        {
            return Some(image);
        }
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        if !is_hex(prefix) {
            return None;
        }
        let mut matches = self.images.values().filter(|image| image.id.hex().starts_with(prefix));
        match (matches.next(), matches.next()) {
            (Some(image), None) => Some(image),
            _ => None,
        }
    }

    fn named(&self, reference: &Reference) -> Option<&Arc<Image>> {
        if let Some(digest) = reference.digest() {
            let name = reference.digested_name(digest);
            return self.images.values().find(|image| image.digests.contains(&name));
        }
        let name = reference.tagged_name()?;
        self.images.values().find(|image| image.tags.contains(&name))
    }

    /// The directory that can serve a layer of this DiffID on this chain, if there is one.
    pub(super) fn layer(&self, diff_id: &Digest, chain: &Digest) -> Option<LayerKey> {
        let own = LayerKey::of(diff_id);
        let bound = LayerKey::of(chain);
        match self.layers.get(&own) {
            Some(layer) if !layer.is_bound_to_base || own == bound => Some(own),
            _ => self.layers.contains_key(&bound).then_some(bound),
        }
    }

    /// The layers no image stands on.
    pub(super) fn unused_layers(&self) -> Vec<LayerKey> {
        let used: HashSet<&LayerKey> =
            self.images.values().flat_map(|image| &image.layers).collect();
        self.layers.keys().filter(|key| !used.contains(key)).cloned().collect()
    }

    pub(super) fn next_generation(&self) -> u64 {
        self.images.values().map(|image| image.generation).max().unwrap_or(0) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::config::ImageConfig;

    fn image(seed: &str, tags: &[&str], digests: &[&str]) -> Arc<Image> {
        let digest = Digest::of(seed.as_bytes());
        Arc::new(Image {
            id: ImageId::new(digest.clone()),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            digests: digests.iter().map(|&name| name.to_owned()).collect(),
            manifest: digest,
            layers: Vec::new(),
            size: 1,
            config: ImageConfig::default(),
            annotations: Default::default(),
            tagged_at: None,
            generation: 1,
            unsynced: None,
            pinned: false,
        })
    }

    fn catalog(images: &[&Arc<Image>]) -> Catalog {
        let images = images.iter().map(|&image| (image.id.clone(), Arc::clone(image))).collect();
        Catalog { images, layers: HashMap::new() }
    }

    #[test]
    fn an_image_answers_to_all_its_names() {
        let digest = Digest::of(b"index");
        let a = image(
            "a",
            &["docker.io/library/web:latest"],
            &[&format!("docker.io/library/web@{digest}")],
        );
        let b = image("b", &["quay.io/a/web:v1"], &[]);
        let catalog = catalog(&[&a, &b]);

        let id = a.id.to_string();
        for name in [
            "web",
            "web:latest",
            "docker.io/library/web",
            &format!("web@{digest}"),
            &format!("web:other@{digest}"),
            &id,
            a.id.hex(),
            &a.id.hex()[..12],
            &id[..19],
        ] {
            assert_eq!(catalog.resolve(name).map(|image| &image.id), Some(&a.id), "{name}");
        }
        for name in
            ["web:v1", "quay.io/a/web", "", "sha256:", "ffffffffffff", "../web", "web@sha256:0"]
        {
            assert!(catalog.resolve(name).is_none(), "{name}");
        }
    }

    #[test]
    fn an_image_is_called_as_it_was_asked_for_if_that_is_its_name() {
        let digest = format!("docker.io/library/web@{}", Digest::of(b"index"));
        let a =
            image("a", &["docker.io/library/web:1", "docker.io/library/web:latest"], &[&digest]);
        for (wanted, called) in [
            ("web", "docker.io/library/web:latest"),
            (digest.as_str(), digest.as_str()),
            ("other", "docker.io/library/web:1"),
            (&a.id.hex()[..12], "docker.io/library/web:1"),
            ("", "docker.io/library/web:1"),
        ] {
            assert_eq!(a.name_like(wanted), called, "{wanted}");
        }
        let nameless = image("b", &[], &[]);
        assert_eq!(nameless.name_like("web"), nameless.id.to_string());
    }

    #[test]
    fn an_ambiguous_prefix_is_nobody() {
        let images: Vec<_> = (0..17).map(|n| image(&n.to_string(), &[], &[])).collect();
        let catalog = catalog(&images.iter().collect::<Vec<_>>());
        // Of 17 ids two begin with the same of 16 digits.
        let first = |image: &Arc<Image>| image.id.hex()[..1].to_owned();
        let shared = images
            .iter()
            .map(first)
            .find(|digit| images.iter().filter(|image| first(image) == *digit).count() > 1)
            .unwrap();
        assert!(catalog.resolve(&shared).is_none());
    }

    #[test]
    fn a_layer_bound_to_its_base_serves_only_that_base() {
        let diff_id = Digest::of(b"layer");
        let chain = Digest::of(b"chain");
        let mut catalog = Catalog::default();
        let layer = |is_bound_to_base| {
            Arc::new(Layer {
                diff_id: diff_id.clone(),
                size: 1,
                inodes: 1,
                is_bound_to_base,
                describes_root: false,
                unsynced: None,
            })
        };
        assert_eq!(catalog.layer(&diff_id, &chain), None);

        catalog.layers.insert(LayerKey::of(&diff_id), layer(true));
        assert_eq!(catalog.layer(&diff_id, &chain), None);
        assert_eq!(catalog.layer(&diff_id, &diff_id), Some(LayerKey::of(&diff_id)));

        catalog.layers.insert(LayerKey::of(&chain), layer(true));
        assert_eq!(catalog.layer(&diff_id, &chain), Some(LayerKey::of(&chain)));

        catalog.layers.insert(LayerKey::of(&diff_id), layer(false));
        assert_eq!(catalog.layer(&diff_id, &chain), Some(LayerKey::of(&diff_id)));
    }
}
