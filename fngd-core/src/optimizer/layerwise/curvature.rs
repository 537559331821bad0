//! What a method keeps of one layer.

use crate::Result;
use crate::preconditioner::Facts;
use crate::state::TensorMap;
use crate::tap::ParameterGrads;
use crate::weighting::Use;
use std::fmt;
use tch::Tensor;

/// What one backward pass showed of a layer: all its uses.
#[derive(Debug)]
pub(crate) struct Observation<'a> {
    pub uses: &'a [Use],
    /// Samples in the micro-batch, B.
    pub batch_size: i64,
    /// Output gradients times this are those of the mean loss of the micro-batch, whatever the accumulation.
    pub accumulation: f64,
}

/// What became of a layer's factors in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    /// There was nothing to do: they are those of an earlier step.
    Kept,
    /// They were made anew.
    Made {
        /// In float64, because the layer's own kind failed.
        retried: bool,
    },
    /// They could not be made in float64 either. The previous ones stay.
    Failed,
}

/// The curvature of one layer, and what it makes of a gradient.
///
/// Per step: [`observe`](Self::observe) for each micro-batch; then [`update`](Self::update) and
/// [`precondition`](Self::precondition), or, if the step is skipped, [`discard`](Self::discard).
pub(crate) trait Curvature: fmt::Debug + Send {
    /// Notes one micro-batch. What is kept for later steps does not change yet.
    fn observe(&mut self, facts: &Facts, seen: &Observation<'_>) -> Result<()>;

    /// Forgets what was noted in this step.
    fn discard(&mut self);

    /// Makes what was noted in this step part of what is kept; if `refresh`, factorises it.
    fn update(&mut self, refresh: bool) -> Result<Update>;

    /// The direction for a finished gradient. `None` as long as there are no factors: then the gradient is left alone. A bias
    /// that is `None` in the result keeps its gradient.
    fn precondition(&self, facts: &Facts, gradient: &Gradient) -> Result<Option<ParameterGrads>>;

    /// What is kept, by a name without dots.
    fn state(&self) -> Result<Vec<(String, Tensor)>>;

    /// Takes back what [`state`](Self::state) gave, out of `state`.
    fn load_state(&mut self, facts: &Facts, state: &mut TensorMap) -> Result<()>;

    /// Bytes of the state once training is under way, as far as they can be known.
    fn state_bytes(&self, facts: &Facts) -> u64;
}

/// The finished gradient of a layer: the mean over the whole batch.
#[derive(Debug)]
pub(crate) struct Gradient {
    pub weight: Tensor,
    /// `None` without a trainable bias.
    pub bias: Option<Tensor>,
}
