mod onnx;

use crate::init::HE_FAN_OUT;
use crate::layers::batch_norm;
use fngd_core::FngdModule;
use fngd_core::nn::{self, ConvConfig, Init, LinearConfig};
use tch::Tensor;

/// VGG-11 with BatchNorm, with the variables of torchvision's.
///
/// Initial weights: torchvision's. Convolutions are normal with variance 2 / fan-out, linear layers normal with standard deviation
/// 0.01; biases are zero.
///
/// Source: Simonyan and Zisserman, arXiv 1409.1556v6, table 1, column A; torchvision 0.26.0, `models/vgg.py`.
#[derive(Debug, FngdModule)]
pub struct Vgg {
    features: Vec<Feature>,
    classifier: Classifier,
}

/// The size of a [`Vgg`].
#[derive(Debug, Clone, Copy)]
pub struct VggConfig {
    /// Channels of the eight convolutions.
    pub widths: [i64; 8],
    /// What follows them.
    pub head: VggHead,
}

/// What follows the convolutions.
#[derive(Debug, Clone, Copy)]
pub enum VggHead {
    /// One linear layer: for 32x32 images, which end at 1x1. It is usual for CIFAR, where the paper's head would hold most parameters.
    Cifar,
    /// The paper's: 7x7 positions, two hidden layers of this width with dropout 0.5, one linear layer.
    ImageNet {
        /// Width of the hidden layers: 4096 in the paper.
        hidden: i64,
    },
}

impl VggConfig {
    /// The paper's widths.
    pub fn vgg11(head: VggHead) -> Self {
        Self { widths: [64, 128, 256, 256, 512, 512, 512, 512], head }
    }
}

/// Convolutions that max-pooling follows.
const POOLED: [usize; 5] = [0, 1, 3, 5, 7];

impl Vgg {
    /// A network with initial weights.
    pub fn new(vs: &nn::Path, config: &VggConfig, classes: i64) -> Self {
        let features_vs = vs / "features";
        let mut features = Vec::new();
        let mut in_channels = 3;
        for (index, width) in config.widths.into_iter().enumerate() {
            features.push(Feature::Conv(conv(&features_vs / features.len(), in_channels, width)));
            features.push(Feature::Norm(batch_norm(&features_vs / features.len(), width)));
            features.push(Feature::Relu);
            if POOLED.contains(&index) {
                features.push(Feature::Pool);
            }
            in_channels = width;
        }
        Self { features, classifier: Classifier::new(vs / "classifier", config.head, in_channels, classes) }
    }
}

/// Logits, `[B, classes]`, of images `[B, 3, H, W]`.
impl nn::ModuleT for Vgg {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let features = self.features.iter().fold(xs.shallow_clone(), |xs, feature| xs.apply_t(feature, train));
        features.apply_t(&self.classifier, train)
    }
}

/// An entry of torchvision's `features`: its index there is its name.
#[derive(Debug, FngdModule)]
enum Feature {
    Conv(nn::Conv2D),
    Norm(nn::BatchNorm),
    Relu,
    Pool,
}

impl nn::ModuleT for Feature {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        match self {
            Self::Conv(conv) => xs.apply(conv),
            Self::Norm(norm) => xs.apply_t(norm, train),
            Self::Relu => xs.relu(),
            Self::Pool => xs.max_pool2d(2, 2, 0, 1, false),
        }
    }
}

#[derive(Debug, FngdModule)]
enum Classifier {
    Cifar(nn::Linear),
    ImageNet(Hidden),
}

impl Classifier {
    fn new(vs: nn::Path, head: VggHead, channels: i64, classes: i64) -> Self {
        match head {
            VggHead::Cifar => Self::Cifar(linear(vs, channels, classes)),
            VggHead::ImageNet { hidden } => Self::ImageNet(Hidden {
                first: linear(&vs / 0, channels * 7 * 7, hidden),
                second: linear(&vs / 3, hidden, hidden),
                last: linear(&vs / 6, hidden, classes),
            }),
        }
    }
}

impl nn::ModuleT for Classifier {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        match self {
            Self::Cifar(linear) => xs.flatten(1, -1).apply(linear),
            Self::ImageNet(hidden) => xs.adaptive_avg_pool2d([7, 7]).flatten(1, -1).apply_t(hidden, train),
        }
    }
}

/// Named after torchvision's `classifier`, whose other entries are ReLU and Dropout.
#[derive(Debug, FngdModule)]
struct Hidden {
    #[fngd(rename = "0")]
    first: nn::Linear,
    #[fngd(rename = "3")]
    second: nn::Linear,
    #[fngd(rename = "6")]
    last: nn::Linear,
}

impl nn::ModuleT for Hidden {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.first).relu().dropout(0.5, train);
        xs.apply(&self.second).relu().dropout(0.5, train).apply(&self.last)
    }
}

/// With a bias, which torchvision keeps although the BatchNorm after it cancels it.
fn conv(vs: nn::Path, in_channels: i64, out_channels: i64) -> nn::Conv2D {
    let config = ConvConfig { padding: 1, ws_init: HE_FAN_OUT, ..Default::default() };
    nn::conv2d(vs, in_channels, out_channels, 3, config)
}

fn linear(vs: nn::Path, in_features: i64, out_features: i64) -> nn::Linear {
    let ws_init = Init::Randn { mean: 0.0, stdev: 0.01 };
    nn::linear(vs, in_features, out_features, LinearConfig { ws_init, bs_init: Some(Init::Const(0.0)), bias: true })
}
