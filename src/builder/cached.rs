//! What builds left to be found again, for people: its rows, and making room.

use std::sync::Arc;

use super::Builder;
use crate::error::Result;
use crate::image::Kept;

/// A layer that is kept.
pub(crate) struct Cached {
    /// Its key.
    pub(crate) id: String,
    pub(crate) kept: Arc<Kept>,
    /// It takes no room of its own: an image stands on it.
    pub(crate) is_in_image: bool,
}

/// Which layers are to be forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Prune {
    /// Those that images stand on, too.
    pub(crate) all: bool,
    /// Nanoseconds since the epoch: those that were of use last before it.
    pub(crate) until: Option<i64>,
    /// Beginnings of ids; none: whatever id.
    pub(crate) ids: Vec<String>,
}

impl Prune {
    fn takes_everything(&self) -> bool {
        self.all && self.until.is_none() && self.ids.is_empty()
    }

    fn takes(&self, cached: &Cached) -> bool {
        (self.all || !cached.is_in_image)
            && self.until.is_none_or(|until| cached.kept.used_at < until)
            && (self.ids.is_empty() || self.ids.iter().any(|id| cached.id.starts_with(id)))
    }
}

impl Builder {
    /// By their keys.
    pub(crate) fn cached(&self) -> Vec<Cached> {
        let store = self.engine.images();
        let kept = store.kept().into_iter();
        kept.map(|(id, kept)| Cached { id, is_in_image: store.is_in_image(&kept.layer), kept })
            .collect()
    }

    /// Ids of what was forgotten, and the bytes that it took. Directories of cache mounts go when
    /// everything is to go; they are in neither.
    pub(crate) async fn prune(&self, prune: &Prune) -> Result<(Vec<String>, u64)> {
        let wanted = self.cached().into_iter().filter(|cached| prune.takes(cached));
        let ids: Vec<String> = wanted.map(|cached| cached.id).collect();
        let bytes = self.engine.forget_kept_layers(ids.clone()).await?;
        if prune.takes_everything() {
            // A command that has one keeps all of them.
            if let Ok(alone) = self.caches.clone().try_write_owned() {
                let store = self.engine.images().clone();
                let dropping = move || {
                    let _alone = alone;
                    store.drop_caches()
                };
                super::blocking(dropping).await?;
            }
        }
        Ok((ids, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::LayerKey;
    use crate::image::digest::Digest;

    #[test]
    fn what_images_stand_on_stays_unless_all_is_asked_for() {
        let cached = |is_in_image, used_at| Cached {
            id: "abc".to_owned(),
            is_in_image,
            kept: Arc::new(Kept {
                layer: LayerKey::of(&Digest::of(b"")),
                description: String::new(),
                size: 1,
                created_at: 0,
                used_at,
                uses: 0,
            }),
        };
        let prune = Prune::default();
        assert!(prune.takes(&cached(false, 5)) && !prune.takes(&cached(true, 5)));
        let all = Prune { all: true, until: Some(5), ..Prune::default() };
        assert!(all.takes(&cached(true, 4)) && !all.takes(&cached(true, 5)));
        assert!(!prune.takes_everything() && !all.takes_everything());
        assert!(Prune { all: true, ..Prune::default() }.takes_everything());
        let by_id = |id: &str| Prune { ids: vec![id.to_owned()], ..Prune::default() };
        assert!(by_id("ab").takes(&cached(false, 0)) && !by_id("b").takes(&cached(false, 0)));
    }
}
