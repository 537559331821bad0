mod onnx;

use crate::layers::linear;
use fngd_core::{FngdModule, nn};
use tch::Tensor;

/// A multi-layer perceptron: linear layers with ReLU between them, and PyTorch's initial weights.
#[derive(Debug, FngdModule)]
pub struct Mlp {
    layers: Vec<nn::Linear>,
}

impl Mlp {
    /// Layers between neighbours of `widths`: `[64, 32, 10]` gives `layers.0` (64 to 32) and `layers.1` (32 to 10).
    pub fn new(vs: &nn::Path, widths: &[i64]) -> Self {
        let vs = vs / "layers";
        let layers = widths.windows(2).enumerate().map(|(index, pair)| linear(&vs / index, pair[0], pair[1]));
        Self { layers: layers.collect() }
    }
}

/// Logits, `[B, last width]`, of inputs of any shape that flattens to `[B, first width]`.
impl nn::Module for Mlp {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let xs = xs.flatten(1, -1);
        self.layers.iter().enumerate().fold(xs, |xs, (index, layer)| match index {
            0 => xs.apply(layer),
            _ => xs.relu().apply(layer),
        })
    }
}
