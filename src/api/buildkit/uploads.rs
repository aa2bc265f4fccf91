//! Archives that a client has as its context, by a call on its session.

use cais_proto::buildkit::upload::upload_client::UploadClient;
use tonic::Request;
use tonic::metadata::MetadataValue;

use super::errors::failed_call;
use super::session::Session;
use super::wire::{Caller, LARGEST_MESSAGE};
use crate::builder::{Builder, Context};
use crate::error::{Context as _, Error, Kind, Result};

const METHOD: &str = "/moby.upload.v1.Upload/Pull";
/// Of the client: the metadata that names the archive.
const NAME: &str = "urlpath";

/// Unpacks an archive while it comes.
pub(super) async fn receive(session: &Session, name: &str, builder: &Builder) -> Result<Context> {
    if !session.offers(METHOD) {
        return Err(Error::invalid("the client has no archive"));
    }
    let mut request = Request::new(tokio_stream::empty());
    let path = MetadataValue::try_from(format!("/{name}"));
    let path = path.context("metadata").kind(Kind::InvalidArgument)?;
    request.metadata_mut().insert(NAME, path);
    let client = UploadClient::with_origin(session.caller(), Caller::origin());
    let mut client = client.max_decoding_message_size(LARGEST_MESSAGE);
    let answer = client.pull(request).await.map_err(|status| failed_call(&status))?;
    let mut answer = answer.into_inner();
    let upload = builder.begin_context()?;
    while let Some(message) = answer.message().await.map_err(|status| failed_call(&status))? {
        if !upload.push(message.data).await {
            break;
        }
    }
    upload.finish().await
}
