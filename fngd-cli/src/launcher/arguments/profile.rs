//! What can be typed after `profile`.

use super::{DataFlags, ImportFlags, OptimizerFlags};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Profile {
    /// The ONNX file
    pub model: PathBuf,
    /// The methods to show it beside, in turns with it; ratios are to the first
    #[arg(long, value_delimiter = ',', default_value = "sgd", value_name = "NAMES")]
    pub against: Vec<String>,
    /// Steps to measure, at least; whole periods of methods that do more at every k-th step
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub steps: u32,
    /// Samples in a batch [default: 128]
    #[arg(short, long, value_name = "N")]
    pub batch: Option<String>,
    /// Size of a named dimension other than the batch, for made-up inputs
    #[arg(long = "dim", value_name = "NAME=SIZE")]
    pub dims: Vec<String>,
    /// How many of the most expensive layers to show
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub layers: usize,
    /// Write every span of every step for chrome://tracing or Perfetto
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
    /// Draw the phases of each method as stacked bars
    #[arg(long, value_name = "FILE.svg|FILE.png")]
    pub plot: Vec<PathBuf>,
    /// Replace files that are there
    #[arg(long)]
    pub force: bool,
    /// Settings that belong together, below all others (`fngd-cli optimizers --recipes` lists them)
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,
    /// Any setting by its name in config.toml
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub import: ImportFlags,
    #[command(flatten)]
    pub data: DataFlags,
    #[command(flatten)]
    pub optimizer: OptimizerFlags,
}
