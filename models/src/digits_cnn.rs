mod onnx;

use crate::init::HE_FAN_IN;
use crate::layers::{batch_norm, conv, linear};
use fngd_core::{FngdModule, nn};
use tch::Tensor;

/// A small network for 8x8 grey digits, that of `digits-cnn.onnx`: three convolutions with BatchNorm, the mean over positions, and a
/// linear layer.
///
/// Initial weights: He's for convolutions (normal, variance 2 / fan-in), PyTorch's for the last layer.
#[derive(Debug, FngdModule)]
pub struct DigitsCnn {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    conv3: nn::Conv2D,
    bn3: nn::BatchNorm,
    fc: nn::Linear,
}

impl DigitsCnn {
    /// A network with `widths` channels after its convolutions; 16, 32 and 48 are those of the file.
    pub fn new(vs: &nn::Path, widths: [i64; 3], classes: i64) -> Self {
        let [first, second, third] = widths;
        Self {
            conv1: conv(vs / "conv1", 1, first, 3, 1, HE_FAN_IN),
            bn1: batch_norm(vs / "bn1", first),
            conv2: conv(vs / "conv2", first, second, 3, 1, HE_FAN_IN),
            bn2: batch_norm(vs / "bn2", second),
            conv3: conv(vs / "conv3", second, third, 3, 2, HE_FAN_IN),
            bn3: batch_norm(vs / "bn3", third),
            fc: linear(vs / "fc", third, classes),
        }
    }
}

/// Logits, `[B, classes]`, of images `[B, 1, H, W]`.
impl nn::ModuleT for DigitsCnn {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv1)
            .apply_t(&self.bn1, train)
            .relu()
            .apply(&self.conv2)
            .apply_t(&self.bn2, train)
            .relu()
            .apply(&self.conv3)
            .apply_t(&self.bn3, train)
            .relu()
            .mean_dim(&[2i64, 3][..], false, None)
            .apply(&self.fc)
    }
}
