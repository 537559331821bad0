//! The values and numbers within an operation, in one order: those who count, compare and replace them walk the same way.

use crate::operation::{Argument, Kind, Layer, Operation, Size};
use fngd_onnx::graph::ValueId;

/// A value or a number within an operation.
pub(crate) enum Part<'a> {
    /// A tensor that is read.
    Value(&'a mut ValueId, Use),
    /// A whole number.
    Integer(&'a mut i64, Role),
    /// Another number.
    Float(&'a mut f64, Role),
}

/// How a tensor is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// `tensor.method()`, `tensor.apply(layer)`.
    Receiver,
    /// `tensor + other`.
    Operand,
    /// `f(&tensor)`.
    Argument,
    /// `tensor.size()[0]`.
    Size,
}

/// What a number says, and with which others it may be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Role {
    /// The name of an argument that stands for it: `c_in`.
    pub name: &'static str,
    /// Only numbers of one group are expressed by each other.
    pub group: Group,
}

/// Kinds of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Channels, features, sizes.
    Width,
    /// Steps of convolutions.
    Stride,
    /// Sizes of kernels, zeros around them, distances within them.
    Window,
    /// Groups of channels.
    Groups,
    /// How often something repeats.
    Count,
    /// Whether something is there.
    Presence,
    /// Anything else.
    Other,
}

impl Operation {
    /// All tensors that are read, in order, sizes included.
    pub(crate) fn operands(&self) -> Vec<ValueId> {
        self.uses().into_iter().map(|(value, _)| value).collect()
    }

    /// The same, with how they are read.
    pub(crate) fn uses(&self) -> Vec<(ValueId, Use)> {
        uses(&self.kind)
    }

    /// A short word for what is called: the name of a layer whose own name is lost.
    pub(crate) fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Layer { layer, .. } => noun(layer),
            Kind::Parameter(parameter) if parameter.trainable => "parameter",
            Kind::Parameter(_) => "constant",
            Kind::Method { name, .. } | Kind::Function { name, .. } => name,
            Kind::Operator { symbol, .. } => match symbol {
                '+' => "add",
                '-' => "sub",
                '*' => "mul",
                _ => "div",
            },
        }
    }
}

/// All tensors that `kind` reads.
pub(crate) fn uses(kind: &Kind) -> Vec<(ValueId, Use)> {
    let mut found = Vec::new();
    visit(&mut kind.clone(), &mut |part| {
        if let Part::Value(value, use_) = part {
            found.push((*value, use_));
        }
    });
    found
}

/// `conv`, `bn`: as people abbreviate.
pub(crate) fn noun(layer: &Layer) -> &'static str {
    match layer {
        Layer::Linear { .. } => "linear",
        Layer::Convolution { output_padding: None, .. } => "conv",
        Layer::Convolution { .. } => "conv_transpose",
        Layer::BatchNorm { .. } => "bn",
        Layer::LayerNorm { .. } | Layer::GroupNorm { .. } => "norm",
        Layer::Embedding { .. } => "embedding",
    }
}

/// Shows all parts of `kind` to `see`, in order.
pub(crate) fn visit(kind: &mut Kind, see: &mut dyn FnMut(Part<'_>)) {
    match kind {
        Kind::Layer { layer, input, .. } => {
            visit_layer(layer, see);
            see(Part::Value(input, Use::Receiver));
        }
        Kind::Parameter(_) => (),
        Kind::Method { receiver, name, arguments } => {
            see(Part::Value(receiver, Use::Receiver));
            let role = method_role(name);
            arguments.iter_mut().for_each(|argument| visit_argument(argument, role, Use::Argument, see));
        }
        Kind::Function { name, arguments } => {
            let role = method_role(name);
            arguments.iter_mut().for_each(|argument| visit_argument(argument, role, Use::Argument, see));
        }
        Kind::Operator { left, right, .. } => {
            let role = Role { name: "factor", group: Group::Other };
            visit_argument(left, role, Use::Operand, see);
            visit_argument(right, role, Use::Operand, see);
        }
    }
}

/// Shows the numbers of a layer to `see`, in order.
pub(crate) fn visit_layer(layer: &mut Layer, see: &mut dyn FnMut(Part<'_>)) {
    const fn role(name: &'static str, group: Group) -> Role {
        Role { name, group }
    }
    const EPSILON: Role = role("epsilon", Group::Other);
    match layer {
        Layer::Linear { in_features, out_features, .. } => {
            see(Part::Integer(in_features, role("in_features", Group::Width)));
            see(Part::Integer(out_features, role("out_features", Group::Width)));
        }
        Layer::Convolution {
            in_channels,
            out_channels,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            bias: _,
            output_padding,
        } => {
            see(Part::Integer(in_channels, role("c_in", Group::Width)));
            see(Part::Integer(out_channels, role("c_out", Group::Width)));
            let mut all = |numbers: &mut Vec<i64>, role: Role| {
                numbers.iter_mut().for_each(|number| see(Part::Integer(number, role)));
            };
            all(kernel, role("kernel", Group::Window));
            all(stride, role("stride", Group::Stride));
            all(padding, role("padding", Group::Window));
            all(dilation, role("dilation", Group::Window));
            if let Some(output_padding) = output_padding {
                all(output_padding, role("output_padding", Group::Window));
            }
            see(Part::Integer(groups, role("groups", Group::Groups)));
        }
        Layer::BatchNorm { spatial_dims: _, features, epsilon, momentum } => {
            see(Part::Integer(features, role("channels", Group::Width)));
            see(Part::Float(epsilon, EPSILON));
            see(Part::Float(momentum, role("momentum", Group::Other)));
        }
        Layer::LayerNorm { shape, epsilon } => {
            shape.iter_mut().for_each(|number| see(Part::Integer(number, role("width", Group::Width))));
            see(Part::Float(epsilon, EPSILON));
        }
        Layer::GroupNorm { groups, features, epsilon } => {
            see(Part::Integer(groups, role("groups", Group::Groups)));
            see(Part::Integer(features, role("channels", Group::Width)));
            see(Part::Float(epsilon, EPSILON));
        }
        Layer::Embedding { words, width } => {
            see(Part::Integer(words, role("words", Group::Width)));
            see(Part::Integer(width, role("width", Group::Width)));
        }
    }
}

/// What the numbers of a call say.
fn method_role(name: &str) -> Role {
    match name {
        "view" | "reshape" | "expand" | "slice" | "narrow" | "split" | "split_with_sizes" => {
            Role { name: "size", group: Group::Width }
        }
        "constant_pad_nd" | "pad" | "zero_pad2d" | "reflection_pad2d" => Role { name: "pad", group: Group::Width },
        "dropout" => Role { name: "dropout", group: Group::Other },
        "scaled_dot_product_attention" => Role { name: "scale", group: Group::Other },
        _ => Role { name: "value", group: Group::Other },
    }
}

fn visit_argument(argument: &mut Argument, role: Role, use_: Use, see: &mut dyn FnMut(Part<'_>)) {
    match argument {
        Argument::Tensor(value) => see(Part::Value(value, use_)),
        Argument::SomeTensor(value) => see(Part::Value(value, Use::Argument)),
        Argument::Tensors(values) => values.iter_mut().for_each(|value| see(Part::Value(value, Use::Argument))),
        Argument::Integer(size) => visit_size(size, role, see),
        Argument::Integers(sizes) => sizes.iter_mut().for_each(|size| visit_size(size, role, see)),
        Argument::Float(number) | Argument::WhileTraining(number) => see(Part::Float(number, role)),
        Argument::NoTensor
        | Argument::None
        | Argument::Bool(_)
        | Argument::Training
        | Argument::ElementType(_)
        | Argument::Options(_)
        | Argument::Text(_) => (),
    }
}

fn visit_size(size: &mut Size, role: Role, see: &mut dyn FnMut(Part<'_>)) {
    match size {
        Size::Known(number) => see(Part::Integer(number, role)),
        Size::Of { tensor, axis: _ } => see(Part::Value(tensor, Use::Size)),
        Size::Product(sizes) | Size::Sum(sizes) => sizes.iter_mut().for_each(|size| visit_size(size, role, see)),
        Size::Quotient(left, right) => {
            visit_size(left, role, see);
            visit_size(right, role, see);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_and_number_is_seen_once_and_in_order() {
        let (a, b, c) = (ValueId(1), ValueId(2), ValueId(3));
        let sizes = vec![
            Size::Product(vec![Size::Of { tensor: b, axis: 0 }, Size::Known(8)]),
            Size::Quotient(Box::new(Size::Known(7)), Box::new(Size::Sum(vec![Size::Of { tensor: c, axis: 1 }]))),
        ];
        let mut kind = Kind::Method {
            receiver: a,
            name: "view",
            arguments: vec![Argument::Integers(sizes), Argument::Float(0.5)],
        };
        let mut seen = String::new();
        visit(&mut kind, &mut |part| match part {
            Part::Value(value, use_) => seen.push_str(&format!("{} {use_:?}, ", value.0)),
            Part::Integer(number, role) => seen.push_str(&format!("{number} {}, ", role.name)),
            Part::Float(number, _) => seen.push_str(&format!("{number}, ")),
        });
        assert_eq!(seen, "1 Receiver, 2 Size, 8 size, 7 size, 3 Size, 0.5, ");
    }
}
