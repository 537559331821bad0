//! What can be typed after `study`.

use super::plan::Part;
use crate::launcher::arguments::{DataFlags, ImportFlags, RunFlags};
use clap::Args;
use std::path::PathBuf;

/// Test the paper's claims and their ablations on one model and data set.
#[derive(Debug, Default, Args)]
#[command(after_help = "Every part is a few claims; each ends as supported, not supported or no clear difference:\n  \
    fngd-cli study m.onnx --data digits -e 10 --parts sharing,keys\n  \
    fngd-cli study m.onnx --data digits -e 10 --dry-run       how many runs, and about how long\n\
    How to read the report: docs/study.md")]
pub struct Study {
    #[command(flatten)]
    pub plan: PlanFlags,
    /// Go on with a study: finished runs are kept
    #[arg(long, value_name = "RUN", help_heading = "Going on", conflicts_with_all = ["PlanFlags", "ImportFlags", "DataFlags", "RunFlags"])]
    pub resume: Option<PathBuf>,
    #[command(flatten)]
    pub import: ImportFlags,
    #[command(flatten)]
    pub data: DataFlags,
    #[command(flatten)]
    pub run: RunFlags,
}

/// What is studied, and how.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Study")]
pub struct PlanFlags {
    /// The ONNX file to train
    pub model: Option<PathBuf>,
    /// What to study [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    pub parts: Vec<Part>,
    /// Runs of each, with the seeds --seed, --seed + 1 ... [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub seeds: Option<u32>,
    /// Learning rates tried around each one's own, under each schedule; 1: none are tried [default: 3]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=25))]
    pub tune: Option<u32>,
    /// Schedules: under the first all are compared as they are, each one's best is chosen among all [default: cosine,multistep]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub schedules: Vec<String>,
    /// γ of everything that weights samples, but for the sweep of γ [default: 1]
    #[arg(long, value_name = "GAMMA")]
    pub damping: Option<f64>,
    /// Print what would run and about how long it would take, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Settings of all, in a file (TOML)
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A setting of all by its name in config.toml
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
