//! What a rule remembers about each parameter: how often it was updated, and some tensors of its size.

use super::GroupedParameter;
use crate::state::TensorMap;
use crate::{Error, Result};
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// Name of the tensor that counts updates, one number per parameter in visiting order.
const STEPS: &str = "steps";

/// State by parameter name.
#[derive(Debug)]
pub(super) struct Slots<const BUFFERS: usize> {
    /// Names of the buffers, for saving.
    names: [&'static str; BUFFERS],
    slots: HashMap<String, Slot<BUFFERS>>,
}

/// State of one parameter that has been updated at least once.
#[derive(Debug)]
pub(super) struct Slot<const BUFFERS: usize> {
    /// Updates so far.
    pub steps: i64,
    /// Tensors like the parameter: same size, kind, device and memory format.
    pub buffers: [Tensor; BUFFERS],
}

impl<const BUFFERS: usize> Slots<BUFFERS> {
    pub fn new(names: [&'static str; BUFFERS]) -> Self {
        Self { names, slots: HashMap::new() }
    }

    /// The state of `parameter`, of zeros if this is its first update. Counts the update.
    pub fn advance(&mut self, parameter: &GroupedParameter) -> Result<&mut Slot<BUFFERS>> {
        if !self.slots.contains_key(parameter.name()) {
            let tensor = parameter.parameter.tensor.f_detach()?;
            let buffers = (0..BUFFERS).map(|_| tensor.f_zeros_like()).collect::<std::result::Result<Vec<_>, _>>()?;
            // OK because there are `BUFFERS` of them.
            let slot = Slot { steps: 0, buffers: buffers.try_into().unwrap() };
            self.slots.insert(parameter.name().to_owned(), slot);
        }
        // OK because it was inserted above if it was not there.
        let slot = self.slots.get_mut(parameter.name()).unwrap();
        slot.steps += 1;
        Ok(slot)
    }

    /// Whether `parameter` has been updated.
    pub fn knows(&self, parameter: &GroupedParameter) -> bool {
        self.slots.contains_key(parameter.name())
    }

    /// The state of `parameter`, which [`advance`](Self::advance) has made.
    pub fn slot(&mut self, parameter: &GroupedParameter) -> &mut Slot<BUFFERS> {
        // OK because it is called after `advance` only.
        self.slots.get_mut(parameter.name()).unwrap()
    }

    pub fn state(&self, parameters: &[GroupedParameter]) -> Result<Vec<(String, Tensor)>> {
        let steps: Vec<i64> =
            parameters.iter().map(|grouped| self.slots.get(grouped.name()).map_or(0, |slot| slot.steps)).collect();
        let mut state = vec![(STEPS.to_owned(), Tensor::f_from_slice(&steps)?)];
        for parameter in parameters {
            let Some(slot) = self.slots.get(parameter.name()) else { continue };
            for (buffer, tensor) in self.names.iter().zip(&slot.buffers) {
                state.push((format!("{buffer}.{}", parameter.name()), tensor.shallow_clone()));
            }
        }
        Ok(state)
    }

    /// Reads everything before it changes anything.
    pub fn load(&mut self, parameters: &[GroupedParameter], state: &mut TensorMap) -> Result<()> {
        // OK because a model's parameters are far fewer than 2^63.
        let count = i64::try_from(parameters.len()).unwrap();
        let steps = Vec::<i64>::try_from(&state.take(STEPS, Kind::Int64, &[count])?)?;
        let mut slots = HashMap::new();
        for (parameter, steps) in parameters.iter().zip(steps) {
            if steps < 0 {
                return Err(Error::state(format!(
                    "`{}`: number of updates must be >= 0, found {steps}",
                    parameter.name()
                )));
            }
            if steps > 0 {
                slots.insert(parameter.name().to_owned(), Slot { steps, buffers: self.read(parameter, state)? });
            }
        }
        self.slots = slots;
        Ok(())
    }

    pub fn state_bytes(&self, parameters: &[GroupedParameter]) -> u64 {
        let buffers = parameters.iter().map(|grouped| bytes(&grouped.parameter.tensor)).sum::<u64>() * BUFFERS as u64;
        buffers + 8 * parameters.len() as u64
    }

    fn read(&self, parameter: &GroupedParameter, state: &mut TensorMap) -> Result<[Tensor; BUFFERS]> {
        let tensor = &parameter.parameter.tensor;
        let mut buffers = Vec::with_capacity(BUFFERS);
        for buffer in self.names {
            let saved = state.take(&format!("{buffer}.{}", parameter.name()), tensor.f_kind()?, &tensor.size())?;
            buffers.push(copy_like(tensor, &saved)?);
        }
        // OK because the loop above ran once for each of the `BUFFERS` names.
        Ok(buffers.try_into().unwrap())
    }
}

/// The parameters that have a gradient, each with it.
pub(super) fn with_gradients(parameters: &[GroupedParameter]) -> Result<Vec<(&GroupedParameter, Tensor)>> {
    let mut pairs = Vec::new();
    for parameter in parameters {
        let gradient = parameter.gradient()?;
        if gradient.defined() {
            pairs.push((parameter, gradient));
        }
    }
    Ok(pairs)
}

/// A copy of `source` with the memory format and device of `like`.
fn copy_like(like: &Tensor, source: &Tensor) -> Result<Tensor> {
    let mut copy = like.f_detach()?.f_empty_like()?;
    copy.f_copy_(source)?;
    Ok(copy)
}

pub(super) fn bytes(tensor: &Tensor) -> u64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
}
