//! What an update needs and tch lacks: libtorch's fused rules, and the norm of many tensors.

use super::with_message;
use crate::Result;
use std::ffi::{c_char, c_int};
use tch::Tensor;
use torch_sys::C_tensor;

/// Settings of one fused call of SGD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FusedSgd {
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub momentum: f64,
    pub nesterov: bool,
    /// The buffers are yet to be filled.
    pub first: bool,
}

/// Settings of one fused call of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FusedAdamw {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
    pub epsilon: f64,
    /// Updates so far, this one included.
    pub steps: i64,
}

/// One pass of SGD over tensors of one kind and device. `buffers` is empty if there is no momentum.
pub(crate) fn sgd(weights: &[Tensor], gradients: &[Tensor], buffers: &[Tensor], settings: FusedSgd) -> Result<()> {
    assert!(gradients.len() == weights.len() && (buffers.is_empty() || buffers.len() == weights.len()));
    let (weights, gradients, buffers) = (pointers(weights), pointers(gradients), pointers(buffers));
    with_message(|message, capacity| {
        // SAFETY: the lists have the lengths that they are said to have, and their tensors outlive the call.
        unsafe {
            fngd_sgd(
                weights.as_ptr(),
                gradients.as_ptr(),
                buffers.as_ptr(),
                weights.len(),
                buffers.len(),
                settings.learning_rate,
                settings.weight_decay,
                settings.momentum,
                c_int::from(settings.nesterov),
                c_int::from(settings.first),
                message,
                capacity,
            )
        }
    })
}

/// One pass of AdamW over tensors of one kind and device.
pub(crate) fn adamw(
    weights: &[Tensor],
    gradients: &[Tensor],
    [first_moments, second_moments]: [&[Tensor]; 2],
    settings: FusedAdamw,
) -> Result<()> {
    assert!([gradients, first_moments, second_moments].iter().all(|list| list.len() == weights.len()));
    let (weights, gradients) = (pointers(weights), pointers(gradients));
    let (first_moments, second_moments) = (pointers(first_moments), pointers(second_moments));
    with_message(|message, capacity| {
        // SAFETY: the lists have one length, and their tensors outlive the call.
        unsafe {
            fngd_adamw(
                weights.as_ptr(),
                gradients.as_ptr(),
                first_moments.as_ptr(),
                second_moments.as_ptr(),
                weights.len(),
                settings.learning_rate,
                settings.beta1,
                settings.beta2,
                settings.weight_decay,
                settings.epsilon,
                settings.steps as f64,
                message,
                capacity,
            )
        }
    })
}

/// The Euclidean norm of all numbers in `tensors`, of one device. Waits for it.
pub(crate) fn global_norm(tensors: &[Tensor]) -> Result<f64> {
    let tensors = pointers(tensors);
    let mut norm = 0.0;
    // SAFETY: the list has this length, and its tensors outlive the call.
    with_message(|message, capacity| unsafe {
        fngd_global_norm(&raw mut norm, tensors.as_ptr(), tensors.len(), message, capacity)
    })?;
    Ok(norm)
}

fn pointers(tensors: &[Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

unsafe extern "C" {
    fn fngd_sgd(
        weights: *const *const C_tensor,
        grads: *const *const C_tensor,
        buffers: *const *const C_tensor,
        count: usize,
        buffer_count: usize,
        learning_rate: f64,
        weight_decay: f64,
        momentum: f64,
        nesterov: c_int,
        first: c_int,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    fn fngd_adamw(
        weights: *const *const C_tensor,
        grads: *const *const C_tensor,
        first_moments: *const *const C_tensor,
        second_moments: *const *const C_tensor,
        count: usize,
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        epsilon: f64,
        steps: f64,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    fn fngd_global_norm(
        norm: *mut f64,
        tensors: *const *const C_tensor,
        count: usize,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;
}
