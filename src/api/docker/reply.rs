//! Replies: JSON, nothing, and streams that begin before anything is there to say.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Empty, Full, StreamBody};
use hyper::body::{Body as _, Frame};
use serde::Serialize;

use super::peer::Peer;
use crate::error::{Context, Error, Result};

pub(super) type Body = UnsyncBoxBody<Bytes, Error>;

pub(super) type Answer = Result<Response<Body>>;

pub(super) fn json<T: Serialize>(value: &T) -> Answer {
    with_status(StatusCode::OK, value)
}

pub(super) fn created<T: Serialize>(value: &T) -> Answer {
    with_status(StatusCode::CREATED, value)
}

pub(super) fn with_status<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    let mut bytes = serde_json::to_vec(value).context("write the reply")?;
    bytes.push(b'\n');
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    set_type(&mut response, "application/json");
    Ok(response)
}

/// 204: done, and nothing to say.
pub(super) fn nothing() -> Answer {
    Ok(empty(StatusCode::NO_CONTENT))
}

/// 304: it is so already.
pub(super) fn unchanged() -> Answer {
    Ok(empty(StatusCode::NOT_MODIFIED))
}

pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The head goes out at once, the pieces as they come.
pub(super) fn stream(
    media_type: &'static str,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    let frames = pieces.map(|piece| Ok(Frame::data(piece)));
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    set_type(&mut response, media_type);
    response
}

/// As [`stream`], of pieces that may come to a bad end: the connection is then broken off, so that
/// no client takes them for the whole.
pub(super) fn fallible_stream(
    media_type: &'static str,
    mut pieces: tokio::sync::mpsc::Receiver<Result<Bytes>>,
) -> Response<Body> {
    let pieces = futures_util::stream::poll_fn(move |context| pieces.poll_recv(context));
    breakable_stream(media_type, pieces)
}

/// As [`fallible_stream`], of pieces that are made when the client reads them.
pub(super) fn breakable_stream(
    media_type: &'static str,
    pieces: impl Stream<Item = Result<Bytes>> + Send + 'static,
) -> Response<Body> {
    let frames = pieces.map(|piece| piece.map(Frame::data));
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    set_type(&mut response, media_type);
    response
}

pub(super) fn set_type(response: &mut Response<Body>, media_type: &'static str) {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
}

/// A body that is not known to its end ends when its client is gone: it may have nothing to say for
/// a long time, and would not be seen to be talking to nobody.
pub(super) fn while_there(response: Response<Body>, peer: Peer) -> Response<Body> {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| {
        let frames = BodyStream::new(body).take_until(async move { peer.gone().await });
        BodyExt::boxed_unsync(StreamBody::new(frames))
    })
}
