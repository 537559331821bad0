use crate::init::xavier_uniform;
use fngd_core::nn::{self, LayerNormConfig, LinearConfig};
use tch::Tensor;

/// What a layer of encoder or decoder is like. The default is the paper's base model.
#[derive(Debug, Clone, Copy)]
pub struct LayerConfig {
    /// Size of a token.
    pub width: i64,
    /// Width between the two linear layers.
    pub hidden: i64,
    /// Attention heads; divides `width`.
    pub heads: i64,
    /// Probability with which embeddings, attention weights, hidden units and what is added to a shortcut are zeroed in training.
    pub dropout: f64,
    /// Where the LayerNorms are.
    pub norm_placement: NormPlacement,
}

impl Default for LayerConfig {
    fn default() -> Self {
        Self { width: 512, hidden: 2048, heads: 8, dropout: 0.1, norm_placement: NormPlacement::After }
    }
}

/// Where the LayerNorms are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// norm(x + f(x)): the paper's.
    After,
    /// x + f(norm(x)): trains without warm-up (Xiong et al., arXiv 2002.04745v2).
    Before,
}

impl NormPlacement {
    /// `branch` beside a shortcut.
    pub(super) fn residual(self, xs: &Tensor, norm: &nn::LayerNorm, branch: impl Fn(&Tensor) -> Tensor) -> Tensor {
        match self {
            Self::After => (xs + branch(xs)).apply(norm),
            Self::Before => xs + branch(&xs.apply(norm)),
        }
    }
}

/// LayerNorm over tokens.
pub(super) fn layer_norm(vs: nn::Path, width: i64) -> nn::LayerNorm {
    nn::layer_norm(vs, vec![width], LayerNormConfig::default())
}

/// Xavier-uniform weight; bias uniform within ±1 / √in_features.
pub(super) fn linear(vs: nn::Path, in_features: i64, out_features: i64) -> nn::Linear {
    let ws_init = xavier_uniform(in_features, out_features);
    nn::linear(vs, in_features, out_features, LinearConfig { ws_init, ..Default::default() })
}
