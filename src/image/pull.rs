//! Pulling an image.

use super::store::{ImageId, ImageStore};
use crate::error::{Error, Kind, Result};

pub(crate) use super::registry::auth::{CredentialFields, Credentials};

#[derive(Default)]
pub(super) struct Pulls {}

pub(super) async fn pull(
    _store: &ImageStore,
    reference: &str,
    _credentials: Credentials,
) -> Result<ImageId> {
    Err(Error::new(Kind::Unsupported, format!("pulling {reference} is not there yet")))
}
