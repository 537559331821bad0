//! Medians and ratios of step times.

use serde::Serialize;

/// Times of one optimizer's steps, in seconds, as they are reported.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub steps: usize,
    pub median_seconds: f64,
    /// The quartiles: half of the steps took between these.
    pub quartiles_seconds: [f64; 2],
    pub images_per_second: f64,
}

impl Summary {
    /// Of `times` with `batch` images each. `None` without times.
    pub fn of(times: &[f64], batch: usize) -> Option<Self> {
        let median_seconds = median(times)?;
        let quartiles_seconds = [quantile(times, 0.25)?, quantile(times, 0.75)?];
        Some(Self {
            steps: times.len(),
            median_seconds,
            quartiles_seconds,
            images_per_second: batch as f64 / median_seconds,
        })
    }
}

/// How much longer one optimizer's steps took than the first one's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratios {
    /// Ratio of the medians over all steps.
    pub of_medians: f64,
    /// Median over rounds of the ratio of the two medians in that round: drift of the machine's speed cancels.
    pub paired_median: f64,
    /// The smallest and the largest of those ratios.
    pub paired_range: [f64; 2],
}

impl Ratios {
    /// `rounds` and `reference` hold the times of each round's block. `None` if either is empty.
    pub fn of(rounds: &[Vec<f64>], reference: &[Vec<f64>]) -> Option<Self> {
        let of_medians = median(&rounds.concat())? / median(&reference.concat())?;
        let paired = rounds.iter().zip(reference).map(|(one, other)| Some(median(one)? / median(other)?));
        let paired = paired.collect::<Option<Vec<f64>>>()?;
        let range = paired.iter().fold([f64::INFINITY, 0.0], |[low, high], &ratio| [ratio.min(low), ratio.max(high)]);
        Some(Self { of_medians, paired_median: median(&paired)?, paired_range: range })
    }
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The value below which `share` of the values lie, interpolated between neighbours.
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = share * (sorted.len().checked_sub(1)? as f64);
    let (low, high) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    Some(low + (high - low) * position.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quartiles() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let summary = Summary::of(&[5.0, 1.0, 2.0, 3.0, 4.0], 6).unwrap();
        assert_eq!((summary.quartiles_seconds, summary.images_per_second), ([2.0, 4.0], 2.0));
    }

    #[test]
    fn pairing_cancels_a_machine_that_slows_down() {
        // Twice as slow in each round, on a machine that became ten times slower in the second.
        let reference = vec![vec![1.0, 1.0], vec![10.0, 10.0], vec![10.0, 10.0]];
        let one = vec![vec![2.0, 2.0], vec![20.0, 20.0], vec![20.0, 20.0]];
        let ratios = Ratios::of(&one, &reference).unwrap();
        assert_eq!((ratios.paired_median, ratios.paired_range), (2.0, [2.0, 2.0]));
        assert_eq!(Ratios::of(&[], &reference), None);
    }
}
