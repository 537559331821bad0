//! Averages since the last report, and the report.

use super::checkpoint::{EpochSums, RunState};
use super::memory;
use super::timing::Phases;
use fngd_cli::protocol::{EpochEvent, LayerEvent, StepEvent};
use fngd_core::GramMethod;
use fngd_core::optimizer::{LayerReport, StepReport, WeightSource};
use std::time::Duration;

/// What one step saw and took.
#[derive(Debug, Clone, Default)]
pub struct StepTally {
    /// Sum over targets of the loss.
    pub loss: f64,
    pub correct: u64,
    pub targets: u64,
    /// Indices of the samples, for the record of a step that goes wrong.
    pub samples: Vec<i64>,
    pub phases: Phases,
    pub elapsed: Duration,
}

/// Sums since the last [`StepEvent`].
#[derive(Debug, Clone, Default)]
pub struct Interval {
    sums: EpochSums,
    phases: Phases,
    report: StepReport,
    learning_rate: f64,
}

impl StepTally {
    /// Adds this step to `sums`. The loss and answers of a skipped one do not count.
    pub fn add_to(&self, sums: &mut EpochSums, skipped: bool) {
        sums.steps += 1;
        sums.samples += self.samples.len() as u64;
        sums.seconds += self.elapsed.as_secs_f64();
        sums.data_seconds += self.phases.data.as_secs_f64();
        sums.preconditioning_seconds += self.phases.preconditioning().as_secs_f64();
        if skipped {
            sums.skipped += 1;
        } else {
            sums.loss += self.loss;
            sums.correct += self.correct;
            sums.targets += self.targets;
        }
    }
}

impl Interval {
    /// Adds a step.
    pub fn add(&mut self, tally: &StepTally, report: &StepReport, learning_rate: f64) {
        tally.add_to(&mut self.sums, report.skipped);
        self.phases += tally.phases;
        self.learning_rate = learning_rate;
        self.report.gradient_norm = report.gradient_norm;
        self.report.solved += report.solved;
        self.report.recalled += report.recalled;
        self.report.unknown += report.unknown;
        self.report.fallbacks += report.fallbacks;
        self.report.retried += report.retried;
    }

    /// Steps since the last report.
    pub fn steps(&self) -> u64 {
        self.sums.steps
    }

    /// The report, and a new interval.
    pub fn take(&mut self, state: &RunState, total_steps: u64, layers: &[LayerReport]) -> StepEvent {
        let Self { sums, phases, report, learning_rate } = std::mem::take(self);
        StepEvent {
            epoch: state.epoch + 1,
            step: state.step,
            total_steps,
            loss: sums.mean_loss(),
            accuracy: sums.accuracy(),
            learning_rate,
            images_per_second: sums.samples as f64 / sums.seconds,
            gradient_norm: report.gradient_norm.filter(|norm| norm.is_finite()),
            phases: phases.per_step(sums.steps),
            solved: report.solved as u64,
            recalled: report.recalled as u64,
            unknown: report.unknown as u64,
            fallbacks: report.fallbacks as u64,
            retried: report.retried as u64,
            skipped: sums.skipped,
            memory_mib: memory::resident_bytes() as f64 / memory::MIB,
            train_seconds: state.train_seconds,
            wall_seconds: state.wall_seconds,
            layers: layers.iter().map(layer_event).collect(),
        }
    }
}

/// The row of an epoch that `state` has just completed with `sums`.
pub fn epoch_event(state: &RunState, sums: &EpochSums, lr: f64, validation: (f64, f64), samples: u64) -> EpochEvent {
    let share = |seconds: f64| if sums.seconds > 0.0 { 100.0 * seconds / sums.seconds } else { 0.0 };
    EpochEvent {
        epoch: state.epoch,
        step: state.step,
        samples,
        train_seconds: state.train_seconds,
        wall_seconds: state.wall_seconds,
        lr,
        train_loss: sums.mean_loss(),
        train_acc: sums.accuracy(),
        val_loss: validation.0,
        val_acc: validation.1,
        images_per_s: sums.samples as f64 / sums.seconds,
        data_pct: share(sums.data_seconds),
        precond_pct: share(sums.preconditioning_seconds),
        gpu_mem_mib: None,
        best: state.best.as_ref().is_some_and(|best| best.epoch == state.epoch),
    }
}

fn layer_event(report: &LayerReport) -> LayerEvent {
    let method = report.gram_method.map(|method| match method {
        GramMethod::KhatriRao => "khatri-rao",
        GramMethod::Pairwise => "pairwise",
        GramMethod::Instantiate => "instantiate",
    });
    let source = match report.source {
        WeightSource::Solved => "solved",
        WeightSource::Recalled => "recalled",
        WeightSource::Unknown => "unknown",
        WeightSource::Fallback => "fallback",
    };
    LayerEvent {
        name: report.name.clone(),
        mean: report.mean,
        std: report.std,
        min: report.min,
        damping: report.damping,
        gram_method: method.map(str::to_owned),
        source: source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_averages_over_its_interval_and_leaves_skipped_losses_out() {
        let tally = |loss: f64, millis| StepTally {
            loss: loss * 4.0,
            correct: 1,
            targets: 4,
            samples: vec![0, 1, 2, 3],
            phases: Phases { forward: Duration::from_millis(millis), ..Default::default() },
            elapsed: Duration::from_millis(millis),
        };
        let mut interval = Interval::default();
        interval.add(&tally(1.0, 100), &StepReport { recalled: 2, retried: 1, ..Default::default() }, 0.1);
        interval.add(&tally(3.0, 300), &StepReport { recalled: 3, ..Default::default() }, 0.2);
        interval.add(&tally(f64::NAN, 100), &StepReport { skipped: true, ..Default::default() }, 0.3);
        let event = interval.take(&RunState { epoch: 4, step: 9, ..Default::default() }, 90, &[]);
        assert_eq!((event.epoch, event.step, event.total_steps, event.learning_rate), (5, 9, 90, 0.3));
        assert_eq!((event.loss, event.accuracy, event.recalled, event.skipped), (2.0, 0.25, 5, 1));
        assert_eq!((event.retried, event.fallbacks), (1, 0));
        assert!((event.images_per_second - 24.0).abs() < 1e-9, "12 images in half a second");
        assert!((event.phases[1].1 - 0.5 / 3.0).abs() < 1e-9, "{:?}", event.phases);
        assert_eq!(interval.steps(), 0);
    }
}
