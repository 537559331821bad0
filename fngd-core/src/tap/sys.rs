//! What `tap.cpp` exports, as declared there.

use std::ffi::{c_char, c_int, c_void};
use torch_sys::C_tensor;

pub type BackwardCallback = unsafe extern "C" fn(
    context: *mut c_void,
    activations: *mut C_tensor,
    output_grads: *mut C_tensor,
    weight_grad: *mut *mut C_tensor,
    bias_grad: *mut *mut C_tensor,
    message: *mut c_char,
    capacity: usize,
) -> c_int;

pub type DropCallback = unsafe extern "C" fn(context: *mut c_void);

unsafe extern "C" {
    pub fn fngd_tap(
        result: *mut *mut C_tensor,
        output: *const C_tensor,
        activations: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        context: *mut c_void,
        backward: BackwardCallback,
        drop: DropCallback,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    pub fn fngd_convolution_backward(
        weight_grad: *mut *mut C_tensor,
        bias_grad: *mut *mut C_tensor,
        output_grads: *const C_tensor,
        activations: *const C_tensor,
        weight: *const C_tensor,
        stride: *const i64,
        padding: *const i64,
        dilation: *const i64,
        output_padding: *const i64,
        spatial_dims: usize,
        transposed: c_int,
        groups: i64,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    pub fn fngd_product_transposed(
        result: *mut *mut C_tensor,
        a: *const C_tensor,
        b: *const C_tensor,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    pub fn fngd_accumulate_grad(
        tensor: *const C_tensor,
        grad: *const C_tensor,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;

    pub fn fngd_grad_enabled() -> c_int;

    pub fn fngd_identity(tensor: *const C_tensor) -> *const c_void;
}
