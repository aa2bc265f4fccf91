//! A blob on its way to a registry: mounted where the registry has it already, resumed where a connection broke.
//!
//! ```text
//!   POST uploads/?mount=…&from=… ─▶ 201: it is there            POST uploads/ ─▶ 202 Location
//!                                ─▶ 202: an upload as by           │
//!                                                                  ▼
//!                           ┌──────────────────────────────▶ PATCH, the rest of the blob ─▶ PUT ?digest=…
//!                           │                                      │ broken off               │
//!   204, Range: what it has ┴─ GET Location ◀─ pause ◀─ HEAD blob ─┴──────────────────────────┘
//!                anything else: a new upload             there: done
//! ```
//!
//! What a registry has of an upload that broke off is asked, not counted here: bytes of a PATCH without an answer may have
//! arrived (distribution-spec, "Pushing a blob in chunks"). Some registries give up an upload whose PATCH broke, Docker's
//! among them; then it begins anew.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{Method, StatusCode};
use reqwest::{Body, Response, Url};

use super::push::Refusal;
use super::{Host, Session, request};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::pieces::{Archive, Pieces};

/// However small the steps, a blob that needs this many connections does not arrive.
const MOST_CONNECTIONS: u32 = 200;

/// An upload that a registry has begun.
#[derive(Debug, Clone)]
pub(in crate::image) struct Upload {
    place: Url,
    /// Bytes that the registry has; unknown after a request that broke off.
    has: Option<u64>,
}

impl Upload {
    pub(super) fn place(&self) -> &Url {
        &self.place
    }

    pub(super) fn has(&self, size: u64) -> bool {
        self.has == Some(size)
    }

    /// What the registry has of it must be asked.
    pub(super) fn broken(self) -> Self {
        Self { has: None, ..self }
    }

    /// After a PATCH that brought it to `size` bytes: a registry that says less has less.
    pub(super) fn after(&self, answer: &Response, size: u64) -> Result<Self> {
        let has = range_end(answer).unwrap_or(size).min(size);
        Ok(Self { place: location(&self.place, answer)?, has: Some(has) })
    }
}

/// A body on its way.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) sent: Arc<AtomicU64>,
    /// Nothing more comes. A body whose length was told need not be asked for its end.
    pub(super) is_all: AtomicBool,
    failed: Mutex<Option<Error>>,
}

impl Outgoing {
    /// What went wrong here is the cause, whatever the connection says.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The pieces without the first `skip` bytes.
pub(super) fn body(mut pieces: Pieces, mut skip: u64, outgoing: &Arc<Outgoing>) -> Body {
    let outgoing = outgoing.clone();
    Body::wrap_stream(futures_util::stream::poll_fn(move |context| {
        loop {
            return Poll::Ready(Some(match std::task::ready!(pieces.poll_recv(context)) {
                None => {
                    outgoing.is_all.store(true, Ordering::Relaxed);
                    return Poll::Ready(None);
                }
                Some(Ok(mut bytes)) => {
                    let known = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
                    skip -= known as u64;
                    let bytes = bytes.split_off(known);
                    if bytes.is_empty() {
                        continue;
                    }
                    outgoing.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    Ok(bytes)
                }
                Some(Err(error)) => {
                    let text = error.chain();
                    *outgoing.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    Err(std::io::Error::other(text))
                }
            }));
        }
    }))
}

/// What came of the wish to have a blob of another repository.
#[derive(Debug)]
pub(in crate::image) enum Mount {
    Done,
    /// The registry would rather have the bytes.
    Begun(Upload),
    Refused,
}

/// One blob, and how far it is.
struct Push<'a> {
    session: &'a Session,
    host: &'a Host,
    blob: (&'a Digest, u64),
    archive: Archive<'a>,
    sent: &'a Arc<AtomicU64>,
    upload: Option<Upload>,
    /// The most that the registry had of this upload when it was asked.
    reached: u64,
    is_resumed: bool,
}

/// Why a try did not bring the blob to its end.
enum Broken {
    Final(Error),
    Passing(Refusal),
}

impl Session {
    /// Asks the registry to take a blob from another of its repositories.
    ///
    /// # Errors
    /// `WrongState` if nobody owns the name.
    pub(in crate::image) async fn mount(&self, digest: &Digest, from: &str) -> Result<Mount> {
        let host = self.owner()?;
        let mut url = self.address(host, "blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        let asked = self.in_time(self.exchange(host, || host.client.post(url.clone()))).await;
        Ok(match asked {
            Ok(answer) if answer.status() == StatusCode::CREATED => Mount::Done,
            Ok(answer) => begun(&url, &answer).map_or(Mount::Refused, Mount::Begun),
            // Whoever may push here need not have the right to read there.
            Err(refusal) => {
                tracing::debug!(error = refusal.error.chain(), from, "a blob is not mounted");
                Mount::Refused
            }
        })
    }

    /// Sends a blob, or what is missing of it. `archive` makes it anew for each try; `sent` counts the bytes that are on
    /// their way.
    ///
    /// # Errors
    /// `Denied` when the registry does not take the credentials, `Unavailable` when it fails again and again.
    pub(in crate::image) async fn push_blob(
        &self,
        blob: (&Digest, u64),
        archive: Archive<'_>,
        upload: Option<Upload>,
        sent: &Arc<AtomicU64>,
    ) -> Result<()> {
        let settings = &self.registry.settings;
        let host = self.owner()?;
        let mut push = Push {
            session: self,
            host,
            blob,
            archive,
            sent,
            upload,
            reached: 0,
            is_resumed: false,
        };
        let mut failures = 0;
        for _ in 0..MOST_CONNECTIONS {
            let before = push.reached;
            let refusal = match Box::pin(push.go_on()).await {
                Ok(()) => return Ok(()),
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Passing(refusal)) => refusal,
            };
            let is_progress = push.reached.saturating_sub(before) >= settings.stall_bytes;
            failures = if is_progress { 1 } else { failures + 1 };
            if failures >= settings.attempts {
                return Err(refusal.error);
            }
            tracing::debug!(error = refusal.error.chain(), digest = %blob.0, "a push goes on");
            request::back_off(refusal.pause_before(failures, settings)).await;
            // The answer may be all that was lost.
            if matches!(self.has_blob(blob.0).await, Ok(true)) {
                return Ok(());
            }
        }
        Err(Error::new(Kind::Unavailable, "the connection breaks again and again"))
    }
}

impl Push<'_> {
    /// As far as it goes without a pause.
    async fn go_on(&mut self) -> Result<(), Broken> {
        let mut upload = match self.upload.take() {
            None => self.begin().await?,
            Some(known) if known.has.is_some() => known,
            Some(broken) => {
                // An upload stays known until the registry says that it is not.
                self.upload = Some(broken.clone());
                match self.look(&broken).await? {
                    Some(found) => found,
                    None => self.begin().await?,
                }
            }
        };
        let has = upload.has.unwrap_or_default();
        self.sent.store(has, Ordering::Relaxed);
        self.upload = Some(upload.clone().broken());
        if has < self.blob.1 {
            upload = self.send(&upload, has).await?;
            self.upload = Some(upload.clone().broken());
            if upload.has != Some(self.blob.1) {
                let text = "the registry took less than it was sent";
                return Err(Broken::Passing(Error::new(Kind::Unavailable, text).into()));
            }
        }
        let closed = self.close(upload.place).await;
        if let Err(Broken::Passing(refusal)) = &closed
            && matches!(refusal.status(), Some(400 | 404))
        {
            self.upload = None;
        }
        closed
    }

    async fn begin(&mut self) -> Result<Upload, Broken> {
        (self.upload, self.reached, self.is_resumed) = (None, 0, false);
        let Self { session, host, .. } = *self;
        let url = session.address(host, "blobs/uploads/");
        let asking = session.exchange(host, || host.client.post(url.clone()));
        let answer = session.in_time(asking).await.map_err(Broken::of)?;
        begun(&url, &answer).map_err(Broken::Final)
    }

    /// What the registry has of an upload, if it still knows of it.
    async fn look(&mut self, upload: &Upload) -> Result<Option<Upload>, Broken> {
        let Self { session, host, .. } = *self;
        let asking = session.exchange(host, || host.client.get(upload.place.clone()));
        let answer = match session.in_time(asking).await {
            Ok(answer) => answer,
            Err(refusal) if refusal.is_passing() => return Err(Broken::Passing(refusal)),
            Err(refusal) if refusal.error.kind() == Kind::Denied => {
                return Err(Broken::Final(refusal.error));
            }
            Err(_) => return Ok(None),
        };
        // Without a range it has nothing to go on from.
        let Some(has) = range_end(&answer).filter(|has| *has <= self.blob.1) else {
            return Ok(None);
        };
        self.reached = self.reached.max(has);
        self.is_resumed = true;
        let place = location(&upload.place, &answer).unwrap_or_else(|_| upload.place.clone());
        Ok(Some(Upload { place, has: Some(has) }))
    }

    /// Sends the rest of the blob.
    async fn send(&self, upload: &Upload, from: u64) -> Result<Upload, Broken> {
        let Self { session, host, blob: (_, size), sent, .. } = *self;
        let outgoing = Arc::new(Outgoing { sent: sent.clone(), ..Outgoing::default() });
        let sending = session.exchange(host, || {
            sent.store(from, Ordering::Relaxed);
            let request = host.client.request(Method::PATCH, upload.place.clone());
            let mut request = request
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(CONTENT_LENGTH, size - from);
            if from > 0 {
                request = request.header(CONTENT_RANGE, format!("{from}-{}", size - 1));
            }
            request.body(body((self.archive)(), from, &outgoing))
        });
        let sent_all = session.while_it_moves(sending, sent, |sent| sent >= size).await;
        if let Some(error) = outgoing.failure() {
            return Err(Broken::Final(error));
        }
        let answer = match sent_all {
            Ok(answer) => answer,
            // It knows nothing of the upload, or has another part of it: the next look tells which.
            Err(refusal) if matches!(refusal.status(), Some(404 | 416)) => {
                return Err(Broken::Passing(refusal));
            }
            Err(refusal) => return Err(Broken::of(refusal)),
        };
        upload.after(&answer, size).map_err(Broken::Final)
    }

    /// All of it is there: now it is a blob.
    async fn close(&self, mut place: Url) -> Result<(), Broken> {
        let Self { session, host, blob: (digest, _), .. } = *self;
        place.query_pairs_mut().append_pair("digest", &digest.to_string());
        let closing = session.exchange(host, || {
            host.client.request(Method::PUT, place.clone()).header(CONTENT_LENGTH, 0)
        });
        // Some registries read the whole blob again before they answer.
        let closed = session.within(session.registry.settings.finish_timeout, closing).await;
        match closed {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.status() == Some(404) => Err(Broken::Passing(refusal)),
            // Parts that do not make the whole: a registry that miscounts gets it in one piece.
            Err(refusal) if refusal.status() == Some(400) && self.is_resumed => {
                Err(Broken::Passing(refusal))
            }
            Err(refusal) => Err(Broken::of(refusal)),
        }
    }
}

impl Broken {
    fn of(refusal: Refusal) -> Self {
        // A registry that was there a moment ago may be there again soon.
        let is_gone = refusal.status().is_none() && refusal.error.kind() == Kind::Unavailable;
        match refusal.is_passing() || is_gone {
            true => Self::Passing(refusal),
            false => Self::Final(refusal.error),
        }
    }
}

impl Refusal {
    pub(super) fn pause_before(&self, failures: u32, settings: &super::Settings) -> Duration {
        self.pause.unwrap_or_else(|| settings.back_off * 2_u32.pow(failures.saturating_sub(1)))
    }
}

pub(super) fn begun(url: &Url, answer: &Response) -> Result<Upload> {
    Ok(Upload { place: location(url, answer)?, has: Some(0) })
}

/// `0-99` of a hundred bytes; `0-0` of none, as Docker's registry has it.
fn range_end(answer: &Response) -> Option<u64> {
    let range = answer.headers().get(RANGE)?.to_str().ok()?;
    let (first, last) = range.trim_start_matches("bytes=").split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    (first.trim() == "0").then(|| if last == 0 { 0 } else { last + 1 })
}

/// Where the registry wants a blob: on a host of the same origin, which credentials may be shown.
fn location(from: &Url, response: &Response) -> Result<Url> {
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let to = text.and_then(|text| from.join(text).ok());
    let to = to.filter(|to| request::same_origin(from, to));
    to.ok_or_else(|| Error::new(Kind::Unavailable, "the registry says nowhere to upload to"))
}
