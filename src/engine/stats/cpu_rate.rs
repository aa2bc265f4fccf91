//! How much CPU per second: from two looks at what was used in all.

use std::sync::{Mutex, PoisonError};

/// Two looks closer than this tell nothing: the kernel accounts CPU time by ticks.
const SHORTEST_WINDOW_NANOS: i64 = 100_000_000;

/// What was seen of one object; dies with it.
#[derive(Debug, Default)]
pub(crate) struct CpuRate {
    last: Mutex<Option<Sample>>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: i64,
    usage_nanos: u64,
    /// The rate before, shown again when two looks are too close to tell one.
    rate: Option<u64>,
}

impl CpuRate {
    /// Nanoseconds of CPU per second since the last look; at the first look, since the object
    /// `began` with none used.
    pub(super) fn look(&self, began: i64, at: i64, usage_nanos: u64) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.unwrap_or(Sample { at: began, usage_nanos: 0, rate: None });
        let window = at.saturating_sub(before.at);
        if window < SHORTEST_WINDOW_NANOS && before.rate.is_some() {
            return before.rate;
        }
        let used = u128::from(usage_nanos.saturating_sub(before.usage_nanos));
        let rate = used * 1_000_000_000 / u128::from(window.max(1).unsigned_abs());
        let rate = u64::try_from(rate).ok();
        // What too short a window tells is better than nothing, but nothing to build upon.
        if window >= SHORTEST_WINDOW_NANOS {
            *last = Some(Sample { at, usage_nanos, rate });
        }
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_rate_is_what_was_used_since_the_last_look() {
        let rate = CpuRate::default();
        assert_eq!(rate.look(0, 2 * SECOND, 1_000_000_000), Some(500_000_000));
        assert_eq!(rate.look(0, 3 * SECOND, 3_000_000_000), Some(2_000_000_000));
        assert_eq!(rate.look(0, 4 * SECOND, 3_000_000_000), Some(0));
    }

    #[test]
    fn looks_that_are_too_close_show_the_rate_before() {
        let rate = CpuRate::default();
        assert_eq!(rate.look(0, 2 * SECOND, 1_000_000_000), Some(500_000_000));
        assert_eq!(rate.look(0, 2 * SECOND + 1, 9_000_000_000), Some(500_000_000));
        assert_eq!(rate.look(0, 3 * SECOND, 1_000_000_000), Some(0));
    }
}
