//! What the launcher and the engine say to each other: one [`Job`] down, [`Event`]s up, a JSON object a line.
//!
//! The job travels on the engine's standard input, which then stays open: its end tells the engine that the launcher is gone.
//! Events travel on the file descriptor that `FNGD_EVENTS_FD` names (3 where it is not set), so that nothing a library prints can be
//! taken for one. JSON has no NaN and no infinity: such numbers travel as null and arrive as NaN.

mod complexity;
mod profile;

pub use complexity::{Axis, ChainKind, ChainSize, Complexity, ComplexityReport, Growth};
pub use profile::{LayerProfile, MethodProfile, Profile, ProfileReport, StepKind, StepProfile};

use crate::settings::{ImportSettings, Settings};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Version of these types; the two programs are built together and refuse each other otherwise.
pub const PROTOCOL: u32 = 1;

/// How the engine's last line begins when a signal ends it; the node that ran follows.
pub const CRASHED_IN: &str = "libtorch crashed in ";

/// The whole of what the engine is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "kebab-case")]
pub enum Job {
    /// Train, or go on training: `resume` names the run's checkpoint to go on from. `export`: write ONNX files at the end.
    Train { settings: Settings, data: DataSource, run: PathBuf, resume: bool, dry_run: bool, export: bool },
    /// Accuracy of a model file or of a run's weights on one split.
    Eval {
        model: PathBuf,
        import: ImportSettings,
        checkpoint: Option<PathBuf>,
        /// What the model's run remembers of its data, if there is such a file.
        record: Option<PathBuf>,
        data: DataSource,
        split: String,
        batch: usize,
        device: String,
        threads: Option<usize>,
    },
    /// Write a run's checkpoint into its ONNX file. `reference`: also save inputs and outputs of the trained graph for a check.
    Export { settings: Settings, data: DataSource, checkpoint: PathBuf, output: PathBuf, reference: Option<PathBuf> },
    /// Time steps of several optimizers in turn.
    BenchStep(BenchStep),
    /// How the work of several optimizers grows.
    Complexity(Complexity),
    /// Where the time of a step goes.
    Profile(Box<Profile>),
    /// Every value that a model computes for one batch, into a safetensors file.
    Trace(Trace),
    /// Train, and look at Gram matrices and sample weights from beside.
    Observe(Observe),
    /// Which hand-written models there are.
    ListModels,
    /// Write a hand-written model with initial weights as an ONNX file.
    MakeModel(MakeModel),
    /// What libtorch and which devices are there.
    Probe,
}

/// The job of `models make`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MakeModel {
    pub name: String,
    pub output: PathBuf,
    /// `None`: as many as the model has by itself.
    pub classes: Option<u32>,
    pub seed: u64,
    /// Replace a file that is there.
    pub replace: bool,
}

/// The job of `diff`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trace {
    pub model: PathBuf,
    pub inputs: TraceInputs,
    /// Where to write `input.NAME` and `value.NAME`.
    pub output: PathBuf,
    pub device: String,
    pub threads: Option<usize>,
}

/// The job behind `study`. Nothing is saved but what was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Observe {
    pub settings: Settings,
    pub data: DataSource,
    /// Epochs, from 1, every batch of which is solved afresh.
    pub epochs: Vec<u64>,
    /// Numbers of complete epochs after which the batch of the first step is measured; 0 is before it.
    pub moments: Vec<u64>,
    /// Where to write: a safetensors file.
    pub output: PathBuf,
}

/// What a model is traced with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceInputs {
    /// Random numbers, and sizes of symbolic dimensions other than the batch, by name.
    MadeUp { batch: usize, dims: Vec<(String, i64)> },
    /// The first samples of a data set's test split.
    Data { data: DataSource, batch: usize },
    /// A safetensors file with a tensor `NAME` or `input.NAME` for each input.
    File(PathBuf),
}

/// Where the launcher found the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSource {
    /// As the user wrote it.
    pub spec: String,
    /// Folder or file that holds it; `None` for embedded sets.
    pub path: Option<PathBuf>,
}

/// The job of `bench step`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BenchStep {
    pub model: PathBuf,
    pub optimizers: Vec<String>,
    pub batch: usize,
    /// Rounds; in each, every optimizer makes one block of steps.
    pub rounds: usize,
    pub steps_per_round: usize,
    pub channels_last: bool,
    pub device: String,
    pub threads: Option<usize>,
    /// Sizes of symbolic dimensions other than the batch, by name.
    pub dims: Vec<(String, i64)>,
}

/// The whole of what the engine says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// First event: what runs.
    Hello {
        protocol: u32,
        libtorch: String,
        device: String,
        device_reason: String,
        threads: usize,
        cuda_devices: Vec<String>,
    },
    /// The plan, before the first step.
    Plan(Plan),
    /// A remark that the user should see once.
    Warning { message: String },
    /// Progress within an epoch.
    Step(StepEvent),
    /// The end of an epoch, after validation.
    Epoch(EpochEvent),
    /// A checkpoint is durable. Only now may anybody be told so.
    Saved { step: u64, epoch: u64, path: PathBuf, best: bool },
    /// An ONNX file is written (and renamed into place). `reference`: inputs and outputs of the trained graph to check it with.
    Exported { path: PathBuf, edits: Vec<String>, reference: Option<PathBuf> },
    /// Metrics of one split.
    Evaluated {
        split: String,
        samples: u64,
        #[serde(deserialize_with = "number")]
        loss: f64,
        #[serde(deserialize_with = "number")]
        accuracy: f64,
        #[serde(deserialize_with = "number")]
        top5: f64,
        per_class: Vec<f64>,
        confusion: Vec<Vec<u64>>,
    },
    /// What training took at most, shortly before its end. `None` on a GPU, of whose memory the kernel does not know.
    Peak { memory_mib: Option<f64> },
    /// Result of `bench step`.
    Bench(serde_json::Value),
    /// Results of `bench complexity`, an axis at a time.
    Complexity(ComplexityReport),
    /// Result of `profile`.
    Profile(ProfileReport),
    /// The hand-written models.
    Models { models: Vec<KnownModel> },
    /// A model is written (and renamed into place).
    Made { path: PathBuf, classes: u64 },
    /// Result of a trace. `failure`: why the values behind some node are not in it.
    Traced { values: u64, failure: Option<String> },
    /// Last event of a good run.
    Done {
        status: Status,
        epochs: u64,
        steps: u64,
        #[serde(deserialize_with = "number")]
        train_seconds: f64,
        #[serde(deserialize_with = "number")]
        wall_seconds: f64,
    },
    /// Last event of a bad one.
    Failed { code: u8, kind: String, message: String, help: Option<String> },
}

/// A hand-written model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownModel {
    pub name: String,
    pub description: String,
    pub paper: Option<String>,
    /// Inputs with their sizes: `image 3x32x32`.
    pub inputs: Vec<String>,
    /// Classes if nothing else is asked for.
    pub classes: u64,
    /// Trainable numbers, with that many classes.
    pub parameters: u64,
}

/// The plan of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub parameters: u64,
    #[serde(deserialize_with = "number")]
    pub preconditioned_share: f64,
    pub layers: usize,
    pub train_samples: u64,
    pub val_samples: u64,
    pub test_samples: u64,
    pub steps_per_epoch: u64,
    pub total_steps: u64,
    pub first_step: u64,
    pub state_bytes: u64,
    pub method: String,
    /// Learning rate at a few evenly spaced steps, for a sparkline.
    pub learning_rates: Vec<f64>,
}

/// Progress within an epoch; averages since the last such event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepEvent {
    pub epoch: u64,
    pub step: u64,
    pub total_steps: u64,
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    #[serde(deserialize_with = "number")]
    pub accuracy: f64,
    #[serde(deserialize_with = "number")]
    pub learning_rate: f64,
    #[serde(deserialize_with = "number")]
    pub images_per_second: f64,
    pub gradient_norm: Option<f64>,
    /// Seconds per step by phase: data, forward, backward, gram, solve, precondition, update.
    pub phases: Vec<(String, f64)>,
    /// Layers by what became of their weights or factors, summed over the steps: see docs/methods.md.
    pub solved: u64,
    pub recalled: u64,
    pub unknown: u64,
    pub fallbacks: u64,
    /// Factorisations that failed in their own precision and succeeded in float64.
    #[serde(default)]
    pub retried: u64,
    pub skipped: u64,
    #[serde(deserialize_with = "number")]
    pub memory_mib: f64,
    #[serde(deserialize_with = "number")]
    pub train_seconds: f64,
    #[serde(deserialize_with = "number")]
    pub wall_seconds: f64,
    pub layers: Vec<LayerEvent>,
}

/// Weights of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerEvent {
    pub name: String,
    #[serde(deserialize_with = "number")]
    pub mean: f64,
    #[serde(deserialize_with = "number")]
    pub std: f64,
    #[serde(deserialize_with = "number")]
    pub min: f64,
    pub damping: Option<f64>,
    pub gram_method: Option<String>,
    pub source: String,
}

/// The end of an epoch: a row of metrics.csv.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochEvent {
    pub epoch: u64,
    pub step: u64,
    pub samples: u64,
    #[serde(deserialize_with = "number")]
    pub train_seconds: f64,
    #[serde(deserialize_with = "number")]
    pub wall_seconds: f64,
    #[serde(deserialize_with = "number")]
    pub lr: f64,
    #[serde(deserialize_with = "number")]
    pub train_loss: f64,
    #[serde(deserialize_with = "number")]
    pub train_acc: f64,
    #[serde(deserialize_with = "number")]
    pub val_loss: f64,
    #[serde(deserialize_with = "number")]
    pub val_acc: f64,
    #[serde(deserialize_with = "number")]
    pub images_per_s: f64,
    #[serde(deserialize_with = "number")]
    pub data_pct: f64,
    #[serde(deserialize_with = "number")]
    pub precond_pct: f64,
    pub gpu_mem_mib: Option<f64>,
    pub best: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Finished,
    TargetReached,
    NoImprovement,
    TimeIsUp,
    Interrupted,
    Terminated,
}

/// A number, or NaN for null.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_no_number_arrives() {
        let sent = Event::Evaluated {
            split: "val".into(),
            samples: 1,
            loss: f64::NAN,
            accuracy: 0.5,
            top5: f64::INFINITY,
            per_class: Vec::new(),
            confusion: Vec::new(),
        };
        let line = serde_json::to_string(&sent).unwrap();
        let Event::Evaluated { loss, accuracy, top5, .. } = serde_json::from_str(&line).unwrap() else {
            panic!("{line}")
        };
        assert!(loss.is_nan() && top5.is_nan());
        assert_eq!(accuracy, 0.5);
    }
}
