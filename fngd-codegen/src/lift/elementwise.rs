//! Arithmetic and comparisons, element by element.

use super::batch::FreeBatch;
use super::reader::Reader;
use super::sizes::Expression;
use crate::operation::{Argument, Kind, Size};
use crate::{Error, Result};
use fngd_onnx::graph::{ElementType, Node};

/// The dimensions of the result of two operands.
pub(super) fn broadcast(left: &[Expression], right: &[Expression]) -> Vec<Expression> {
    let rank = left.len().max(right.len());
    let at = |dims: &[Expression], axis: usize| {
        (axis + dims.len()).checked_sub(rank).and_then(|axis| dims.get(axis).cloned()).unwrap_or_else(|| 1.into())
    };
    let join = |axis| {
        let (a, b) = (at(left, axis), at(right, axis));
        // What is not known is 1 or the same as a number.
        if a.is(1) || (a.known().is_none() && b.known().is_some_and(|size| size != 1)) { b } else { a }
    };
    (0..rank).map(join).collect()
}

/// The same for operands of a call.
///
/// # Errors
/// If one has as many rows as the example had samples, where the other has the batch.
pub(super) fn joined(reader: &Reader, left: &[Expression], right: &[Expression]) -> Result<Vec<Expression>> {
    let meets = |batch: &FreeBatch| {
        let mut pairs = left.iter().rev().zip(right.iter().rev());
        pairs.any(|(a, b)| (*a == batch.size && batch.is_written(b)) || (*b == batch.size && batch.is_written(a)))
    };
    match &reader.batch {
        Some(batch) if batch.written != 1 && meets(batch) => Err(Error::unsupported(format!(
            "an operand is made for the example's batch size {}; export with a dynamic batch",
            batch.written
        ))),
        _ => Ok(broadcast(left, right)),
    }
}

/// Add, Sub, Mul, Div.
pub(super) fn arithmetic(reader: &mut Reader, node: &Node) -> Result<()> {
    if node.attributes.contains_key("axis") || node.int("broadcast", 0) != 0 {
        return Err(Error::unsupported("attribute `axis` or `broadcast` of operator sets before 7; convert the file"));
    }
    let symbol = match node.op_type.as_str() {
        "Add" => '+',
        "Sub" => '-',
        "Mul" => '*',
        _ => '/',
    };
    let (a, b) = (reader.fact(node, 0)?.clone(), reader.fact(node, 1)?.clone());
    let dims = joined(reader, &a.dims, &b.dims)?;
    if symbol == '/' && !a.element.is_float() {
        return integer_division(reader, node, a.element, dims);
    }
    // A number that has more dimensions than the other operand would give it those: then it stays a tensor.
    let left = if a.dims.len() <= b.dims.len() { reader.operand(node, 0)? } else { tensor(reader, node, 0)? };
    let right = match &left {
        Argument::Tensor(_) if b.dims.len() <= a.dims.len() => reader.operand(node, 1)?,
        _ => tensor(reader, node, 1)?,
    };
    let neutral = if matches!(symbol, '+' | '-') { 0.0 } else { 1.0 };
    match (&left, &right) {
        // `x + 0`, `x * 1`.
        (Argument::Tensor(x), number) if value(number) == Some(neutral) => {
            let same = *x;
            reader.rename(node, same);
        }
        (number, Argument::Tensor(x)) if value(number) == Some(neutral) && matches!(symbol, '+' | '*') => {
            let same = *x;
            reader.rename(node, same);
        }
        _ => reader.give(node, 0, Kind::Operator { symbol, left, right }, a.element, dims),
    }
    Ok(())
}

fn tensor(reader: &mut Reader, node: &Node, position: usize) -> Result<Argument> {
    Ok(Argument::Tensor(reader.tensor(node, position)?))
}

/// The number that an operand is.
fn value(argument: &Argument) -> Option<f64> {
    match argument {
        Argument::Float(number) => Some(*number),
        Argument::Integer(Size::Known(number)) => Some(*number as f64),
        _ => None,
    }
}

fn integer_division(reader: &mut Reader, node: &Node, element: ElementType, dims: Vec<Expression>) -> Result<()> {
    let (receiver, other) = (reader.tensor(node, 0)?, reader.tensor(node, 1)?);
    let arguments = vec![Argument::Tensor(other), Argument::Text("trunc")];
    reader.give(node, 0, Kind::Method { receiver, name: "divide_tensor_mode", arguments }, element, dims);
    Ok(())
}

/// Comparisons and logic.
pub(super) fn comparison(reader: &mut Reader, node: &Node) -> Result<()> {
    let (with_number, with_tensor) = match node.op_type.as_str() {
        "Equal" => ("eq", "eq_tensor"),
        "Less" => ("lt", "lt_tensor"),
        "LessOrEqual" => ("le", "le_tensor"),
        "Greater" => ("gt", "gt_tensor"),
        "GreaterOrEqual" => ("ge", "ge_tensor"),
        "And" => ("", "logical_and"),
        "Or" => ("", "logical_or"),
        _ => ("", "logical_xor"),
    };
    let (a, b) = (reader.fact(node, 0)?.clone(), reader.fact(node, 1)?.clone());
    let dims = joined(reader, &a.dims, &b.dims)?;
    if node.op_type == "And" {
        // `true & x`, of which exporters build masks.
        for (truth, other, fact) in [(&a, 1, &b), (&b, 0, &a)] {
            if truth.uniform() == Some(1.0) && fact.dims == dims {
                let same = reader.tensor(node, other)?;
                reader.rename(node, same);
                return Ok(());
            }
        }
    }
    let receiver = reader.tensor(node, 0)?;
    let (name, argument) = match (with_number, reader.operand(node, 1)?) {
        ("", _) => (with_tensor, Argument::Tensor(reader.tensor(node, 1)?)),
        (name, number @ (Argument::Float(_) | Argument::Integer(_))) => (name, number),
        (_, other) => (with_tensor, other),
    };
    reader.give(node, 0, Kind::Method { receiver, name, arguments: vec![argument] }, ElementType::Bool, dims);
    Ok(())
}

/// Functions of one tensor without settings.
pub(super) fn unary(reader: &mut Reader, node: &Node) -> Result<()> {
    let name = match node.op_type.as_str() {
        "Abs" => "abs",
        "Ceil" => "ceil",
        "Cos" => "cos",
        "Erf" => "erf",
        "Exp" => "exp",
        "Floor" => "floor",
        "Log" => "log",
        "Neg" => "neg",
        "Not" => "logical_not",
        "Reciprocal" => "reciprocal",
        "Round" => "round",
        "Sign" => "sign",
        "Sin" => "sin",
        "Sqrt" => "sqrt",
        "Tan" => "tan",
        "IsNaN" => return predicate(reader, node, "isnan"),
        "IsInf" => return predicate(reader, node, "isinf"),
        "Acos" => "acos",
        "Asin" => "asin",
        "Atan" => "atan",
        "Cosh" => "cosh",
        _ => "sinh",
    };
    reader.map(node, name, Vec::new())
}

fn predicate(reader: &mut Reader, node: &Node, name: &'static str) -> Result<()> {
    if node.int("detect_negative", 1) == 0 || node.int("detect_positive", 1) == 0 {
        return Err(Error::unsupported("attribute `detect_negative` or `detect_positive` is 0"));
    }
    let dims = reader.dims(node, 0)?;
    let receiver = reader.tensor(node, 0)?;
    reader.give(node, 0, Kind::Method { receiver, name, arguments: Vec::new() }, ElementType::Bool, dims);
    Ok(())
}

/// Pow: `square`, `pow_tensor_scalar` or `pow`.
pub(super) fn power(reader: &mut Reader, node: &Node) -> Result<()> {
    let (a, b) = (reader.fact(node, 0)?.clone(), reader.fact(node, 1)?.clone());
    match reader.operand(node, 1)? {
        number if value(&number) == Some(2.0) => reader.map(node, "square", Vec::new()),
        number if value(&number) == Some(0.5) => reader.map(node, "sqrt", Vec::new()),
        number if value(&number).is_some() => reader.map(node, "pow_tensor_scalar", vec![number]),
        exponent => {
            let receiver = reader.tensor(node, 0)?;
            let kind = Kind::Method { receiver, name: "pow", arguments: vec![exponent] };
            let dims = joined(reader, &a.dims, &b.dims)?;
            reader.give(node, 0, kind, a.element, dims);
            Ok(())
        }
    }
}

/// Min and Max of several tensors, Sum, Mean.
pub(super) fn several(reader: &mut Reader, node: &Node) -> Result<()> {
    let fact = reader.fact(node, 0)?.clone();
    let mut result = reader.tensor(node, 0)?;
    let (mut dims, count) = (fact.dims, node.inputs.len());
    if count == 1 {
        reader.rename(node, result);
        return Ok(());
    }
    for position in 1..count {
        dims = joined(reader, &dims, &reader.dims(node, position)?)?;
        let other = Argument::Tensor(reader.tensor(node, position)?);
        let kind = match node.op_type.as_str() {
            "Min" => Kind::Method { receiver: result, name: "minimum", arguments: vec![other] },
            "Max" => Kind::Method { receiver: result, name: "maximum", arguments: vec![other] },
            _ => Kind::Operator { symbol: '+', left: Argument::Tensor(result), right: other },
        };
        if position + 1 == count && node.op_type != "Mean" {
            reader.give(node, 0, kind, fact.element, dims.clone());
        } else {
            result = reader.between(kind, fact.element, dims.clone());
        }
    }
    if node.op_type == "Mean" {
        let (left, right) = (Argument::Tensor(result), Argument::Float(count as f64));
        reader.give(node, 0, Kind::Operator { symbol: '/', left, right }, fact.element, dims);
    }
    Ok(())
}

/// Where: `masked_fill` if one choice is a number.
pub(super) fn select(reader: &mut Reader, node: &Node) -> Result<()> {
    let [condition, a, b] = [reader.fact(node, 0)?, reader.fact(node, 1)?, reader.fact(node, 2)?].map(Clone::clone);
    let dims = joined(reader, &condition.dims, &joined(reader, &a.dims, &b.dims)?)?;
    let mask = reader.tensor(node, 0)?;
    let (first, second) = (reader.operand(node, 1)?, reader.operand(node, 2)?);
    if let (Some(_), Argument::Tensor(receiver), true) = (value(&first), &second, b.dims == dims) {
        let arguments = vec![Argument::Tensor(mask), first];
        let kind = Kind::Method { receiver: *receiver, name: "masked_fill", arguments };
        reader.give(node, 0, kind, b.element, dims);
        return Ok(());
    }
    let (receiver, other) = (reader.tensor(node, 1)?, reader.tensor(node, 2)?);
    let arguments = vec![Argument::Tensor(mask), Argument::Tensor(other)];
    reader.give(node, 0, Kind::Method { receiver, name: "where_self", arguments }, a.element, dims);
    Ok(())
}

/// Identity.
pub(super) fn identity(reader: &mut Reader, node: &Node) -> Result<()> {
    let same = reader.tensor(node, 0)?;
    reader.rename(node, same);
    Ok(())
}

/// Cast and CastLike: nothing, where the type stays.
pub(super) fn cast(reader: &mut Reader, node: &Node) -> Result<()> {
    let fact = reader.fact(node, 0)?.clone();
    let to = match node.op_type.as_str() {
        "Cast" => ElementType::from_number(i32::try_from(node.int("to", 0)).unwrap_or(0)),
        _ => Some(reader.fact(node, 1)?.element),
    };
    let to = to.ok_or_else(|| Error::unsupported(format!("a cast to type {}", node.int("to", 0))))?;
    if to == fact.element || (to.is_float() && fact.element.is_float()) {
        return identity(reader, node);
    }
    let to = if to.is_float() { ElementType::Float32 } else { to };
    let receiver = reader.tensor(node, 0)?;
    let kind = Kind::Method { receiver, name: "to_kind", arguments: vec![Argument::ElementType(to)] };
    reader.give(node, 0, kind, to, fact.dims);
    Ok(())
}
