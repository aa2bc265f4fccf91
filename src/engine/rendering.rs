//! A place beside a record for what a door makes of it.

use std::sync::OnceLock;

/// The bytes of one entry of a door's list, made when first asked for.
///
/// It belongs to one state of the object: a copy of the record begins another state, and comes without.
#[derive(Default)]
pub(crate) struct Rendering(OnceLock<Box<[u8]>>);

impl Rendering {
    pub(crate) fn get_or_make(&self, make: impl FnOnce() -> Vec<u8>) -> &[u8] {
        self.0.get_or_init(|| make().into_boxed_slice())
    }
}

impl Clone for Rendering {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for Rendering {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.0.get().is_some() { "Rendering(made)" } else { "Rendering" })
    }
}
