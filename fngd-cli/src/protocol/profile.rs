//! The job of `profile`, and its result.

use super::DataSource;
use crate::settings::{OptimizerSettings, Settings};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The job of `profile`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Profile {
    /// Model, batch, device and the method that is asked about. What they say of data counts only with `data`.
    pub settings: Settings,
    /// The methods that it is shown beside, in turns with it; the first is what ratios are to.
    pub against: Vec<OptimizerSettings>,
    /// Where the samples are; `None` makes inputs up.
    pub data: Option<DataSource>,
    /// Steps, at least; methods that do more at every k-th step make a multiple of k.
    pub steps: usize,
    /// Sizes of symbolic dimensions other than the batch, by name.
    pub dims: Vec<(String, i64)>,
    /// Where to write every span as a Chrome trace.
    pub trace: Option<PathBuf>,
}

/// The result of `profile`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProfileReport {
    pub model: PathBuf,
    /// As the user wrote it; `None` for made-up inputs.
    pub data: Option<String>,
    pub batch: usize,
    pub device: String,
    pub processor: String,
    pub threads: usize,
    pub libtorch: String,
    /// The name in `methods` of what ratios are to.
    pub reference: String,
    /// The one that was asked about comes first.
    pub methods: Vec<MethodProfile>,
}

/// Where the time of one method goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodProfile {
    pub name: String,
    pub kinds: Vec<StepProfile>,
}

/// The mean step of one kind. Phases and `other` add up to `milliseconds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepProfile {
    pub kind: StepKind,
    /// Steps that were measured.
    pub steps: usize,
    /// Of a step: the mean of the faster half of them, as what else the machine does only adds.
    pub milliseconds: f64,
    /// To the reference's step: its mean, where it has several kinds.
    pub ratio: f64,
    /// Milliseconds by phase, in the order of a step; `other` is what no phase covers.
    pub phases: Vec<(String, f64)>,
    /// Every preconditioned layer, in the order of forward.
    pub layers: Vec<LayerProfile>,
}

/// Which steps of a method a mean is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// The method's steps are all alike.
    Every,
    /// FNGD: steps that solve for the weights.
    FirstEpoch,
    /// FNGD: steps that recall them.
    LaterEpochs,
    /// Steps that factorise.
    Refresh,
    /// Steps that do not.
    Between,
    /// Both, as often as they occur.
    Mean,
}

/// Where the time of one layer goes, in milliseconds a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerProfile {
    pub name: String,
    /// `linear`, `conv2d`, ...
    pub kind: String,
    pub weight: Vec<i64>,
    /// Size of its input.
    pub activations: Vec<i64>,
    /// How its Gram matrix was formed.
    pub gram_method: Option<String>,
    /// By phase; `backward` is the gradient of its own parameters. Phases that were not seen are left out.
    pub phases: Vec<(String, f64)>,
}

impl StepProfile {
    /// Milliseconds of one phase.
    pub fn phase(&self, name: &str) -> f64 {
        self.phases.iter().filter(|(phase, _)| phase == name).map(|(_, time)| time).sum()
    }
}

impl LayerProfile {
    /// Milliseconds of one phase, if it was seen.
    pub fn phase(&self, name: &str) -> Option<f64> {
        self.phases.iter().find(|(phase, _)| phase == name).map(|(_, time)| *time)
    }

    /// Milliseconds of all of them.
    pub fn total(&self) -> f64 {
        self.phases.iter().map(|(_, time)| time).sum()
    }
}

impl StepKind {
    /// As a heading says it, after the name of the method. Empty if there is nothing to tell apart.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Every => "",
            Self::FirstEpoch => "1st epoch",
            Self::LaterEpochs => "later",
            Self::Refresh => "refresh",
            Self::Between => "between",
            Self::Mean => "mean",
        }
    }
}
