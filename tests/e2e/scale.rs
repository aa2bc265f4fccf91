//! How much of a thing a test does, and at which moments.

use std::time::Duration;

/// Few where a test shows that something holds; with `CAIS_SOAK=1` (hack/soak) as many as are promised.
pub(crate) fn times(few: usize, promised: usize) -> usize {
    if is_soak() { promised } else { few }
}

pub(crate) fn is_soak() -> bool {
    std::env::var_os("CAIS_SOAK").is_some_and(|value| value == "1")
}

/// Numbers without a pattern, the same in every run (SplitMix64).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// A moment in a call that takes about `usual`, or soon after it.
    pub(crate) fn moment_of(&mut self, usual: Duration) -> Duration {
        let range = u64::try_from(usual.as_micros() * 5 / 4).unwrap().max(1);
        Duration::from_micros(self.below(range))
    }
}
