//! Images that come from no registry: of layers that are made here, or read from an archive.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::config::ConfigDocument;
use super::digest::Digest;
use super::manifest::{self, LayerBlob};
use super::pieces::PieceWriter;
use super::store::{Lease, NewImage, NewLayer, Staged, blocking};
use super::unpack::{Blob, Limits, Piece, unpack};
use super::{Image, ImageId, ImageStore, chain_id};
use crate::error::{Context, Error, Result};

/// Pieces of an archive that wait to be unpacked.
const PIECES: usize = 4;

/// One layer of an image that is being put together; it stays as long as this lives.
pub(crate) struct LocalLayer(Source);

enum Source {
    Present(Digest, Lease),
    Made(Arc<Staged>),
}

impl LocalLayer {
    pub(crate) fn diff_id(&self) -> &Digest {
        match &self.0 {
            Source::Present(diff_id, _) => diff_id,
            Source::Made(staged) => staged.diff_id(),
        }
    }

    pub(super) fn into_new(self) -> NewLayer {
        match self.0 {
            Source::Present(diff_id, lease) => NewLayer::Present(diff_id, lease),
            Source::Made(staged) => NewLayer::Unpacked(staged),
        }
    }
}

/// A layer whose archive is still coming. Dropped before its end, nothing of it is left.
pub(crate) struct LayerUpload {
    pieces: mpsc::Sender<Piece>,
    unpacking: JoinHandle<Result<LocalLayer>>,
}

impl LayerUpload {
    /// False if nothing more is wanted: [`Self::finish`] tells why.
    pub(crate) async fn push(&self, bytes: Bytes) -> bool {
        self.pieces.send(Piece::Bytes(bytes)).await.is_ok()
    }

    /// For who ends it with [`Piece::End`].
    pub(super) fn pieces(&self) -> &mpsc::Sender<Piece> {
        &self.pieces
    }

    /// For a thread that may block.
    pub(crate) fn writer(&self) -> impl Write + Send + use<> {
        PieceWriter::buffered(self.pieces.clone(), Piece::Bytes)
    }

    pub(crate) async fn finish(self) -> Result<LocalLayer> {
        // Who unpacks no more tells why.
        let _ = self.pieces.send(Piece::End).await;
        drop(self.pieces);
        self.unpacking.await.context("unpack a layer")?
    }
}

impl ImageStore {
    /// Begins to unpack a layer as its archive comes, plain or compressed. With `diff_id` it must
    /// turn out to be that one.
    pub(crate) fn begin_layer(&self, diff_id: Option<Digest>) -> Result<LayerUpload> {
        let staging = Arc::new(self.shared.layers.stage()?);
        let (pieces, received) = mpsc::channel(PIECES);
        let unpacking = tokio::spawn(async move {
            let blob = Blob::new(received);
            let unpacked = unpack(blob, &staging, diff_id.as_ref(), Limits::default()).await?;
            Ok(LocalLayer(Source::Made(Arc::new(Staged::new(staging, unpacked)))))
        });
        Ok(LayerUpload { pieces, unpacking })
    }

    /// The layers of an image, the base first.
    pub(crate) fn layers_of(&self, image: &Image) -> Result<Vec<LocalLayer>> {
        let mut chain = None;
        let diff_ids = self.layer_sizes(image);
        diff_ids
            .into_iter()
            .map(|(diff_id, _)| {
                let here = chain_id(chain.as_ref(), &diff_id);
                let found = self.find_layer(&diff_id, &here);
                chain = Some(here);
                found.with_context(|| format!("layer {diff_id} of image {}", image.id))
            })
            .collect()
    }

    /// A layer that is here already and stands on the base that its chain names.
    pub(crate) fn find_layer(&self, diff_id: &Digest, chain: &Digest) -> Option<LocalLayer> {
        let lease = self.shared.lease_layer(diff_id, chain)?;
        Some(LocalLayer(Source::Present(diff_id.clone(), lease)))
    }

    /// Makes an image of a configuration document and its layers, under these names.
    ///
    /// # Errors
    /// `InvalidArgument` if the document is none, or is about other layers.
    pub(crate) async fn assemble(
        &self,
        config: Vec<u8>,
        layers: Vec<LocalLayer>,
        tags: Vec<String>,
    ) -> Result<ImageId> {
        self.put_together(config, layers, tags, true).await
    }

    /// The same of layers that were built, and without waiting for the disk: a power cut takes the image if it comes before
    /// all of it is written.
    pub(crate) async fn assemble_unsynced(
        &self,
        config: Vec<u8>,
        layers: Vec<LocalLayer>,
        tags: Vec<String>,
    ) -> Result<ImageId> {
        let assembled = self.put_together(config, layers, tags, false).await;
        self.write_out_soon();
        assembled
    }

    async fn put_together(
        &self,
        config: Vec<u8>,
        layers: Vec<LocalLayer>,
        tags: Vec<String>,
        is_synced: bool,
    ) -> Result<ImageId> {
        let document = ConfigDocument::parse(&config)?;
        if !document.diff_ids.iter().eq(layers.iter().map(LocalLayer::diff_id)) {
            return Err(Error::invalid("the image's configuration is about other layers"));
        }
        // No registry has seen it: how large its archives would be is not known.
        let described: Vec<_> =
            layers.iter().map(|layer| LayerBlob::plain(layer.diff_id().clone(), 0)).collect();
        let manifest = manifest::write(&config, &described)?;
        let config = (Digest::of(&config), config);
        let layers = layers.into_iter().map(LocalLayer::into_new).collect();
        let new = NewImage {
            tags,
            digest: None,
            manifest: (Digest::of(&manifest), manifest),
            config,
            values: document.config,
            annotations: Default::default(),
            layers,
            is_synced,
        };
        let store = self.clone();
        blocking(move || store.shared.commit(&new)).await
    }
}
