//! A directory of blobs that a client has, by calls on its session: caches of the type `local`.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use cais_proto::buildkit::content::content_client::ContentClient;
use cais_proto::buildkit::content::{
    InfoRequest, ReadContentRequest, ReadContentResponse, WriteAction, WriteContentRequest,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Streaming};

use super::errors::failed_call;
use super::session::Session;
use super::wire::{Caller, LARGEST_MESSAGE};
use crate::error::{Context, Error, Kind, Result};
use crate::image::ImageStore;
use crate::image::cache::{Records, Sink, Source, config_of, put_document};
use crate::image::digest::Digest;
use crate::image::local::LocalLayer;
use crate::image::manifest::{LARGEST_DOCUMENT, LayerBlob};
use crate::image::pieces::{Archive, Pieces};

const METHOD: &str = "/containerd.services.content.v1.Content/Read";
/// Of the client: the metadata that names the directory.
const STORE: &str = "buildkit-attachable-store-id";
/// Messages that are not on their way yet.
const BACKLOG: usize = 2;

/// One of a client's directories.
#[derive(Clone)]
pub(super) struct Directory {
    session: Arc<Session>,
    name: MetadataValue<Ascii>,
}

impl Directory {
    /// # Errors
    /// `InvalidArgument` if the client has none.
    pub(super) fn of(session: &Arc<Session>, path: &str) -> Result<Self> {
        if !session.offers(METHOD) {
            return Err(Error::invalid("the client has no directory for a cache"));
        }
        let name = MetadataValue::try_from(format!("local:{path}"));
        let name = name.context("the path of a cache").kind(Kind::InvalidArgument)?;
        Ok(Self { session: session.clone(), name })
    }

    fn client(&self) -> ContentClient<Caller> {
        let client = ContentClient::with_origin(self.session.caller(), Caller::origin());
        client.max_decoding_message_size(LARGEST_MESSAGE)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(STORE, self.name.clone());
        request
    }

    async fn read(&self, digest: &Digest) -> Result<Streaming<ReadContentResponse>> {
        let message = ReadContentRequest { digest: digest.to_string(), offset: 0, size: 0 };
        let answer = self.client().read(self.request(message)).await;
        Ok(answer.map_err(|status| failed_call(&status))?.into_inner())
    }

    async fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let (mut document, mut pieces) = (Vec::new(), self.read(digest).await?);
        while let Some(piece) = pieces.message().await.map_err(|status| failed_call(&status))? {
            document.extend_from_slice(&piece.data);
            if document.len() > LARGEST_DOCUMENT {
                return Err(Error::invalid(format!("{digest} is larger than 4 MiB")));
            }
        }
        match digest.mismatch(&document) {
            None => Ok(document),
            Some(found) => Err(Error::invalid(format!("{digest} has the digest {found}"))),
        }
    }

    async fn write(&self, digest: &Digest, size: i64, mut pieces: Pieces) -> Result<()> {
        let (messages, outgoing) = mpsc::channel(BACKLOG);
        let base = WriteContentRequest {
            r#ref: digest.to_string(),
            total: size,
            expected: digest.to_string(),
            ..WriteContentRequest::default()
        };
        let writing = async move {
            let mut offset = 0;
            loop {
                let (action, data) = match pieces.recv().await {
                    Some(piece) => (WriteAction::Write, piece?),
                    None => (WriteAction::Commit, Bytes::new()),
                };
                let length = i64::try_from(data.len()).unwrap_or_default();
                let message =
                    WriteContentRequest { action: action.into(), offset, data, ..base.clone() };
                // The answer tells why nothing more is wanted.
                if messages.send(message).await.is_err() || action == WriteAction::Commit {
                    return Ok::<(), Error>(());
                }
                offset += length;
            }
        };
        let answering = async {
            let request = self.request(ReceiverStream::new(outgoing));
            let answer = self.client().write(request).await;
            let mut answer = answer.map_err(|status| failed_call(&status))?.into_inner();
            let mut committed = false;
            while let Some(said) = answer.message().await.map_err(|status| failed_call(&status))? {
                committed |= said.action() == WriteAction::Commit;
            }
            match committed {
                true => Ok(()),
                false => Err(Error::new(Kind::Cancelled, "the client broke it off")),
            }
        };
        let (written, answered) = tokio::join!(writing, answering);
        written.and(answered)
    }
}

impl Sink for Directory {
    fn has<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<bool>> {
        async move {
            let message = InfoRequest { digest: digest.to_string() };
            match self.client().info(self.request(message)).await {
                Ok(_) => Ok(true),
                Err(status) if status.code() == Code::NotFound => Ok(false),
                Err(status) => Err(failed_call(&status)),
            }
        }
        .boxed()
    }

    fn put<'a>(
        &'a self,
        digest: &'a Digest,
        size: u64,
        archive: Archive<'a>,
    ) -> BoxFuture<'a, Result<()>> {
        self.write(digest, i64::try_from(size).unwrap_or(i64::MAX), archive()).boxed()
    }

    /// The client names it in its own index.
    fn put_manifest<'a>(&'a self, manifest: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        put_document(self, manifest.to_vec()).boxed()
    }
}

/// A cache in one of a client's directories.
pub(super) struct LocalCache {
    directory: Directory,
    records: Records,
}

impl fmt::Debug for LocalCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalCache").field(&self.directory.name).finish()
    }
}

impl LocalCache {
    /// `digest` is that of the cache's manifest, or index.
    ///
    /// # Errors
    /// `InvalidArgument` if there is none.
    pub(super) async fn open(directory: Directory, digest: &Digest) -> Result<Self> {
        let manifest = directory.document(digest).await.context("read the cache's manifest")?;
        let config = config_of(&manifest)?.ok_or_else(|| Error::invalid("this is no cache"))?;
        let config = directory.document(&config.digest).await;
        let config = config.context("read the cache's configuration")?;
        Ok(Self { records: Records::parse(&config)?, directory })
    }
}

impl Source for LocalCache {
    fn records(&self) -> &Records {
        &self.records
    }

    fn fetch<'a>(
        &'a self,
        store: &'a ImageStore,
        layer: &'a LayerBlob,
    ) -> BoxFuture<'a, Result<LocalLayer>> {
        async move {
            let upload = store.begin_layer(Some(layer.diff_id.clone()))?;
            let mut pieces = self.directory.read(&layer.descriptor.digest).await?;
            while let Some(piece) = pieces.message().await.map_err(|status| failed_call(&status))? {
                if !upload.push(piece.data).await {
                    break;
                }
            }
            upload.finish().await
        }
        .boxed()
    }
}
