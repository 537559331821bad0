//! The job of `bench complexity`, and its results.

use super::StepKind;
use serde::{Deserialize, Serialize};

/// The job of `bench complexity`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Complexity {
    /// SGD is measured whether it is named or not.
    pub optimizers: Vec<String>,
    pub chains: Vec<ChainKind>,
    pub axes: Vec<Axis>,
    pub device: String,
    pub threads: Option<usize>,
}

/// What a chain is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainKind {
    /// Linear layers on `[B, T, d]`.
    Linear,
    /// 3x3 convolutions of images of T pixels and d channels.
    Convolution,
}

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    Batch,
    Positions,
    Width,
    Depth,
}

/// The size of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainSize {
    /// B.
    pub batch: i64,
    /// T.
    pub positions: i64,
    /// Features or channels of every layer.
    pub width: i64,
    /// Equal layers.
    pub depth: i64,
}

/// How everything grows along one axis of one chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComplexityReport {
    pub chain: ChainKind,
    pub axis: Axis,
    /// The other sizes.
    pub base: ChainSize,
    /// How often methods that refresh did.
    pub refresh_steps: usize,
    pub device: String,
    pub processor: String,
    pub threads: usize,
    /// SGD first.
    pub rows: Vec<Growth>,
}

/// One method. Exponents are of a power law through the larger half of the sizes; `None` where it is lost in the noise, or nothing is
/// there, or no formula is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    pub method: String,
    pub kind: StepKind,
    pub sizes: Vec<i64>,
    /// The whole step: mean over a refresh period.
    pub step_ms: Vec<f64>,
    /// Gram, solve, precondition, and what the update takes longer than SGD's. Empty for SGD.
    pub added_ms: Vec<f64>,
    pub state_bytes: Vec<u64>,
    pub step_exponent: Option<f64>,
    pub added_exponent: Option<f64>,
    /// Of the multiply-adds that the method's formulas count, at the same sizes.
    pub expected_exponent: Option<f64>,
    /// Of the state beyond SGD's momentum.
    pub state_exponent: Option<f64>,
    pub expected_state_exponent: Option<f64>,
}

impl Growth {
    /// `fngd 1st epoch`; a mean over a refresh period needs no word.
    pub fn label(&self) -> String {
        match self.kind {
            StepKind::FirstEpoch => format!("{} {}", self.method, self.kind.heading()),
            _ => self.method.clone(),
        }
    }
}

impl ChainKind {
    /// As a title says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear layers",
            Self::Convolution => "3x3 convolutions",
        }
    }

    /// One word, for files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Convolution => "convolution",
        }
    }
}

impl Axis {
    pub const ALL: [Self; 4] = [Self::Batch, Self::Positions, Self::Width, Self::Depth];

    pub fn word(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Positions => "positions",
            Self::Width => "width",
            Self::Depth => "depth",
        }
    }
}
