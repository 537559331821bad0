//! The operators: one file each, or one per family.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod batch_normalisation;
pub(crate) mod constant;
pub(crate) mod convolution;
pub(crate) mod dropout;
pub(crate) mod einsum;
pub(crate) mod elementwise;
pub(crate) mod fused_matmul;
pub(crate) mod index;
pub(crate) mod matmul;
pub(crate) mod normalise;
pub(crate) mod pad;
pub(crate) mod parts;
pub(crate) mod pool;
mod pool_indices;
pub(crate) mod power;
pub(crate) mod random;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod resize;
pub(crate) mod rotary;
pub(crate) mod shape;
pub(crate) mod softmax;
mod window;
