//! `--tune lr=K`: the same number of learning rates for every method, chosen by validation accuracy on a seed that is not evaluated.

use super::plan::{Plan, Run};
use crate::launcher::cells::CellResult;
use crate::launcher::failure::{Failure, Result};
use crate::launcher::text;
use serde::{Deserialize, Serialize};

/// How learning rates are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// Learning rates tried for each method.
    pub trials: u32,
    /// None of the seeds that are evaluated; also another validation split.
    pub seed: u64,
}

/// How far the tuning seed is from the first evaluated one.
pub const SEED_OFFSET: u64 = 1000;

/// The trials of `lr=5`.
pub fn parse(typed: &str) -> Result<u32> {
    let trials = typed.strip_prefix("lr=").and_then(|number| number.parse().ok());
    trials.filter(|trials| (3..=25).contains(trials)).ok_or_else(|| {
        Failure::usage(format!("`--tune` must be lr=K with K from 3 to 25, found `{}`", text::name(typed)))
            .with_help("--tune lr=5 tries 5 learning rates for every optimizer")
    })
}

/// `trials` rates about `own`: a factor √10 from one to the next, `own` in the middle. Of an even number, the one more is below: a
/// rate that is too high fails more often than one that is too low.
pub fn grid(own: f64, trials: u32) -> Vec<f64> {
    let below = i64::from(trials / 2);
    (0..i64::from(trials)).map(|trial| three_digits(own * 10f64.powf((trial - below) as f64 / 2.0))).collect()
}

/// Rates that people would type.
fn three_digits(rate: f64) -> f64 {
    // OK because the text of a number is a number.
    format!("{rate:.2e}").parse().unwrap_or(rate)
}

/// The trials, interleaved: the first rate of every method, then the second ...
pub fn trials(plan: &Plan, tuning: Tuning) -> Vec<Run> {
    let grids: Vec<Vec<f64>> = plan.methods.iter().map(|row| grid(row.rate(), tuning.trials)).collect();
    let trial = |number: usize| {
        plan.methods.iter().zip(&grids).enumerate().map(move |(method, (row, grid))| Run {
            method,
            seed: tuning.seed,
            cell: row.cell(format!("tune.{}.lr{}", row.slug, grid[number]), grid[number], tuning.seed),
        })
    };
    (0..tuning.trials as usize).flat_map(trial).collect()
}

/// The rate of a method's trial with the best validation accuracy; of equal ones, the one nearest to `own`. `None` if all failed.
pub fn best(trials: &[(f64, &CellResult)], own: f64) -> Option<f64> {
    let accuracy = |result: &CellResult| result.best().filter(|_| result.is_finished()).map(|best| best.val_acc);
    let distance = |rate: f64| (rate / own).ln().abs();
    let known = trials.iter().filter_map(|(rate, result)| Some((*rate, accuracy(result)?)));
    let better = |left: (f64, f64), right: (f64, f64)| {
        let order = left.1.total_cmp(&right.1).then(distance(right.0).total_cmp(&distance(left.0)));
        if order.is_lt() { right } else { left }
    };
    known.reduce(better).map(|(rate, _)| rate)
}

/// Whether `rate` is at an end of its grid: then a better one may lie outside.
pub fn is_at_edge(rate: f64, own: f64, trials: u32) -> bool {
    let grid = grid(own, trials);
    grid.first() == Some(&rate) || grid.last() == Some(&rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::cells::CellState;
    use crate::launcher::compare::plan::tests::plan;
    use crate::launcher::metrics::tests::epoch;
    use crate::protocol::Status;

    #[test]
    fn a_grid_is_centred_at_the_own_rate() {
        assert_eq!(grid(0.1, 5), [0.01, 0.0316, 0.1, 0.316, 1.0]);
        assert_eq!(grid(0.02, 3), [0.00632, 0.02, 0.0632]);
        assert_eq!(grid(1.0, 4), [0.1, 0.316, 1.0, 3.16]);
        assert!(is_at_edge(1.0, 0.1, 5) && !is_at_edge(0.316, 0.1, 5));
        let message = |typed: &str| parse(typed).unwrap_err().message;
        assert_eq!(message("wd=3"), "`--tune` must be lr=K with K from 3 to 25, found `wd=3`");
        assert_eq!(message("lr=1"), "`--tune` must be lr=K with K from 3 to 25, found `lr=1`");
        assert_eq!(parse("lr=5"), Ok(5));
    }

    #[test]
    fn every_method_has_as_many_trials_in_turn() {
        let runs = trials(&plan(), Tuning { trials: 3, seed: 1007 });
        let names: Vec<_> = runs.iter().map(|run| run.cell.name.as_str()).collect();
        let expected = [
            "tune.sgd.lr0.0316",
            "tune.fngd-inner-muon.lr0.00632",
            "tune.sgd.lr0.1",
            "tune.fngd-inner-muon.lr0.02",
            "tune.sgd.lr0.316",
            "tune.fngd-inner-muon.lr0.0632",
        ];
        assert_eq!(names, expected);
        assert!(runs.iter().all(|run| run.seed == 1007 && run.cell.settings.train.seed == 1007));
    }

    fn result(val_acc: Option<f64>) -> CellResult {
        let mut result = CellResult::read(std::path::Path::new("nowhere"));
        if let Some(val_acc) = val_acc {
            let mut epoch = epoch(1);
            epoch.val_acc = val_acc;
            result.epochs.push(epoch);
            result.state = CellState::Finished(Status::Finished);
        }
        result
    }

    #[test]
    fn the_best_trial_is_chosen_and_failed_ones_are_not() {
        let (low, high, failed) = (result(Some(0.5)), result(Some(0.7)), result(None));
        assert_eq!(best(&[(0.01, &low), (0.1, &high), (1.0, &failed)], 0.1), Some(0.1));
        // Of equal ones the nearest to its own.
        assert_eq!(best(&[(0.01, &high), (0.316, &high), (1.0, &high)], 0.1), Some(0.316));
        assert_eq!(best(&[(0.1, &failed)], 0.1), None);
    }
}
