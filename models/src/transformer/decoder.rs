mod onnx;

use super::LayerConfig;
use super::residual::{layer_norm, linear};
use crate::MultiheadAttention;
use fngd_core::{FngdModule, nn};
use tch::Tensor;

/// Decoder layers and a last LayerNorm, as in `torch.nn.Transformer`.
#[derive(Debug, FngdModule)]
pub struct Decoder {
    layers: Vec<DecoderLayer>,
    norm: nn::LayerNorm,
}

impl Decoder {
    /// A decoder with initial weights.
    pub fn new(vs: nn::Path, layers: i64, config: &LayerConfig) -> Self {
        let layers_vs = &vs / "layers";
        Self {
            layers: (0..layers).map(|index| DecoderLayer::new(&layers_vs / index, config)).collect(),
            norm: layer_norm(&vs / "norm", config.width),
        }
    }

    /// Tokens `[B, T, width]`, each having looked at those where `mask` is true, and at `memory`, `[B, S, width]`, where
    /// `memory_mask` is.
    pub fn forward_t(
        &self,
        xs: &Tensor,
        memory: &Tensor,
        mask: &Tensor,
        memory_mask: Option<&Tensor>,
        train: bool,
    ) -> Tensor {
        let layers = self.layers.iter();
        layers
            .fold(xs.shallow_clone(), |xs, layer| layer.forward_t(&xs, memory, mask, memory_mask, train))
            .apply(&self.norm)
    }
}

/// Self-attention, attention to the encoder's output, and a feed-forward network, each beside a shortcut:
/// `torch.nn.TransformerDecoderLayer` with ReLU.
#[derive(Debug, FngdModule)]
pub struct DecoderLayer {
    self_attn: MultiheadAttention,
    multihead_attn: MultiheadAttention,
    linear1: nn::Linear,
    linear2: nn::Linear,
    norm1: nn::LayerNorm,
    norm2: nn::LayerNorm,
    norm3: nn::LayerNorm,
    #[fngd(skip)]
    config: LayerConfig,
}

impl DecoderLayer {
    /// A layer with initial weights.
    pub fn new(vs: nn::Path, config: &LayerConfig) -> Self {
        let LayerConfig { width, hidden, heads, dropout, .. } = *config;
        Self {
            self_attn: MultiheadAttention::new(&vs / "self_attn", width, heads, dropout),
            multihead_attn: MultiheadAttention::new(&vs / "multihead_attn", width, heads, dropout),
            linear1: linear(&vs / "linear1", width, hidden),
            linear2: linear(&vs / "linear2", hidden, width),
            norm1: layer_norm(&vs / "norm1", width),
            norm2: layer_norm(&vs / "norm2", width),
            norm3: layer_norm(&vs / "norm3", width),
            config: *config,
        }
    }

    /// As [`Decoder::forward_t`], for one layer.
    pub fn forward_t(
        &self,
        xs: &Tensor,
        memory: &Tensor,
        mask: &Tensor,
        memory_mask: Option<&Tensor>,
        train: bool,
    ) -> Tensor {
        let LayerConfig { dropout, norm_placement, .. } = self.config;
        let xs = norm_placement.residual(xs, &self.norm1, |xs| {
            self.self_attn.self_attention(xs, Some(mask), train).dropout(dropout, train)
        });
        let xs = norm_placement.residual(&xs, &self.norm2, |xs| {
            self.multihead_attn.cross_attention(xs, memory, memory_mask, train).dropout(dropout, train)
        });
        norm_placement.residual(&xs, &self.norm3, |xs| {
            xs.apply(&self.linear1).relu().dropout(dropout, train).apply(&self.linear2).dropout(dropout, train)
        })
    }
}
