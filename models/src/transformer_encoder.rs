mod onnx;

use crate::layers::linear;
use crate::transformer::{EncoderLayer, LayerConfig};
use fngd_core::{FngdModule, nn};
use tch::Tensor;

/// A classifier of sequences of vectors: learned positions, Transformer encoder layers, the mean over positions, a linear layer.
///
/// Initial weights: positions are normal with standard deviation 0.02, encoder layers as in [`Transformer`](crate::Transformer), the
/// last layer is PyTorch's. (`torch.nn.TransformerEncoderLayer` by itself, outside a `torch.nn.Transformer`, has Xavier's bound only for
/// `in_proj_weight`.)
#[derive(Debug, FngdModule)]
pub struct TransformerEncoder {
    position: Tensor,
    layers: Vec<EncoderLayer>,
    head: nn::Linear,
}

/// The size of a [`TransformerEncoder`].
#[derive(Debug, Clone, Copy)]
pub struct TransformerEncoderConfig {
    /// Vectors in a sequence.
    pub length: i64,
    /// Number of layers.
    pub layers: i64,
    /// What every layer is like; `width` is the size of the vectors.
    pub layer: LayerConfig,
}

impl Default for TransformerEncoderConfig {
    fn default() -> Self {
        Self { length: 64, layers: 6, layer: LayerConfig::default() }
    }
}

impl TransformerEncoder {
    /// A network with initial weights.
    pub fn new(vs: &nn::Path, config: &TransformerEncoderConfig, classes: i64) -> Self {
        let TransformerEncoderConfig { length, layers, layer } = *config;
        let layers_vs = vs / "layers";
        Self {
            position: vs.randn("position", &[1, length, layer.width], 0.0, 0.02),
            layers: (0..layers).map(|index| EncoderLayer::new(&layers_vs / index, &layer)).collect(),
            head: linear(vs / "head", layer.width, classes),
        }
    }
}

/// Logits, `[B, classes]`, of sequences `[B, length, width]`.
impl nn::ModuleT for TransformerEncoder {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs + &self.position;
        let encoded = self.layers.iter().fold(xs, |xs, layer| layer.forward_t(&xs, None, train));
        encoded.mean_dim(&[1i64][..], false, None).apply(&self.head)
    }
}
