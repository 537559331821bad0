//! Initial distributions of PyTorch that `tch` has no name for.

use fngd_core::nn::Init;
use fngd_core::nn::init::{FanInOut, NonLinearity, NormalOrUniform};

/// He initialisation for the backward pass: normal with variance 2 / fan-out, where a convolution's fan-out is k² · out_channels.
///
/// Source: He et al., arXiv 1502.01852v1, section 2.2. torchvision's ResNets and VGGs start from it.
pub(crate) const HE_FAN_OUT: Init =
    Init::Kaiming { dist: NormalOrUniform::Normal, fan: FanInOut::FanOut, non_linearity: NonLinearity::ReLU };

/// He initialisation for the forward pass: normal with variance 2 / fan-in.
pub(crate) const HE_FAN_IN: Init =
    Init::Kaiming { dist: NormalOrUniform::Normal, fan: FanInOut::FanIn, non_linearity: NonLinearity::ReLU };

/// What `torch.nn.Linear` and `torch.nn.Conv2d` start from: uniform within ±1 / √fan-in. PyTorch writes it as Kaiming's with a = √5,
/// whose gain is √(2 / (1 + 5)) = 1 / √3. The default of `tch` is √6 times as wide.
pub(crate) fn pytorch() -> Init {
    let gain = NonLinearity::ExplicitGain((1.0f64 / 3.0).sqrt());
    Init::Kaiming { dist: NormalOrUniform::Uniform, fan: FanInOut::FanIn, non_linearity: gain }
}

/// Glorot's: uniform with variance 2 / (fan-in + fan-out), for a weight `[fan_out, fan_in]`.
///
/// Source: Glorot and Bengio, AISTATS 2010, equation 16; `torch.nn.init.xavier_uniform_`.
pub(crate) fn xavier_uniform(fan_in: i64, fan_out: i64) -> Init {
    let bound = (6.0 / (fan_in + fan_out) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}
