//! A program as text, for tests and for people: one call a line, `x3 = x2.relu()`.

use crate::operation::{Argument, Kind, Layer, Operation, Program, Size};
use fngd_onnx::graph::ValueId;
use std::collections::BTreeMap;
use std::fmt;

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Names::default();
        let inputs: Vec<String> = self.inputs.iter().map(|id| names.of(*id)).collect();
        writeln!(f, "({})", inputs.join(", "))?;
        for operation in &self.operations {
            let call = names.call(operation);
            let results: Vec<String> = operation.results.iter().map(|id| names.of(*id)).collect();
            writeln!(f, "{} = {call}", results.join(", "))?;
        }
        let outputs: Vec<String> = self.outputs.iter().map(|id| names.of(*id)).collect();
        write!(f, "-> {}", outputs.join(", "))
    }
}

/// Values are `x0`, `x1` and so on, in the order in which they come.
#[derive(Default)]
struct Names(BTreeMap<ValueId, usize>);

impl Names {
    fn of(&mut self, id: ValueId) -> String {
        let next = self.0.len();
        format!("x{}", self.0.entry(id).or_insert(next))
    }

    fn call(&mut self, operation: &Operation) -> String {
        match &operation.kind {
            Kind::Layer { layer, input, .. } => format!("{}.apply({layer})", self.of(*input)),
            Kind::Parameter(parameter) => format!("parameter{:?}", parameter.dims),
            Kind::Method { receiver, name, arguments } => {
                format!("{}.{name}({})", self.of(*receiver), self.arguments(arguments))
            }
            Kind::Function { name, arguments } => format!("{name}({})", self.arguments(arguments)),
            Kind::Operator { symbol, left, right } => {
                format!("{} {symbol} {}", self.argument(left), self.argument(right))
            }
        }
    }

    fn arguments(&mut self, all: &[Argument]) -> String {
        all.iter().map(|argument| self.argument(argument)).collect::<Vec<_>>().join(", ")
    }

    fn argument(&mut self, argument: &Argument) -> String {
        match argument {
            Argument::Tensor(id) => self.of(*id),
            Argument::Tensors(all) => {
                format!("[{}]", all.iter().map(|id| self.of(*id)).collect::<Vec<_>>().join(", "))
            }
            Argument::SomeTensor(id) => format!("Some({})", self.of(*id)),
            Argument::NoTensor | Argument::None => "None".to_owned(),
            Argument::Integer(size) => self.size(size),
            Argument::Integers(all) => self.list(all),
            Argument::Float(number) => format!("{number:?}"),
            Argument::Bool(value) => value.to_string(),
            Argument::Training => "train".to_owned(),
            Argument::WhileTraining(rate) => format!("{rate:?} if train"),
            Argument::ElementType(element) | Argument::Options(element) => element.name().to_owned(),
            Argument::Text(text) => format!("{text:?}"),
        }
    }

    fn list(&mut self, all: &[Size]) -> String {
        format!("[{}]", all.iter().map(|size| self.size(size)).collect::<Vec<_>>().join(", "))
    }

    fn size(&mut self, size: &Size) -> String {
        let mut join = |parts: &[Size], sign: &str| {
            let parts: Vec<String> = parts.iter().map(|part| self.size(part)).collect();
            parts.join(sign)
        };
        match size {
            Size::Known(number) => number.to_string(),
            Size::Of { tensor, axis } => format!("{}.size[{axis}]", self.of(*tensor)),
            Size::Product(parts) => join(parts, " * "),
            Size::Sum(parts) => format!("({})", join(parts, " + ")),
            Size::Quotient(a, b) => format!("({} / {})", self.size(a), self.size(b)),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_no_bias = |bias: &bool| if *bias { "" } else { ", no bias" };
        match self {
            Self::Linear { in_features, out_features, bias, .. } => {
                write!(f, "linear({in_features}, {out_features}{})", or_no_bias(bias))
            }
            Self::Convolution {
                in_channels,
                out_channels,
                kernel,
                stride,
                padding,
                dilation,
                groups,
                bias,
                output_padding,
            } => {
                let name = if output_padding.is_some() { "conv_transpose" } else { "conv" };
                write!(f, "{name}({in_channels}, {out_channels}, {kernel:?}")?;
                let settings = [("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, 1)];
                for (name, values, default) in settings {
                    if values.iter().any(|value| *value != default) {
                        write!(f, ", {name} {values:?}")?;
                    }
                }
                if *groups != 1 {
                    write!(f, ", groups {groups}")?;
                }
                write!(f, "{})", or_no_bias(bias))
            }
            Self::BatchNorm { features, .. } => write!(f, "batch_norm({features})"),
            Self::LayerNorm { shape, .. } => write!(f, "layer_norm({shape:?})"),
            Self::GroupNorm { groups, features, .. } => write!(f, "group_norm({groups}, {features})"),
            Self::Embedding { words, width } => write!(f, "embedding({words}, {width})"),
        }
    }
}
