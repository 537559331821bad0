//! A small network with every kind of layer that the preconditioner must get right.

use super::reference::noise;
use crate::optimizer::{self, Batch, Groups, Inner, Method, Optimizer, SgdConfig, StepOptions, StepReport};
use crate::random::Stream;
use crate::{BatchAxis, Convolution, FngdConfig, FngdModule, Layer, Parameter, Path, Role, Visitor};
use tch::{Kind, Tensor};

pub const CLASSES: i64 = 3;

/// Convolution, depthwise convolution, a tied linear layer over tokens (used twice, once batch-second), and a head.
/// No BatchNorm: then a batch of one gives a sample's own contribution, which is what the oracle uses.
pub struct Network {
    pub layers: Vec<Layer>,
    kind: Kind,
}

impl Network {
    pub fn new(seed: u64, kind: Kind) -> Self {
        let leaf = |size: &[i64]| {
            let fan_in: i64 = size[1..].iter().product::<i64>().max(1);
            (noise(seed, &format!("{size:?}"), size, kind) / (fan_in as f64).sqrt()).set_requires_grad(true)
        };
        let padded = Convolution { padding: vec![1, 1], ..Convolution::new(2) };
        let depthwise = Convolution { groups: 6, stride: vec![2, 2], ..padded.clone() };
        let convolution = Layer::convolution("conv", leaf(&[6, 2, 3, 3]), Some(leaf(&[6])), padded).unwrap();
        let depthwise = Layer::convolution("depthwise", leaf(&[6, 1, 3, 3]), None, depthwise).unwrap();
        let tied = Layer::linear("tied", leaf(&[6, 6]), Some(leaf(&[6]))).unwrap();
        let head = Layer::linear("head", leaf(&[CLASSES, 6]), Some(leaf(&[CLASSES]))).unwrap();
        Self { layers: vec![convolution, depthwise, tied, head], kind }
    }

    /// `images` `[B, 2, 6, 6]` to logits `[B, CLASSES]`.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let features = self.layers[0].f_forward(images).unwrap().relu();
        let features = self.layers[1].f_forward(&features).unwrap().relu();
        let tokens = features.flatten(2, -1).transpose(1, 2);
        let tokens = self.layers[2].f_forward(&tokens).unwrap().tanh();
        let tokens = self.layers[2].f_forward(&tokens).unwrap().tanh();
        self.layers[3].f_forward(&tokens.mean_dim(1i64, false, self.kind)).unwrap()
    }

    pub fn loss(&self, images: &Tensor, labels: &Tensor) -> Tensor {
        self.forward(images).cross_entropy_for_logits(labels)
    }

    pub fn parameters(&self) -> Vec<Tensor> {
        let tensors = self.layers.iter().flat_map(|layer| [Some(layer.weight()), layer.bias()]);
        tensors.flatten().map(Tensor::shallow_clone).collect()
    }
}

impl FngdModule for Network {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        for layer in &self.layers {
            let path = path.child(layer.name());
            let weight = layer.weight().shallow_clone();
            visitor.parameter(Parameter { name: path.child("weight").to_string(), tensor: weight, role: Role::Weight });
            if let Some(bias) = layer.bias() {
                let tensor = bias.shallow_clone();
                visitor.parameter(Parameter { name: path.child("bias").to_string(), tensor, role: Role::Bias });
            }
            visitor.layer(layer.clone());
        }
    }
}

/// Batch `slot` of a data set of random images.
pub fn batch(slot: i64, size: i64, kind: Kind) -> (Tensor, Tensor) {
    let images = noise(slot as u64, "images", &[size, 2, 6, 6], kind);
    let labels = Stream::new(slot as u64, "labels", &[]).integers(size as usize, CLASSES as u64);
    (images, Tensor::from_slice(&labels.into_iter().map(|label| label as i64).collect::<Vec<_>>()))
}

pub fn announce(epoch: u64, slot: i64, size: i64) -> Batch {
    Batch { epoch, slot: slot as u64, samples: (slot * size..(slot + 1) * size).collect() }
}

pub fn sgd() -> SgdConfig {
    SgdConfig { momentum: 0.9, nesterov: false, weight_decay: 1e-3 }
}

pub fn fngd(network: &Network, config: FngdConfig) -> Box<dyn Optimizer> {
    let method = Method::Fngd { config, inner: Inner::Sgd(sgd()) };
    optimizer::build(network, &method, &Groups::default(), &StepOptions::default()).unwrap()
}

/// Trains over `slots` batches an epoch and returns the report of every step.
pub fn train(
    network: &Network,
    optimizer: &mut dyn Optimizer,
    epochs: std::ops::Range<u64>,
    slots: i64,
) -> Vec<StepReport> {
    let mut reports = Vec::new();
    for epoch in epochs {
        for slot in 0..slots {
            let (images, labels) = batch(slot, 5, network.kind);
            optimizer.begin(&announce(epoch, slot, 5)).unwrap();
            let logits = optimizer.logits(network.forward(&images)).unwrap();
            optimizer.backward(&logits.cross_entropy_for_logits(&labels), 1).unwrap();
            reports.push(optimizer.step(0.05).unwrap());
        }
    }
    reports
}

/// All parameters in one row.
pub fn flat(network: &Network) -> Tensor {
    let parameters: Vec<Tensor> = network.parameters().iter().map(|tensor| tensor.detach().reshape([-1])).collect();
    Tensor::cat(&parameters, 0)
}

/// Layers whose batch axis nobody knows.
pub fn forget_batch_axis(network: &Network) {
    for layer in &network.layers {
        layer.set_batch_axis(BatchAxis::Unknown);
    }
}
