//! Where gradients come from: the border between an optimizer's step and a preconditioner.

use super::{Batch, LayerReport, PhaseTime, StepReport};
use crate::Result;
use crate::state::TensorMap;
use std::time::Instant;
use tch::Tensor;

/// Fills the parameters' gradients. [`Composed`](super::Composed) does everything else of a step.
pub trait GradientSource {
    /// Announces the samples of the next forward pass.
    fn begin(&mut self, batch: &Batch) -> Result<()>;

    /// See [`Optimizer::begin_seen`](super::Optimizer::begin_seen).
    fn begin_seen(&mut self, _epoch: u64, _slot: u64) -> Result<()> {
        Ok(())
    }

    /// See [`Optimizer::logits`](super::Optimizer::logits).
    fn logits(&mut self, logits: Tensor) -> Result<Tensor> {
        Ok(logits)
    }

    /// Adds `1 / accumulation` of the (preconditioned) gradient of `loss` to the parameters' gradients.
    fn backward(&mut self, loss: &Tensor, accumulation: usize) -> Result<BackwardReport>;

    /// Called once before the update, when the gradients of all micro-batches are in and finite: turns them into the
    /// direction that the rule applies with `learning_rate`. What it counts is added to `report`.
    fn finish(&mut self, _learning_rate: f64, _report: &mut StepReport) -> Result<()> {
        Ok(())
    }

    /// Called instead of [`finish`](Self::finish) when the step is skipped or given up: what the passes since the latest
    /// step noted is forgotten.
    fn discard(&mut self) -> Result<()> {
        Ok(())
    }

    /// See [`Optimizer::layers`](super::Optimizer::layers).
    fn layers(&self) -> Result<Vec<LayerReport>>;

    /// See [`Optimizer::sample_weights`](super::Optimizer::sample_weights).
    fn sample_weights(&self) -> Result<Vec<(String, Tensor)>> {
        Ok(Vec::new())
    }

    /// See [`Optimizer::state`](super::Optimizer::state). Names need to be unique within the source only.
    fn state(&self) -> Result<Vec<(String, Tensor)>>;

    /// Takes back what [`state`](Self::state) gave, out of `state`. Names that stay in it are refused by the caller.
    fn load_state(&mut self, state: &mut TensorMap) -> Result<()>;

    /// Bytes of [`state`](Self::state) once training is under way.
    fn state_bytes(&self) -> u64;
}

/// What one backward pass did. Fields as in [`StepReport`](super::StepReport), which sums them over the micro-batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackwardReport {
    /// Time of the pass and of its parts; `update` is not touched.
    pub time: PhaseTime,
    /// Layers solved for.
    pub solved: usize,
    /// Layers recalled from the bank.
    pub recalled: usize,
    /// Layers not known to the bank.
    pub unknown: usize,
    /// Layers whose solve failed.
    pub fallbacks: usize,
}

/// The gradient as backpropagation gives it.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainGradient;

impl GradientSource for PlainGradient {
    fn begin(&mut self, _batch: &Batch) -> Result<()> {
        Ok(())
    }

    fn backward(&mut self, loss: &Tensor, accumulation: usize) -> Result<BackwardReport> {
        let start = Instant::now();
        backpropagate(loss, accumulation)?;
        Ok(BackwardReport { time: PhaseTime { backward: start.elapsed(), ..Default::default() }, ..Default::default() })
    }

    fn layers(&self) -> Result<Vec<LayerReport>> {
        Ok(Vec::new())
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        Ok(Vec::new())
    }

    fn load_state(&mut self, _state: &mut TensorMap) -> Result<()> {
        Ok(())
    }

    fn state_bytes(&self) -> u64 {
        0
    }
}

/// Backward from `loss / accumulation`. With one micro-batch the loss is not touched, so that the step is plain bit for bit.
pub(crate) fn backpropagate(loss: &Tensor, accumulation: usize) -> Result<()> {
    if accumulation <= 1 {
        loss.f_backward()?;
    } else {
        loss.f_div_scalar(accumulation as f64)?.f_backward()?;
    }
    Ok(())
}
