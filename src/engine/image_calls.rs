//! What the engine does for the Docker door's images, beside what the store does by itself.

use super::Engine;
use super::actions::ImageAct;
use crate::error::Result;
use crate::image::ImageId;
use crate::image::reference::Reference;

impl Engine {
    /// Gives an image one more name; another image of that name loses it.
    pub(crate) async fn tag_image(&self, id: &ImageId, name: Reference) -> Result<()> {
        self.images().tag(id, name.clone()).await?;
        self.shared.tell_of_image(id, ImageAct::Tag(&name));
        Ok(())
    }

    /// A client brought an image here, or away.
    pub(crate) fn image_done(&self, id: &ImageId, act: ImageAct<'_>) {
        self.shared.tell_of_image(id, act);
    }
}
