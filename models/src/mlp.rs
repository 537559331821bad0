use fngd_core::FngdModule;
use fngd_core::nn::{self, Linear, Module};
use tch::Tensor;

/// A multi-layer perceptron: linear layers with ReLU between them.
#[derive(Debug, FngdModule)]
pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// Layers between neighbours of `widths`: `[64, 32, 10]` gives `layers.0` (64 to 32) and `layers.1` (32 to 10).
    pub fn new(path: &nn::Path<'_>, widths: &[i64]) -> Self {
        let path = path / "layers";
        let layers = widths.windows(2).enumerate().map(|(index, pair)| {
            // OK because windows of two have two entries.
            nn::linear(&path / index, pair[0], pair[1], Default::default())
        });
        Self { layers: layers.collect() }
    }
}

/// Logits, `[B, last width]`, of inputs of any shape that flattens to `[B, first width]`.
impl Module for Mlp {
    fn forward(&self, input: &Tensor) -> Tensor {
        let mut activations = input.flatten(1, -1);
        for (index, layer) in self.layers.iter().enumerate() {
            activations = activations.apply(layer);
            if index + 1 < self.layers.len() {
                activations = activations.relu();
            }
        }
        activations
    }
}

#[cfg(test)]
mod tests {
    use super::Mlp;
    use fngd_core::Inventory;
    use tch::{Device, Kind, Tensor, nn::VarStore};

    #[test]
    fn has_one_layer_between_neighbouring_widths() {
        let variables = VarStore::new(Device::Cpu);
        let mlp = Mlp::new(&variables.root(), &[64, 32, 10]);
        let inventory = Inventory::of(&mlp);
        let names: Vec<_> = inventory.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        assert_eq!(names, ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]);
        let layers: Vec<_> = inventory.layers.iter().map(|layer| layer.name()).collect();
        assert_eq!(layers, ["layers.0", "layers.1"]);

        let input = Tensor::randn([3, 1, 8, 8], (Kind::Float, Device::Cpu));
        let expected = input
            .view([3, 64])
            .linear(&inventory.parameters[0].tensor, Some(&inventory.parameters[1].tensor))
            .relu()
            .linear(&inventory.parameters[2].tensor, Some(&inventory.parameters[3].tensor));
        assert_eq!(input.apply(&mlp), expected);
    }
}
