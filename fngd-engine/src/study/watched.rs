//! An optimizer that lets an observer look at each batch before it is used.

use super::Shared;
use fngd_core::Result;
use fngd_core::optimizer::{Batch, LayerReport, Optimizer, StepReport};
use tch::Tensor;

/// An optimizer, watched: it does what it would do alone.
pub struct Watched {
    pub optimizer: Box<dyn Optimizer>,
    pub observer: Shared,
}

impl Optimizer for Watched {
    fn begin(&mut self, batch: &Batch) -> Result<()> {
        self.observer.borrow_mut().before(batch)?;
        self.optimizer.begin(batch)
    }

    fn logits(&mut self, logits: Tensor) -> Result<Tensor> {
        self.optimizer.logits(logits)
    }

    fn backward(&mut self, loss: &Tensor, accumulation: usize) -> Result<()> {
        self.optimizer.backward(loss, accumulation)
    }

    fn step(&mut self, learning_rate: f64) -> Result<StepReport> {
        self.optimizer.step(learning_rate)
    }

    fn layers(&self) -> Result<Vec<LayerReport>> {
        self.optimizer.layers()
    }

    fn sample_weights(&self) -> Result<Vec<(String, Tensor)>> {
        self.optimizer.sample_weights()
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        self.optimizer.state()
    }

    fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        self.optimizer.load_state(state)
    }

    fn state_bytes(&self) -> u64 {
        self.optimizer.state_bytes()
    }
}
