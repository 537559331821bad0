//! What can be typed after `bench complexity`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct BenchComplexity {
    /// The optimizers to measure; sgd always is
    #[arg(long, value_delimiter = ',', default_value = "sgd,fngd,kfac,eva", value_name = "NAMES")]
    pub optimizers: Vec<String>,
    /// What grows: batch, positions, width, depth or all
    #[arg(long, value_delimiter = ',', value_enum, default_value = "all", value_name = "AXES")]
    pub axis: Vec<Axis>,
    /// What the networks are made of: linear, convolution or both
    #[arg(long, value_enum, default_value = "both", value_name = "LAYERS")]
    pub layers: Layers,
    /// Write every number as a table
    #[arg(long, value_name = "FILE.csv")]
    pub csv: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Axis {
    Batch,
    Positions,
    Width,
    Depth,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layers {
    Linear,
    Convolution,
    Both,
}
