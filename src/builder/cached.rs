//! What builds left to be found again, for people: its rows, and making room.

use std::collections::HashSet;
use std::sync::Arc;

use super::Builder;
use super::filter::Filter;
use crate::error::Result;
use crate::image::{Kept, LayerKey};

/// What is kept for builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cached {
    /// Its key, or the name of its directory.
    pub(crate) id: String,
    pub(crate) kind: CachedKind,
    pub(crate) description: String,
    /// Bytes on disk. A layer with several keys counts for the one that was of use last.
    pub(crate) size: u64,
    /// Nanoseconds since the epoch.
    pub(crate) created_at: i64,
    pub(crate) used_at: i64,
    pub(crate) uses: u64,
    /// A build needs it now.
    pub(crate) in_use: bool,
    /// It takes no room of its own: an image or a container stands on it.
    pub(crate) is_shared: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CachedKind {
    Layer,
    /// The directory of a cache mount.
    Mount,
}

impl CachedKind {
    /// As BuildKit calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Layer => "regular",
            Self::Mount => "exec.cachemount",
        }
    }

    pub(crate) fn is_mutable(self) -> bool {
        self == Self::Mount
    }
}

impl Cached {
    /// Bytes that are free when it goes.
    pub(crate) fn own_size(&self) -> u64 {
        if self.is_shared { 0 } else { self.size }
    }
}

/// What is to be forgotten.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prune {
    /// Layers that images stand on, too.
    pub(crate) all: bool,
    /// Nanoseconds since the epoch: those that were of use last before it.
    pub(crate) until: Option<i64>,
    pub(crate) filter: Filter,
    pub(crate) room: Room,
}

/// How much may stay, in bytes; 0: no matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// So much stays in any case.
    pub(crate) reserved: u64,
    /// No more than this.
    pub(crate) most: u64,
    /// So much of the file system is to be free.
    pub(crate) free: u64,
}

impl Room {
    /// How many of `taken` bytes are too many, with so many free now. Without any limit: all.
    fn excess(self, taken: u64, available: u64) -> u64 {
        let Self { reserved, most, free } = self;
        if most == 0 && free == 0 {
            return if reserved == 0 { u64::MAX } else { taken.saturating_sub(reserved) };
        }
        let most = if most == 0 { u64::MAX } else { most };
        let missing = free.saturating_sub(available);
        let allowed = if missing == 0 { most } else { most.min(taken.saturating_sub(missing)) };
        taken.saturating_sub(allowed.max(reserved))
    }
}

impl Prune {
    fn takes(&self, row: &Cached) -> bool {
        (self.all || !row.is_shared) && self.filter.takes(row)
    }

    /// Those that go, the ones that were of use longest ago first.
    fn choose(&self, rows: &[Cached], available: u64) -> Vec<Cached> {
        let rows: Vec<&Cached> = rows.iter().filter(|row| self.takes(row)).collect();
        let excess = self.room.excess(rows.iter().map(|row| row.own_size()).sum(), available);
        let is_old = |row: &&Cached| self.until.is_none_or(|until| row.used_at < until);
        let mut old: Vec<_> = rows.into_iter().filter(is_old).filter(|row| !row.in_use).collect();
        old.sort_by_key(|row| (row.used_at, row.uses));
        let mut freed = 0;
        let chosen = old.into_iter().take_while(|row| {
            let is_needed = freed < excess;
            freed += row.own_size();
            is_needed
        });
        chosen.cloned().collect()
    }
}

impl Builder {
    /// By their keys and names. Walks the directories of cache mounts that changed since they were walked last.
    pub(crate) async fn cached(&self) -> Result<Vec<Cached>> {
        self.rows(true).await
    }

    /// The same; those that commands have now are walked if `all` is asked for.
    async fn rows(&self, all: bool) -> Result<Vec<Cached>> {
        let builder = self.clone();
        super::blocking(move || {
            let store = builder.engine.images();
            store.measure_caches(all);
            let mut rows = builder.layers();
            rows.extend(store.caches().into_iter().map(|(id, mount, in_use)| Cached {
                id,
                kind: CachedKind::Mount,
                description: mount.description,
                size: mount.size.unwrap_or_default(),
                created_at: mount.created_at,
                used_at: mount.used_at,
                uses: mount.uses,
                in_use,
                is_shared: false,
            }));
            Ok(rows)
        })
        .await
    }

    fn layers(&self) -> Vec<Cached> {
        let store = self.engine.images();
        let mut standing = self.engine.layers_in_use();
        standing.extend(store.list().iter().flat_map(|image| image.layers.clone()));
        let mut kept = store.kept();
        // Whose layer is counted: the one that was of use last.
        kept.sort_by(|a, b| (b.1.used_at, &a.0).cmp(&(a.1.used_at, &b.0)));
        let mut counted: HashSet<LayerKey> = HashSet::new();
        let row = |(id, kept): (String, Arc<Kept>)| {
            let is_first = counted.insert(kept.layer.clone());
            Cached {
                id,
                kind: CachedKind::Layer,
                description: kept.description.clone(),
                size: if is_first { kept.size } else { 0 },
                created_at: kept.created_at,
                used_at: kept.used_at,
                uses: kept.uses,
                in_use: store.is_leased(&kept.layer),
                is_shared: standing.contains(&kept.layer),
            }
        };
        let mut rows: Vec<_> = kept.into_iter().map(row).collect();
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        rows
    }

    /// What was forgotten as a client wishes it, and the bytes that it took.
    pub(crate) async fn prune(&self, prune: &Prune) -> Result<(Vec<Cached>, u64)> {
        let (gone, bytes) = self.forget(prune).await?;
        self.engine.builds_forgotten(bytes);
        Ok((gone, bytes))
    }

    /// The same, which nobody is told of.
    pub(super) async fn forget(&self, prune: &Prune) -> Result<(Vec<Cached>, u64)> {
        let rows = self.rows(false).await?;
        let available = self.engine.image_space()?.available;
        let chosen = prune.choose(&rows, available);
        let ids = |kind: CachedKind| {
            let of_kind = chosen.iter().filter(|row| row.kind == kind);
            of_kind.map(|row| row.id.clone()).collect::<Vec<_>>()
        };
        let (layers, mounts) = (ids(CachedKind::Layer), ids(CachedKind::Mount));
        let (gone, bytes) = self.engine.forget_builds(layers, mounts).await?;
        let gone: HashSet<String> = gone.into_iter().collect();
        Ok((chosen.into_iter().filter(|row| gone.contains(&row.id)).collect(), bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, size: u64, used_at: i64) -> Cached {
        Cached {
            id: id.to_owned(),
            kind: CachedKind::Layer,
            description: String::new(),
            size,
            created_at: 0,
            used_at,
            uses: 0,
            in_use: false,
            is_shared: false,
        }
    }

    fn chosen(prune: &Prune, rows: &[Cached], available: u64) -> String {
        let chosen = prune.choose(rows, available);
        chosen.iter().map(|row| row.id.as_str()).collect()
    }

    #[test]
    fn what_was_of_use_longest_ago_goes_first_and_no_more_than_must() {
        let rows = [row("c", 10, 30), row("a", 10, 10), row("b", 10, 20)];
        let of =
            |room: Room, available| chosen(&Prune { room, ..Prune::default() }, &rows, available);
        let room = Room::default();
        assert_eq!(of(room, 0), "abc");
        assert_eq!(of(Room { most: 30, ..room }, 0), "");
        assert_eq!(of(Room { most: 29, ..room }, 0), "a");
        assert_eq!(of(Room { most: 10, ..room }, 0), "ab");
        assert_eq!(of(Room { reserved: 15, ..room }, 0), "ab");
        assert_eq!(of(Room { most: 10, reserved: 20, ..room }, 0), "a");
        // Enough is free, or some is missing, or more than there is to be had.
        assert_eq!(of(Room { free: 50, ..room }, 50), "");
        assert_eq!(of(Room { free: 50, ..room }, 49), "a");
        assert_eq!(of(Room { free: 50, ..room }, 0), "abc");
        assert_eq!(of(Room { free: 50, reserved: 25, ..room }, 0), "a");
    }

    #[test]
    fn what_is_needed_stays_and_what_images_stand_on_goes_with_all_alone() {
        let shared = Cached { is_shared: true, ..row("s", 100, 1) };
        let used = Cached { in_use: true, ..row("u", 100, 2) };
        let rows = [shared, used, row("a", 10, 3), row("b", 10, 4)];
        let prune = Prune::default();
        assert_eq!(chosen(&prune, &rows, 0), "ab");
        let all = Prune { all: true, ..prune.clone() };
        assert_eq!(chosen(&all, &rows, 0), "sab");
        assert_eq!(chosen(&Prune { until: Some(4), ..all }, &rows, 0), "sa");
        // The one in use counts, and what takes no room of its own does not.
        let room = Room { most: 115, ..Room::default() };
        assert_eq!(chosen(&Prune { room, ..prune }, &rows, 0), "a");
    }
}
