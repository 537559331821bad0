//! What can be typed after `compare`.

use crate::launcher::arguments::{DataFlags, ImportFlags, RunFlags};
use clap::Args;
use std::path::PathBuf;

/// Train a model with several optimizers, and tell them apart from chance.
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Optimizers are a list of NAME or NAME:KEY=VALUE:KEY=VALUE, each a row of the table; NAME may be a recipe:\n  \
    fngd-cli compare m.onnx --data digits --optimizers sgd,fngd,fngd:inner=muon,fngd:damping=0.1\n\
    A KEY without a dot is one of `optimizer.`; keys of train, schedule and stop go with their names.\n\
    The protocol and how to read the table: docs/compare.md"
)]
pub struct Compare {
    #[command(flatten)]
    pub plan: PlanFlags,
    /// Go on with a comparison: finished runs are kept
    #[arg(long, value_name = "RUN", help_heading = "Going on", conflicts_with_all = ["PlanFlags", "ImportFlags", "DataFlags", "RunFlags"])]
    pub resume: Option<PathBuf>,
    /// Also train those again that failed
    #[arg(long, requires = "resume", help_heading = "Going on")]
    pub retry_failed: bool,
    #[command(flatten)]
    pub import: ImportFlags,
    #[command(flatten)]
    pub data: DataFlags,
    #[command(flatten)]
    pub run: RunFlags,
}

/// What is compared, and how.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Comparison")]
pub struct PlanFlags {
    /// The ONNX file to train
    pub model: Option<PathBuf>,
    /// The optimizers to compare, with their settings
    #[arg(short, long, value_name = "LIST")]
    pub optimizers: Option<String>,
    /// Runs of each, with the seeds --seed, --seed + 1 ... [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub seeds: Option<u32>,
    /// Validation accuracy to reach, or auto: the reference's median best [default: auto]
    #[arg(long, value_name = "val_acc=SHARE|auto")]
    pub target: Option<String>,
    /// What the others are compared with [default: sgd, or the first]
    #[arg(long, value_name = "OPTIMIZER")]
    pub reference: Option<String>,
    /// Choose each one's learning rate out of K around its own, by validation accuracy
    #[arg(long, value_name = "lr=K")]
    pub tune: Option<String>,
    /// Exit with 8 if one does not reach the target
    #[arg(long)]
    pub require_target: bool,
    /// Keep the checkpoints of finished runs
    #[arg(long)]
    pub keep_checkpoints: bool,
    /// cosine, constant, linear, step, multistep or one-cycle, of all [default: cosine]
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<String>,
    /// Rising phase of all: 5%, 2ep or a number of steps [default: 5%]
    #[arg(long, value_name = "LENGTH")]
    pub warmup: Option<String>,
    /// Stop each run after N steps
    #[arg(long, value_name = "N")]
    pub max_steps: Option<String>,
    /// Stop each run after this much time: 90s, 30m, 2h
    #[arg(long, value_name = "TIME")]
    pub max_time: Option<String>,
    /// Settings of all, in a file (TOML)
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A setting of all by its name in config.toml
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
