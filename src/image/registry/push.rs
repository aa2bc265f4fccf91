//! Manifests to the registry that owns a name, whether it has a blob, and how requests that are no downloads are made.
//!
//! Mirrors are never pushed to. A request that can be sent again is sent again after what may pass: a broken connection,
//! and an answer that the registry is busy or failed; it says itself how long to wait, or a pause doubles with each try. Any
//! other refusal ends the push with the registry's words.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{RequestBuilder, Response, Url};

use super::request::{self, Failure};
use super::token::Freshness;
use super::{Host, Session};
use crate::error::{Context, Error, Kind, Result};
use crate::image::digest::Digest;

/// Challenges that one request meets: requests beside it may have put another token in the place of its own.
const MOST_CHALLENGES: u32 = 3;

/// A request that was no success.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: Error,
    /// `None` when there was no answer.
    status: Option<StatusCode>,
    is_passing: bool,
    /// As the registry wishes it.
    pub(super) pause: Option<Duration>,
}

impl Refusal {
    pub(super) fn is_passing(&self) -> bool {
        self.is_passing
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.status.map(|status| status.as_u16())
    }
}

/// Without an answer.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let is_passing = error.kind() == Kind::Unavailable;
        Self { error, status: None, is_passing, pause: None }
    }
}

impl Session {
    /// Asks the registry whether it takes the credentials.
    ///
    /// # Errors
    /// `Denied` if it does not.
    pub(in crate::image) async fn check(&self) -> Result<()> {
        let host = self.owner()?;
        let url = address(host, "");
        let asking = self.in_time(self.exchange(host, || host.client.get(url.clone())));
        asking.await.map(drop).map_err(|refusal| refusal.error)
    }

    pub(in crate::image) async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let host = self.owner()?;
        let url = self.address(host, &format!("blobs/{digest}"));
        match self.patiently(host, || host.client.head(url.clone())).await {
            Ok(_) => Ok(true),
            // A blob may be somewhere else: it is there.
            Err(refusal) if refusal.status.is_some_and(|it| it.is_redirection()) => Ok(true),
            Err(refusal) if refusal.status == Some(StatusCode::NOT_FOUND) => Ok(false),
            Err(refusal) => Err(refusal.error),
        }
    }

    /// The registry's digest of it is ours.
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
            request.body(bytes.to_vec())
        };
        self.patiently(host, put).await.map(drop).map_err(|refusal| refusal.error)
    }

    /// A small request, again after what may pass.
    pub(super) async fn patiently(
        &self,
        host: &Host,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<Response, Refusal> {
        let settings = &self.registry.settings;
        let mut failures = 0;
        loop {
            let refusal = match self.in_time(self.exchange(host, &build)).await {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            };
            failures += 1;
            if !refusal.is_passing || failures >= settings.attempts {
                return Err(refusal);
            }
            request::back_off(refusal.pause_before(failures, settings)).await;
        }
    }

    /// For requests without a large body.
    pub(super) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        self.within(self.registry.settings.response_timeout, work).await
    }

    pub(super) async fn within<T>(
        &self,
        time: Duration,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        tokio::time::timeout(time, work).await.map_err(|_| Refusal::from(too_slow()))?
    }

    pub(super) fn owner(&self) -> Result<&Host> {
        self.hosts.iter().find(|host| host.endpoint.is_owner).with_context(|| {
            format!("nobody is {} itself: all its hosts are mirrors", self.reference.registry())
        })
    }

    pub(super) fn address(&self, host: &Host, rest: &str) -> Url {
        address(host, &format!("{}/{rest}", self.reference.repository()))
    }

    /// One request, again when it must say who we are. `build` makes it, with its body, for each time.
    pub(super) async fn exchange(
        &self,
        host: &Host,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<Response, Refusal> {
        let mut challenges = 0;
        loop {
            let may_show_more = challenges < MOST_CHALLENGES;
            let trying = self.try_exchange(host, build(), may_show_more);
            if let Some(response) = Box::pin(trying).await? {
                return Ok(response);
            }
            challenges += 1;
        }
    }

    /// One request, once. Nothing when it was refused for what it showed, and another one would show more, if
    /// `may_show_more`.
    pub(super) async fn try_exchange(
        &self,
        host: &Host,
        request: RequestBuilder,
        may_show_more: bool,
    ) -> Result<Option<Response>, Refusal> {
        let shown = host.authorization.lock().await.clone();
        let mut request = request.headers(host.endpoint.headers.clone());
        if let Some(value) = &shown {
            request = request.header(AUTHORIZATION, value);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let is_passing = !(error.is_connect() || error.is_builder());
                let error = request::transport_error(&error);
                return Err(Refusal { error, status: None, is_passing, pause: None });
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(Some(response));
        }
        if status == StatusCode::UNAUTHORIZED && may_show_more {
            let freshness = if shown.is_some() { Freshness::New } else { Freshness::Any };
            if self.answer_challenge(host, &response, shown, freshness).await? {
                return Ok(None);
            }
        }
        let (is_passing, error, pause) = match Failure::of_status(response).await {
            Failure::Final(error) => (false, error, None),
            Failure::Passing { error, pause } => (true, error, pause),
        };
        Err(Refusal { error, status: Some(status), is_passing, pause })
    }

    /// Waits as long as bytes move, and once `is_all` of them are sent for as long as a registry may need to put them away.
    pub(super) async fn while_it_moves<T>(
        &self,
        work: impl Future<Output = Result<T, Refusal>>,
        sent: &AtomicU64,
        is_all: impl Fn(u64) -> bool,
    ) -> Result<T, Refusal> {
        let settings = &self.registry.settings;
        tokio::pin!(work);
        loop {
            let before = sent.load(Ordering::Relaxed);
            let time = if is_all(before) { settings.finish_timeout } else { settings.stall_time };
            match tokio::time::timeout(time, &mut work).await {
                Ok(done) => return done,
                Err(_) if sent.load(Ordering::Relaxed) == before => return Err(too_slow().into()),
                Err(_) => {}
            }
        }
    }
}

fn too_slow() -> Error {
    Error::new(Kind::Unavailable, "the registry is too slow")
}

fn address(host: &Host, path: &str) -> Url {
    let mut url = host.endpoint.base.clone();
    url.set_path(&format!("{}/{path}", host.endpoint.base.path().trim_end_matches('/')));
    url
}
