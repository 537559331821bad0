//! From runs to what is said about them.

use super::plan::{Plan, Run};
use super::statistics::{Interval, Spread, difference, median, reached_by_most, speed_up};
use super::tuning;
use crate::launcher::cells::{CellResult, CellState};
use crate::protocol::EpochEvent;
use crate::settings::Settings;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A comparison, with everything that the reports show. As JSON, what never happened or is not known is null.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub schema: u32,
    pub model: String,
    pub data: String,
    pub reference: String,
    /// Validation accuracy to reach; `None` if the reference has no finished run to take it from.
    pub target: Option<f64>,
    pub target_is_given: bool,
    pub seeds: Vec<u64>,
    /// Trials for each method; `None`: not tuned.
    pub trials: Option<u32>,
    pub tuning_seed: Option<u64>,
    /// In the order of the table.
    pub methods: Vec<MethodSummary>,
    /// Settings that all have, by name.
    pub same: BTreeMap<String, Value>,
    /// Settings that differ: one value for each method, in the order of the table; null where a method has no such setting.
    pub different: BTreeMap<String, Vec<Value>>,
    /// What the runs say about the machine.
    pub machine: Value,
}

/// A row of the table.
#[derive(Debug, Clone, Serialize)]
pub struct MethodSummary {
    pub label: String,
    pub optimizer: String,
    pub learning_rate: f64,
    /// Whether the chosen rate is the highest or lowest that was tried.
    pub rate_is_at_edge: bool,
    pub tuning: Vec<Trial>,
    pub runs: Vec<RunSummary>,
    /// Median over seeds, a miss being infinite.
    pub seconds_to_target: Option<f64>,
    /// Over the seeds that reached it.
    pub seconds_to_target_spread: Option<Spread>,
    pub epochs_to_target: Option<f64>,
    /// How many seeds reached it.
    pub reached: usize,
    pub best_val_acc: Option<Spread>,
    pub test_acc: Option<Spread>,
    pub seconds_per_epoch: Option<f64>,
    pub memory_mib: Option<f64>,
    /// Seconds per step by phase: mean over the runs.
    pub phases: Vec<(String, f64)>,
    /// `None` for the reference itself.
    pub against: Option<Against>,
}

/// A method beside the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Against {
    /// How many times as fast to the target; `None` where neither gets there in its median run.
    pub speed_up: Option<Interval>,
    pub speed_is_clear: bool,
    /// Mean difference of test accuracy (validation accuracy without a test split), as a share.
    pub accuracy: Option<Interval>,
    pub accuracy_is_clear: bool,
}

/// A run with one of the learning rates that were tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    pub learning_rate: f64,
    pub state: String,
    pub best_val_acc: Option<f64>,
}

/// One run of one seed.
#[derive(Debug, Clone, Serialize)]
pub struct RunSummary {
    pub cell: String,
    pub seed: u64,
    /// `finished`, `diverged`, `out of memory`, `failed`, `stopped` or `missing`.
    pub state: String,
    /// Why it failed.
    pub message: Option<String>,
    pub seconds_to_target: Option<f64>,
    pub epochs_to_target: Option<u64>,
    pub best_val_acc: Option<f64>,
    pub best_epoch: Option<u64>,
    pub test_acc: Option<f64>,
    pub test_loss: Option<f64>,
    pub steps: u64,
    /// Without the first step.
    pub train_seconds: Option<f64>,
    pub wall_seconds: Option<f64>,
    pub first_step_seconds: Option<f64>,
    /// Interrupted and gone on with: its seconds have the first step of another process in them.
    pub resumed: bool,
    pub memory_mib: Option<f64>,
    pub skipped_steps: u64,
    pub epochs: Vec<Point>,
}

/// An epoch.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Point {
    pub epoch: u64,
    /// Of training since its second step.
    pub seconds: f64,
    pub train_loss: f64,
    pub train_acc: f64,
    pub val_loss: f64,
    pub val_acc: f64,
}

/// Accuracies in metrics.csv have six digits.
const ROUNDING: f64 = 5e-7;

impl Comparison {
    /// `trials`, `runs`: what [`tuning::trials`] and [`Plan::runs`] planned, and what came of each. `rates`: what was chosen.
    pub fn of(
        plan: &Plan,
        rates: &[f64],
        trials: &[(Run, CellResult)],
        runs: &[(Run, CellResult)],
        machine: Value,
    ) -> Comparison {
        let reference = plan.reference();
        let results = |method: usize| runs.iter().filter(move |(run, _)| run.method == method);
        let target = plan.target.or_else(|| {
            let finished = results(reference).filter(|(_, result)| result.is_finished());
            reached_by_most(&finished.filter_map(|(_, result)| Some(result.best()?.val_acc)).collect::<Vec<_>>())
        });
        let summary = |method: usize| {
            let row = &plan.methods[method];
            let tried = trials.iter().filter(|(run, _)| run.method == method);
            let summaries: Vec<RunSummary> =
                results(method).map(|(run, result)| RunSummary::of(run, result, target)).collect();
            let finished: Vec<&CellResult> =
                results(method).map(|(_, result)| result).filter(|result| result.is_finished()).collect();
            let trials = plan.tuning.map_or(0, |tuning| tuning.trials);
            MethodSummary {
                label: row.label.clone(),
                optimizer: row.settings.optimizer.name.clone(),
                learning_rate: rates[method],
                rate_is_at_edge: trials > 0 && tuning::is_at_edge(rates[method], row.rate(), trials),
                tuning: tried.map(|(run, result)| Trial::of(run, result)).collect(),
                phases: mean_phases(&finished),
                ..MethodSummary::of_runs(summaries)
            }
        };
        let mut methods: Vec<MethodSummary> = (0..plan.methods.len()).map(summary).collect();
        for method in (0..methods.len()).filter(|method| *method != reference) {
            methods[method].against = Some(Against::of(&methods[reference].runs, &methods[method].runs));
        }
        let (same, different) = settings(plan, rates);
        let mut order: Vec<usize> = (0..methods.len()).collect();
        order.sort_by(|left, right| {
            rank(&methods[*left]).partial_cmp(&rank(&methods[*right])).unwrap_or(std::cmp::Ordering::Equal)
        });
        let sorted = |values: Vec<Value>| order.iter().map(|method| values[*method].clone()).collect();
        let first = &plan.methods[reference].settings;
        Comparison {
            schema: 1,
            model: first.model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            data: first.data.spec.clone(),
            reference: plan.methods[reference].label.clone(),
            target,
            target_is_given: plan.target.is_some(),
            seeds: plan.seeds.clone(),
            trials: plan.tuning.map(|tuning| tuning.trials),
            tuning_seed: plan.tuning.map(|tuning| tuning.seed),
            same,
            different: different.into_iter().map(|(key, values)| (key, sorted(values))).collect(),
            methods: order.iter().map(|method| methods[*method].clone()).collect(),
            machine,
        }
    }

    /// Whether every run that counts was trained to its end.
    pub fn is_whole(&self) -> bool {
        self.methods.iter().flat_map(|method| &method.runs).all(|run| run.state == "finished")
    }

    /// Whether accuracies are of the test split.
    pub fn has_test(&self) -> bool {
        self.methods.iter().any(|method| method.test_acc.is_some())
    }
}

/// Fastest to the target first; of those that are not, the most accurate.
fn rank(method: &MethodSummary) -> (f64, f64) {
    let accuracy = method.test_acc.or(method.best_val_acc).map_or(f64::NEG_INFINITY, |spread| spread.mean);
    (method.seconds_to_target.unwrap_or(f64::INFINITY), -accuracy)
}

impl MethodSummary {
    fn of_runs(runs: Vec<RunSummary>) -> MethodSummary {
        let all = |value: fn(&RunSummary) -> Option<f64>| runs.iter().filter_map(value).collect::<Vec<f64>>();
        let times = times(&runs);
        let epochs: Vec<f64> =
            runs.iter().map(|run| run.epochs_to_target.map_or(f64::INFINITY, |epochs| epochs as f64)).collect();
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        let per_epoch = |run: &RunSummary| Some(run.train_seconds? / run.epochs.len().max(1) as f64);
        MethodSummary {
            label: String::new(),
            optimizer: String::new(),
            learning_rate: f64::NAN,
            rate_is_at_edge: false,
            tuning: Vec::new(),
            seconds_to_target: finite(median(&times)),
            seconds_to_target_spread: Spread::of(&times),
            epochs_to_target: finite(median(&epochs)),
            reached: times.iter().filter(|time| time.is_finite()).count(),
            best_val_acc: Spread::of(&all(|run| run.best_val_acc.filter(|_| run.state == "finished"))),
            test_acc: Spread::of(&all(|run| run.test_acc)),
            seconds_per_epoch: median(&all(per_epoch)),
            memory_mib: median(&all(|run| run.memory_mib)),
            phases: Vec::new(),
            against: None,
            runs,
        }
    }
}

/// Infinite where the target was not reached.
fn times(runs: &[RunSummary]) -> Vec<f64> {
    runs.iter().map(|run| run.seconds_to_target.unwrap_or(f64::INFINITY)).collect()
}

impl Against {
    /// Both have a run of every seed, in the same order.
    fn of(reference: &[RunSummary], other: &[RunSummary]) -> Against {
        let has_test = reference.iter().chain(other).any(|run| run.test_acc.is_some());
        let accuracy = |runs: &[RunSummary]| -> Vec<f64> {
            let of = |run: &RunSummary| {
                if has_test { run.test_acc } else { run.best_val_acc.filter(|_| run.state == "finished") }
            };
            runs.iter().map(|run| of(run).unwrap_or(f64::NAN)).collect()
        };
        let speed_up = speed_up(&times(reference), &times(other));
        let (before, after) = (accuracy(reference), accuracy(other));
        let pairs = before.iter().zip(&after).filter(|(before, after)| (**before - **after).is_finite()).count();
        let accuracy = difference(&before, &after);
        // One seed, or the only one that both finished, has no spread: nothing that it shows is clear.
        Against {
            speed_is_clear: reference.len() > 1 && speed_up.is_some_and(|interval| interval.excludes(1.0)),
            accuracy_is_clear: pairs > 1 && accuracy.is_some_and(|interval| interval.excludes(0.0)),
            speed_up,
            accuracy,
        }
    }
}

impl Trial {
    fn of(run: &Run, result: &CellResult) -> Trial {
        Trial {
            learning_rate: run.cell.settings.optimizer.lr.unwrap_or(f64::NAN),
            state: result.state.word().to_owned(),
            best_val_acc: result.best().filter(|_| result.is_finished()).map(|best| best.val_acc),
        }
    }
}

impl RunSummary {
    fn of(run: &Run, result: &CellResult, target: Option<f64>) -> RunSummary {
        let first = result.first_step_seconds.unwrap_or(0.0);
        let seconds = |seconds: f64| (seconds - first).max(0.0);
        let reaches = |epoch: &&EpochEvent| target.is_some_and(|target| epoch.val_acc >= target - ROUNDING);
        // A run that failed later on is no success, however well it began.
        let hit = result.epochs.iter().find(reaches).filter(|_| result.is_finished());
        let best = result.best();
        RunSummary {
            cell: run.cell.name.clone(),
            seed: run.seed,
            state: result.state.word().to_owned(),
            message: match &result.state {
                CellState::Failed { message, .. } => Some(message.clone()),
                _ => None,
            },
            seconds_to_target: hit.map(|epoch| seconds(epoch.train_seconds)),
            epochs_to_target: hit.map(|epoch| epoch.epoch),
            best_val_acc: best.map(|best| best.val_acc),
            best_epoch: best.map(|best| best.epoch),
            test_acc: result.test.map(|test| test.accuracy),
            test_loss: result.test.map(|test| test.loss),
            steps: result.steps,
            train_seconds: result.train_seconds.map(seconds),
            wall_seconds: result.wall_seconds,
            first_step_seconds: result.first_step_seconds,
            resumed: result.resumed,
            memory_mib: result.peak_memory_mib,
            skipped_steps: result.skipped_steps,
            epochs: result
                .epochs
                .iter()
                .map(|epoch| Point {
                    epoch: epoch.epoch,
                    seconds: seconds(epoch.train_seconds),
                    train_loss: epoch.train_loss,
                    train_acc: epoch.train_acc,
                    val_loss: epoch.val_loss,
                    val_acc: epoch.val_acc,
                })
                .collect(),
        }
    }
}

fn mean_phases(results: &[&CellResult]) -> Vec<(String, f64)> {
    let with: Vec<_> = results.iter().filter(|result| !result.phases.is_empty()).collect();
    let Some(first) = with.first() else { return Vec::new() };
    let mean = |(position, (name, _)): (usize, &(String, f64))| {
        let sum: f64 = with.iter().filter_map(|result| result.phases.get(position)).map(|(_, seconds)| seconds).sum();
        (name.clone(), sum / with.len() as f64)
    };
    first.phases.iter().enumerate().map(mean).collect()
}

type Same = BTreeMap<String, Value>;
type Different = BTreeMap<String, Vec<Value>>;

/// Settings that all methods have alike, and those that differ, in the order of the plan.
fn settings(plan: &Plan, rates: &[f64]) -> (Same, Different) {
    let rows: Vec<BTreeMap<String, Value>> =
        plan.methods.iter().zip(rates).map(|(row, rate)| flat(&row.cell(String::new(), *rate, 0).settings)).collect();
    let keys: BTreeSet<&String> = rows.iter().flat_map(BTreeMap::keys).collect();
    let (mut same, mut different) = (Same::new(), Different::new());
    for key in keys.into_iter().filter(|key| !matches!(key.as_str(), "train.seed" | "train.runs_dir" | "train.name")) {
        let values: Vec<Value> = rows.iter().map(|row| row.get(key).cloned().unwrap_or(Value::Null)).collect();
        if values.iter().all(|value| *value == values[0]) {
            same.insert(key.clone(), values[0].clone());
        } else {
            different.insert(key.clone(), values);
        }
    }
    (same, different)
}

fn flat(settings: &Settings) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    // OK because settings are texts, numbers and lists.
    let Ok(Value::Object(sections)) = serde_json::to_value(settings) else { return flat };
    for (name, value) in sections {
        match value {
            Value::Object(section) => {
                flat.extend(section.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            value => drop(flat.insert(name, value)),
        }
    }
    flat
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::launcher::cells::result::Measured;
    use crate::launcher::compare::plan;
    use crate::launcher::failure::Code;
    use crate::protocol::Status;

    /// Epochs of one second each with these validation accuracies, after a first step of half a second.
    pub fn result(accuracies: &[f64], test: f64) -> CellResult {
        let epoch = |(position, val_acc): (usize, &f64)| EpochEvent {
            val_acc: *val_acc,
            train_seconds: position as f64 + 1.5,
            ..crate::launcher::metrics::tests::epoch(position as u64 + 1)
        };
        CellResult {
            name: String::new(),
            state: CellState::Finished(Status::Finished),
            epochs: accuracies.iter().enumerate().map(epoch).collect(),
            test: Some(Measured { loss: 0.5, accuracy: test, top5: 1.0 }),
            steps: 10 * accuracies.len() as u64,
            train_seconds: Some(accuracies.len() as f64 + 0.5),
            wall_seconds: Some(accuracies.len() as f64 + 2.0),
            first_step_seconds: Some(0.5),
            resumed: false,
            peak_memory_mib: Some(400.0),
            phases: vec![("forward".into(), 0.004), ("backward".into(), 0.008)],
            skipped_steps: 0,
        }
    }

    /// Two seeds of two methods; the second is faster, and its second seed diverges if `fails`.
    pub fn comparison(fails: bool) -> Comparison {
        comparison_with(Some(0.82), fails)
    }

    fn comparison_with(target: Option<f64>, fails: bool) -> Comparison {
        let plan = Plan { target, ..plan::tests::plan() };
        let rates = plan.own_rates();
        let mut results = vec![
            result(&[0.2, 0.4, 0.6, 0.8], 0.75),
            result(&[0.5, 0.8, 0.81, 0.82], 0.78),
            result(&[0.2, 0.4, 0.6, 0.84], 0.76),
            result(&[0.5, 0.83, 0.83, 0.84], 0.80),
        ];
        if fails {
            results[3].state = CellState::Failed { code: Code::Diverged, message: "the loss is NaN".into() };
            (results[3].test, results[3].train_seconds) = (None, None);
        }
        let runs: Vec<_> = plan.runs(&rates).into_iter().zip(results).collect();
        Comparison::of(&plan, &rates, &[], &runs, Value::Null)
    }

    #[test]
    fn without_a_target_it_is_what_most_runs_of_the_reference_reach() {
        let comparison = comparison_with(None, false);
        assert_eq!((comparison.target, comparison.target_is_given), (Some(0.8), false));
        // Epochs 2 and 2 of fngd, 4 and 4 of sgd.
        let against = comparison.methods[0].against.as_ref().unwrap();
        assert_eq!(against.speed_up, Some(Interval { estimate: 2.0, low: 2.0, high: 2.0 }));
        assert!(against.speed_is_clear);
    }

    #[test]
    fn times_are_medians_with_misses() {
        let comparison = comparison(false);
        let [fast, slow] = comparison.methods.as_slice() else { panic!() };
        assert_eq!((fast.label.as_str(), slow.label.as_str()), ("fngd:inner=muon", "sgd"));
        // Seeds 7 and 8 of fngd: epochs 4 and 2; of sgd: never and 4.
        assert_eq!((fast.seconds_to_target, fast.epochs_to_target, fast.reached), (Some(3.0), Some(3.0), 2));
        assert_eq!((slow.seconds_to_target, slow.reached), (None, 1));
        let against = fast.against.as_ref().unwrap();
        assert_eq!(against.speed_up.unwrap().estimate, f64::INFINITY);
        assert!((against.accuracy.unwrap().estimate - 0.035).abs() < 1e-12 && against.accuracy_is_clear);
        assert_eq!(fast.seconds_per_epoch, Some(1.0));
    }

    #[test]
    fn a_failed_run_is_a_miss_and_no_accuracy() {
        let comparison = comparison(true);
        let fast = comparison.methods.iter().find(|method| method.optimizer == "fngd").unwrap();
        assert_eq!((fast.reached, fast.seconds_to_target), (1, None));
        assert_eq!(
            (fast.runs[1].state.as_str(), fast.runs[1].message.as_deref()),
            ("diverged", Some("the loss is NaN"))
        );
        assert_eq!(fast.test_acc.unwrap().n, 1);
        assert!(!comparison.is_whole());
    }

    #[test]
    fn what_differs_is_listed() {
        let comparison = comparison(false);
        let keys: Vec<_> = comparison.different.keys().map(String::as_str).collect();
        assert_eq!(keys, ["optimizer.lr", "optimizer.name"]);
        assert_eq!(comparison.different["optimizer.lr"], [Value::from(0.02), Value::from(0.1)]);
        assert_eq!(comparison.same["train.epochs"], Value::from(4));
        assert!(!comparison.same.contains_key("train.seed"));
    }
}
