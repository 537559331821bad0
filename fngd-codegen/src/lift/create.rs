//! Tensors of numbers that are made from sizes: Range, ConstantOfShape.

use super::facts::Fact;
use super::index::integer;
use super::reader::Reader;
use super::sizes::Expression;
use crate::operation::{Argument, Kind};
use crate::{Error, Result};
use fngd_onnx::graph::{Attribute, ElementType, Node};

/// Range whose end is a size.
pub(super) fn range(reader: &mut Reader, node: &Node) -> Result<()> {
    let element = reader.fact(node, 0)?.element;
    let bounds = [0, 1, 2].map(|position| reader.integers(node, position));
    let [Ok(start), Ok(end), Ok(step)] = bounds else {
        return Err(Error::unsupported("its bounds are no integers that are known or read from a size"));
    };
    let (Some(start), Some(end), Some([step])) = (start.first(), end.first(), step.get(..)) else {
        return Err(Error::unsupported("its bounds are no single numbers"));
    };
    if !step.is(1) {
        return Err(Error::unsupported("its step is not 1"));
    }
    let length = end.minus(start);
    let (start, end) = (start.clone(), Argument::Integer(end.spelled()));
    let options = Argument::Options(element);
    let kind = if start.is(0) {
        Kind::Function { name: "arange", arguments: vec![end, options] }
    } else {
        Kind::Function { name: "arange_start", arguments: vec![Argument::Integer(start.spelled()), end, options] }
    };
    reader.give(node, 0, kind, element, vec![length]);
    Ok(())
}

/// ConstantOfShape whose shape is read from a size.
pub(super) fn constant_of_shape(reader: &mut Reader, node: &Node) -> Result<()> {
    let dims = reader.integers(node, 0)?;
    let fill = match node.attributes.get("value") {
        Some(Attribute::Tensor(data)) => Fact::constant(data),
        _ => Fact::of(ElementType::Float32, Vec::new()),
    };
    let number = fill.uniform().unwrap_or(0.0);
    let value = if fill.element.is_float() { Argument::Float(number) } else { integer(number as i64) };
    let sizes = Argument::Integers(dims.iter().map(Expression::spelled).collect());
    let arguments = vec![sizes, value, Argument::Options(fill.element)];
    reader.give(node, 0, Kind::Function { name: "full", arguments }, fill.element, dims);
    Ok(())
}
