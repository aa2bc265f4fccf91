//! What a layer is made from, in one digest.
//!
//! The key of a step is made of the key of the step before it, of the instruction with everything in
//! it that was filled in, and of what it reads: so two builds that come to the same key come to the
//! same layer, whichever door they came by. Secrets are no part of it.

use crate::image::digest::{Algorithm, Digest, Hasher};

/// Changes when what a step does to its layer changes.
const VERSION: &str = "cais-build-1";

/// A key in the making: named fields, each with its length.
pub(super) struct Key(Hasher);

impl Key {
    pub(super) fn new(kind: &str) -> Self {
        let mut key = Self(Hasher::new(Algorithm::Sha256));
        key.bytes(VERSION.as_bytes());
        key.bytes(kind.as_bytes());
        key
    }

    #[must_use]
    pub(super) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.bytes(name.as_bytes());
        self.bytes(value.as_ref());
        self
    }

    #[must_use]
    pub(super) fn with_all<T: AsRef<[u8]>>(
        mut self,
        name: &str,
        values: impl IntoIterator<Item = T>,
    ) -> Self {
        self.bytes(name.as_bytes());
        let mut count: u64 = 0;
        for value in values {
            self.bytes(value.as_ref());
            count += 1;
        }
        self.0.update(&count.to_le_bytes());
        self
    }

    pub(super) fn finish(self) -> Digest {
        self.0.finish()
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_steps_have_one_key() {
        let keys = [
            Key::new("run").finish(),
            Key::new("run").with("a", "b").finish(),
            Key::new("run").with("ab", "").finish(),
            Key::new("run").with_all("a", ["b", "c"]).finish(),
            Key::new("run").with_all("a", ["bc"]).finish(),
            Key::new("run").with_all("a", ["b"]).with_all("c", [""; 0]).finish(),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys.iter().skip(index + 1).any(|other| other == key), "{index}");
        }
        assert_eq!(Key::new("run").with("a", "b").finish(), keys[1].clone());
    }
}
