//! A blob that is sent while it is made: only its end tells its digest and its size.
//!
//! ```text
//!   POST uploads/ ─▶ 202 Location ─▶ PATCH, in chunks, once ─▶ all of it is there: `upload` closes it
//!                                       │ broken off, or refused
//!                                       ▼
//!                        who makes it makes it whole, and `upload` goes on
//! ```
//!
//! Such a body cannot be sent twice. So what a registry wants to know of us it is told by the POST, which has none, right before;
//! one that asks again all the same has its answer, and the blob comes the other way, as it does to a registry that takes no
//! body of an unknown length.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Method;
use http::header::CONTENT_TYPE;

use super::upload::{self, Outgoing, Upload};
use super::{Host, Session};
use crate::error::{Kind, Result};
use crate::image::pieces::Pieces;

/// How far a blob came.
#[derive(Debug)]
pub(in crate::image) enum Sent {
    /// The registry has all of it, and waits for the digest.
    Whole(Upload),
    /// It may have a part of it, if it has begun an upload at all.
    Broken(Option<Upload>),
}

impl Session {
    /// Sends a blob as it is made, once.
    ///
    /// # Errors
    /// `Denied` when the registry does not take the credentials; what went wrong in making the blob. What may go better
    /// with a blob that is whole is none.
    pub(in crate::image) async fn stream_blob(
        &self,
        pieces: Pieces,
        upload: Option<Upload>,
    ) -> Result<Sent> {
        let host = self.owner()?;
        let upload = match upload {
            Some(upload) => upload,
            None => match self.begin_upload(host).await? {
                Some(upload) => upload,
                None => return Ok(Sent::Broken(None)),
            },
        };
        let outgoing: Arc<Outgoing> = Arc::default();
        let request = host.client.request(Method::PATCH, upload.place().clone());
        let request = request.header(CONTENT_TYPE, "application/octet-stream");
        let request = request.body(upload::body(pieces, 0, &outgoing));
        let is_all = |_| outgoing.is_all.load(Ordering::Relaxed);
        let sending = self.try_exchange(host, request, true);
        let answer = self.while_it_moves(sending, &outgoing.sent, is_all).await;
        if let Some(error) = outgoing.failure() {
            return Err(error);
        }
        match answer {
            Ok(Some(answer)) if is_all(0) => {
                let sent = outgoing.sent.load(Ordering::Relaxed);
                Ok(match upload.after(&answer, sent)? {
                    whole if whole.has(sent) => Sent::Whole(whole),
                    part => Sent::Broken(Some(part.broken())),
                })
            }
            Err(refusal) if refusal.error.kind() == Kind::Denied => Err(refusal.error),
            // An answer before the end, too, whatever it says.
            Ok(_) | Err(_) => Ok(Sent::Broken(Some(upload.broken()))),
        }
    }

    async fn begin_upload(&self, host: &Host) -> Result<Option<Upload>> {
        let url = self.address(host, "blobs/uploads/");
        match self.patiently(host, || host.client.post(url.clone())).await {
            Ok(answer) => upload::begun(&url, &answer).map(Some),
            Err(refusal) if refusal.is_passing() => Ok(None),
            Err(refusal) => Err(refusal.error),
        }
    }
}
