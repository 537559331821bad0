//! Every setting of a training run: one struct, its defaults, its checks. `config.toml` is this struct.

pub use crate::methods::has_inner;
use fngd_onnx::{ImportOptions, Repair, Repairs};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use toml::Value;

/// A complete training run. Printed in full as the run's `config.toml`, from which the run can be repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The ONNX file to train.
    pub model: PathBuf,
    /// What is put right in the file, and how it is written.
    #[serde(default)]
    pub import: ImportSettings,
    /// What to train on.
    pub data: DataSettings,
    /// How long and on what.
    #[serde(default)]
    pub train: TrainSettings,
    /// The method and its knobs.
    #[serde(default)]
    pub optimizer: OptimizerSettings,
    /// Learning rate over time.
    #[serde(default)]
    pub schedule: ScheduleSettings,
    /// When to stop early.
    #[serde(default)]
    pub stop: StopSettings,
}

/// What is put right in a model file, and how it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImportSettings {
    /// Repairs that are not made, by number or word: `R4`, `retie`.
    pub skip_repairs: Vec<String>,
    /// R6 also for layers of which the file does not say that they had a bias.
    pub restore_bias: bool,
    /// R5 also for convolutions of which the file does not say that they had a BatchNormalization.
    pub restore_batch_norm: bool,
    /// Written files take any batch size, where R4 freed it.
    pub dynamic_batch: bool,
}

impl ImportSettings {
    /// For `OnnxModel::open`. `freeze`: a regular expression for the names of parameters that keep their value.
    ///
    /// # Errors
    /// Names a repair that there is not.
    pub fn options(&self, freeze: Option<&str>) -> Result<ImportOptions, String> {
        let mut repairs = Repairs::default();
        for skipped in &self.skip_repairs {
            repairs = repairs.without(skipped.parse::<Repair>()?);
        }
        Ok(ImportOptions {
            freeze: freeze.map(str::to_owned).into_iter().collect(),
            repairs,
            restore_bias: self.restore_bias,
            restore_batch_norm: self.restore_batch_norm,
            dynamic_batch: self.dynamic_batch,
            ..ImportOptions::default()
        })
    }
}

/// What to train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// `digits`, `cifar10`, `cifar100`, `mnist`, `fashion-mnist`, `folder:PATH` or `npz:PATH`.
    pub spec: String,
    /// Where named data sets live; `None` is the user's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Share of the training split held out for validation; the test split is used only at the end. 0: validate on test.
    #[serde(default = "default_val")]
    pub val: f64,
    /// `none`, `basic` (flip), `standard` (crop and flip), `strong` (crop, flip, cutout).
    #[serde(default = "default_aug")]
    pub aug: String,
}

impl Default for DataSettings {
    fn default() -> Self {
        Self { spec: "digits".to_owned(), dir: None, val: default_val(), aug: default_aug() }
    }
}

fn default_val() -> f64 {
    0.1
}

fn default_aug() -> String {
    "standard".to_owned()
}

/// How long and on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSettings {
    /// Passes over the training split.
    pub epochs: u64,
    /// Samples in a micro-batch.
    pub batch: usize,
    /// Micro-batches in a step.
    pub accumulation: usize,
    /// Seeds initial weights of a new head, shuffling, augmentation and dropout.
    pub seed: u64,
    /// `auto`, `cpu`, `cuda`, `cuda:N`.
    pub device: String,
    /// Threads of libtorch; `None` is one per core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Lay out images channels-last, where convolutions are faster.
    pub channels_last: bool,
    /// Label smoothing in [0, 1).
    pub label_smoothing: f64,
    /// Largest gradient norm; `None` does not clip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// `auto` replaces a head whose width is not the number of classes; `keep` refuses.
    pub classes: String,
    /// Parameters whose name matches this regular expression are not trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<String>,
    /// Steps between two lines of metrics.jsonl.
    pub log_every_steps: u64,
    /// Epochs between checkpoints.
    pub save_every_epochs: u64,
    /// Steps between checkpoints within an epoch; `None`: only at the end of epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_every_steps: Option<u64>,
    /// End after this many steps in all, whatever `epochs` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Where run directories are made.
    pub runs_dir: PathBuf,
    /// Name of the run directory; `None` is date, time, model and optimizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            epochs: 100,
            batch: 128,
            accumulation: 1,
            seed: 0,
            device: "auto".to_owned(),
            threads: None,
            channels_last: true,
            label_smoothing: 0.0,
            clip_norm: None,
            classes: "auto".to_owned(),
            freeze: None,
            log_every_steps: 20,
            save_every_epochs: 1,
            save_every_steps: None,
            max_steps: None,
            runs_dir: PathBuf::from("runs"),
            name: None,
        }
    }
}

/// The method and its knobs. `None` is the default of the chosen method; a typed knob that the method does not have is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerSettings {
    /// The name of a method in the catalogue, [`methods`](crate::methods).
    pub name: String,
    /// Learning rate. Default: 0.1 with `sgd` and `shampoo` (1e-4 if it grafts `adam`), 1e-3 with `adamw`, 0.02 with `muon`, 3e-3 with `soap`;
    /// with a method that has an inner rule, that rule's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Weight decay. Default: 5e-4 with `sgd` and `shampoo`, 1e-2 with the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Momentum of `sgd`, `shampoo` (0.9) and `muon` (0.95).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Nesterov's form of the momentum. Default: true with `muon`, false with `sgd` and `shampoo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// β₁ and β₂ of `adamw` ([0.9, 0.999]), `soap` ([0.95, 0.95]), and of what `muon` leaves to AdamW ([0.9, 0.95]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// ε of `adamw`, `soap`, and of what `muon` leaves to AdamW. Default 1e-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Decay biases and normalisation parameters too. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_all: Option<bool>,
    /// Inner rule of the methods that have one: `sgd`, `adamw` or `muon`. Default `sgd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner: Option<String>,
    /// γ of `fngd` and `ngd`: damping relative to ‖K‖_F; λ of the others. Default: 1; 0.003 for `kfac`, 0.03 for
    /// `eva`, 0.001 for `skfac`, 0.3 for `tengrad` and `hylo`, 0.003 for `mbf`, 2 for `seng`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damping: Option<f64>,
    /// `slot` (paper), `sample` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// `mean`, `permute` or `uniform`: take something out of the weights, to see what it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ablate: Option<String>,
    /// `first-epoch` (paper), `every-N-epochs` or `never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<String>,
    /// `absorb`, `layer` or `slot`: what becomes of the factor 1/λ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_scale: Option<String>,
    /// `ef` (empirical Fisher) or `ief` (improved empirical Fisher).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fisher: Option<String>,
    /// Most bytes that forming one Gram matrix may take, in MiB. Default 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gram_memory_mib: Option<u64>,
    /// `kfac`, `eva`, `mbf`: weight of the past in running averages, in [0, 1). Default 0.95; 0.9 for `mbf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay: Option<f64>,
    /// `kfac`, `eva`, `mbf`: steps from one look at activations and output gradients to the next; `shampoo`: at gradients. Default 1; 10
    /// for `mbf` and `shampoo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics_every_steps: Option<u64>,
    /// `kfac`, `skfac`, `tengrad`, `hylo`, `mbf`, `seng`: steps from one factorisation to the next. Default 10; 100 for `tengrad`, `hylo`
    /// and `mbf`, 200 for `seng`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_every_steps: Option<u64>,
    /// `kfac` and the others that keep a curvature: κ, the longest step in the metric of the curvature; 0 does not clip. Default 1e-3; 0 for `seng`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_clip: Option<f64>,
    /// `kfac`: `eigen` or `cholesky`. Default `eigen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inverse: Option<String>,
    /// `kfac`, `eva`: `textbook`, or `published` as its implementation has it. Default `textbook`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
    /// `hylo`: share of the batch that is kept, in (0, 1]. Default 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// `hylo`: `kis` (drawn) or `kid` (decomposed). Default `kis`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<String>,
    /// `seng`: largest rank of a sample's gradient. Default 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// `seng`: most outputs, and most inputs, of a layer that its sketch takes. Default 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sketch_size: Option<u32>,
    /// `muon`: steps of the Newton-Schulz iteration. Default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newton_schulz_steps: Option<u32>,
    /// `muon`: `original` (√max(1, d/p)) or `match-rms` (0.2·√max(d, p)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muon_scale: Option<String>,
    /// `muon`: `hidden` (all weights but the first and the last) or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muon_scope: Option<String>,
    /// `muon`: `full`, or `bfloat16` as published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muon_precision: Option<String>,
    /// `muon`: learning rate of what it leaves to AdamW, as a share of its own. Default 0.05.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest_lr_scale: Option<f64>,
    /// `shampoo`: where the length of a step comes from: `sgd`, `adam`, or `none`, itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graft: Option<String>,
    /// `shampoo`: largest side of a block. Default 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u32>,
    /// `shampoo`: steps between two that take roots. Default 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roots_every_steps: Option<u64>,
    /// `soap`: steps between two that refine the basis. Default 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis_every_steps: Option<u64>,
    /// `soap`: dimensions larger than this keep the identity as their basis. Default 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_factor: Option<u32>,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            name: "fngd".to_owned(),
            lr: None,
            weight_decay: None,
            momentum: None,
            nesterov: None,
            betas: None,
            epsilon: None,
            decay_all: None,
            inner: None,
            damping: None,
            share: None,
            ablate: None,
            refresh: None,
            step_scale: None,
            fisher: None,
            gram_memory_mib: None,
            decay: None,
            statistics_every_steps: None,
            refresh_every_steps: None,
            kl_clip: None,
            inverse: None,
            form: None,
            ratio: None,
            rows: None,
            rank: None,
            sketch_size: None,
            newton_schulz_steps: None,
            muon_scale: None,
            muon_scope: None,
            muon_precision: None,
            rest_lr_scale: None,
            graft: None,
            block_size: None,
            roots_every_steps: None,
            basis_every_steps: None,
            largest_factor: None,
        }
    }
}

/// Default damping γ: `fngd_core::FngdConfig`'s, repeated here because the launcher must not touch libtorch.
pub const DEFAULT_DAMPING: f64 = 1.0;

/// Default learning rate of `shampoo` with `graft = "adam"`: Adam's 1e-3 with the momentum 0.9 on top, which makes steps ten times longer.
pub const SHAMPOO_ADAM_LEARNING_RATE: f64 = 1e-4;

/// What the knobs of a method are where nobody says otherwise, by their names in config.toml. `base` is the rule that makes
/// the step: `method` itself, or its inner rule.
pub fn method_defaults(method: &str, base: &str) -> Vec<(&'static str, Value)> {
    let mut defaults = vec![("optimizer.decay_all", Value::from(false))];
    if base == "adamw" {
        defaults.extend([
            ("optimizer.lr", Value::from(1e-3)),
            ("optimizer.weight_decay", Value::from(1e-2)),
            ("optimizer.betas", Value::from(vec![0.9, 0.999])),
            ("optimizer.epsilon", Value::from(1e-8)),
        ]);
    } else if base == "muon" {
        defaults.extend([
            ("optimizer.lr", Value::from(0.02)),
            ("optimizer.weight_decay", Value::from(1e-2)),
            ("optimizer.momentum", Value::from(0.95)),
            ("optimizer.nesterov", Value::from(true)),
            ("optimizer.betas", Value::from(vec![0.9, 0.95])),
            ("optimizer.epsilon", Value::from(1e-8)),
            ("optimizer.newton_schulz_steps", Value::from(5)),
            ("optimizer.muon_scale", Value::from("original")),
            ("optimizer.muon_scope", Value::from("hidden")),
            ("optimizer.muon_precision", Value::from("full")),
            ("optimizer.rest_lr_scale", Value::from(0.05)),
        ]);
    } else if base == "soap" {
        defaults.extend([
            ("optimizer.lr", Value::from(3e-3)),
            ("optimizer.weight_decay", Value::from(1e-2)),
            ("optimizer.betas", Value::from(vec![0.95, 0.95])),
            ("optimizer.epsilon", Value::from(1e-8)),
            ("optimizer.basis_every_steps", Value::from(10)),
            ("optimizer.largest_factor", Value::from(10_000)),
        ]);
    } else {
        defaults.extend([
            ("optimizer.lr", Value::from(0.1)),
            ("optimizer.weight_decay", Value::from(5e-4)),
            ("optimizer.momentum", Value::from(0.9)),
            ("optimizer.nesterov", Value::from(false)),
        ]);
    }
    if base == "shampoo" {
        defaults.extend([
            ("optimizer.graft", Value::from("sgd")),
            ("optimizer.block_size", Value::from(128)),
            ("optimizer.statistics_every_steps", Value::from(10)),
            ("optimizer.roots_every_steps", Value::from(10)),
        ]);
    }
    if has_inner(method) {
        defaults.push(("optimizer.inner", Value::from(base)));
    }
    defaults.extend(curvature_defaults(method));
    defaults
}

/// The knobs of what turns the gradient.
fn curvature_defaults(method: &str) -> Vec<(&'static str, Value)> {
    let weighted = || {
        vec![
            ("optimizer.damping", Value::from(DEFAULT_DAMPING)),
            ("optimizer.step_scale", Value::from("absorb")),
            ("optimizer.fisher", Value::from("ef")),
            ("optimizer.gram_memory_mib", Value::from(512)),
        ]
    };
    match method {
        "fngd" => {
            let shared = [("optimizer.share", "slot"), ("optimizer.refresh", "first-epoch")];
            weighted().into_iter().chain(shared.map(|(name, word)| (name, Value::from(word)))).collect()
        }
        "ngd" => weighted(),
        "kfac" => vec![
            ("optimizer.damping", Value::from(3e-3)),
            ("optimizer.decay", Value::from(0.95)),
            ("optimizer.statistics_every_steps", Value::from(1)),
            ("optimizer.refresh_every_steps", Value::from(10)),
            ("optimizer.kl_clip", Value::from(1e-3)),
            ("optimizer.inverse", Value::from("eigen")),
            ("optimizer.form", Value::from("textbook")),
        ],
        "eva" => vec![
            ("optimizer.damping", Value::from(0.03)),
            ("optimizer.decay", Value::from(0.95)),
            ("optimizer.statistics_every_steps", Value::from(1)),
            ("optimizer.kl_clip", Value::from(1e-3)),
            ("optimizer.form", Value::from("textbook")),
        ],
        "skfac" | "tengrad" | "hylo" => {
            let (damping, steps) = if method == "skfac" { (1e-3, 10) } else { (0.3, 100) };
            let mut defaults = vec![
                ("optimizer.damping", Value::from(damping)),
                ("optimizer.refresh_every_steps", Value::from(steps)),
                ("optimizer.kl_clip", Value::from(1e-3)),
            ];
            match method {
                "tengrad" => defaults.push(("optimizer.gram_memory_mib", Value::from(512))),
                "hylo" => {
                    defaults.extend([("optimizer.ratio", Value::from(0.1)), ("optimizer.rows", Value::from("kis"))])
                }
                _ => {}
            }
            defaults
        }
        "mbf" => vec![
            ("optimizer.damping", Value::from(3e-3)),
            ("optimizer.decay", Value::from(0.9)),
            ("optimizer.statistics_every_steps", Value::from(10)),
            ("optimizer.refresh_every_steps", Value::from(100)),
            ("optimizer.kl_clip", Value::from(1e-3)),
        ],
        "seng" => vec![
            ("optimizer.damping", Value::from(2.0)),
            ("optimizer.rank", Value::from(4)),
            ("optimizer.sketch_size", Value::from(256)),
            ("optimizer.refresh_every_steps", Value::from(200)),
            ("optimizer.kl_clip", Value::from(0.0)),
        ],
        _ => Vec::new(),
    }
}

/// The same for the knobs of a schedule.
pub fn schedule_defaults(schedule: &str) -> Vec<(&'static str, Value)> {
    match schedule {
        "step" => vec![("schedule.every_epochs", Value::from(30)), ("schedule.factor", Value::from(0.1))],
        "multistep" => {
            vec![("schedule.milestones", Value::from(vec![0.5, 0.75])), ("schedule.factor", Value::from(0.1))]
        }
        _ => Vec::new(),
    }
}

/// Learning rate over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleSettings {
    /// `cosine`, `constant`, `linear`, `step`, `multistep` or `one-cycle`.
    pub kind: String,
    /// Rising phase at the start: `"5%"`, `"2ep"` or a number of steps.
    pub warmup: String,
    /// `step`: epochs between decays. Default 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_epochs: Option<u64>,
    /// `multistep`: where to decay, as shares of the run. Default [0.5, 0.75], the paper's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milestones: Option<Vec<f64>>,
    /// `step`, `multistep`: factor of each decay. Default 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self { kind: "cosine".to_owned(), warmup: "5%".to_owned(), every_epochs: None, milestones: None, factor: None }
    }
}

/// When to stop early.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopSettings {
    /// Stop once validation accuracy reaches this share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_acc: Option<f64>,
    /// Stop after this many epochs without a better validation accuracy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// Stop after this much wall time: `"30m"`, `"90s"`, `"2h"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_time: Option<String>,
}
