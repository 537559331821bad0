//! The layers of `fngd_core::nn`.

use super::{Export, Value, Window};
use crate::lower::tensors::to_data;
use fngd_core::{Geometry, nn};
use fngd_onnx::author::GraphBuilder;
use tch::Tensor;

/// A linear layer `y = x Wᵀ + b` with `weight` `[out, in]`, as PyTorch writes it: Gemm for a matrix, Transpose, MatMul and Add for more
/// dimensions.
pub fn linear<'g>(xs: Value<'g>, weight: Value<'g>, bias: Option<Value<'g>>) -> Value<'g> {
    if xs.rank() == 2 {
        return xs.gemm(weight, bias);
    }
    let product = xs.matmul(weight.transpose(&[1, 0]));
    bias.map_or(product, |bias| product + bias)
}

/// The variable `name` of the module that is being written.
pub fn parameter<'g>(graph: &'g GraphBuilder, name: &str, tensor: &Tensor) -> Value<'g> {
    let failed = |error: crate::Error| fngd_onnx::Error::limit(error.to_string());
    graph.parameter(name, || to_data(tensor).map_err(failed))
}

fn optional<'g>(graph: &'g GraphBuilder, name: &str, tensor: Option<&Tensor>) -> Option<Value<'g>> {
    tensor.map(|tensor| parameter(graph, name, tensor))
}

impl Export for nn::Linear {
    fn class(&self) -> &'static str {
        "torch.nn.modules.linear.Linear"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        let graph = xs.graph();
        linear(xs, parameter(graph, "weight", &self.ws), optional(graph, "bias", self.bs.as_ref()))
    }
}

macro_rules! convolution {
    ($($layer:ident $class:literal),*) => {$(
        impl Export for nn::$layer {
            fn class(&self) -> &'static str {
        $class
    }

            fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
                convolution(self.layer().geometry(), &self.ws, self.bs.as_ref(), xs)
            }
        }
    )*};
}

convolution!(
    Conv1D "torch.nn.modules.conv.Conv1d",
    Conv2D "torch.nn.modules.conv.Conv2d",
    Conv3D "torch.nn.modules.conv.Conv3d"
);

fn convolution<'g>(geometry: &Geometry, weight: &Tensor, bias: Option<&Tensor>, xs: Value<'g>) -> Value<'g> {
    let graph = xs.graph();
    let size = weight.size();
    // OK because a convolution's geometry is one, and its weight has two dimensions before those of the kernel.
    let Geometry::Convolution(geometry) = geometry else { unreachable!() };
    let window = Window {
        kernel: &size[2..],
        stride: &geometry.stride,
        padding: &geometry.padding,
        dilation: &geometry.dilation,
    };
    let weight = parameter(graph, "weight", weight);
    xs.conv(weight, optional(graph, "bias", bias), window, geometry.groups)
}

impl Export for nn::BatchNorm {
    fn class(&self) -> &'static str {
        match self.nd {
            1 => "torch.nn.modules.batchnorm.BatchNorm1d",
            2 => "torch.nn.modules.batchnorm.BatchNorm2d",
            _ => "torch.nn.modules.batchnorm.BatchNorm3d",
        }
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        let graph = xs.graph();
        // ONNX has no BatchNormalization without scale and shift.
        let or = |tensor: &Option<Tensor>, otherwise: f64| {
            tensor.as_ref().map_or_else(|| self.running_mean.full_like(otherwise), Tensor::shallow_clone)
        };
        let parameters = [
            parameter(graph, "weight", &or(&self.ws, 1.0)),
            parameter(graph, "bias", &or(&self.bs, 0.0)),
            parameter(graph, "running_mean", &self.running_mean),
            parameter(graph, "running_var", &self.running_var),
        ];
        // torch's momentum is the share of the new statistics.
        xs.batch_norm(parameters, self.config.eps, 1.0 - self.config.momentum)
    }
}

impl Export for nn::LayerNorm {
    fn class(&self) -> &'static str {
        "torch.nn.modules.normalization.LayerNorm"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        let graph = xs.graph();
        let scale = match &self.ws {
            Some(scale) => parameter(graph, "weight", scale),
            None => graph.constant(ones(&self.normalized_shape)),
        };
        xs.layer_norm(scale, optional(graph, "bias", self.bs.as_ref()), self.normalized_shape.len(), self.config.eps)
    }
}

impl Export for nn::Embedding {
    fn class(&self) -> &'static str {
        "torch.nn.modules.sparse.Embedding"
    }

    fn export<'g>(&self, indices: Value<'g>) -> Value<'g> {
        parameter(indices.graph(), "weight", &self.ws).gather(indices)
    }
}

fn ones(size: &[i64]) -> fngd_onnx::graph::TensorData {
    let dims: Vec<u64> = size.iter().map(|&dim| dim as u64).collect();
    let elements = dims.iter().product::<u64>() as usize;
    fngd_onnx::graph::TensorData::from_floats(dims, &vec![1.0; elements])
}
