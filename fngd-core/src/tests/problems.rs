//! Layers, activations and output gradients of every kind, small enough for oracles.

use super::reference::noise;
use crate::layer::{BatchAxis, Convolution, Geometry};
use crate::preconditioner::Facts;
use crate::weighting::Use;
use proptest::prelude::*;
use tch::{Kind, Tensor};

/// One layer and what backward would show it: one or more uses.
#[derive(Debug)]
pub struct Problem {
    pub geometry: Geometry,
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    /// (activations, output gradients) of each use.
    pub uses: Vec<(Tensor, Tensor)>,
    pub axis: BatchAxis,
    pub batch_size: i64,
}

/// The numbers that describe a problem; proptest shrinks these.
#[derive(Debug, Clone)]
pub struct Shape {
    pub geometry: Geometry,
    pub batch_size: i64,
    /// Rows per sample merged into axis 0.
    pub merged: i64,
    pub in_features: i64,
    pub out_features: i64,
    /// Linear: sizes of the axes between batch and features. Convolution: image size.
    pub inner: Vec<i64>,
    pub kernel: Vec<i64>,
    pub batch_second: bool,
    pub bias: bool,
    pub uses: usize,
    pub channels_last: bool,
    pub seed: u64,
}

impl Problem {
    pub fn new(shape: &Shape, kind: Kind) -> Self {
        let noise = |what: &str, size: &[i64]| noise(shape.seed, what, size, kind);
        let rows = shape.batch_size * shape.merged;
        let axis = if shape.batch_second { BatchAxis::Axis(1) } else { BatchAxis::Leading };
        let (weight, input_size) = match &shape.geometry {
            Geometry::Linear => {
                let mut size = vec![rows];
                size.extend(&shape.inner);
                if shape.batch_second {
                    size.swap(0, 1);
                }
                size.push(shape.in_features);
                (noise("weight", &[shape.out_features, shape.in_features]), size)
            }
            Geometry::Convolution(g) => {
                let (first, second) = (shape.in_features * g.groups, shape.out_features * g.groups);
                let mut weight_size =
                    if g.transposed { vec![first, second / g.groups] } else { vec![second, first / g.groups] };
                weight_size.extend(&shape.kernel);
                let mut size = vec![rows, first];
                size.extend(&shape.inner);
                (noise("weight", &weight_size), size)
            }
        };
        let mut problem = Self {
            bias: None,
            uses: Vec::new(),
            axis,
            batch_size: shape.batch_size,
            geometry: shape.geometry.clone(),
            weight,
        };
        for used in 0..shape.uses {
            let mut activations = noise(&format!("activations {used}"), &input_size);
            if shape.channels_last && input_size.len() == 4 {
                activations = activations.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
            }
            let output = problem.apply(&activations, &problem.weight, None);
            let output_grads = noise(&format!("output gradients {used}"), &output.size());
            problem.uses.push((activations, output_grads));
        }
        if shape.bias {
            let outputs = &problem.uses[0].1;
            let features =
                outputs.size()[if matches!(shape.geometry, Geometry::Linear) { outputs.dim() - 1 } else { 1 }];
            problem.bias = Some(noise("bias", &[features]));
        }
        problem
    }

    pub fn apply(&self, activations: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        match &self.geometry {
            Geometry::Linear => activations.linear(weight, bias),
            Geometry::Convolution(g) => activations.convolution(
                weight,
                bias,
                &g.stride[..],
                &g.padding[..],
                &g.dilation[..],
                g.transposed,
                &g.output_padding[..],
                g.groups,
            ),
        }
    }

    /// The rows of one sample, in the tensor's own layout.
    pub fn sample(&self, tensor: &Tensor, sample: i64) -> Tensor {
        match self.axis {
            BatchAxis::Axis(axis) => tensor.narrow(axis as i64, sample, 1),
            _ => {
                let rows = tensor.size()[0] / self.batch_size;
                tensor.narrow(0, sample * rows, rows)
            }
        }
    }

    pub fn facts(&self) -> Facts {
        Facts {
            name: "layer".to_owned(),
            geometry: self.geometry.clone(),
            weight: self.weight.shallow_clone(),
            bias: self.bias.as_ref().map(|bias| bias.detach().set_requires_grad(true)),
        }
    }

    pub fn recorded_uses(&self) -> Vec<Use> {
        let recorded = self.uses.iter().map(|(activations, output_grads)| Use {
            activations: activations.shallow_clone(),
            output_grads: output_grads.shallow_clone(),
            axis: self.axis,
        });
        recorded.collect()
    }
}

/// Linear layers on 2 to 4 dimensions, batch first, second or merged.
pub fn linear_shapes() -> impl Strategy<Value = Shape> {
    let sizes = (1..5i64, 1..4i64, 1..7i64, 1..7i64, proptest::collection::vec(1..4i64, 0..3));
    (sizes, any::<bool>(), any::<bool>(), 1..4usize, any::<u16>()).prop_map(
        |((batch_size, merged, in_features, out_features, inner), batch_second, bias, uses, seed)| {
            let batch_second = batch_second && !inner.is_empty();
            Shape {
                geometry: Geometry::Linear,
                batch_size,
                merged: if batch_second { 1 } else { merged },
                in_features,
                out_features,
                inner,
                kernel: Vec::new(),
                batch_second,
                bias,
                uses,
                channels_last: false,
                seed: u64::from(seed),
            }
        },
    )
}

/// Convolutions of 1 to 3 dimensions, with everything that they can have.
pub fn convolution_shapes() -> impl Strategy<Value = Shape> {
    let per_axis = (1..4i64, 0..3i64, 1..3i64, 1..4i64, 0..4i64);
    let axes = proptest::collection::vec(per_axis, 1..4);
    let channels = (1..4i64, 1..4i64, 1..4i64);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (axes, channels, 1..5i64, 1..3i64, flags, 1..3usize, any::<u16>()).prop_map(
        |(axes, (in_features, out_features, groups), batch_size, merged, flags, uses, seed)| {
            let (transposed, bias, channels_last, several_images) = flags;
            let kernel: Vec<i64> = axes.iter().map(|axis| axis.3).collect();
            let padding: Vec<i64> = axes.iter().map(|axis| axis.1.min(axis.3 - 1)).collect();
            let dilation: Vec<i64> = axes.iter().map(|axis| axis.2).collect();
            let stride: Vec<i64> = axes.iter().map(|axis| axis.0).collect();
            let output_padding = stride.iter().map(|stride| if transposed { (stride - 1).min(1) } else { 0 }).collect();
            // Large enough for one whole window.
            let inner = axes.iter().map(|axis| axis.2 * (axis.3 - 1) + 1 + axis.4).collect();
            Shape {
                geometry: Geometry::Convolution(Convolution {
                    stride,
                    padding,
                    dilation,
                    output_padding,
                    groups,
                    transposed,
                }),
                batch_size,
                merged: if several_images { merged } else { 1 },
                in_features,
                out_features,
                inner,
                kernel,
                batch_second: false,
                bias,
                uses,
                channels_last,
                seed: u64::from(seed),
            }
        },
    )
}

/// Any layer.
pub fn shapes() -> impl Strategy<Value = Shape> {
    prop_oneof![linear_shapes(), convolution_shapes()]
}
