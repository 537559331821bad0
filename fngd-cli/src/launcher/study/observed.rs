//! What the looks at runs say: Fig. 3 and the drift of w, over seeds.

use super::drift::{Drift, Shares, drift, over_layers};
use super::layers::{Pairs, Summary};
use super::observation::Observation;
use super::plan::{Part, Plan};
use super::similarity::mean;
use super::verdict::{Finding, Rule};
use crate::launcher::compare::statistics::difference;

/// A correlation from which something may be said to stay as it is: four fifths of the variance are in common.
const STAYS: f64 = 0.9;

/// Looks at a run of each seed.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub seeds: Vec<Observation>,
}

impl Observed {
    /// The last epoch that was looked at, if there is one behind the first.
    pub fn last_epoch(&self) -> Option<u64> {
        self.seeds.first()?.epochs.keys().copied().filter(|epoch| *epoch > 1).max()
    }

    /// The moment that similarities of layers are told for: after epoch 1, or the first there is.
    pub fn moment(&self) -> Option<u64> {
        let moments = &self.seeds.first()?.moments;
        if moments.contains_key(&1) { Some(1) } else { moments.keys().next().copied() }
    }

    /// Similarities of layers at one moment, of each seed.
    pub fn summaries(&self, moment: u64) -> Vec<Summary> {
        self.seeds.iter().filter_map(|seed| Some(Pairs::of(seed.moments.get(&moment)?).summary())).collect()
    }

    /// Drift from epoch 1 to `later`, of each seed, as the mean over layers.
    pub fn drifts(&self, later: u64) -> Vec<Drift> {
        self.seeds.iter().filter_map(|seed| Some(over_layers(&drift(seed, later)?))).collect()
    }

    /// Where the weights of an epoch differ, as the mean over seeds.
    pub fn shares(&self, epoch: u64) -> Option<Shares> {
        let all: Vec<Shares> =
            self.seeds.iter().filter_map(|seed| Some(Shares::of(seed.epochs.get(&epoch)?))).collect();
        let over = |of: fn(&Shares) -> f64| mean(all.iter().map(of));
        (!all.is_empty()).then(|| Shares {
            layers: over(|shares| shares.layers),
            slots: over(|shares| shares.slots),
            batch: over(|shares| shares.batch),
            deviation: over(|shares| shares.deviation),
        })
    }

    /// Claims of the plan's parts.
    pub fn findings(&self, plan: &Plan) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(moment) = self.moment().filter(|_| plan.parts.contains(&Part::Gram)) {
            let summaries = self.summaries(moment);
            let of = |value: fn(&Summary) -> f64| summaries.iter().map(value).collect::<Vec<f64>>();
            let (adjacent, distant, shuffled) = (of(|s| s.adjacent), of(|s| s.distant), of(|s| s.adjacent_shuffled));
            let finding = |claim: &str, quantity: &str, above: &[f64], below: &[f64]| {
                self::finding(Part::Gram, claim, quantity, (above, below), 0.0)
            };
            findings.push(finding(
                "Gram matrices of adjacent layers are more alike than those of distant ones (Fig. 3)",
                "cosine of K, adjacent minus distant layers",
                &adjacent,
                &distant,
            ));
            findings.push(finding(
                "adjacent layers see the same samples as alike, beyond what any two Gram matrices have in common",
                "cosine of K over adjacent layers, minus the same with shuffled samples",
                &adjacent,
                &shuffled,
            ));
            findings.push(finding(
                "the weights of adjacent layers are coupled (section IV-B)",
                "correlation of w over adjacent layers",
                &of(|s| s.correlation),
                &vec![0.0; summaries.len()],
            ));
        }
        if let Some(later) = self.last_epoch().filter(|_| plan.parts.contains(&Part::Drift)) {
            findings.extend(self.drift_findings(later));
        }
        findings
    }

    fn drift_findings(&self, later: u64) -> Vec<Finding> {
        let drifts = self.drifts(later);
        let of = |value: fn(&Drift) -> f64| drifts.iter().map(value).collect::<Vec<f64>>();
        let zeros = vec![0.0; drifts.len()];
        let stays = |claim: &str, quantity: &str, values: Vec<f64>| {
            finding(Part::Drift, claim, &format!("{quantity}, epochs 1 and {later}"), (&values, &zeros), STAYS)
        };
        let nearer = |claim: &str, quantity: &str, far: Vec<f64>, near: Vec<f64>| {
            finding(Part::Drift, claim, quantity, (&far, &near), 0.0)
        };
        vec![
            stays(
                "the same batch of samples keeps its Gram matrices (section IV-B)",
                "cosine of K of one batch",
                of(|d| d.gram),
            ),
            stays("the same batch of samples keeps its weights", "correlation of w of one batch", of(|d| d.same_batch)),
            stays(
                "the weight stored for a position in a slot is the one that is solved for there later",
                "correlation of w by slot and position",
                of(|d| d.slot.correlation),
            ),
            stays(
                "the weight stored for a sample is the one that is solved for it later",
                "correlation of w by sample",
                of(|d| d.sample.correlation),
            ),
            nearer(
                "the weight stored for a slot is nearer to the right one than w = 1 is",
                "relative error of 1 minus that of the stored weight",
                of(|d| d.ones),
                of(|d| d.slot.change),
            ),
            nearer(
                "the weight stored for a slot is nearer to the right one than the layer's mean weight is",
                "relative error of the mean minus that of the stored weight",
                of(|d| d.mean),
                of(|d| d.slot.change),
            ),
            nearer(
                "the weight stored for a sample is nearer to the right one than the layer's mean weight is",
                "relative error of the mean minus that of the stored weight",
                of(|d| d.mean),
                of(|d| d.sample.change),
            ),
        ]
    }
}

fn finding(part: Part, claim: &str, quantity: &str, (above, below): (&[f64], &[f64]), bar: f64) -> Finding {
    let interval = difference(below, above);
    let seeds = above.iter().zip(below).filter(|(above, below)| (*above - *below).is_finite()).count();
    Finding { part, claim: claim.into(), quantity: quantity.into(), unit: "", interval, seeds, rule: Rule::Above(bar) }
}
