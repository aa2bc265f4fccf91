//! The calls about images.

use std::collections::HashMap;
use std::sync::Arc;

use cais_proto::runtime::v1::{
    FilesystemIdentifier, FilesystemUsage, ImageFilter, ImageFsInfoRequest, ImageFsInfoResponse,
    ImageStatusRequest, ImageStatusResponse, ListImagesRequest, ListImagesResponse,
    PullImageRequest, PullImageResponse, RemoveImageRequest, RemoveImageResponse,
    StreamImagesRequest, StreamImagesResponse, UInt64Value,
};

use super::convert::{check, image};
use super::parts::{self, Parts};
use super::{Cri, fits};
use crate::api::call::about;
use crate::error::Result;
use crate::image::Image;

impl Cri {
    pub(super) fn list_images(&self, request: ListImagesRequest) -> Result<ListImagesResponse> {
        let ListImagesRequest { filter } = request;
        let found = self.images_of(filter)?;
        fits(ListImagesResponse { images: found.iter().map(|it| image::image(it)).collect() })
    }

    pub(super) fn stream_images(
        &self,
        request: StreamImagesRequest,
    ) -> Result<Parts<StreamImagesResponse>> {
        let StreamImagesRequest { filter } = request;
        let found = self.images_of(filter)?;
        let wrap = |images| StreamImagesResponse { images };
        Ok(parts::of_entries(found.into_iter().map(|it| image::image(&it)), wrap))
    }

    fn images_of(&self, filter: Option<ImageFilter>) -> Result<Vec<Arc<Image>>> {
        let store = self.engine.images();
        Ok(match image::filter(filter)? {
            Some(name) => store.resolve(&name).into_iter().collect(),
            None => store.list(),
        })
    }

    /// An image that is not there is an empty answer.
    pub(super) fn image_status(&self, request: ImageStatusRequest) -> Result<ImageStatusResponse> {
        let ImageStatusRequest { image, verbose } = request;
        let name = image::reference(image)?;
        about("image", &name);
        let Some(found) = self.engine.images().resolve(&name) else {
            return Ok(ImageStatusResponse { image: None, info: HashMap::new() });
        };
        Ok(ImageStatusResponse {
            image: Some(image::image(&found)),
            info: if verbose { image::info(&found) } else { HashMap::new() },
        })
    }

    pub(super) async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse> {
        let (name, credentials) = image::pull(request)?;
        about("image", &name);
        let image_ref = self.engine.pull_image(&name, credentials).await?;
        Ok(PullImageResponse { image_ref })
    }

    pub(super) async fn remove_image(
        &self,
        request: RemoveImageRequest,
    ) -> Result<RemoveImageResponse> {
        let RemoveImageRequest { image } = request;
        let name = image::reference(image)?;
        about("image", &name);
        self.engine.remove_image(&name).await?;
        Ok(RemoveImageResponse {})
    }

    pub(super) async fn image_fs_info(
        &self,
        request: ImageFsInfoRequest,
    ) -> Result<ImageFsInfoResponse> {
        let ImageFsInfoRequest {} = request;
        let images = self.engine.images().usage();
        let writable = self.engine.writable_usage().await;
        let usage = |path: &std::path::Path, timestamp, bytes, inodes| FilesystemUsage {
            timestamp,
            fs_id: Some(FilesystemIdentifier { mountpoint: check::text(path) }),
            used_bytes: Some(UInt64Value { value: bytes }),
            inodes_used: Some(UInt64Value { value: inodes }),
        };
        let root = &self.engine.config().root;
        Ok(ImageFsInfoResponse {
            image_filesystems: vec![usage(&images.mount_point, now(), images.bytes, images.inodes)],
            container_filesystems: vec![usage(root, writable.at, writable.bytes, writable.inodes)],
        })
    }
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
