//! How long the weights of epoch 1 stay right: against those that a later epoch solves for.

use super::layers::shuffle;
use super::observation::{Epoch, Moment, Observation};
use super::similarity::{correlation, cosine, mean, relative_change, reordered, variance};
use std::collections::HashMap;

/// Of one layer, between epoch 1 and a later one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// The stored weight of a slot and position against the one solved for there.
    pub slot: Kept,
    /// The stored weight of a sample against the one solved for it.
    pub sample: Kept,
    /// ‖1 − w‖ / ‖w‖: how wrong plain SGD is about the later epoch's w.
    pub ones: f64,
    /// The same of the layer's mean weight of epoch 1.
    pub mean: f64,
    /// The first step's batch, the same samples together: correlation of w after one epoch and after k.
    pub same_batch: f64,
    /// Cosine of the Gram matrices of that batch after one epoch and after k,
    pub gram: f64,
    /// and with the samples of one of them shuffled.
    pub gram_shuffled: f64,
}

/// What keeping weights under some key gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kept {
    /// ‖kept − w‖ / ‖w‖.
    pub change: f64,
    pub cosine: f64,
    pub correlation: f64,
}

/// Where the weights of one epoch differ: shares that add up to 1, from the law of total variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Between the means of layers.
    pub layers: f64,
    /// Between the means of the slots of a layer.
    pub slots: f64,
    /// Within the batch of a layer and slot.
    pub batch: f64,
    /// Square root of the whole variance.
    pub deviation: f64,
}

/// Every layer's drift from epoch 1 to `later`, or `None` if one of them was not looked at.
pub fn drift(observation: &Observation, later: u64) -> Option<Vec<Drift>> {
    let (first, last) = (observation.epochs.get(&1)?, observation.epochs.get(&later)?);
    let moments = observation.moments.get(&1).zip(observation.moments.get(&later));
    Some((0..observation.layers.len()).map(|layer| of_layer(first, last, moments, layer)).collect())
}

fn of_layer(first: &Epoch, last: &Epoch, moments: Option<(&Moment, &Moment)>, layer: usize) -> Drift {
    let (then, now) = (&first.weights[layer], &last.weights[layer]);
    let by_sample: HashMap<i64, f64> = first.samples.iter().copied().zip(then.iter().copied()).collect();
    // Every epoch has every sample once.
    let of_sample: Vec<f64> = last.samples.iter().map(|sample| by_sample.get(sample).copied().unwrap_or(1.0)).collect();
    let average = mean(then.iter().copied());
    let (same_batch, gram, gram_shuffled) = moments.map_or((f64::NAN, f64::NAN, f64::NAN), |(early, late)| {
        let size = early.weights[layer].len();
        let mixed = reordered(&late.grams[layer], size, &shuffle(size, layer));
        (
            correlation(&early.weights[layer], &late.weights[layer]),
            cosine(&early.grams[layer], &late.grams[layer]),
            cosine(&early.grams[layer], &mixed),
        )
    });
    Drift {
        slot: Kept::of(then, now),
        sample: Kept::of(&of_sample, now),
        ones: relative_change(&vec![1.0; now.len()], now),
        mean: relative_change(&vec![average; now.len()], now),
        same_batch,
        gram,
        gram_shuffled,
    }
}

impl Kept {
    fn of(kept: &[f64], now: &[f64]) -> Kept {
        Kept { change: relative_change(kept, now), cosine: cosine(kept, now), correlation: correlation(kept, now) }
    }
}

/// Means over layers.
pub fn over_layers(layers: &[Drift]) -> Drift {
    let over = |of: &dyn Fn(&Drift) -> f64| mean(layers.iter().map(of));
    let kept = |of: &dyn Fn(&Drift) -> Kept| Kept {
        change: over(&|drift| of(drift).change),
        cosine: over(&|drift| of(drift).cosine),
        correlation: over(&|drift| of(drift).correlation),
    };
    Drift {
        slot: kept(&|drift| drift.slot),
        sample: kept(&|drift| drift.sample),
        ones: over(&|drift| drift.ones),
        mean: over(&|drift| drift.mean),
        same_batch: over(&|drift| drift.same_batch),
        gram: over(&|drift| drift.gram),
        gram_shuffled: over(&|drift| drift.gram_shuffled),
    }
}

impl Shares {
    /// Of all weights of an epoch.
    pub fn of(epoch: &Epoch) -> Shares {
        let mut all = Vec::new();
        // The mean that each weight's layer, and layer and slot, has.
        let (mut of_layers, mut of_slots) = (Vec::new(), Vec::new());
        for row in &epoch.weights {
            let layer = mean(row.iter().copied());
            let mut start = 0;
            for size in &epoch.slots {
                let batch = &row[start..start + size];
                let slot = mean(batch.iter().copied());
                all.extend_from_slice(batch);
                of_layers.extend(std::iter::repeat_n(layer, *size));
                of_slots.extend(std::iter::repeat_n(slot, *size));
                start += size;
            }
        }
        let (total, layers, with_slots) = (variance(&all), variance(&of_layers), variance(&of_slots));
        Shares {
            layers: layers / total,
            slots: (with_slots - layers) / total,
            batch: 1.0 - with_slots / total,
            deviation: total.sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    /// Two batches of two samples; in epoch 2 the samples are at other places.
    fn observation() -> Observation {
        let epoch = |samples: &[i64], weights: &[f64]| Epoch {
            samples: samples.to_vec(),
            slots: vec![2, 2],
            weights: vec![weights.to_vec()],
        };
        let moment =
            |gram: &[f64], weights: &[f64]| Moment { grams: vec![gram.to_vec()], weights: vec![weights.to_vec()] };
        Observation {
            layers: vec!["a".into()],
            labels: vec![0, 1],
            moments: [(1, moment(&[2.0, 0.0, 0.0, 1.0], &[0.5, 1.0])), (2, moment(&[4.0, 0.0, 0.0, 2.0], &[0.1, 0.3]))]
                .into(),
            epochs: [
                (1, epoch(&[0, 1, 2, 3], &[0.0, 1.0, 2.0, 3.0])),
                (2, epoch(&[3, 2, 1, 0], &[3.0, 2.0, 1.0, 0.0])),
            ]
            .into(),
        }
    }

    #[test]
    fn weights_that_belong_to_samples_follow_them() {
        let [drift] = drift(&observation(), 2).unwrap()[..] else { panic!("one layer") };
        close(drift.sample.correlation, 1.0);
        close(drift.sample.change, 0.0);
        close(drift.slot.correlation, -1.0);
        // (0, 1, 2, 3) - (3, 2, 1, 0) = (-3, -1, 1, 3): √20; ‖w‖ = √14. ⟨,⟩ = 4.
        close(drift.slot.change, (20.0f64 / 14.0).sqrt());
        close(drift.slot.cosine, 4.0 / 14.0);
        // 1 - w = (-2, -1, 0, 1): √6; the mean 1.5 leaves (-1.5, -0.5, 0.5, 1.5): √5.
        close(drift.ones, (6.0f64 / 14.0).sqrt());
        close(drift.mean, (5.0f64 / 14.0).sqrt());
        close(drift.same_batch, 1.0);
        close(drift.gram, 1.0);
        let swapped = if shuffle(2, 0) == [1, 0] { 4.0 / 5.0 } else { 1.0 };
        close(drift.gram_shuffled, swapped);
        assert_eq!(over_layers(&[drift, drift]), drift);
    }

    #[test]
    fn an_epoch_that_nobody_looked_at_has_no_drift() {
        assert_eq!(drift(&observation(), 3), None);
    }

    #[test]
    fn variance_is_shared_out() {
        // Layer means 1.5 and 5.5 (variance 4), slot means 0.5, 2.5, 4.5, 6.5 (variance 5), all of 0..8 (variance 5.25).
        let weights = vec![vec![0.0, 1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0, 7.0]];
        let shares = Shares::of(&Epoch { samples: vec![0, 1, 2, 3], slots: vec![2, 2], weights });
        close(shares.layers, 4.0 / 5.25);
        close(shares.slots, 1.0 / 5.25);
        close(shares.batch, 0.25 / 5.25);
        close(shares.deviation, 5.25f64.sqrt());
    }
}
