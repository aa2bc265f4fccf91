//! Content digests: `algorithm:hex`, checked before they name a file or a URL.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::error::{Error, Result};
use crate::id::is_hex;

/// A well-formed digest. sha256 everywhere; sha512 is accepted because the image specification
/// registers it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest {
    algorithm: Algorithm,
    hex: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl Digest {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            let shown: String = text.chars().take(160).collect();
            Err(Error::invalid(format!("digest {shown:?} {why}")))
        };
        let Some((name, hex)) = text.split_once(':') else {
            return refuse("has no algorithm");
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return refuse("is of an algorithm that is not supported"),
        };
        if hex.len() != algorithm.hex_length() || !is_hex(hex) {
            return refuse("does not have the length and the lower-case hex digits it must have");
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }

    /// The sha256 of bytes that are at hand.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digits alone: safe as a file name, since only hex gets this far.
    pub(crate) fn hex(&self) -> &str {
        &self.hex
    }

    /// What the digest of these bytes is, when it is not this one.
    pub(crate) fn mismatch(&self, bytes: &[u8]) -> Option<Self> {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        let found = hasher.finish();
        (found != *self).then_some(found)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A digest in the making.
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => {
                Digest { algorithm: Algorithm::Sha256, hex: to_hex(&hasher.finalize()) }
            }
            Self::Sha512(hasher) => {
                Digest { algorithm: Algorithm::Sha512, hex: to_hex(&hasher.finalize()) }
            }
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write;

    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(
            Digest::of(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn a_digest_that_could_be_a_path_is_refused() {
        let upper = format!("sha256:{}", "A".repeat(64));
        let long = format!("sha256:{}", "a".repeat(65));
        for text in ["", "sha256", "sha256:", "sha256:../../etc/passwd", &upper, &long, "md5:00"] {
            assert!(Digest::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sha512_is_verified_too() {
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"cais");
        let digest = hasher.finish();
        assert_eq!(Digest::parse(&digest.to_string()).unwrap(), digest);
        assert_eq!(digest.mismatch(b"cais"), None);
        assert!(digest.mismatch(b"other").is_some());
    }
}
