//! Names that people give to images that are there, and take away.

use std::sync::Arc;

use jiff::Timestamp;

use super::Shared;
use super::catalog::Catalog;
use super::record::{Image, ImageId};
use crate::error::{Error, Result};
use crate::image::reference::Reference;

impl Shared {
    pub(super) fn tag(&self, id: &ImageId, name: &Reference) -> Result<()> {
        let (Some(tag), None) = (name.tagged_name(), name.digest()) else {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        };
        if self.writing_out.has_lost(id) {
            // Its record is about to be written without the name.
            self.write_out()?;
        }
        let _changes = self.lock_changes();
        let mut catalog = Catalog::clone(&self.catalog());
        let Some(image) = catalog.images.get(id) else {
            return Err(Error::not_found(format!("No such image: {id}")));
        };
        let mut changed = Image::clone(image);
        changed.tagged_at = now();
        if !changed.tags.contains(&tag) {
            changed.tags.push(tag.clone());
        }
        changed.generation = catalog.next_generation();
        self.rename(&mut catalog, changed)?;
        self.take_tag(&mut catalog, &tag, id)?;
        self.catalog.store(Arc::new(catalog));
        Ok(())
    }

    /// A digest goes with its repository's last name; a name that nobody has is fine.
    pub(super) fn untag(&self, name: &Reference) -> Result<()> {
        let _changes = self.lock_changes();
        let mut catalog = Catalog::clone(&self.catalog());
        let Some(image) = catalog.resolve(&name.to_string()) else { return Ok(()) };
        // The name goes from all records that still have it.
        self.settle_losses(&catalog, |_| true)?;
        let mut changed = Image::clone(image);
        match name.digest() {
            Some(digest) => changed.digests.retain(|known| *known != name.digested_name(digest)),
            None => changed.tags.retain(|known| Some(known) != name.tagged_name().as_ref()),
        }
        changed.generation = catalog.next_generation();
        self.rename(&mut catalog, changed)?;
        self.catalog.store(Arc::new(catalog));
        Ok(())
    }

    fn rename(&self, catalog: &mut Catalog, mut image: Image) -> Result<()> {
        image.pinned = self.is_pinned(&image.tags);
        self.put(&image)?;
        catalog.images.insert(image.id.clone(), Arc::new(image));
        Ok(())
    }
}

/// For [`Image::tagged_at`].
pub(super) fn now() -> Option<i64> {
    i64::try_from(Timestamp::now().as_nanosecond()).ok()
}
