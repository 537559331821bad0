mod onnx;

use crate::init::HE_FAN_IN;
use crate::layers::{batch_norm, conv, linear};
use fngd_core::{FngdModule, nn};
use tch::Tensor;

/// ResNet for 32x32 images: 6n + 2 layers, widths 16, 32 and 64, shortcuts without parameters (option A).
///
/// Initial weights: He's for convolutions (normal, variance 2 / fan-in), PyTorch's for the last layer.
///
/// Source: He, Zhang, Ren, Sun, arXiv 1512.03385v1, section 4.2.
#[derive(Debug, FngdModule)]
pub struct CifarResNet {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    fc: nn::Linear,
}

impl CifarResNet {
    /// Three stages of `blocks` blocks: 3, 5, 7, 9 and 18 make ResNet-20, 32, 44, 56 and 110.
    pub fn new(vs: &nn::Path, blocks: i64, classes: i64) -> Self {
        Self {
            conv1: conv(vs / "conv1", 3, 16, 3, 1, HE_FAN_IN),
            bn1: batch_norm(vs / "bn1", 16),
            layer1: stage(vs / "layer1", 16, 16, 1, blocks),
            layer2: stage(vs / "layer2", 16, 32, 2, blocks),
            layer3: stage(vs / "layer3", 32, 64, 2, blocks),
            fc: linear(vs / "fc", 64, classes),
        }
    }
}

/// Logits, `[B, classes]`, of images `[B, 3, H, W]`.
impl nn::ModuleT for CifarResNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let stem = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let blocks = self.layer1.iter().chain(&self.layer2).chain(&self.layer3);
        blocks.fold(stem, |xs, block| xs.apply_t(block, train)).mean_dim(&[2i64, 3][..], false, None).apply(&self.fc)
    }
}

/// Two 3x3 convolutions beside a shortcut.
#[derive(Debug, FngdModule)]
struct BasicBlock {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    #[fngd(skip)]
    shortcut: Shortcut,
}

impl BasicBlock {
    fn new(vs: nn::Path, in_channels: i64, out_channels: i64, stride: i64) -> Self {
        Self {
            conv1: conv(&vs / "conv1", in_channels, out_channels, 3, stride, HE_FAN_IN),
            bn1: batch_norm(&vs / "bn1", out_channels),
            conv2: conv(&vs / "conv2", out_channels, out_channels, 3, 1, HE_FAN_IN),
            bn2: batch_norm(&vs / "bn2", out_channels),
            shortcut: Shortcut { stride, new_channels: out_channels - in_channels },
        }
    }
}

impl nn::ModuleT for BasicBlock {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let residual = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let residual = residual.apply(&self.conv2).apply_t(&self.bn2, train);
        (residual + xs.apply(&self.shortcut)).relu()
    }
}

/// The input itself where sizes allow it; else every second pixel, with the new channels zero.
#[derive(Debug)]
struct Shortcut {
    stride: i64,
    new_channels: i64,
}

impl nn::Module for Shortcut {
    fn forward(&self, xs: &Tensor) -> Tensor {
        if self.new_channels == 0 {
            return xs.shallow_clone();
        }
        let side = self.new_channels / 2;
        xs.slice(2, None, None, self.stride).slice(3, None, None, self.stride).constant_pad_nd([0, 0, 0, 0, side, side])
    }
}

fn stage(vs: nn::Path, in_channels: i64, out_channels: i64, stride: i64, blocks: i64) -> Vec<BasicBlock> {
    (0..blocks)
        .map(|index| match index {
            0 => BasicBlock::new(&vs / index, in_channels, out_channels, stride),
            _ => BasicBlock::new(&vs / index, out_channels, out_channels, 1),
        })
        .collect()
}
