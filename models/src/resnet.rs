mod onnx;

use crate::init::HE_FAN_OUT;
use crate::layers::{batch_norm, conv, linear};
use fngd_core::{FngdModule, nn};
use tch::Tensor;

/// ResNet of basic blocks, with the variables of torchvision's: ResNet-18 and ResNet-34.
///
/// Initial weights: torchvision's. Convolutions are normal with variance 2 / fan-out, the last layer PyTorch's.
///
/// Source: He, Zhang, Ren, Sun, arXiv 1512.03385v1, table 1; torchvision 0.26.0, `models/resnet.py`.
#[derive(Debug, FngdModule)]
pub struct ResNet {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    layer4: Vec<BasicBlock>,
    fc: nn::Linear,
    #[fngd(skip)]
    stem: Stem,
}

/// What comes before the first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stem {
    /// For 32x32 images: a 3x3 convolution.
    Cifar,
    /// For 224x224 images: a 7x7 convolution of stride 2 and max-pooling.
    ImageNet,
}

/// The size of a [`ResNet`].
#[derive(Debug, Clone, Copy)]
pub struct ResNetConfig {
    /// Blocks in each stage.
    pub blocks: [i64; 4],
    /// Channels of the first stage; each later one has twice as many.
    pub width: i64,
    /// What comes before the first block.
    pub stem: Stem,
}

impl ResNetConfig {
    /// 18 layers.
    pub fn resnet18(stem: Stem) -> Self {
        Self { blocks: [2, 2, 2, 2], width: 64, stem }
    }

    /// 34 layers.
    pub fn resnet34(stem: Stem) -> Self {
        Self { blocks: [3, 4, 6, 3], width: 64, stem }
    }
}

impl ResNet {
    /// A network with initial weights.
    pub fn new(vs: &nn::Path, config: &ResNetConfig, classes: i64) -> Self {
        let ResNetConfig { blocks, width, stem } = *config;
        let (kernel_size, stride) = match stem {
            Stem::Cifar => (3, 1),
            Stem::ImageNet => (7, 2),
        };
        Self {
            conv1: conv(vs / "conv1", 3, width, kernel_size, stride, HE_FAN_OUT),
            bn1: batch_norm(vs / "bn1", width),
            layer1: stage(vs / "layer1", width, width, 1, blocks[0]),
            layer2: stage(vs / "layer2", width, 2 * width, 2, blocks[1]),
            layer3: stage(vs / "layer3", 2 * width, 4 * width, 2, blocks[2]),
            layer4: stage(vs / "layer4", 4 * width, 8 * width, 2, blocks[3]),
            fc: linear(vs / "fc", 8 * width, classes),
            stem,
        }
    }
}

/// Logits, `[B, classes]`, of images `[B, 3, H, W]`.
impl nn::ModuleT for ResNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let xs = match self.stem {
            Stem::Cifar => xs,
            Stem::ImageNet => xs.max_pool2d(3, 2, 1, 1, false),
        };
        let blocks = self.layer1.iter().chain(&self.layer2).chain(&self.layer3).chain(&self.layer4);
        blocks.fold(xs, |xs, block| xs.apply_t(block, train)).mean_dim(&[2i64, 3][..], false, None).apply(&self.fc)
    }
}

/// Two 3x3 convolutions beside a shortcut.
#[derive(Debug, FngdModule)]
struct BasicBlock {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    downsample: Option<Downsample>,
}

impl BasicBlock {
    fn new(vs: nn::Path, in_channels: i64, out_channels: i64, stride: i64) -> Self {
        let downsample = (stride != 1 || in_channels != out_channels)
            .then(|| Downsample::new(&vs / "downsample", in_channels, out_channels, stride));
        Self {
            conv1: conv(&vs / "conv1", in_channels, out_channels, 3, stride, HE_FAN_OUT),
            bn1: batch_norm(&vs / "bn1", out_channels),
            conv2: conv(&vs / "conv2", out_channels, out_channels, 3, 1, HE_FAN_OUT),
            bn2: batch_norm(&vs / "bn2", out_channels),
            downsample,
        }
    }
}

impl nn::ModuleT for BasicBlock {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let residual = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let residual = residual.apply(&self.conv2).apply_t(&self.bn2, train);
        (residual + xs.apply_opt_t(&self.downsample, train)).relu()
    }
}

/// The shortcut where sizes change: a 1x1 convolution (option B).
#[derive(Debug, FngdModule)]
struct Downsample(nn::Conv2D, nn::BatchNorm);

impl Downsample {
    fn new(vs: nn::Path, in_channels: i64, out_channels: i64, stride: i64) -> Self {
        Self(conv(&vs / 0, in_channels, out_channels, 1, stride, HE_FAN_OUT), batch_norm(&vs / 1, out_channels))
    }
}

impl nn::ModuleT for Downsample {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.0).apply_t(&self.1, train)
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
