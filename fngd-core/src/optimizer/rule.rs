//! The inner rule: what a gradient does to its parameter.

use super::{Failures, GroupedParameter};
use crate::Result;
use crate::state::TensorMap;
use tch::Tensor;

/// Turns gradients, preconditioned or not, into updates.
///
/// A rule sees parameters as a slice in visiting order, the same at every call, and keeps its state by their names. It knows
/// nothing of where gradients come from, of clipping, or of schedules.
pub trait UpdateRule {
    /// Updates every parameter that has a gradient, in place. One without a gradient is left alone, and so is its state.
    ///
    /// Nothing here waits for the device, but for factorisations.
    fn update(&mut self, parameters: &[GroupedParameter], learning_rate: f64) -> Result<()>;

    /// What [`update`](Self::update) remembers between calls. The tensors share memory with the rule.
    fn state(&self, parameters: &[GroupedParameter]) -> Result<Vec<(String, Tensor)>>;

    /// Takes back what [`state`](Self::state) gave, from `state`, where the names that it does not know remain.
    fn load_state(&mut self, parameters: &[GroupedParameter], state: &mut TensorMap) -> Result<()>;

    /// Bytes of state once every parameter has been updated.
    fn state_bytes(&self, parameters: &[GroupedParameter]) -> u64;

    /// Factorisations that did not go well in the latest update.
    fn failures(&self) -> Failures {
        Failures::default()
    }
}
