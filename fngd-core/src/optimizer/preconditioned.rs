//! FNGD as a source of gradients: backward through tapped layers.

use super::gradient::backpropagate;
use super::{BackwardReport, Batch, GradientSource, LayerReport, PhaseTime, WeightSource};
use crate::preconditioner::{Preconditioner, lock};
use crate::state::TensorMap;
use crate::{Error, FngdConfig, Layer, Result};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tch::Tensor;

/// The weighted gradient Σ w_i U_i / B of every preconditioned layer, and the plain gradient of everything else.
///
/// Building it taps the layers; dropping it takes the taps away again. BatchNorm in training mode couples the samples of a
/// batch: then U_i is sample i's *contribution* to the gradient rather than the gradient of its own loss. The contributions
/// still add up to the gradient exactly.
#[derive(Debug)]
pub struct PreconditionedGradient {
    layers: Vec<Layer>,
    preconditioner: Arc<Mutex<Preconditioner>>,
}

impl PreconditionedGradient {
    /// Taps `layers`.
    ///
    /// # Errors
    /// [`is_config`](crate::Error::is_config) if a setting is out of range, or if there is no layer to precondition;
    /// [`is_state`](crate::Error::is_state) if another optimizer has tapped one of them and is still there.
    pub fn build(layers: Vec<Layer>, config: FngdConfig) -> Result<Self> {
        let config = config.build()?;
        if layers.is_empty() {
            return Err(Error::config("the model has no linear or convolution layer that FNGD could precondition"));
        }
        refuse_attached(&layers)?;
        let preconditioner = Preconditioner::attach(&layers, config);
        Ok(Self { layers, preconditioner })
    }

    /// Keeps the Gram matrix of every layer that is solved for, until the next micro-batch begins. Costs B² numbers a layer.
    ///
    /// # Errors
    /// [`is_state`](crate::Error::is_state) after a panic in an earlier pass.
    pub fn keep_grams(&mut self) -> Result<()> {
        lock(&self.preconditioner)?.keep_grams();
        Ok(())
    }

    /// K = UᵀU of the latest micro-batch, `[B, B]`, by the layer's name, for those layers that were solved for; U has the gradient
    /// of each sample's loss as a column. Empty without [`keep_grams`](Self::keep_grams).
    ///
    /// # Errors
    /// [`is_state`](crate::Error::is_state) after a panic in an earlier pass.
    pub fn grams(&self) -> Result<Vec<(String, Tensor)>> {
        lock(&self.preconditioner)?.grams()
    }
}

impl GradientSource for PreconditionedGradient {
    fn begin(&mut self, batch: &Batch) -> Result<()> {
        lock(&self.preconditioner)?.begin(batch)
    }

    fn begin_seen(&mut self, epoch: u64, slot: u64) -> Result<()> {
        lock(&self.preconditioner)?.begin_seen(epoch, slot)
    }

    fn logits(&mut self, logits: Tensor) -> Result<Tensor> {
        Preconditioner::watch_logits(&self.preconditioner, logits)
    }

    fn backward(&mut self, loss: &Tensor, accumulation: usize) -> Result<BackwardReport> {
        let start = Instant::now();
        let mut preconditioner = lock(&self.preconditioner)?;
        if !preconditioner.has_begun() {
            return Err(Error::state("backward before `begin`: say which samples the forward pass sees"));
        }
        preconditioner.accumulation = accumulation.max(1) as f64;
        drop(preconditioner);
        // The lock is free meanwhile: the taps take it, layer by layer.
        backpropagate(loss, accumulation)?;
        let mut preconditioner = lock(&self.preconditioner)?;
        let _no_grad = tch::no_grad_guard();
        preconditioner.finish()?;
        Ok(BackwardReport {
            time: PhaseTime { backward: start.elapsed(), ..preconditioner.time },
            solved: preconditioner.count(WeightSource::Solved),
            recalled: preconditioner.count(WeightSource::Recalled),
            unknown: preconditioner.count(WeightSource::Unknown),
            fallbacks: preconditioner.count(WeightSource::Fallback),
        })
    }

    fn discard(&mut self) -> Result<()> {
        lock(&self.preconditioner)?.forget_forward();
        Ok(())
    }

    fn layers(&self) -> Result<Vec<LayerReport>> {
        lock(&self.preconditioner)?.reports()
    }

    fn sample_weights(&self) -> Result<Vec<(String, Tensor)>> {
        lock(&self.preconditioner)?.sample_weights()
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        lock(&self.preconditioner)?.state()
    }

    fn load_state(&mut self, state: &mut TensorMap) -> Result<()> {
        lock(&self.preconditioner)?.load_state(state)
    }

    fn state_bytes(&self) -> u64 {
        lock(&self.preconditioner).map_or(0, |preconditioner| preconditioner.bank_bytes())
    }
}

/// An error if an FNGD optimizer listens to one of `layers`: their gradients go to it.
pub(super) fn refuse_attached(layers: &[Layer]) -> Result<()> {
    let Some(layer) = layers.iter().find(|layer| layer.is_attached()) else { return Ok(()) };
    let name = layer.name();
    Err(Error::state(format!("layer `{name}` is in the hands of another optimizer: drop that one first")))
}

impl Drop for PreconditionedGradient {
    fn drop(&mut self) {
        for layer in &self.layers {
            layer.attach(None);
        }
    }
}
