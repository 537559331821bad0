//! Networks whose layers are all alike, of any size: what grows with what can be seen in them.

use crate::failure::Result;
use fngd_core::nn::{self, Module};
use fngd_core::{FngdModule, Path, Visitor};
use tch::{Device, Kind, Tensor};

use fngd_cli::protocol::{ChainKind, ChainSize};

const CLASSES: i64 = 10;

/// Equal layers with tanh between them, the mean over positions, and a small head.
#[derive(Debug, FngdModule)]
struct Linears {
    layers: Vec<nn::Linear>,
    head: nn::Linear,
}

#[derive(Debug, FngdModule)]
struct Convolutions {
    layers: Vec<nn::Conv2D>,
    head: nn::Linear,
}

/// A chain, and samples for it.
pub struct Chain {
    network: Network,
    pub inputs: Tensor,
    pub labels: Tensor,
    // Its tensors are those of the network.
    _variables: nn::VarStore,
}

enum Network {
    Linears(Linears),
    Convolutions(Convolutions),
}

impl Chain {
    /// Of this size, the same for every method.
    pub fn build(kind: ChainKind, size: ChainSize, device: Device) -> Result<Self> {
        tch::manual_seed(0);
        let variables = nn::VarStore::new(device);
        let root = variables.root();
        let ChainSize { batch, positions, width, depth } = size;
        let head = nn::linear(&root / "head", width, CLASSES, Default::default());
        let (network, dims) = match kind {
            ChainKind::Linear => {
                let config = nn::LinearConfig { bias: false, ..Default::default() };
                let layer = |index| nn::linear(&root / "layers" / index, width, width, config);
                (
                    Network::Linears(Linears { layers: (0..depth).map(layer).collect(), head }),
                    vec![batch, positions, width],
                )
            }
            ChainKind::Convolution => {
                let config = nn::ConvConfig { bias: false, padding: 1, ..Default::default() };
                let layer = |index| nn::conv2d(&root / "layers" / index, width, width, 3, config);
                let side = side(positions);
                let network = Convolutions { layers: (0..depth).map(layer).collect(), head };
                (Network::Convolutions(network), vec![batch, width, side, side])
            }
        };
        let inputs = Tensor::f_randn(&dims[..], (Kind::Float, device))?;
        let labels = Tensor::f_randint(CLASSES, [batch], (Kind::Int64, device))?;
        Ok(Self { network, inputs, labels, _variables: variables })
    }

    /// `[B, classes]`.
    pub fn logits(&self) -> Result<Tensor> {
        let inputs = self.inputs.shallow_clone();
        Ok(match &self.network {
            Network::Linears(chain) => {
                let hidden = chain.layers.iter().fold(inputs, |hidden, layer| hidden.apply(layer).tanh());
                chain.head.forward(&hidden.f_mean_dim(1i64, false, Kind::Float)?)
            }
            Network::Convolutions(chain) => {
                let hidden = chain.layers.iter().fold(inputs, |hidden, layer| hidden.apply(layer).tanh());
                chain.head.forward(&hidden.f_mean_dim(&[2i64, 3][..], false, Kind::Float)?)
            }
        })
    }
}

impl FngdModule for Chain {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        match &self.network {
            Network::Linears(chain) => chain.visit(path, visitor),
            Network::Convolutions(chain) => chain.visit(path, visitor),
        }
    }
}

/// Pixels in a row of a square image.
fn side(positions: i64) -> i64 {
    (positions as f64).sqrt().round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use fngd_core::Inventory;

    #[test]
    fn sizes_are_those_asked_for() {
        for (kind, inputs, weight) in [
            (ChainKind::Linear, vec![3, 4, 8], vec![8, 8]),
            (ChainKind::Convolution, vec![3, 8, 2, 2], vec![8, 8, 3, 3]),
        ] {
            let chain =
                Chain::build(kind, ChainSize { batch: 3, positions: 4, width: 8, depth: 2 }, Device::Cpu).unwrap();
            assert_eq!(chain.inputs.size(), inputs);
            assert_eq!(chain.logits().unwrap().size(), [3, CLASSES]);
            let layers = Inventory::of(&chain).layers;
            assert_eq!(layers.len(), 3);
            assert_eq!(layers[0].weight().size(), weight);
        }
    }
}
