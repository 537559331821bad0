//! Operators as methods of the values that they are applied to.

use super::{GraphBuilder, Value};
use crate::graph::{ElementType, TensorData};

/// How a window moves over the spatial dimensions: one entry for each of them.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// Size of the window.
    pub kernel: &'a [i64],
    /// Step between windows.
    pub stride: &'a [i64],
    /// Zeros added on both sides.
    pub padding: &'a [i64],
    /// Distance between the elements of a window.
    pub dilation: &'a [i64],
}

impl<'g> Value<'g> {
    /// max(x, 0).
    pub fn relu(self) -> Self {
        self.unary("Relu")
    }

    /// x Φ(x), with the exact Gaussian distribution function.
    pub fn gelu(self) -> Self {
        self.unary("Gelu")
    }

    /// Normalised exponentials along `axis`.
    pub fn softmax(self, axis: i64) -> Self {
        self.operator("Softmax").attribute("axis", axis).result(self.rank)
    }

    /// In training, zero with probability `share`, else divided by what is left; in evaluation the value itself.
    pub fn dropout(self, share: f64) -> Self {
        let share = self.graph.constant(TensorData::from_floats(Vec::new(), &[share as f32]));
        self.operator("Dropout").input(share).result(self.rank)
    }

    /// The matrix product over the last two dimensions.
    pub fn matmul(self, other: Value<'_>) -> Self {
        self.operator("MatMul").input(other).result(self.rank.max(other.rank))
    }

    /// x Wᵀ + b for a matrix x `[rows, in]` and a weight `[out, in]`.
    pub fn gemm(self, weight: Value<'_>, bias: Option<Value<'_>>) -> Self {
        self.operator("Gemm").input(weight).optional(bias).attribute("transB", 1).result(2)
    }

    /// A convolution with a weight `[out, in / groups, k...]`.
    pub fn conv(self, weight: Value<'_>, bias: Option<Value<'_>>, window: Window<'_>, groups: i64) -> Self {
        let node = self.operator("Conv").input(weight).optional(bias);
        let node = node.attribute("kernel_shape", window.kernel).attribute("strides", window.stride);
        let node = node.attribute("pads", &both_sides(window.padding)[..]).attribute("dilations", window.dilation);
        node.attribute("group", groups).result(self.rank)
    }

    /// The largest element of each window.
    pub fn max_pool(self, window: Window<'_>) -> Self {
        let node = self.operator("MaxPool").attribute("kernel_shape", window.kernel);
        let node = node.attribute("strides", window.stride).attribute("pads", &both_sides(window.padding)[..]);
        node.attribute("dilations", window.dilation).result(self.rank)
    }

    /// Normalises each channel by running statistics; what updates them in training is left to the trainer. `momentum`: the share of
    /// the old statistics that an update keeps.
    pub fn batch_norm(self, parameters: [Value<'_>; 4], epsilon: f64, momentum: f64) -> Self {
        let node = parameters.into_iter().fold(self.operator("BatchNormalization"), super::NodeBuilder::input);
        let node = node.attribute("epsilon", epsilon as f32).attribute("momentum", momentum as f32);
        node.attribute("training_mode", 0).result(self.rank)
    }

    /// Normalises over the last `dims` dimensions.
    pub fn layer_norm(self, scale: Value<'_>, shift: Option<Value<'_>>, dims: usize, epsilon: f64) -> Self {
        let node = self.operator("LayerNormalization").input(scale).optional(shift);
        node.attribute("axis", -(dims as i64)).attribute("epsilon", epsilon as f32).result(self.rank)
    }

    /// Rows of a table: `self[indices]`.
    pub fn gather(self, indices: Value<'_>) -> Self {
        self.operator("Gather").input(indices).attribute("axis", 0).result((self.rank + indices.rank).saturating_sub(1))
    }

    /// The mean over `axes`, which are gone then.
    pub fn mean(self, axes: &[i64]) -> Self {
        let rank = self.rank.saturating_sub(axes.len());
        self.operator("ReduceMean").input(self.graph.integers(axes)).attribute("keepdims", 0).result(rank)
    }

    /// Dimensions from `axis` on as one. What comes before must be one dimension.
    pub fn flatten(self) -> Self {
        self.operator("Flatten").attribute("axis", 1).result(2)
    }

    /// The same elements in other dimensions: 0 keeps the one in this place, -1 is what is left.
    pub fn reshape(self, dims: &[i64]) -> Self {
        self.operator("Reshape").input(self.graph.integers(dims)).result(dims.len())
    }

    /// Dimension `i` of the result is dimension `order[i]`.
    pub fn transpose(self, order: &[i64]) -> Self {
        self.operator("Transpose").attribute("perm", order).result(self.rank)
    }

    /// Every `step`-th element from `start` up to `end` along `axis`.
    pub fn slice(self, axis: i64, start: i64, end: i64, step: i64) -> Self {
        let node = [start, end, axis, step]
            .iter()
            .fold(self.operator("Slice"), |node, &bound| node.input(self.graph.integers(&[bound])));
        node.result(self.rank)
    }

    /// Zeros around: how many before each dimension, then how many behind each.
    pub fn pad(self, pads: &[i64]) -> Self {
        self.operator("Pad").input(self.graph.integers(pads)).result(self.rank)
    }

    /// `COUNT` equal parts along `axis`.
    pub fn split<const COUNT: usize>(self, axis: i64) -> [Self; COUNT] {
        let node = self.operator("Split").attribute("axis", axis).attribute("num_outputs", COUNT as i64);
        node.results(self.rank)
    }

    /// New dimensions of size 1 at these places of the result.
    pub fn unsqueeze(self, axes: &[i64]) -> Self {
        self.operator("Unsqueeze").input(self.graph.integers(axes)).result(self.rank + axes.len())
    }

    /// Dimensions of size 1 taken away.
    pub fn squeeze(self, axes: &[i64]) -> Self {
        let rank = self.rank.saturating_sub(axes.len());
        self.operator("Squeeze").input(self.graph.integers(axes)).result(rank)
    }

    /// The element at `index` of `axis`, which is gone then.
    pub fn select(self, axis: i64, index: i64) -> Self {
        let index = self.graph.constant(TensorData::from_integers(Vec::new(), &[index]));
        self.operator("Gather").input(index).attribute("axis", axis).result(self.rank.saturating_sub(1))
    }

    /// The size of `axis`: one integer, in a list of its own.
    pub fn size(self, axis: i64) -> Self {
        self.operator("Shape").attribute("start", axis).attribute("end", axis + 1).result(1)
    }

    /// Repeated along dimensions of size 1, as often as `size`, a list, has it.
    pub fn expand(self, size: Value<'_>) -> Self {
        self.operator("Expand").input(size).result(self.rank)
    }

    /// As numbers of another type.
    pub fn cast(self, element_type: ElementType) -> Self {
        self.operator("Cast").attribute("to", i64::from(element_type.number())).result(self.rank)
    }

    /// The graph that it belongs to.
    pub fn graph(self) -> &'g GraphBuilder {
        self.graph
    }

    fn unary(self, op_type: &'static str) -> Self {
        self.operator(op_type).result(self.rank)
    }

    /// A node that reads this value first.
    pub fn operator(self, op_type: &'static str) -> super::NodeBuilder<'g> {
        self.graph.node(op_type).input(self)
    }
}

impl GraphBuilder {
    /// A list of integers.
    pub fn integers(&self, values: &[i64]) -> Value<'_> {
        self.constant(TensorData::from_integers(vec![values.len() as u64], values))
    }

    /// The values one after the other along `axis`.
    pub fn concat<'g>(&'g self, values: &[Value<'g>], axis: i64) -> Value<'g> {
        let rank = values.first().map_or(0, |value| value.rank);
        let node = values.iter().fold(self.node("Concat"), |node, &value| node.input(value));
        node.attribute("axis", axis).result(rank)
    }
}

macro_rules! operator {
    ($($trait:ident $method:ident $op_type:literal),*) => {$(
        impl<'g> std::ops::$trait<Value<'_>> for Value<'g> {
            type Output = Value<'g>;

            fn $method(self, other: Value<'_>) -> Value<'g> {
                self.operator($op_type).input(other).result(self.rank.max(other.rank))
            }
        }
    )*};
}

operator!(Add add "Add", Sub sub "Sub", Mul mul "Mul", Div div "Div");

/// ONNX pads the beginnings of all dimensions, then their ends.
fn both_sides(padding: &[i64]) -> Vec<i64> {
    padding.repeat(2)
}
