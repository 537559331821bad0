//! Layers as PyTorch makes them: `tch` has other initial weights.

use crate::init;
use fngd_core::nn::{self, BatchNormConfig, ConvConfig, Init, LinearConfig};

/// A convolution without bias, which the BatchNorm after it would cancel.
pub(crate) fn conv(
    vs: nn::Path,
    in_channels: i64,
    out_channels: i64,
    kernel_size: i64,
    stride: i64,
    ws_init: Init,
) -> nn::Conv2D {
    let config = ConvConfig { stride, padding: kernel_size / 2, bias: false, ws_init, ..Default::default() };
    nn::conv2d(vs, in_channels, out_channels, kernel_size, config)
}

/// Scale 1, where `tch` draws it from [0, 1).
pub(crate) fn batch_norm(vs: nn::Path, features: i64) -> nn::BatchNorm {
    nn::batch_norm2d(vs, features, BatchNormConfig { ws_init: Init::Const(1.0), ..Default::default() })
}

/// Weight and bias uniform within ±1 / √in_features.
pub(crate) fn linear(vs: nn::Path, in_features: i64, out_features: i64) -> nn::Linear {
    nn::linear(vs, in_features, out_features, LinearConfig { ws_init: init::pytorch(), ..Default::default() })
}
