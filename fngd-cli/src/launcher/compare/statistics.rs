//! Medians, spreads and bootstrap intervals over seeds. A run that missed its target took an infinite time.

use crate::data::random::Stream;
use serde::Serialize;

/// Most resamples that are all looked at; of more, as many are drawn.
pub const RESAMPLES: usize = 10_000;

/// An estimate and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    pub estimate: f64,
    pub low: f64,
    pub high: f64,
}

/// Mean and standard deviation (n - 1) of n values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub mean: f64,
    /// `None` of a single value.
    pub sd: Option<f64>,
    pub n: usize,
}

impl Interval {
    /// Whether `value` is no possible one by this interval.
    pub fn excludes(&self, value: f64) -> bool {
        self.low > value || self.high < value
    }
}

impl Spread {
    /// Of the values that are numbers; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (n > 0).then(|| Spread { mean, sd: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()), n })
    }
}

/// The middle value; of an even number, the mean of the two in the middle. Infinite ones count.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The largest value that more than half of the values reach: the median, and of an even number the lower of the two in the middle.
pub fn reached_by_most(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// How many times as fast as `reference`: the ratio of the medians, with its interval over resamples of the seeds. The two slices
/// have the times of the same seeds. `None` where both medians are infinite: then nothing is known. A resample in which both are
/// shows no difference: its ratio is 1.
pub fn speed_up(reference: &[f64], other: &[f64]) -> Option<Interval> {
    if median(reference)?.is_infinite() && median(other)?.is_infinite() {
        return None;
    }
    bootstrap(reference.len().min(other.len()), |seeds| {
        let pick = |times: &[f64]| median(&seeds.iter().map(|seed| times[*seed]).collect::<Vec<_>>());
        let ratio = pick(reference)? / pick(other)?;
        Some(if ratio.is_nan() { 1.0 } else { ratio })
    })
}

/// Mean difference `other` - `reference` of values of the same seeds, with its interval.
pub fn difference(reference: &[f64], other: &[f64]) -> Option<Interval> {
    let pairs = reference.iter().zip(other).map(|(reference, other)| other - reference);
    let differences: Vec<f64> = pairs.filter(|difference| difference.is_finite()).collect();
    bootstrap(differences.len(), |seeds| {
        Some(seeds.iter().map(|seed| differences[*seed]).sum::<f64>() / seeds.len() as f64)
    })
}

/// The percentile bootstrap: `statistic` of the sample, and between which values it is in 95 % of its resamples with replacement.
///
/// Where there are few resamples (n^n, up to n = 5) all are looked at, so nothing is random. Else [`RESAMPLES`] are drawn, from a
/// stream with a seed of its own. Resamples in which `statistic` is no number are left out.
fn bootstrap(n: usize, statistic: impl Fn(&[usize]) -> Option<f64>) -> Option<Interval> {
    let is_number = |value: &f64| !value.is_nan();
    if n == 0 {
        return None;
    }
    let estimate = statistic(&(0..n).collect::<Vec<_>>()).filter(is_number)?;
    let mut resample = vec![0; n];
    let mut values: Vec<f64> = Vec::new();
    match n.checked_pow(n as u32).filter(|all| *all <= RESAMPLES) {
        Some(all) => {
            for mut number in 0..all {
                for index in &mut resample {
                    (*index, number) = (number % n, number / n);
                }
                values.extend(statistic(&resample).filter(is_number));
            }
        }
        None => {
            let mut stream = Stream::new(0, "bootstrap", &[n as u64]);
            for _ in 0..RESAMPLES {
                resample.iter_mut().for_each(|index| *index = stream.below(n as u64) as usize);
                values.extend(statistic(&resample).filter(is_number));
            }
        }
    }
    values.sort_by(f64::total_cmp);
    // Values of the sample of resamples, never between two: one of them may be infinite.
    let last = values.len().checked_sub(1)?;
    let low = (0.025 * values.len() as f64).floor() as usize;
    let high = (0.975 * values.len() as f64).ceil() as usize - 1;
    Some(Interval { estimate, low: values[low.min(last)], high: values[high.min(last)] })
}

/// How often chance alone gives n differences of the same sign.
pub fn all_of_one_sign(n: usize) -> f64 {
    if n == 0 { 1.0 } else { 0.5f64.powi(n as i32 - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: f64 = f64::INFINITY;

    #[test]
    fn medians_count_what_never_came() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[1.0, NEVER, 2.0]), Some(2.0));
        assert_eq!(median(&[1.0, NEVER]), Some(NEVER));
        assert_eq!(median(&[NEVER, 1.0, NEVER]), Some(NEVER));
        assert_eq!(reached_by_most(&[0.8, 0.6, 0.7]), Some(0.7));
        assert_eq!(reached_by_most(&[0.8, 0.6, 0.7, 0.9]), Some(0.7));
        assert_eq!(reached_by_most(&[]), None);
    }

    #[test]
    fn spreads_by_hand() {
        // (1 + 2 + 6) / 3 = 3; squares 4 + 1 + 9 = 14; 14 / 2 = 7.
        assert_eq!(Spread::of(&[1.0, 2.0, 6.0]), Some(Spread { mean: 3.0, sd: Some(7f64.sqrt()), n: 3 }));
        assert_eq!(Spread::of(&[2.0, f64::NAN]), Some(Spread { mean: 2.0, sd: None, n: 1 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn two_seeds_by_hand() {
        // Four resamples of the differences 1 and 3: means 1, 2, 2, 3. floor(0.1) = 0 and ceil(3.9) - 1 = 3.
        let interval = difference(&[10.0, 20.0], &[11.0, 23.0]).unwrap();
        assert_eq!(interval, Interval { estimate: 2.0, low: 1.0, high: 3.0 });
        assert!(interval.excludes(0.0) && !interval.excludes(1.0));
    }

    #[test]
    fn three_seeds_by_hand() {
        // Ratios of medians of 27 resamples; the extremes are of resamples of one seed: 4/4, 6/2, 10/4.
        let interval = speed_up(&[4.0, 6.0, 10.0], &[4.0, 2.0, 4.0]).unwrap();
        assert_eq!(interval, Interval { estimate: 1.5, low: 1.0, high: 3.0 });
    }

    #[test]
    fn a_miss_is_infinitely_slow() {
        let times = [1.0, 2.0, 3.0];
        assert_eq!(speed_up(&times, &[NEVER; 3]), Some(Interval { estimate: 0.0, low: 0.0, high: 0.0 }));
        assert_eq!(speed_up(&[NEVER; 3], &times).unwrap().estimate, NEVER);
        assert_eq!(speed_up(&[NEVER; 3], &[NEVER; 3]), None);
        // Both miss with the first seed: resamples with it twice show no difference.
        let interval = speed_up(&[NEVER, 6.0, 6.0], &[NEVER, 2.0, 3.0]).unwrap();
        assert_eq!(interval, Interval { estimate: 2.0, low: 1.0, high: 3.0 });
        // One miss of three: the median is finite, the interval reaches 0.
        let interval = speed_up(&times, &[1.0, 1.0, NEVER]).unwrap();
        assert_eq!((interval.estimate, interval.low), (2.0, 0.0));
    }

    #[test]
    fn many_seeds_are_as_numpy_has_them() {
        // numpy.random.default_rng(0..19), 10,000 resamples of the mean of 1..8: low from 2.875 to 3, high from 6 to 6.125. The normal
        // approximation is 4.5 ± 1.96 * 2.291 / sqrt(8), 2.91 to 6.09.
        let other: Vec<f64> = (1..=8).map(f64::from).collect();
        let interval = difference(&[0.0; 8], &other).unwrap();
        assert_eq!(interval.estimate, 4.5);
        assert!((2.875..=3.0).contains(&interval.low) && (6.0..=6.125).contains(&interval.high), "{interval:?}");
        assert_eq!(difference(&[0.0; 8], &other), Some(interval), "the same numbers every time");
    }

    #[test]
    fn a_failed_run_leaves_its_pair_out() {
        let interval = difference(&[1.0, f64::NAN, 3.0], &[2.0, 9.0, 5.0]).unwrap();
        assert_eq!(interval.estimate, 1.5);
        assert_eq!(difference(&[f64::NAN], &[1.0]), None);
    }

    #[test]
    fn few_seeds_prove_little() {
        assert_eq!([1, 2, 3, 5].map(all_of_one_sign), [1.0, 0.5, 0.25, 0.0625]);
    }
}
