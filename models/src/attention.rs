//! Multi-head attention, batch first.

pub(crate) mod onnx;

use crate::init::xavier_uniform;
use fngd_core::nn::{self, Init, LinearConfig};
use fngd_core::{FngdModule, Layer, Parameter, Path, Visitor};
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
#[derive(Debug)]
pub struct MultiheadAttention {
    in_proj: Layer,
    out_proj: nn::Linear,
    heads: i64,
    dropout: f64,
}

impl MultiheadAttention {
    /// Attention of `heads` heads, which divide `width`. `dropout` acts on the attention weights, in training.
    pub fn new(vs: nn::Path, width: i64, heads: i64, dropout: f64) -> Self {
        let zero = Init::Const(0.0);
        let weight = vs.var("in_proj_weight", &[3 * width, width], xavier_uniform(width, 3 * width));
        let bias = vs.var("in_proj_bias", &[3 * width], zero);
        let config = LinearConfig { ws_init: xavier_uniform(width, width), bs_init: Some(zero), bias: true };
        Self {
            // OK because these sizes fit each other.
            in_proj: Layer::linear(path_name(&(&vs / "in_proj")), weight, Some(bias)).unwrap(),
            out_proj: nn::linear(&vs / "out_proj", width, width, config),
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

impl FngdModule for MultiheadAttention {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        self.in_proj.visit(&path.child("in_proj"), &mut Underscored(visitor));
        self.out_proj.visit(&path.child("out_proj"), visitor);
    }
}

/// Calls the parameters of `in_proj` as PyTorch does: `in_proj_weight`, not `in_proj.weight`.
struct Underscored<'a>(&'a mut dyn Visitor);

impl Visitor for Underscored<'_> {
    fn parameter(&mut self, parameter: Parameter) {
        let name = match parameter.name.rsplit_once('.') {
            Some((module, variable)) => format!("{module}_{variable}"),
            None => parameter.name,
        };
        self.0.parameter(Parameter { name, ..parameter });
    }

    fn layer(&mut self, layer: Layer) {
        self.0.layer(layer);
    }

    fn plain_layer(&mut self, layer: Layer, because: &str) {
        self.0.plain_layer(layer, because);
    }
}

/// softmax(Q Kᵀ / √d) V for each head, with the heads side by side again: `[B, T, width]`.
pub(crate) fn multi_head(qkv: [&Tensor; 3], heads: i64, mask: Option<&Tensor>, dropout: f64) -> Tensor {
    let [queries, keys, values] = qkv.map(|xs| xs.unflatten(-1, [heads, -1]).transpose(1, 2));
    Tensor::scaled_dot_product_attention(&queries, &keys, &values, mask, dropout, false, None, false)
        .transpose(1, 2)
        .flatten(2, -1)
}

fn path_name(vs: &nn::Path) -> String {
    vs.components().collect::<Vec<_>>().join(".")
}
