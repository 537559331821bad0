//! Optimizers behind one trait. A training loop does not know which one it holds.

mod adamw;
mod as_built;
mod blocks;
mod buckets;
mod clip;
mod composed;
mod gradient;
mod groups;
mod layerwise;
mod matrices;
mod method;
mod modes;
mod muon;
mod preconditioned;
mod rule;
mod sgd;
mod shampoo;
mod slots;
mod soap;
mod spectrum;

pub use adamw::{Adamw, AdamwConfig};
pub use clip::StepOptions;
pub use composed::Composed;
pub use gradient::{BackwardReport, GradientSource, PlainGradient};
pub use groups::{GroupedParameter, Groups, Members};
pub use layerwise::{
    EvaConfig, Form, HyloConfig, HyloRows, KfacConfig, KfacInverse, LayerwiseGradient, MbfConfig, SengConfig,
    SkfacConfig, TengradConfig,
};
pub use method::{Inner, Method, build};
pub use muon::{Muon, MuonConfig, MuonPrecision, MuonScale, MuonScope};
pub use preconditioned::PreconditionedGradient;
pub use rule::UpdateRule;
pub use sgd::{Sgd, SgdConfig};
pub use shampoo::{Graft, Shampoo, ShampooConfig};
pub use soap::{Soap, SoapConfig};
pub use spectrum::Failures;

use crate::Result;
use std::time::Duration;
use tch::Tensor;

/// Which samples the next forward pass sees. The coefficient bank finds its weights by this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Passes over the training set that are complete, from 0.
    pub epoch: u64,
    /// Position of this (micro-)batch within its epoch, from 0: the paper's iteration slot.
    pub slot: u64,
    /// Index of each sample in the training set, in batch order. Its length is the batch size.
    pub samples: Vec<i64>,
}

/// A method of training.
///
/// Per step: [`begin`](Self::begin) once for each micro-batch, the forward pass, [`backward`](Self::backward); then one
/// [`step`](Self::step), which applies the accumulated gradients and clears them.
pub trait Optimizer {
    /// Announces the samples of the next forward pass.
    fn begin(&mut self, batch: &Batch) -> Result<()>;

    /// Announces the samples of the forward pass that has just run, in place of [`begin`](Self::begin) before it: as
    /// many as the first preconditioned layer saw along its batch axis.
    ///
    /// # Errors
    /// [`is_state`](crate::Error::is_state) if that layer saw two numbers of samples, or if weights are shared by
    /// sample; [`is_config`](crate::Error::is_config) if it saw none. Gradients are cleared then, as after an error of
    /// [`backward`](Self::backward).
    fn begin_seen(&mut self, _epoch: u64, _slot: u64) -> Result<()> {
        Ok(())
    }

    /// Shows the logits that the loss is computed from, and returns those to compute it from: the same values, watched
    /// if the method needs their gradients (improved empirical Fisher).
    fn logits(&mut self, logits: Tensor) -> Result<Tensor> {
        Ok(logits)
    }

    /// Backpropagates `loss`, the **mean** over the micro-batch. Gradients of several micro-batches add up;
    /// `accumulation` is how many of them make a step: each contributes `1 / accumulation` of its gradient.
    ///
    /// After an error all gradients are cleared, those of earlier micro-batches too: the step has to be made anew.
    fn backward(&mut self, loss: &Tensor, accumulation: usize) -> Result<()>;

    /// Clips, updates the parameters with `learning_rate`, and clears the gradients.
    ///
    /// If a gradient is not finite nothing is changed, and the report says so.
    fn step(&mut self, learning_rate: f64) -> Result<StepReport>;

    /// The weights of the latest solve or recall, layer by layer. Empty for methods that have none. Waits for the
    /// device.
    fn layers(&self) -> Result<Vec<LayerReport>> {
        Ok(Vec::new())
    }

    /// The weights w of the latest micro-batch: the name of each layer, and one number per sample, in batch order.
    /// Layers that trained with w = 1 are left out.
    fn sample_weights(&self) -> Result<Vec<(String, Tensor)>> {
        Ok(Vec::new())
    }

    /// Everything but the parameters that resuming exactly needs, by unique name.
    ///
    /// The tensors may share memory with the optimizer: write or copy them before the next step.
    fn state(&self) -> Result<Vec<(String, Tensor)>>;

    /// Takes back what [`state`](Self::state) gave. Names, kinds and sizes must be equal. After an error the optimizer
    /// may hold a part of it: build a new one.
    fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()>;

    /// Bytes that [`state`](Self::state) occupies once training is under way.
    fn state_bytes(&self) -> u64;
}

/// What one step did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepReport {
    /// Euclidean norm of the whole gradient before clipping; `None` where it was not needed (no clipping, no guard).
    pub gradient_norm: Option<f64>,
    /// True if the gradient held NaN or infinity: the parameters are unchanged.
    pub skipped: bool,
    /// Layers whose weights were solved for in this step; with the methods that keep a curvature, layers whose factors were made
    /// anew.
    pub solved: usize,
    /// Layers whose weights came from the bank, or whose factors are those of an earlier step.
    pub recalled: usize,
    /// Layers that trained with w = 1 because the bank has nothing for this slot, or with the plain gradient because there are no
    /// factors yet; in either case those too whose batch axis is not known.
    pub unknown: usize,
    /// Layers whose solve failed (dead or non-finite Gram matrix) and that trained with w = 1; with the methods that keep a
    /// curvature, layers that kept their previous one because it could not be factorised in float64 either.
    pub fallbacks: usize,
    /// Factorisations that failed in the layer's own kind and succeeded in float64.
    pub retried: usize,
    /// Name of the first layer that [`fallbacks`](Self::fallbacks) or [`retried`](Self::retried) counts, where a curvature is
    /// kept of it; empty otherwise.
    pub trouble: String,
    /// Time spent in backward (all of it), and within it in the parts that FNGD adds; then in the update.
    pub time: PhaseTime,
}

/// Where the time of one step went. On CUDA these are times of launching unless the device is synchronised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PhaseTime {
    /// The whole backward pass.
    pub backward: Duration,
    /// Forming Gram matrices.
    pub gram: Duration,
    /// Solving for the weights.
    pub solve: Duration,
    /// Weighting: scaling by the weights (the weight gradient itself is part of any method).
    pub precondition: Duration,
    /// Clipping and the inner rule.
    pub update: Duration,
}

/// The weights of one layer in the latest step.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerReport {
    /// Dotted name of the layer.
    pub name: String,
    /// Mean of the weights w; 1 is SGD.
    pub mean: f64,
    /// Standard deviation of the weights w.
    pub std: f64,
    /// Smallest weight w; may be negative.
    pub min: f64,
    /// λ = γ‖K‖_F of the latest solve, in squared gradient norms.
    pub damping: Option<f64>,
    /// How the Gram matrix of the latest solve was formed.
    pub gram_method: Option<crate::GramMethod>,
    /// Where the weights came from.
    pub source: WeightSource,
}

/// Where a layer's weights came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightSource {
    /// Solved for in this step.
    Solved,
    /// From the coefficient bank.
    Recalled,
    /// w = 1: the bank does not know this slot, or the layer's batch axis is not known.
    Unknown,
    /// w = 1: the Gram matrix was zero or not finite.
    Fallback,
}
