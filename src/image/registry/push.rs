//! Blobs and manifests to the registry that owns a name.
//!
//! ```text
//!   HEAD blob ─▶ there: done
//!        └─────▶ POST uploads/ ─▶ PUT Location?digest=…, the blob as its body
//!   PUT manifests/TAG, when all blobs are there
//! ```
//!
//! Mirrors are never pushed to. A body is sent once: who we are is settled by the requests before
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{Method, StatusCode};
use reqwest::{Body, RequestBuilder, Response, Url};

use super::token::Freshness;
use super::{Host, Session, request};
use crate::error::{Context, Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::pieces::Pieces;

impl Session {
    /// Asks the registry whether it takes the credentials.
    ///
    /// # Errors
    /// `Denied` if it does not.
    pub(in crate::image) async fn check(&self) -> Result<()> {
        let host = self.owner()?;
        let url = address(host, "");
        self.in_time(self.exchange(host, || Some(host.client.get(url.clone())))).await.map(drop)
    }

    pub(in crate::image) async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let host = self.owner()?;
        let url = self.address(host, &format!("blobs/{digest}"));
        match self.in_time(self.exchange(host, || Some(host.client.head(url.clone())))).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `sent` counts the bytes that are on their way.
    pub(in crate::image) async fn push_blob(
        &self,
        (digest, size): (&Digest, u64),
        mut pieces: Pieces,
        sent: &Arc<AtomicU64>,
    ) -> Result<()> {
        let host = self.owner()?;
        let url = self.address(host, "blobs/uploads/");
        let begun = self.exchange(host, || Some(host.client.post(url.clone())));
        let begun = self.in_time(begun).await?;
        let mut place = location(&url, &begun)?;
        place.query_pairs_mut().append_pair("digest", &digest.to_string());
        let counter = sent.clone();
        let stream = futures_util::stream::poll_fn(move |context| {
            let piece = pieces.poll_recv(context);
            if let std::task::Poll::Ready(Some(Ok(bytes))) = &piece {
                counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            piece.map_err(|error| std::io::Error::other(error.chain()))
        });
        let mut body = Some(Body::wrap_stream(stream));
        let pushing = self.exchange(host, || {
            let request = host.client.request(Method::PUT, place.clone());
            let request = request.header(CONTENT_TYPE, "application/octet-stream");
            Some(request.header(CONTENT_LENGTH, size).body(body.take()?))
        });
        self.while_it_moves(pushing, sent).await.map(drop)
    }

    /// The registry's digest of it, which is ours.
    pub(in crate::image) async fn push_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<()> {
        let host = self.owner()?;
        let url = self.address(host, &format!("manifests/{name}"));
        let put = || {
            let request = host.client.put(url.clone()).header(CONTENT_TYPE, media_type);
            Some(request.body(bytes.to_vec()))
        };
        self.in_time(self.exchange(host, put)).await.map(drop)
    }

    /// For requests without a large body.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let done = tokio::time::timeout(self.registry.settings.response_timeout, work).await;
        done.map_err(|_| Error::new(Kind::Unavailable, "the registry is too slow"))?
    }

    fn owner(&self) -> Result<&Host> {
        self.hosts.iter().find(|host| host.endpoint.is_owner).with_context(|| {
            format!("nobody is {} itself: all its hosts are mirrors", self.reference.registry())
        })
    }

    fn address(&self, host: &Host, rest: &str) -> Url {
        address(host, &format!("{}/{rest}", self.reference.repository()))
    }

    /// One request, again when it must say who we are. `build` answers nothing when it cannot be
    /// sent again.
    async fn exchange(
        &self,
        host: &Host,
        mut build: impl FnMut() -> Option<RequestBuilder>,
    ) -> Result<Response> {
        let mut freshness = Freshness::Any;
        loop {
            let shown = host.authorization.lock().await.clone();
            let request = build().ok_or_else(|| {
                Error::new(Kind::Denied, "the registry forgot who we are in the middle of a blob")
            })?;
            let mut request = request.headers(host.endpoint.headers.clone());
            if let Some(value) = &shown {
                request = request.header(AUTHORIZATION, value);
            }
            let response =
                request.send().await.map_err(|error| request::transport_error(&error))?;
            let status = response.status();
            // A blob may be somewhere else: it is there.
            if status.is_success() || status.is_redirection() {
                return Ok(response);
            }
            if status == StatusCode::UNAUTHORIZED && freshness == Freshness::Any {
                if shown.is_some() {
                    freshness = Freshness::New;
                }
                if self.answer_challenge(host, &response, shown, freshness).await? {
                    continue;
                }
            }
            let kind = match status.as_u16() {
                401 | 403 => Kind::Denied,
                404 => Kind::NotFound,
                429 => Kind::Exhausted,
                _ => Kind::Unavailable,
            };
            return Err(request::refusal(response, kind).await);
        }
    }

    /// Waits as long as bytes move.
    async fn while_it_moves<T>(
        &self,
        work: impl Future<Output = Result<T>>,
        sent: &AtomicU64,
    ) -> Result<T> {
        let mut ticks = tokio::time::interval(self.registry.settings.stall_time);
        ticks.tick().await;
        let mut before = sent.load(Ordering::Relaxed);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => {
                    let now = sent.load(Ordering::Relaxed);
                    if now == before {
                        return Err(Error::new(Kind::Unavailable, "the registry is too slow"));
                    }
                    before = now;
                }
            }
        }
    }
}

fn address(host: &Host, path: &str) -> Url {
    let mut url = host.endpoint.base.clone();
    url.set_path(&format!("{}/{path}", host.endpoint.base.path().trim_end_matches('/')));
    url
}

/// Where the registry wants a blob: on a host of the same origin, which credentials may be shown.
fn location(from: &Url, response: &Response) -> Result<Url> {
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let to = text.and_then(|text| from.join(text).ok());
    let to = to.filter(|to| request::same_origin(from, to));
    to.ok_or_else(|| Error::new(Kind::Unavailable, "the registry says nowhere to upload to"))
}
