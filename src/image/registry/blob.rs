//! A blob as a stream: hashed on the way, resumed where a connection broke.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_RANGE;
use reqwest::Response;
use tokio::sync::mpsc;

use super::request::{self, Accept, Target};
use super::{Host, Session};
use crate::error::{Context, Error, Kind, Result};
use crate::image::digest::Hasher;
use crate::image::manifest::Descriptor;
use crate::image::unpack::Piece;

/// However small the steps, a blob that needs this many connections does not arrive.
const MOST_CONNECTIONS: u32 = 200;

/// One blob on its way.
struct Transfer<'a> {
    descriptor: &'a Descriptor,
    target: Target,
    pieces: &'a mpsc::Sender<Piece>,
    received: &'a AtomicU64,
    hasher: Hasher,
    offset: u64,
}

/// Why a connection ended before the blob did.
enum Broken {
    /// Another connection may bring more.
    Resumable(Error),
    Final(Error),
}

impl Session {
    /// Sends the blob's bytes to `pieces` and `End` once size and digest are right. `received`
    /// counts them.
    pub(in crate::image) async fn blob(
        &self,
        descriptor: &Descriptor,
        pieces: &mpsc::Sender<Piece>,
        received: &AtomicU64,
    ) -> Result<()> {
        let mut transfer = Transfer {
            target: Target::Blob(descriptor.digest.clone()),
            hasher: Hasher::new(descriptor.digest.algorithm()),
            descriptor,
            pieces,
            received,
            offset: 0,
        };
        let mut last = None;
        for host in self.hosts.iter().filter(|host| host.endpoint.can_pull) {
            if let Some(error) = last.take() {
                super::warn_failed(&error);
            }
            match self.blob_from(host, &mut transfer).await {
                Ok(()) => return transfer.finish().await,
                Err(Broken::Final(error)) => {
                    return Err(error).with_context(|| self.context(host, &transfer.target));
                }
                // The next host goes on where this one stopped: the digest is the same.
                Err(Broken::Resumable(error)) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::wrong_state("no host may serve blobs")))
    }

    async fn blob_from(&self, host: &Host, transfer: &mut Transfer<'_>) -> Result<(), Broken> {
        let settings = &self.registry.settings;
        let mut failures = 0;
        for _ in 0..MOST_CONNECTIONS {
            let before = transfer.offset;
            let response = self
                .get(host, &transfer.target, Accept::Anything, before)
                .await
                .map_err(Broken::Resumable)?;
            let error = match transfer.receive(response, settings).await {
                Ok(()) => return Ok(()),
                Err(Broken::Final(error)) => return Err(Broken::Final(error)),
                Err(Broken::Resumable(error)) => error,
            };
            // A few bytes per connection are no progress: that could go on for hours.
            let is_progress = transfer.offset - before >= settings.stall_bytes;
            failures = if is_progress { 1 } else { failures + 1 };
            let context = self.context(host, &transfer.target);
            if failures >= settings.attempts {
                return Err(Broken::Resumable(error)).map_err(|broken| broken.context(&context));
            }
            tracing::debug!(error = error.chain(), offset = transfer.offset, "resuming {context}");
            request::back_off(settings.back_off * 2_u32.pow(failures - 1)).await;
        }
        let error = Error::new(Kind::Unavailable, "the connection breaks again and again");
        Err(Broken::Resumable(error))
            .map_err(|broken| broken.context(&self.context(host, &transfer.target)))
    }
}

impl Broken {
    fn context(self, message: &str) -> Self {
        let add = |error| match Err::<(), Error>(error).context(message) {
            Err(error) => error,
            Ok(()) => Error::internal(message),
        };
        match self {
            Self::Resumable(error) => Self::Resumable(add(error)),
            Self::Final(error) => Self::Final(add(error)),
        }
    }
}

impl Transfer<'_> {
    /// Reads one answer to its end.
    async fn receive(
        &mut self,
        mut response: Response,
        settings: &super::Settings,
    ) -> Result<(), Broken> {
        let mut skip = self.first_byte(&response)?;
        // Only time spent waiting for the network counts: unpacking may be the slower part.
        let mut waited = std::time::Duration::ZERO;
        let mut arrived = 0;
        while self.offset < self.descriptor.size {
            let began = Instant::now();
            let left = settings.stall_time.saturating_sub(waited);
            let chunk = tokio::time::timeout(left, response.chunk()).await;
            waited += began.elapsed();
            match chunk {
                Ok(Ok(Some(chunk))) => {
                    arrived += chunk.len() as u64;
                    self.take(chunk, &mut skip).await?;
                }
                Ok(Ok(None)) => {
                    let text = format!(
                        "the blob ended after {} of {} bytes",
                        self.offset, self.descriptor.size
                    );
                    return Err(Broken::Resumable(Error::new(Kind::Unavailable, text)));
                }
                Ok(Err(error)) => return Err(Broken::Resumable(request::transport_error(&error))),
                Err(_) if arrived >= settings.stall_bytes => {}
                Err(_) => return Err(Broken::Resumable(too_slow(arrived, settings))),
            }
            if waited >= settings.stall_time {
                if arrived < settings.stall_bytes {
                    return Err(Broken::Resumable(too_slow(arrived, settings)));
                }
                (waited, arrived) = (std::time::Duration::ZERO, 0);
            }
        }
        Ok(())
    }

    /// How many bytes of the answer are there already. A server may ignore the range.
    fn first_byte(&self, response: &Response) -> Result<u64, Broken> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(self.offset);
        }
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let start = range
            .and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
        match start {
            Some(start) if start == self.offset => Ok(0),
            _ => Err(Broken::Resumable(Error::new(
                Kind::Unavailable,
                "the registry answers another range than the one it was asked for",
            ))),
        }
    }

    async fn take(&mut self, mut chunk: Bytes, skip: &mut u64) -> Result<(), Broken> {
        let known = usize::try_from(*skip).unwrap_or(usize::MAX).min(chunk.len());
        *skip -= known as u64;
        let chunk = chunk.split_off(known);
        if chunk.is_empty() {
            return Ok(());
        }
        let length = chunk.len() as u64;
        if self.offset + length > self.descriptor.size {
            return Err(Broken::Final(self.wrong_size("more")));
        }
        self.hasher.update(&chunk);
        self.offset += length;
        self.received.fetch_add(length, Ordering::Relaxed);
        // The reader is gone: it has its own error, which is the one to tell.
        self.pieces.send(Piece::Bytes(chunk)).await.map_err(|_| Broken::Final(reader_gone()))
    }

    async fn finish(self) -> Result<()> {
        let digest = &self.descriptor.digest;
        let found = self.hasher.finish();
        if found != *digest {
            return Err(Error::invalid(format!(
                "the registry served content with the digest {found} for the blob {digest}"
            )));
        }
        self.pieces.send(Piece::End).await.map_err(|_| reader_gone())
    }

    fn wrong_size(&self, how: &str) -> Error {
        let Descriptor { digest, size, .. } = self.descriptor;
        Error::invalid(format!("the blob {digest} has {how} than the {size} bytes it should have"))
    }
}

fn reader_gone() -> Error {
    Error::new(Kind::Cancelled, "nobody reads the blob any more")
}

fn too_slow(arrived: u64, settings: &super::Settings) -> Error {
    let time = settings.stall_time;
    Error::new(Kind::Unavailable, format!("the registry is too slow: {arrived} bytes in {time:?}"))
}
