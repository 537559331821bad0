//! What came of the runs: of every variant, under one schedule and under its own best.

use super::plan::{Choice, Plan, Run};
use crate::launcher::cells::CellResult;
use crate::launcher::compare::statistics::Spread;

/// Which runs a comparison is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Terms {
    /// Everyone has the same schedule, and its own default learning rate.
    Same,
    /// Everyone has the best schedule and learning rate of as many trials.
    Best,
}

impl Terms {
    pub fn words(self) -> &'static str {
        match self {
            Terms::Same => "under one schedule",
            Terms::Best => "each at its best",
        }
    }
}

/// A variant under some terms.
#[derive(Debug, Clone)]
pub struct Row {
    pub label: String,
    pub choice: Choice,
    /// A result for each seed, in the order of the plan.
    pub runs: Vec<CellResult>,
}

impl Row {
    /// Accuracy on the test split, of the epoch that was best in validation; where there is no test split, that validation accuracy. In
    /// percent; NaN for a run that failed.
    pub fn accuracies(&self) -> Vec<f64> {
        let accuracy = |run: &CellResult| {
            let found = run.test.map(|test| test.accuracy).or_else(|| run.best().map(|best| best.val_acc));
            found.filter(|_| run.is_finished()).map_or(f64::NAN, |share| 100.0 * share)
        };
        self.runs.iter().map(accuracy).collect()
    }

    /// Training seconds; NaN for a run that failed.
    pub fn seconds(&self) -> Vec<f64> {
        let seconds = |run: &CellResult| run.train_seconds.filter(|_| run.is_finished()).unwrap_or(f64::NAN);
        self.runs.iter().map(seconds).collect()
    }

    /// Training seconds of an epoch behind the first; NaN for a run that failed or had only one.
    pub fn seconds_per_epoch(&self) -> Vec<f64> {
        let seconds = |run: &CellResult| {
            let (Some(first), Some(last)) = (run.epochs.first(), run.epochs.last()) else { return f64::NAN };
            let epochs = last.epoch.saturating_sub(first.epoch);
            if epochs == 0 || !run.is_finished() {
                f64::NAN
            } else {
                (last.train_seconds - first.train_seconds) / epochs as f64
            }
        };
        self.runs.iter().map(seconds).collect()
    }

    /// Validation loss after the last epoch.
    pub fn last_losses(&self) -> Vec<f64> {
        let loss =
            |run: &CellResult| run.epochs.last().filter(|_| run.is_finished()).map_or(f64::NAN, |epoch| epoch.val_loss);
        self.runs.iter().map(loss).collect()
    }

    /// `93.1 ± 0.4`.
    pub fn accuracy_words(&self) -> String {
        words(&self.accuracies(), 2)
    }

    /// What the runs that failed say, if some did.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.runs.iter().filter(|run| !run.is_finished());
        failed.map(|run| format!("{}: {}", run.name, run.state.word())).collect()
    }
}

/// Mean and standard deviation.
pub fn words(values: &[f64], decimals: usize) -> String {
    match Spread::of(values) {
        None => "-".to_owned(),
        Some(Spread { mean, sd: None, .. }) => format!("{mean:.decimals$}"),
        Some(Spread { mean, sd: Some(sd), .. }) => format!("{mean:.decimals$} ± {sd:.decimals$}"),
    }
}

/// Everything that was trained.
#[derive(Debug, Clone, Default)]
pub struct Results {
    pub same: Vec<Row>,
    /// Empty if nothing was tuned.
    pub best: Vec<Row>,
    /// Whether accuracies are of a test split.
    pub has_test: bool,
}

impl Results {
    pub fn rows(&self, terms: Terms) -> &[Row] {
        match terms {
            Terms::Same => &self.same,
            Terms::Best => &self.best,
        }
    }

    pub fn row(&self, terms: Terms, label: &str) -> Option<&Row> {
        self.rows(terms).iter().find(|row| row.label == label)
    }
}

/// Runs, sorted to their variants.
pub fn rows(plan: &Plan, choices: &[Choice], runs: Vec<(Run, CellResult)>) -> Vec<Row> {
    let mut rows: Vec<Row> = plan
        .variants
        .iter()
        .zip(choices)
        .map(|(variant, choice)| Row { label: variant.label.clone(), choice: choice.clone(), runs: Vec::new() })
        .collect();
    for (run, result) in runs {
        rows[run.variant].runs.push(result);
    }
    rows
}
