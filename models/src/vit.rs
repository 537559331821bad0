mod onnx;

use crate::attention;
use crate::init;
use fngd_core::FngdModule;
use fngd_core::nn::{self, ConvConfig, Init, LayerNormConfig, LinearConfig};
use tch::Tensor;

/// Vision Transformer with a class token, with the variables of timm's.
///
/// Initial weights: timm's. Linear layers and positions are normal with standard deviation 0.02 (timm truncates at ±2, a hundred
/// standard deviations away, which changes nothing), the class token with 1e-6, biases are zero; the patch embedding is PyTorch's.
///
/// Source: Dosovitskiy et al., arXiv 2010.11929v2; the tiny size is from Touvron et al., arXiv 2012.12877v2, table 1; timm 1.0.31,
/// `models/vision_transformer.py`.
#[derive(Debug, FngdModule)]
pub struct VisionTransformer {
    cls_token: Tensor,
    pos_embed: Tensor,
    patch_embed: PatchEmbedding,
    blocks: Vec<Block>,
    norm: nn::LayerNorm,
    head: nn::Linear,
}

/// The size of a [`VisionTransformer`].
#[derive(Debug, Clone, Copy)]
pub struct VisionTransformerConfig {
    /// Height and width of the image.
    pub image: i64,
    /// Height and width of a patch; divides `image`.
    pub patch: i64,
    /// Size of a token. The feed-forward layers are four times as wide.
    pub width: i64,
    /// Number of blocks.
    pub layers: i64,
    /// Attention heads; divides `width`.
    pub heads: i64,
}

impl VisionTransformerConfig {
    /// timm's `vit_tiny_patch16_224`.
    pub fn tiny() -> Self {
        Self { image: 224, patch: 16, width: 192, layers: 12, heads: 3 }
    }

    /// The tiny size on 32x32 images: 64 patches of 4x4.
    pub fn tiny_cifar() -> Self {
        Self { image: 32, patch: 4, ..Self::tiny() }
    }
}

impl VisionTransformer {
    /// A network with initial weights.
    pub fn new(vs: &nn::Path, config: &VisionTransformerConfig, classes: i64) -> Self {
        let VisionTransformerConfig { image, patch, width, layers, heads } = *config;
        let tokens = 1 + (image / patch) * (image / patch);
        let blocks = vs / "blocks";
        Self {
            cls_token: vs.randn("cls_token", &[1, 1, width], 0.0, 1e-6),
            pos_embed: vs.randn("pos_embed", &[1, tokens, width], 0.0, 0.02),
            patch_embed: PatchEmbedding::new(vs / "patch_embed", patch, width),
            blocks: (0..layers).map(|index| Block::new(&blocks / index, width, heads)).collect(),
            norm: layer_norm(vs / "norm", width),
            head: linear(vs / "head", width, classes),
        }
    }
}

/// Logits, `[B, classes]`, of images `[B, 3, image, image]`.
impl nn::Module for VisionTransformer {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let patches = xs.apply(&self.patch_embed);
        let class = self.cls_token.expand([xs.size()[0], -1, -1], false);
        let tokens = Tensor::cat(&[class, patches], 1) + &self.pos_embed;
        self.blocks.iter().fold(tokens, |xs, block| xs.apply(block)).apply(&self.norm).select(1, 0).apply(&self.head)
    }
}

/// Patches as tokens: a convolution whose patches do not overlap.
#[derive(Debug, FngdModule)]
struct PatchEmbedding {
    proj: nn::Conv2D,
}

impl PatchEmbedding {
    fn new(vs: nn::Path, patch: i64, width: i64) -> Self {
        let bound = 1.0 / ((3 * patch * patch) as f64).sqrt();
        let bs_init = Init::Uniform { lo: -bound, up: bound };
        let config = ConvConfig { stride: patch, ws_init: init::pytorch(), bs_init, ..Default::default() };
        Self { proj: nn::conv2d(&vs / "proj", 3, width, patch, config) }
    }
}

impl nn::Module for PatchEmbedding {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.apply(&self.proj).flatten(2, -1).transpose(1, 2)
    }
}

/// Attention and a feed-forward network, each on normalised tokens beside a shortcut.
#[derive(Debug, FngdModule)]
struct Block {
    norm1: nn::LayerNorm,
    attn: Attention,
    norm2: nn::LayerNorm,
    mlp: FeedForward,
}

impl Block {
    fn new(vs: nn::Path, width: i64, heads: i64) -> Self {
        Self {
            norm1: layer_norm(&vs / "norm1", width),
            attn: Attention::new(&vs / "attn", width, heads),
            norm2: layer_norm(&vs / "norm2", width),
            mlp: FeedForward::new(&vs / "mlp", width, 4 * width),
        }
    }
}

impl nn::Module for Block {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let xs = xs + xs.apply(&self.norm1).apply(&self.attn);
        &xs + xs.apply(&self.norm2).apply(&self.mlp)
    }
}

#[derive(Debug, FngdModule)]
struct Attention {
    qkv: nn::Linear,
    proj: nn::Linear,
    #[fngd(skip)]
    heads: i64,
}

impl Attention {
    fn new(vs: nn::Path, width: i64, heads: i64) -> Self {
        Self { qkv: linear(&vs / "qkv", width, 3 * width), proj: linear(&vs / "proj", width, width), heads }
    }
}

impl nn::Module for Attention {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let qkv = xs.apply(&self.qkv).chunk(3, -1);
        attention::multi_head([&qkv[0], &qkv[1], &qkv[2]], self.heads, None, 0.0).apply(&self.proj)
    }
}

#[derive(Debug, FngdModule)]
struct FeedForward {
    fc1: nn::Linear,
    fc2: nn::Linear,
}

impl FeedForward {
    fn new(vs: nn::Path, width: i64, hidden: i64) -> Self {
        Self { fc1: linear(&vs / "fc1", width, hidden), fc2: linear(&vs / "fc2", hidden, width) }
    }
}

impl nn::Module for FeedForward {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.apply(&self.fc1).gelu("none").apply(&self.fc2)
    }
}

fn linear(vs: nn::Path, in_features: i64, out_features: i64) -> nn::Linear {
    let ws_init = Init::Randn { mean: 0.0, stdev: 0.02 };
    nn::linear(vs, in_features, out_features, LinearConfig { ws_init, bs_init: Some(Init::Const(0.0)), bias: true })
}

fn layer_norm(vs: nn::Path, width: i64) -> nn::LayerNorm {
    nn::layer_norm(vs, vec![width], LayerNormConfig { eps: 1e-6, ..Default::default() })
}
