//! How layers are compressed when they leave the store.

use std::fs::File;
use std::io::{self, BufWriter, IntoInnerError, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::digest::{Algorithm, Digest, Hasher};
use super::gzip::{self, Gzip};
use super::manifest::{Descriptor, LayerBlob, OCI_LAYER};
use super::pieces::{self, Pieces};
use super::summed::Summed;
use super::{ImageStore, LayerKey, pack};
use crate::error::{Context, Result};

/// Of zstd's own library.
pub(crate) const ZSTD_LEVELS: std::ops::RangeInclusive<i32> = 0..=22;
pub(crate) const GZIP_LEVELS: std::ops::RangeInclusive<i32> = 0..=9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    None,
    Gzip,
    Zstd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compression {
    pub(crate) method: Method,
    /// [`GZIP_LEVELS`], [`ZSTD_LEVELS`].
    pub(crate) level: Option<i32>,
    /// A layer that is there, compressed otherwise, is sent all the same.
    pub(crate) is_forced: bool,
}

impl Compression {
    pub(crate) const NONE: Self = Self { method: Method::None, level: None, is_forced: false };
    pub(crate) const GZIP: Self = Self { method: Method::Gzip, level: None, is_forced: false };

    fn media_type(self) -> String {
        match self.method {
            Method::None => OCI_LAYER.to_owned(),
            Method::Gzip => format!("{OCI_LAYER}+gzip"),
            Method::Zstd => format!("{OCI_LAYER}+zstd"),
        }
    }

    /// Whether an archive that is there will do; its type is OCI's.
    pub(super) fn takes(self, blob: &LayerBlob) -> bool {
        !self.is_forced || blob.descriptor.media_type == self.media_type()
    }

    fn begin<W: Write>(self, out: W) -> io::Result<Compressor<W>> {
        Ok(match self.method {
            Method::None => Compressor::None(out),
            Method::Gzip => Compressor::Gzip(match self.level {
                None => Gzip::new(out)?,
                Some(level) => Gzip::with_level(out, gzip::level(level))?,
            }),
            // Zero is the level that it has by itself.
            Method::Zstd => {
                Compressor::Zstd(zstd::Encoder::new(out, self.level.unwrap_or_default())?)
            }
        })
    }
}

enum Compressor<W: Write> {
    None(W),
    Gzip(Gzip<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    fn finish(self) -> io::Result<W> {
        match self {
            Self::None(out) => Ok(out),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(zstd) => zstd.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(out) => out.write(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
            Self::Zstd(zstd) => zstd.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(out) => out.flush(),
            Self::Gzip(gzip) => gzip.flush(),
            Self::Zstd(zstd) => zstd.flush(),
        }
    }
}

/// A layer's archive, in a file without a name.
pub(super) struct Compressed {
    pub(super) blob: LayerBlob,
    pub(super) file: File,
}

/// Archives a layer and compresses that, next to the store's data. Blocks: all of it is read. The same layer and the same
/// compression make the same bytes.
pub(super) fn compressed(
    store: &ImageStore,
    key: &LayerKey,
    compression: Compression,
) -> Result<Compressed> {
    let out = BufWriter::with_capacity(1 << 20, store.unnamed_file()?);
    let (blob, out) = compress(&store.open_layer(key)?, compression, out, Arc::default())?;
    let file = out.into_inner().map_err(IntoInnerError::into_error);
    Ok(Compressed { blob, file: file.context("compress the layer")? })
}

/// A layer's archive while it is made, the same bytes as [`compressed`] has.
pub(super) struct Streamed {
    pub(super) pieces: Pieces,
    /// What it was, when the last piece is there.
    pub(super) blob: oneshot::Receiver<LayerBlob>,
    /// Bytes of the plain archive so far.
    pub(super) read: Arc<AtomicU64>,
}

/// Archives a layer and compresses that on a thread of its own, as fast as somebody takes it.
pub(super) fn streamed(store: &ImageStore, key: &LayerKey, compression: Compression) -> Streamed {
    let (store, key) = (store.clone(), key.clone());
    let (told, blob) = oneshot::channel();
    let read: Arc<AtomicU64> = Arc::default();
    let counter = read.clone();
    let pieces = pieces::send(move |out| {
        let (blob, out) = compress(&store.open_layer(&key)?, compression, out, counter)?;
        // Some want nothing but the bytes.
        let _ = told.send(blob);
        Ok(out)
    });
    Streamed { pieces, blob, read }
}

/// `read` counts the bytes of the plain archive.
fn compress<W: Write>(
    files: &OwnedFd,
    compression: Compression,
    out: W,
    read: Arc<AtomicU64>,
) -> Result<(LayerBlob, W)> {
    let packed = Measure::before(out, Arc::default());
    let plain = Measure::before(compression.begin(packed).context("compress the layer")?, read);
    let plain = pack::write(files, plain)?;
    let diff_id = plain.hasher.finish();
    let packed = plain.out.finish().context("compress the layer")?;
    let size = packed.size.load(Ordering::Relaxed);
    let descriptor = Descriptor::new(&compression.media_type(), packed.hasher.finish(), size);
    Ok((LayerBlob { descriptor, diff_id }, packed.out))
}

/// A layer's plain archive. Blocks: all of it is read.
pub(super) fn archived(store: &ImageStore, key: &LayerKey) -> Result<LayerBlob> {
    let (digest, size) = measure(&store.open_layer(key)?)?;
    Ok(LayerBlob::plain(digest, size))
}

/// Digest and size of the archive of a layer's files.
pub(super) fn measure(files: &OwnedFd) -> Result<(Digest, u64)> {
    pack::write(files, Summed::new())?.finish().context("hash the layer")
}

/// What goes through to `out`.
struct Measure<W> {
    out: W,
    hasher: Hasher,
    /// Bytes.
    size: Arc<AtomicU64>,
}

impl<W: Write> Measure<W> {
    fn before(out: W, size: Arc<AtomicU64>) -> Self {
        Self { out, hasher: Hasher::new(Algorithm::Sha256), size }
    }
}

impl<W: Write> Write for Measure<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn each_method_gives_back_what_went_in_and_levels_count() {
        let words = (0_u32..40_000).map(|it| format!("{} ", it.wrapping_mul(2_654_435_761) % 977));
        let text: Vec<u8> = words.flat_map(String::into_bytes).collect();
        let packed = |method, level| {
            let compression = Compression { method, level, is_forced: false };
            let mut out = compression.begin(Vec::new()).unwrap();
            out.write_all(&text).unwrap();
            out.finish().unwrap()
        };
        assert_eq!(packed(Method::None, None), text);
        let mut read = Vec::new();
        GzDecoder::new(&packed(Method::Gzip, Some(1))[..]).read_to_end(&mut read).unwrap();
        assert_eq!(read, text);
        assert_eq!(zstd::decode_all(&packed(Method::Zstd, Some(19))[..]).unwrap(), text);
        for (method, levels) in [(Method::Gzip, [0, 1, 9]), (Method::Zstd, [1, 3, 19])] {
            let sizes = levels.map(|level| packed(method, Some(level)).len());
            assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{method:?}: {sizes:?}");
        }
        assert_eq!(packed(Method::Zstd, None), packed(Method::Zstd, Some(3)));
    }

    #[test]
    fn only_who_insists_has_a_layer_sent_again() {
        let digest = Digest::of(b"");
        let plain = LayerBlob::plain(digest, 7);
        assert!(Compression::GZIP.takes(&plain) && Compression::NONE.takes(&plain));
        let forced = Compression { is_forced: true, ..Compression::GZIP };
        assert!(!forced.takes(&plain));
    }
}
