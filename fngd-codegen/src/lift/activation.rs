//! Activation functions that are one operator, and Softmax.

use super::facts::shortest;
use super::reader::Reader;
use super::rearrangement::Rearrangement;
use super::shape::axis_of;
use super::sizes::Expression;
use super::steps::{Call, Step};
use crate::operation::{Argument, Kind, Size};
use crate::{Error, Result};
use fngd_onnx::graph::Node;

/// Functions without settings.
pub(super) fn plain(reader: &mut Reader, node: &Node) -> Result<()> {
    let name = match node.op_type.as_str() {
        "Relu" => "relu",
        "Sigmoid" => "sigmoid",
        "Tanh" => "tanh",
        "HardSwish" => "hardswish",
        "Mish" => "mish",
        _ => "softplus",
    };
    reader.map(node, name, Vec::new())
}

/// Selu with the constants of its paper, which libtorch has built in.
pub(super) fn selu(reader: &mut Reader, node: &Node) -> Result<()> {
    let is = |value: f64, wanted: f64| (value - wanted).abs() < 1e-6;
    // Operator set 1 has rounded ones.
    let (alpha, gamma) = if node.opset < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let (alpha, gamma) = (f64::from(node.float("alpha", alpha)), f64::from(node.float("gamma", gamma)));
    if !is(alpha, 1.673_263_242_354_377_2) || !is(gamma, 1.050_700_987_355_480_5) {
        return Err(Error::unsupported(format!(
            "attributes `alpha` and `gamma` are {alpha} and {gamma}, only 1.6732632 and 1.050701 have a name"
        )));
    }
    reader.map(node, "selu", Vec::new())
}

/// Gelu.
pub(super) fn gelu(reader: &mut Reader, node: &Node) -> Result<()> {
    let approximate = if node.string("approximate", "none") == "tanh" { "tanh" } else { "none" };
    reader.map(node, "gelu", vec![Argument::Text(approximate)])
}

/// Swish.
pub(super) fn swish(reader: &mut Reader, node: &Node) -> Result<()> {
    let alpha = node.float("alpha", 1.0);
    if alpha != 1.0 {
        return Err(Error::unsupported(format!("attribute `alpha` is {alpha}, only 1 has a name")));
    }
    reader.map(node, "silu", Vec::new())
}

/// HardSigmoid: PyTorch's has slope 1/6.
pub(super) fn hard_sigmoid(reader: &mut Reader, node: &Node) -> Result<()> {
    let (alpha, beta) = (node.float("alpha", 0.2), node.float("beta", 0.5));
    if (alpha - 1.0 / 6.0).abs() < 1e-6 && beta == 0.5 {
        return reader.map(node, "hardsigmoid", Vec::new());
    }
    let fact = reader.fact(node, 0)?.clone();
    let x = reader.tensor(node, 0)?;
    let left = Argument::Tensor(x);
    let kind = Kind::Operator { symbol: '*', left, right: Argument::Float(shortest(alpha)) };
    let scaled = reader.between(kind, fact.element, fact.dims.clone());
    let kind = Kind::Operator { symbol: '+', left: Argument::Tensor(scaled), right: Argument::Float(shortest(beta)) };
    let receiver = reader.between(kind, fact.element, fact.dims.clone());
    let arguments = vec![Argument::Float(0.0), Argument::Float(1.0)];
    reader.give(node, 0, Kind::Method { receiver, name: "clamp", arguments }, fact.element, fact.dims);
    Ok(())
}

/// LeakyRelu, Elu and PRelu: calls with a setting.
pub(super) fn with_slope(reader: &mut Reader, node: &Node) -> Result<()> {
    let fact = reader.fact(node, 0)?.clone();
    if node.op_type == "Elu" && node.float("alpha", 1.0) == 1.0 {
        return reader.map(node, "elu", Vec::new());
    }
    if node.op_type == "LeakyRelu" && shortest(node.float("alpha", 0.01)) == 0.01 {
        return reader.map(node, "leaky_relu", Vec::new());
    }
    if node.op_type == "LeakyRelu" && (0.0..=1.0).contains(&node.float("alpha", 0.01)) {
        let x = reader.tensor(node, 0)?;
        let right = Argument::Float(shortest(node.float("alpha", 0.01)));
        let kind = Kind::Operator { symbol: '*', left: Argument::Tensor(x), right };
        let small = reader.between(kind, fact.element, fact.dims.clone());
        let arguments = vec![Argument::Tensor(small)];
        let kind = Kind::Method { receiver: x, name: "maximum", arguments };
        reader.give(node, 0, kind, fact.element, fact.dims);
        return Ok(());
    }
    Err(Error::unsupported("this setting of `alpha` has no form in generated code"))
}

/// PRelu with one slope per channel, or one for all.
pub(super) fn prelu(reader: &mut Reader, node: &Node) -> Result<()> {
    let (x, slopes) = (reader.dims(node, 0)?, reader.dims(node, 1)?);
    let behind = slopes.iter().rev().take_while(|dim| dim.is(1)).count();
    let real = &slopes[..slopes.len() - behind];
    // Along axis 1, as libtorch has it.
    let is_per_channel =
        real.last() == x.get(1) && real.iter().rev().skip(1).all(|dim| dim.is(1)) && behind + 2 == x.len();
    if !real.is_empty() && !is_per_channel {
        return Err(Error::unsupported("its slopes are neither one per channel nor one for all"));
    }
    let mut weight = reader.tensor(node, 1)?;
    let count = Expression::product(&slopes);
    if slopes.len() != 1
        && let Some(how) = Rearrangement::reshape(&slopes, std::slice::from_ref(&count))
    {
        let input = std::mem::replace(&mut weight, reader.draft.new_value());
        let step = Step { call: Call::Rearrange { input, how }, results: vec![weight], nodes: Vec::new() };
        reader.push(step, vec![count]);
    }
    reader.map(node, "prelu", vec![Argument::Tensor(weight)])
}

/// Clip: `relu6`, `relu`, or a clamp.
pub(super) fn clip(reader: &mut Reader, node: &Node) -> Result<()> {
    let bound = |reader: &Reader, name: &str, position: usize| -> Result<Option<f64>> {
        if node.attributes.contains_key(name) {
            return Ok(Some(shortest(node.float(name, 0.0))));
        }
        if node.input(position).is_none() {
            return Ok(None);
        }
        let number = reader.fact(node, position)?.uniform();
        number.map(Some).ok_or_else(|| Error::unsupported("a bound is known only when the model runs"))
    };
    let (low, high) = (bound(reader, "min", 1)?, bound(reader, "max", 2)?);
    // The default of operator set 6 is the largest number there is.
    let finite = |bound: Option<f64>| bound.filter(|bound| bound.abs() < f64::from(f32::MAX));
    match (finite(low), finite(high)) {
        (Some(low), Some(high)) if low == 0.0 && high == 6.0 => reader.map(node, "relu6", Vec::new()),
        (Some(low), Some(high)) => reader.map(node, "clamp", vec![Argument::Float(low), Argument::Float(high)]),
        (Some(0.0), None) => reader.map(node, "relu", Vec::new()),
        (Some(low), None) => reader.map(node, "clamp_min", vec![Argument::Float(low)]),
        (None, Some(high)) => reader.map(node, "clamp_max", vec![Argument::Float(high)]),
        (None, None) => super::elementwise::identity(reader, node),
    }
}

/// Softmax and LogSoftmax.
pub(super) fn softmax(reader: &mut Reader, node: &Node) -> Result<()> {
    let rank = reader.dims(node, 0)?.len();
    let old = node.opset < 13;
    let axis = axis_of(node.int("axis", if old { 1 } else { -1 }), rank)?;
    if old && axis + 1 != rank {
        return Err(Error::unsupported("before operator set 13 it goes over several axes at once; convert the file"));
    }
    let dim = if axis + 1 == rank { -1 } else { i64::try_from(axis).unwrap_or(i64::MAX) };
    let name = if node.op_type == "Softmax" { "softmax" } else { "log_softmax" };
    reader.map(node, name, vec![Argument::Integer(Size::Known(dim)), Argument::None])
}

/// Dropout, off where its rate is 0.
pub(super) fn dropout(reader: &mut Reader, node: &Node) -> Result<()> {
    let rate = match reader.optional_fact(node, 1) {
        Some(fact) => fact.uniform().ok_or_else(|| Error::unsupported("its rate is known only when the model runs"))?,
        None => shortest(node.float("ratio", 0.5)),
    };
    if node.output(1).is_some() {
        return Err(Error::unsupported("its mask is used"));
    }
    if rate == 0.0 {
        return super::elementwise::identity(reader, node);
    }
    reader.map(node, "dropout", vec![Argument::Float(rate), Argument::Training])
}
