//! `state.json`: where a run is, apart from its tensors. Randomness needs nothing here: it is a function of seed and counters.

use serde::{Deserialize, Serialize};

/// Where a run is, at a step boundary.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Optimizer steps made, skipped ones included.
    pub step: u64,
    /// Epochs complete, validation included.
    pub epoch: u64,
    /// Micro-batches of the current epoch that are done.
    pub slot: u64,
    /// What the current epoch has gathered so far.
    pub sums: EpochSums,
    /// The best validation so far.
    pub best: Option<Best>,
    /// Steps skipped in a row, up to now.
    pub skipped_in_row: u64,
    /// Seconds spent in steps; and in everything.
    pub train_seconds: f64,
    pub wall_seconds: f64,
    /// Classes of the head, where the file's own was replaced.
    pub replaced_head: Option<usize>,
    /// Share and seed of the validation split that was taken out of the training split.
    pub validation: Option<(f64, u64)>,
}

/// What an epoch gathers, step by step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSums {
    /// Sum over samples (or tokens) of the loss.
    pub loss: f64,
    pub correct: u64,
    /// What `loss` and `correct` count: samples, or tokens of a sequence model.
    pub targets: u64,
    /// Samples, for throughput.
    pub samples: u64,
    pub steps: u64,
    pub skipped: u64,
    pub seconds: f64,
    pub data_seconds: f64,
    /// Gram matrices, solving and weighting.
    pub preconditioning_seconds: f64,
}

/// The best validation of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    pub accuracy: f64,
    /// The epoch that ended with it, from 1.
    pub epoch: u64,
    pub step: u64,
}

impl EpochSums {
    /// Mean loss; NaN before the first step.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.targets as f64
    }

    /// Share of right answers; NaN before the first step.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.targets as f64
    }
}
