//! The tap: how Rust gets at a layer's activations and output gradients, and returns the gradient of its parameters.
//!
//! Three floors: `tap.cpp` talks to libtorch, `sys` declares it, and this module owns, frees, and turns status into [`Error`].

#![allow(unsafe_code)]

mod sys;
pub(crate) mod update;

use crate::layer::Convolution;
use crate::{Error, Result};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};
use tch::Tensor;
use torch_sys::C_tensor;

/// Gradients of a layer's weight and bias. `None` contributes nothing (yet).
pub(crate) type ParameterGrads = (Option<Tensor>, Option<Tensor>);

/// Computes the gradients of one use of a layer from its activations and output gradients.
///
/// Runs on the thread that runs backward, which on CUDA is not the caller's, without gradient recording.
pub(crate) type Callback = Box<dyn FnMut(Tensor, Tensor) -> Result<ParameterGrads> + Send>;

/// `output` with a tap on it, whose backward returns what `callback` says as the gradient of `weight` and `bias`.
///
/// `output` must have been computed from `activations` and **detached** parameters.
pub(crate) fn attach(
    output: &Tensor,
    activations: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    callback: Callback,
) -> Result<Tensor> {
    let context = Box::into_raw(Box::new(callback)).cast::<c_void>();
    let mut result = null_mut();
    with_message(|message, capacity| {
        // SAFETY: the tensors outlive the call; `context` is owned by the callee from here on, and is what `backward` and
        // `drop_callback` expect; `message` has `capacity` bytes.
        unsafe {
            sys::fngd_tap(
                &raw mut result,
                output.as_ptr(),
                activations.as_ptr(),
                weight.as_ptr(),
                bias.map_or(null(), Tensor::as_ptr),
                context,
                backward,
                drop_callback,
                message,
                capacity,
            )
        }
    })?;
    // SAFETY: status 0 means that `result` is a tensor that we own.
    Ok(unsafe { Tensor::from_ptr(result) })
}

/// Gradients of a convolution's weight and, if asked for, bias, from unweighted or weighted tensors.
pub(crate) fn convolution_backward(
    output_grads: &Tensor,
    activations: &Tensor,
    weight: &Tensor,
    geometry: &Convolution,
    with_bias: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (mut weight_grad, mut bias_grad) = (null_mut(), null_mut());
    with_message(|message, capacity| {
        // SAFETY: the tensors and the four slices, which `Convolution` keeps at equal length, outlive the call.
        unsafe {
            sys::fngd_convolution_backward(
                &raw mut weight_grad,
                if with_bias { &raw mut bias_grad } else { null_mut() },
                output_grads.as_ptr(),
                activations.as_ptr(),
                weight.as_ptr(),
                geometry.stride.as_ptr(),
                geometry.padding.as_ptr(),
                geometry.dilation.as_ptr(),
                geometry.output_padding.as_ptr(),
                geometry.stride.len(),
                c_int::from(geometry.transposed),
                geometry.groups,
                message,
                capacity,
            )
        }
    })?;
    // SAFETY: status 0 means that both are tensors that we own, or null.
    Ok(unsafe { (Tensor::from_ptr(weight_grad), (!bias_grad.is_null()).then(|| Tensor::from_ptr(bias_grad))) })
}

/// a bᵀ for two matrices, by the fastest product that libtorch has.
pub(crate) fn product_transposed(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let mut result = null_mut();
    // SAFETY: both tensors outlive the call; `message` has `capacity` bytes.
    with_message(|message, capacity| unsafe {
        sys::fngd_product_transposed(&raw mut result, a.as_ptr(), b.as_ptr(), message, capacity)
    })?;
    // SAFETY: status 0 means that `result` is a tensor that we own.
    Ok(unsafe { Tensor::from_ptr(result) })
}

/// Adds `grad` to the gradient of a parameter, or makes it the gradient if there is none. Keeps a reference, not a copy.
pub(crate) fn accumulate_grad(parameter: &Tensor, grad: &Tensor) -> Result<()> {
    // SAFETY: both tensors outlive the call; `message` has `capacity` bytes.
    with_message(|message, capacity| unsafe {
        sys::fngd_accumulate_grad(parameter.as_ptr(), grad.as_ptr(), message, capacity)
    })
}

/// Lets go of a parameter's gradient, so that its memory is free during the next forward pass.
pub(crate) fn clear_grad(parameter: &Tensor) -> Result<()> {
    // SAFETY: the tensor outlives the call; null means "clear"; `message` has `capacity` bytes.
    with_message(|message, capacity| unsafe {
        sys::fngd_accumulate_grad(parameter.as_ptr(), null(), message, capacity)
    })
}

/// Whether operations are recorded for backward on this thread.
pub(crate) fn grad_enabled() -> bool {
    // SAFETY: reads a thread-local flag.
    unsafe { sys::fngd_grad_enabled() != 0 }
}

/// A number that two handles of one tensor share. Others have another one, as long as the tensor lives.
pub(crate) fn identity(tensor: &Tensor) -> usize {
    // SAFETY: reads the address that the handle holds.
    unsafe { sys::fngd_identity(tensor.as_ptr()) }.addr()
}

fn with_message(call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<()> {
    let mut message = [0 as c_char; 1024];
    if call(message.as_mut_ptr(), message.len()) == 0 {
        return Ok(());
    }
    // SAFETY: the callee ends every message with a zero byte, and an untouched buffer is all zeros.
    let text = unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy();
    Err(Error::torch(text.split("\nException raised from").next().unwrap_or(&text).trim()))
}

/// # Safety
/// `context` comes from [`attach`]; the tensors are valid; the results point to null; `message` has `capacity` bytes.
unsafe extern "C" fn backward(
    context: *mut c_void,
    activations: *mut C_tensor,
    output_grads: *mut C_tensor,
    weight_grad: *mut *mut C_tensor,
    bias_grad: *mut *mut C_tensor,
    message: *mut c_char,
    capacity: usize,
) -> c_int {
    // A panic must not unwind into C++.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: see above; cloning shares the tensor and takes a count of its own.
        let (callback, activations, output_grads) = unsafe {
            (
                &mut *context.cast::<Callback>(),
                Tensor::clone_from_ptr(activations),
                Tensor::clone_from_ptr(output_grads),
            )
        };
        callback(activations, output_grads)
    }));
    let text = match outcome {
        Ok(Ok((weight, bias))) => {
            // SAFETY: both point to a slot of the caller, which takes ownership.
            unsafe {
                *weight_grad = weight.map_or(null_mut(), into_raw);
                *bias_grad = bias.map_or(null_mut(), into_raw);
            }
            return 0;
        }
        Ok(Err(error)) => error.to_string(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            format!("panic in the tap's callback: {text}")
        }
    };
    let bytes = &text.as_bytes()[..text.len().min(capacity.saturating_sub(1))];
    // SAFETY: `bytes` and the final zero fit into `capacity`.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), message, bytes.len());
        *message.add(bytes.len()) = 0;
    }
    1
}

/// # Safety
/// `context` comes from [`attach`] and is not used again.
unsafe extern "C" fn drop_callback(context: *mut c_void) {
    // SAFETY: it was made by `Box::into_raw` in `attach`. A panic in a destructor must not unwind into C++.
    let _ = catch_unwind(|| drop(unsafe { Box::from_raw(context.cast::<Callback>()) }));
}

fn into_raw(mut tensor: Tensor) -> *mut C_tensor {
    let raw = tensor.as_mut_ptr();
    std::mem::forget(tensor);
    raw
}
