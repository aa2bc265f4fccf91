//! The images that a build stands on: looked for once each, fetched if they are not here.

use std::sync::Arc;

use cais_dockerfile::Platform;
use tokio::sync::OnceCell;

use super::Named;
use super::build::{Build, lock};
use super::built::Built;
use super::key::Key;
use super::plan::{image_platform, runs_here};
use super::progress::Failure;
use crate::engine::actions::ImageAct;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::platform::Platform as ImagePlatform;
use crate::image::reference::Reference;
use crate::image::{Image, Stack};

/// Looked for once, for all that name it.
pub(super) type OneImage = OnceCell<Arc<BaseImage>>;

/// An image that stages are built on or copy from.
pub(super) struct BaseImage {
    /// Or its id, as it was looked for.
    pub(super) name: String,
    pub(super) image: Arc<Image>,
    /// Its configuration.
    pub(super) document: Vec<u8>,
    pub(super) stack: Stack,
}

impl BaseImage {
    /// What another build made, and the store has no image of.
    async fn built(name: &str, built: &Built) -> Result<Self> {
        let (document, held) = built.described().await?;
        let stack = built.stack();
        Ok(Self { name: name.to_owned(), image: held.image.clone(), document, stack })
    }

    /// Of its files.
    pub(super) fn key(&self) -> Digest {
        let layers = self.image.layers.iter().map(|layer| layer.as_str());
        Key::new("image").with_all("layers", layers).finish()
    }
}

/// An image that a build stands on, or copies from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// As it was looked for: a client may mean another one than the Dockerfile says.
    pub(crate) name: Reference,
    pub(crate) platform: String,
    /// Of what the registry has under the name.
    pub(crate) digest: Digest,
}

impl Build {
    /// An image by its name, from its registry if it is not here or is to be asked for anew. All
    /// stages see the same one.
    pub(super) async fn image(
        &self,
        name: &str,
        platform: &Platform,
    ) -> Result<Arc<BaseImage>, Failure> {
        let key = (name.to_owned(), platform.to_string());
        let cell = lock(&self.images).entry(key).or_default().clone();
        cell.get_or_try_init(|| self.resolve(name, platform)).await.cloned()
    }

    async fn resolve(&self, name: &str, platform: &Platform) -> Result<Arc<BaseImage>, Failure> {
        let name = match self.options.named.find(name, platform) {
            Some(Named::Image(reference)) => reference,
            Some(Named::Built(built)) => {
                return Ok(Arc::new(BaseImage::built(name, built).await?));
            }
            Some(Named::Files(_)) => {
                return Err(Error::internal(format!("{name} is files, and no image")).into());
            }
            None => name,
        };
        let is_foreign = runs_here(platform).is_err();
        let present = self.store().resolve(name).filter(|image| {
            let own = &image.config.platform;
            let fits = match (is_foreign, own.architecture.as_str()) {
                (true, architecture) => architecture == platform.architecture,
                (false, "") => true,
                (false, architecture) => {
                    let own = ImagePlatform::new(architecture, own.variant.as_deref());
                    ImagePlatform::host().runs(&own)
                }
            };
            // Of what a client names by its id no registry has another one.
            fits && (!self.options.pulls || name.starts_with("sha256:"))
        });
        let image = match present {
            Some(image) => image,
            None => self.pull(name, Some(platform).filter(|_| is_foreign)).await?,
        };
        let document = self.store().configuration(&image)?;
        let stack = self.store().stack_of(&image)?;
        Ok(Arc::new(BaseImage { name: name.to_owned(), image, document, stack }))
    }

    /// `other`: for another machine.
    async fn pull(&self, name: &str, other: Option<&Platform>) -> Result<Arc<Image>, Failure> {
        let reference = Reference::parse(name)?;
        let credentials = self.client.credentials(reference.registry());
        let credentials = self.unless_cancelled(credentials).await??;
        let pull = match other {
            None => self.store().begin_pull(reference.clone(), credentials),
            Some(other) => {
                let other = image_platform(other);
                self.store().begin_pull_for(other, reference.clone(), credentials)
            }
        };
        // Without us it goes on for whoever asks next.
        let id = self.unless_cancelled(pull.done()).await??;
        self.builder.engine.image_done(&id, ImageAct::Pull(&reference));
        let image = self.store().resolve(&id.to_string());
        Ok(image.ok_or_else(|| Error::not_found(format!("No such image: {name}")))?)
    }
}

/// The digest among an image's that the name's repository has.
pub(super) fn digest_at(name: &Reference, digests: &[String]) -> Option<Digest> {
    let own = digests.iter().filter_map(|known| Reference::parse(known).ok());
    own.filter(|known| known.name() == name.name()).find_map(|known| known.digest().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_digest_for_each_repository() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let digests = [format!("x.io/other@{one}"), format!("docker.io/library/busybox@{two}")];
        let of = |name: &str| digest_at(&Reference::parse(name).unwrap(), &digests);
        assert_eq!((of("x.io/other:v1"), of("busybox")), (Some(one), Some(two)));
        assert_eq!(of("local/made"), None);
    }
}
