//! What the paper says, what its ablations ask, and what of the runs answers it.

use super::plan::{Part, Plan};
use super::results::{Results, Row, Terms};
use super::verdict::{Finding, MARGIN, Rule};
use crate::launcher::compare::statistics::{Interval, difference};

/// A claim about two variants.
struct Claim {
    part: Part,
    words: &'static str,
    about: &'static str,
    against: &'static str,
    measure: Measure,
}

enum Measure {
    /// `about` is more accurate than `against`.
    Better,
    /// `about` is as accurate as `against`.
    AsGood,
    /// An epoch of `about`, behind the first, takes less time than one of `against`.
    Faster,
}

use Measure::{AsGood, Better, Faster};

const fn claim(part: Part, words: &'static str, about: &'static str, against: &'static str, measure: Measure) -> Claim {
    Claim { part, words, about, against, measure }
}

const CLAIMS: [Claim; 26] = [
    claim(
        Part::Sharing,
        "sharing the weights of epoch 1 is as accurate as solving at every step (Fig. 4)",
        "fngd",
        "ngd",
        AsGood,
    ),
    claim(Part::Sharing, "sharing makes epochs behind the first faster (Fig. 4)", "fngd", "ngd", Faster),
    claim(Part::Sharing, "FNGD is more accurate than SGD with momentum", "fngd", "sgd", Better),
    claim(
        Part::Sharing,
        "exact natural gradient descent is more accurate than SGD with momentum",
        "ngd",
        "sgd",
        Better,
    ),
    claim(
        Part::Keys,
        "weights that follow the sample do better than weights of a position in a slot",
        "sample keys",
        "fngd",
        Better,
    ),
    claim(Part::Keys, "weights solved at every step do better than shared ones", "ngd", "fngd", Better),
    claim(
        Part::Keys,
        "it matters that samples have different weights, beyond one number for each layer and slot",
        "fngd",
        "mean",
        Better,
    ),
    claim(
        Part::Keys,
        "it matters how weights go together across layers: shuffled ones do worse",
        "fngd",
        "permuted",
        Better,
    ),
    claim(Part::Keys, "weights do better than none (w = 1)", "fngd", "uniform", Better),
    claim(
        Part::Scale,
        "one factor 1/λ for each layer does better than leaving it to the learning rate",
        "layer scale",
        "fngd",
        Better,
    ),
    claim(
        Part::Scale,
        "the factor 1/λ of each layer and slot does better than leaving it to the learning rate",
        "slot scale",
        "fngd",
        Better,
    ),
    claim(Part::Fisher, "the improved empirical Fisher does better than the empirical one", "iEF", "fngd", Better),
    claim(Part::Inner, "weights help SGD with momentum", "fngd", "sgd", Better),
    claim(Part::Inner, "weights help AdamW", "fngd over adamw", "adamw", Better),
    claim(Part::Inner, "weights help Muon", "fngd over muon", "muon", Better),
    claim(
        Part::Inner,
        "the inner rule does more than the weights: Muon alone beats FNGD over SGD",
        "muon",
        "fngd",
        Better,
    ),
    claim(Part::Inner, "AdamW alone beats FNGD over SGD", "adamw", "fngd", Better),
    claim(Part::Damping, "γ = 0.01 does better than γ = 1", "γ = 0.01", "γ = 1", Better),
    claim(Part::Damping, "γ = 0.1 does better than γ = 1", "γ = 0.1", "γ = 1", Better),
    claim(
        Part::Damping,
        "γ = 10 is as accurate as SGD, from whose weights it differs by at most 10 %",
        "γ = 10",
        "sgd",
        AsGood,
    ),
    claim(Part::Damping, "γ = 0.1 does better than SGD", "γ = 0.1", "sgd", Better),
    claim(Part::Damping, "γ = 1 does better than SGD", "γ = 1", "sgd", Better),
    claim(
        Part::Schedule,
        "FNGD is in half the epochs as accurate as SGD in all of them (Tab. II)",
        "fngd, steps, half",
        "sgd, steps",
        AsGood,
    ),
    claim(
        Part::Schedule,
        "SGD is in half the epochs as accurate as SGD in all of them: it is the schedule",
        "sgd, steps, half",
        "sgd, steps",
        AsGood,
    ),
    claim(
        Part::Schedule,
        "with the same epochs, half of them, FNGD does better than SGD",
        "fngd, steps, half",
        "sgd, steps, half",
        Better,
    ),
    claim(
        Part::Schedule,
        "with the same epochs, all of them, FNGD does better than SGD",
        "fngd, steps",
        "sgd, steps",
        Better,
    ),
];

/// Every claim of the plan's parts, under both terms.
pub fn findings(plan: &Plan, results: &Results) -> Vec<(Terms, Finding)> {
    let mut findings = Vec::new();
    for claim in CLAIMS.iter().filter(|claim| plan.parts.contains(&claim.part)) {
        for terms in [Terms::Same, Terms::Best] {
            let rows = results.row(terms, claim.about).zip(results.row(terms, claim.against));
            // A duration is that of the runs under one schedule, whatever the learning rate.
            let is_time = matches!(claim.measure, Faster);
            if let Some((about, against)) = rows.filter(|_| !is_time || terms == Terms::Same) {
                findings.push((terms, claim.finding(about, against, results.has_test)));
            }
        }
    }
    findings
}

impl Claim {
    fn finding(&self, about: &Row, against: &Row, has_test: bool) -> Finding {
        let split = if has_test { "test" } else { "validation" };
        let accuracy = || difference(&against.accuracies(), &about.accuracies());
        let minus = format!("{split} accuracy of {} minus {}", self.about, self.against);
        let (interval, rule, quantity, unit) = match self.measure {
            Better => (accuracy(), Rule::Above(0.0), minus, " points"),
            AsGood => (accuracy(), Rule::NoLoss(MARGIN), minus, " points"),
            Faster => {
                let quantity = format!("time of an epoch of {} over that of {}", self.against, self.about);
                (ratio(&against.seconds_per_epoch(), &about.seconds_per_epoch()), Rule::Above(1.0), quantity, "")
            }
        };
        let seeds = about.accuracies().iter().zip(against.accuracies()).filter(|(a, b)| (**a - b).is_finite()).count();
        Finding { part: self.part, claim: self.words.to_owned(), quantity, unit, interval, seeds, rule }
    }
}

/// Geometric mean of the ratios of each seed, with its interval.
fn ratio(above: &[f64], below: &[f64]) -> Option<Interval> {
    let logarithms = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<_>>();
    let Interval { estimate, low, high } = difference(&logarithms(below), &logarithms(above))?;
    Some(Interval { estimate: estimate.exp(), low: low.exp(), high: high.exp() })
}

#[cfg(test)]
pub mod tests {
    use super::super::plan::{self, tests::plan};
    use super::super::results::Results;
    use super::super::verdict::Verdict;
    use super::*;
    use crate::launcher::cells::{CellResult, CellState, Measured};
    use crate::launcher::metrics::tests::epoch;
    use crate::protocol::Status;

    /// A row whose seeds have these test accuracies and take so long for an epoch.
    pub fn row(label: &str, accuracies: &[f64], seconds: f64) -> Row {
        let run = |accuracy: &f64| {
            let epochs = (1..=3).map(|number| {
                let mut event = epoch(number);
                event.train_seconds = seconds * number as f64;
                event
            });
            CellResult {
                name: label.to_owned(),
                state: CellState::Finished(Status::Finished),
                epochs: epochs.collect(),
                test: Some(Measured { loss: 1.0, accuracy: *accuracy, top5: 1.0 }),
                steps: 3,
                train_seconds: Some(3.0 * seconds),
                wall_seconds: Some(3.5 * seconds),
                first_step_seconds: None,
                peak_memory_mib: None,
                phases: Vec::new(),
                skipped_steps: 0,
                resumed: false,
            }
        };
        let choice = plan::Choice { rate: 0.1, schedule: "cosine".into() };
        Row { label: label.to_owned(), choice, runs: accuracies.iter().map(run).collect() }
    }

    pub fn results() -> Results {
        let same = vec![
            row("sgd", &[0.90, 0.91, 0.92], 1.0),
            row("fngd", &[0.91, 0.92, 0.93], 1.0),
            row("ngd", &[0.91, 0.93, 0.92], 2.0),
        ];
        Results { best: same.clone(), same, has_test: true }
    }

    #[test]
    fn claims_end_as_their_numbers_say() {
        let found = findings(&plan(), &results());
        let sentences: Vec<String> =
            found.iter().filter(|(terms, _)| *terms == Terms::Same).map(|(_, finding)| finding.sentence()).collect();
        assert_eq!(
            sentences,
            [
                "No clear difference: sharing the weights of epoch 1 is as accurate as solving at every step (Fig. 4) (test accuracy of \
                 fngd minus ngd: 0.00 [-1.00, 1.00] points, 3 seeds).",
                "Supported: sharing makes epochs behind the first faster (Fig. 4) (time of an epoch of ngd over that of fngd: 2.00 \
                 [2.00, 2.00], 3 seeds).",
                "Supported: FNGD is more accurate than SGD with momentum (test accuracy of fngd minus sgd: 1.00 [1.00, 1.00] points, \
                 3 seeds).",
                "No clear difference: exact natural gradient descent is more accurate than SGD with momentum (test accuracy of ngd minus \
                 sgd: 1.00 [0.00, 2.00] points, 3 seeds)."
            ]
        );
        assert_eq!(found.iter().filter(|(terms, _)| *terms == Terms::Best).count(), 3);
    }

    #[test]
    fn a_run_that_failed_is_left_out_with_its_pair() {
        let mut results = results();
        results.same[1].runs[0].state = CellState::Missing;
        let found = findings(&plan(), &results);
        let (_, finding) = &found[3];
        assert_eq!((finding.quantity.as_str(), finding.seeds), ("test accuracy of fngd minus sgd", 2), "{found:?}");
        results.same[1].runs.iter_mut().for_each(|run| run.state = CellState::Missing);
        assert!(findings(&plan(), &results).iter().any(|(_, finding)| finding.verdict() == Verdict::Unknown));
    }

    #[test]
    fn every_claim_is_about_variants_of_its_part() {
        for claim in &CLAIMS {
            let labels: Vec<&str> = plan::variants(&[claim.part]).into_iter().map(|(label, _)| label).collect();
            for label in [claim.about, claim.against] {
                assert!(labels.contains(&label), "{label} in {:?}", claim.part);
            }
        }
    }
}
