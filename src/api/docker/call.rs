//! One request, taken apart.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;

use super::query::Query;
use crate::error::{Context, Error, Kind, Result};

/// A request for a container with thousands of variables and mounts is smaller.
const LARGEST_JSON: usize = 4 << 20;

/// What a resource gets to see of a request; its path is in the route.
pub(super) struct Call {
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    body: Incoming,
    /// The connection itself, once an upgrade was answered.
    upgrade: OnUpgrade,
}

impl Call {
    pub(super) fn of(mut request: Request<Incoming>) -> Self {
        let upgrade = hyper::upgrade::on(&mut request);
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let (head, body) = request.into_parts();
        Self { query, headers: head.headers, body, upgrade }
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
    pub(super) fn into_body(self) -> Incoming {
        self.body
    }

    async fn bytes(self) -> Result<Bytes> {
        let collected = Limited::new(self.body, LARGEST_JSON).collect().await;
        let collected = collected.map_err(|error| {
            Error::invalid(format!("read the request body (at most {LARGEST_JSON} bytes): {error}"))
        })?;
        Ok(collected.to_bytes())
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).context("invalid JSON").kind(Kind::InvalidArgument)
}
