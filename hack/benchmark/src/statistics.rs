//! Percentiles, and how sure a ratio of medians is.

/// The nearest-rank percentile; `NaN` of no values.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    per_mille(values, 10 * percent)
}

/// The same of a thousand parts: 999 is the 99.9th percentile.
pub(crate) fn per_mille(values: &[f64], parts: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * parts).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// A ratio and the bounds between which it lies with 95 % certainty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The ratio of the medians, with a bootstrap interval: both sides are drawn anew, with repetition, many times.
pub(crate) fn ratio_of_medians(ours: &[f64], peer: &[f64]) -> Ratio {
    const DRAWS: usize = 4000;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut ratios: Vec<f64> =
        (0..DRAWS).map(|_| median(&random.redraw(ours)) / median(&random.redraw(peer))).collect();
    ratios.sort_by(f64::total_cmp);
    Ratio {
        value: median(ours) / median(peer),
        low: ratios[DRAWS * 25 / 1000],
        high: ratios[DRAWS * 975 / 1000 - 1],
    }
}

/// Splitmix64, always from the same seed: the same samples give the same interval.
struct Random(u64);

impl Random {
    fn redraw(&mut self, values: &[f64]) -> Vec<f64> {
        let below = values.len().max(1) as u64;
        (0..values.len()).map(|_| values[(self.next() % below) as usize]).collect()
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).map(f64::from).rev().collect();
        assert_eq!(percentile(&values, 50), 50.0);
        assert_eq!(percentile(&values, 99), 99.0);
        assert_eq!((per_mille(&values, 995), per_mille(&values, 1000)), (100.0, 100.0));
        assert_eq!(percentile(&[7.0], 99), 7.0);
        assert!(percentile(&[], 50).is_nan());
    }

    #[test]
    fn the_interval_holds_the_ratio_and_is_narrow_for_steady_values() {
        let ours: Vec<f64> = (0..100).map(|i| 10.0 + f64::from(i % 10) * 0.1).collect();
        let peer: Vec<f64> = ours.iter().map(|value| value * 4.0).collect();
        let ratio = ratio_of_medians(&ours, &peer);
        assert!((ratio.value - 0.25).abs() < 1e-9, "{ratio:?}");
        assert!(ratio.low <= ratio.value && ratio.value <= ratio.high, "{ratio:?}");
        assert!(ratio.high - ratio.low < 0.02, "{ratio:?}");
    }
}
