//! Parameters sorted by what a fused call needs to be equal: settings, kind and device.

use super::GroupedParameter;
use super::slots::Slots;
use crate::Result;
use tch::{Device, Kind, Tensor};

/// What one fused call updates, tensor by tensor side by side.
pub(super) struct Bucket<S, const BUFFERS: usize> {
    pub settings: S,
    pub weights: Vec<Tensor>,
    pub gradients: Vec<Tensor>,
    pub buffers: [Vec<Tensor>; BUFFERS],
    kind: Kind,
    device: Device,
}

/// Sorts the parameters that have a gradient into buckets, in order of their first parameter, and advances their slots.
///
/// `settings` says what a parameter needs, given the number of this update, from 1. There are as many buckets as there are
/// different answers: few.
pub(super) fn fill<S: PartialEq, const BUFFERS: usize>(
    parameters: &[GroupedParameter],
    slots: &mut Slots<BUFFERS>,
    settings: impl Fn(&GroupedParameter, i64) -> S,
) -> Result<Vec<Bucket<S, BUFFERS>>> {
    let mut buckets: Vec<Bucket<S, BUFFERS>> = Vec::new();
    for parameter in parameters {
        let gradient = parameter.gradient()?;
        if !gradient.defined() {
            continue;
        }
        let slot = slots.advance(parameter).map_err(|error| error.at(parameter))?;
        let weight = &parameter.parameter.tensor;
        let (settings, kind, device) = (settings(parameter, slot.steps), weight.f_kind()?, weight.device());
        let equal = |one: &Bucket<S, BUFFERS>| one.settings == settings && one.kind == kind && one.device == device;
        let index = buckets.iter().position(equal).unwrap_or(buckets.len());
        if index == buckets.len() {
            let buffers = std::array::from_fn(|_| Vec::new());
            let (weights, gradients) = (Vec::new(), Vec::new());
            buckets.push(Bucket { settings, weights, gradients, buffers, kind, device });
        }
        let bucket = &mut buckets[index];
        bucket.weights.push(weight.shallow_clone());
        bucket.gradients.push(gradient);
        for (list, buffer) in bucket.buffers.iter_mut().zip(&slot.buffers) {
            list.push(buffer.shallow_clone());
        }
    }
    Ok(buckets)
}
