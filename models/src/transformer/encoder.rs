mod onnx;

use super::LayerConfig;
use super::residual::{layer_norm, linear};
use crate::MultiheadAttention;
use fngd_core::{FngdModule, nn};
use tch::Tensor;

/// Encoder layers and a last LayerNorm, as in `torch.nn.Transformer`.
#[derive(Debug, FngdModule)]
pub struct Encoder {
    layers: Vec<EncoderLayer>,
    norm: nn::LayerNorm,
}

impl Encoder {
    /// An encoder with initial weights.
    pub fn new(vs: nn::Path, layers: i64, config: &LayerConfig) -> Self {
        let layers_vs = &vs / "layers";
        Self {
            layers: (0..layers).map(|index| EncoderLayer::new(&layers_vs / index, config)).collect(),
            norm: layer_norm(&vs / "norm", config.width),
        }
    }

    /// Tokens `[B, S, width]`, each having looked at those where `mask` is true.
    pub fn forward_t(&self, xs: &Tensor, mask: Option<&Tensor>, train: bool) -> Tensor {
        self.layers.iter().fold(xs.shallow_clone(), |xs, layer| layer.forward_t(&xs, mask, train)).apply(&self.norm)
    }
}

/// Self-attention and a feed-forward network, each beside a shortcut: `torch.nn.TransformerEncoderLayer` with ReLU.
#[derive(Debug, FngdModule)]
pub struct EncoderLayer {
    self_attn: MultiheadAttention,
    linear1: nn::Linear,
    linear2: nn::Linear,
    norm1: nn::LayerNorm,
    norm2: nn::LayerNorm,
    #[fngd(skip)]
    config: LayerConfig,
}

impl EncoderLayer {
    /// A layer with initial weights.
    pub fn new(vs: nn::Path, config: &LayerConfig) -> Self {
        let LayerConfig { width, hidden, heads, dropout, .. } = *config;
        Self {
            self_attn: MultiheadAttention::new(&vs / "self_attn", width, heads, dropout),
            linear1: linear(&vs / "linear1", width, hidden),
            linear2: linear(&vs / "linear2", hidden, width),
            norm1: layer_norm(&vs / "norm1", width),
            norm2: layer_norm(&vs / "norm2", width),
            config: *config,
        }
    }

    /// Tokens `[B, S, width]`, each having looked at those where `mask` is true.
    pub fn forward_t(&self, xs: &Tensor, mask: Option<&Tensor>, train: bool) -> Tensor {
        let LayerConfig { dropout, norm_placement, .. } = self.config;
        let xs = norm_placement
            .residual(xs, &self.norm1, |xs| self.self_attn.self_attention(xs, mask, train).dropout(dropout, train));
        norm_placement.residual(&xs, &self.norm2, |xs| {
            xs.apply(&self.linear1).relu().dropout(dropout, train).apply(&self.linear2).dropout(dropout, train)
        })
    }
}
