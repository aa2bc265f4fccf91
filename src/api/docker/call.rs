//! One request, taken apart.

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;

use super::peer::Peer;
use super::query::Query;
use super::unread::Unread;
use crate::error::{Context, Error, Kind, Result};

/// A request for a container with thousands of variables and mounts is smaller.
const LARGEST_JSON: usize = 4 << 20;

/// A body of no more bytes is read before its request is looked at.
const SMALL: u64 = 64 << 10;

/// What a resource gets to see of a request; its path is in the route.
pub(super) struct Call {
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    /// The second number of the version that the client knows. None: the newest.
    minor: Option<u32>,
    body: Either<Full<Bytes>, Unread>,
    pub(super) peer: Option<Peer>,
    /// The connection itself, once an upgrade was answered.
    upgrade: OnUpgrade,
}

impl Call {
    /// Reads a small body whole; what is left of a larger one when the answer is there is [`Unread`].
    ///
    /// # Errors
    /// `InvalidArgument` if the body breaks off.
    pub(super) async fn of(mut request: Request<Incoming>) -> Result<Self> {
        let upgrade = hyper::upgrade::on(&mut request);
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let minor = minor(request.uri().path(), request.headers());
        let peer = request.extensions_mut().remove::<Peer>();
        let (head, body) = request.into_parts();
        let is_small = body.size_hint().upper().is_some_and(|most| most <= SMALL);
        let body = if is_small {
            let whole = body.collect().await;
            let whole = whole.context("read the request body").kind(Kind::InvalidArgument)?;
            Either::Left(Full::new(whole.to_bytes()))
        } else {
            Either::Right(Unread::new(body))
        };
        Ok(Self { query, headers: head.headers, minor, body, peer, upgrade })
    }

    /// Whether version 1.`minor` of the API is newer than the one that the client knows.
    pub(super) fn is_before(&self, minor: u32) -> bool {
        self.minor.is_some_and(|own| own < minor)
    }

    /// Whether docker's own command line asks.
    pub(super) fn is_dockers_own(&self) -> bool {
        agent(&self.headers).is_some_and(|it| it.starts_with("Docker-Client/"))
    }

    /// The connection, if the client wants it to change hands, and what is left of the call.
    pub(super) fn split_upgrade(mut self) -> (Option<OnUpgrade>, Self) {
        let mut nothing = Request::new(());
        let upgrade = std::mem::replace(&mut self.upgrade, hyper::upgrade::on(&mut nothing));
        (self.headers.contains_key(http::header::UPGRADE).then_some(upgrade), self)
    }

    /// The body as the wanted shape. Fields that are not known are passed over, as clients of
    /// later versions send some.
    ///
    /// # Errors
    /// `InvalidArgument` for what is not JSON of that shape, is too large, or is absent.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Err(Error::invalid("invalid JSON: got EOF while reading request body"));
        }
        parse(&bytes)
    }

    /// As [`Call::json`], for bodies that clients may leave out.
    pub(super) async fn json_or_default<T: DeserializeOwned + Default>(self) -> Result<T> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() { Ok(T::default()) } else { parse(&bytes) }
    }

    /// The body in pieces, for what is too large to be held.
    ///
    /// # Errors
    /// `InvalidArgument` if it breaks off.
    pub(super) fn into_pieces(self) -> impl Stream<Item = Result<Bytes>> + Send + Unpin {
        self.body
            .into_data_stream()
            .map_err(|error| Error::invalid(format!("read the request body: {error}")))
    }

    async fn bytes(self) -> Result<Bytes> {
        self.bytes_of(LARGEST_JSON).await
    }

    /// The body, whatever it is.
    ///
    /// # Errors
    /// `InvalidArgument` if it breaks off or is larger than `most` bytes.
    pub(super) async fn bytes_of(self, most: usize) -> Result<Bytes> {
        let collected = Limited::new(self.body, most).collect().await;
        let collected = collected.map_err(|error| {
            Error::invalid(format!("read the request body (at most {most} bytes): {error}"))
        })?;
        Ok(collected.to_bytes())
    }
}

/// What the client calls itself.
pub(super) fn agent(headers: &HeaderMap) -> Option<&str> {
    headers.get(http::header::USER_AGENT).and_then(|it| it.to_str().ok())
}

/// The last version that docker-compose 1 was made for.
const OF_OLD_COMPOSE: u32 = 41;

/// Of `/v1.41/…`: 41. docker-compose 1 asks for the daemon's newest version, whichever that is, and knows those of its own
/// time only.
fn minor(path: &str, headers: &HeaderMap) -> Option<u32> {
    if agent(headers).is_some_and(|it| it.starts_with("docker-compose/1.")) {
        return Some(OF_OLD_COMPOSE);
    }
    path.strip_prefix("/v1.")?.split('/').next()?.parse().ok()
}

/// Every body is an object; an array would pass for one whose fields are in order.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::invalid("invalid JSON: the body is not an object"));
    }
    serde_json::from_slice(bytes).context("invalid JSON").kind(Kind::InvalidArgument)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_age_is_its_version_or_its_name() {
        let of = |path: &str, agent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::USER_AGENT, agent.parse().unwrap());
            minor(path, &headers)
        };
        assert_eq!(of("/v1.44/images/a/json", "Docker-Client/28.0"), Some(44));
        assert_eq!(of("/images/a/json", "curl/8"), None);
        assert_eq!(of("/v1.51/images/a/json", "compose/v2.40.3"), Some(51));
        let old = "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1";
        assert_eq!(of("/v1.51/images/a/json", old), Some(OF_OLD_COMPOSE));
    }
}
