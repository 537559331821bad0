//! Multi-head attention, batch first.

pub(crate) mod onnx;

use crate::init::xavier_uniform;
use fngd_core::FngdModule;
use fngd_core::nn::{self, Init, LinearConfig};
use tch::Tensor;

/// Multi-head attention with the variables of `torch.nn.MultiheadAttention`: `in_proj_weight`, `[3 width, width]`, holds the
/// projections to queries, keys and values one below the other.
///
/// Those three are one preconditioned layer, `in_proj`, not three, as they are one parameter. In self-attention it is called once. In
/// cross-attention queries come from one sequence, keys and values from another; PyTorch multiplies each with a slice of the weight,
/// but a slice is no parameter, so it could not be preconditioned. Here the whole layer is called on both sequences, like any layer
/// with shared weights, and the parts that are not needed are dropped: the same output and the same gradient (the dropped rows
/// receive zero), and the exact Gram matrix, for twice the multiplications of this projection. At the paper's sizes that is 3 of a decoder
/// layer's 19 width² multiplications per position.
///
/// Initial weights: `torch.nn.Transformer`'s. Both weights are Xavier-uniform, `in_proj_weight` as the one [3 width, width] matrix that
/// it is; biases are zero.
///
/// Source: Vaswani et al., arXiv 1706.03762v7, section 3.2.
#[derive(Debug, FngdModule)]
pub struct MultiheadAttention {
    in_proj: nn::Linear,
    out_proj: nn::Linear,
    #[fngd(skip)]
    heads: i64,
    #[fngd(skip)]
    dropout: f64,
}

impl MultiheadAttention {
    /// Attention of `heads` heads, which divide `width`. `dropout` acts on the attention weights, in training.
    pub fn new(vs: nn::Path, width: i64, heads: i64, dropout: f64) -> Self {
        let config = |out_features| LinearConfig {
            ws_init: xavier_uniform(width, out_features),
            bs_init: Some(Init::Const(0.0)),
            bias: true,
        };
        Self {
            in_proj: nn::underscored_linear(&vs, "in_proj", width, 3 * width, config(3 * width)),
            out_proj: nn::linear(&vs / "out_proj", width, width, config(width)),
            heads,
            dropout,
        }
    }

    /// Tokens `[B, T, width]` look at each other.
    ///
    /// `mask`: true where a query may look at a key; bool, `[T, T]` or anything of more dimensions that broadcasts to `[B, heads, T, T]`.
    pub fn self_attention(&self, xs: &Tensor, mask: Option<&Tensor>, train: bool) -> Tensor {
        let qkv = xs.apply(&self.in_proj).chunk(3, -1);
        self.attend([&qkv[0], &qkv[1], &qkv[2]], mask, train)
    }

    /// Tokens `[B, T, width]` look at those of `memory`, `[B, S, width]`.
    ///
    /// `mask`: as for [`self_attention`](Self::self_attention), with S in place of the second T.
    pub fn cross_attention(&self, xs: &Tensor, memory: &Tensor, mask: Option<&Tensor>, train: bool) -> Tensor {
        let queries = xs.apply(&self.in_proj).chunk(3, -1);
        let keys_and_values = memory.apply(&self.in_proj).chunk(3, -1);
        self.attend([&queries[0], &keys_and_values[1], &keys_and_values[2]], mask, train)
    }

    fn attend(&self, qkv: [&Tensor; 3], mask: Option<&Tensor>, train: bool) -> Tensor {
        let dropout = if train { self.dropout } else { 0.0 };
        multi_head(qkv, self.heads, mask, dropout).apply(&self.out_proj)
    }
}

/// softmax(Q Kᵀ / √d) V for each head, with the heads side by side again: `[B, T, width]`.
pub(crate) fn multi_head(qkv: [&Tensor; 3], heads: i64, mask: Option<&Tensor>, dropout: f64) -> Tensor {
    let [queries, keys, values] = qkv.map(|xs| xs.unflatten(-1, [heads, -1]).transpose(1, 2));
    Tensor::scaled_dot_product_attention(&queries, &keys, &values, mask, dropout, false, None, false)
        .transpose(1, 2)
        .flatten(2, -1)
}
