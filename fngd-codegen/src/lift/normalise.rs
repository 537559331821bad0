//! Normalisations: BatchNormalization, LayerNormalization, GroupNormalization, InstanceNormalization, RMSNormalization.

use super::facts::shortest;
use super::reader::Reader;
use super::shape::axis_of;
use super::sizes::Expression;
use crate::operation::{Argument, Kind, Layer, Parameter, Size};
use crate::{Error, Result};
use fngd_onnx::graph::{ElementType, Node};

/// BatchNormalization.
pub(super) fn batch(reader: &mut Reader, node: &Node) -> Result<()> {
    let dims = reader.dims(node, 0)?;
    let parameters = vec![
        parameter(reader, node, 1, "weight")?,
        parameter(reader, node, 2, "bias")?,
        parameter(reader, node, 3, "running_mean")?,
        parameter(reader, node, 4, "running_var")?,
    ];
    let features = parameters[0].dims.first().copied().unwrap_or(0);
    let layer = Layer::BatchNorm {
        spatial_dims: dims.len().saturating_sub(2).max(1),
        features,
        epsilon: epsilon(node),
        // ONNX has the share of the old value.
        momentum: rounded(1.0 - shortest(node.float("momentum", 0.9))),
    };
    let input = reader.tensor(node, 0)?;
    reader.give(node, 0, Kind::Layer { layer, input, parameters }, ElementType::Float32, dims);
    Ok(())
}

/// LayerNormalization: a layer if its scale is a parameter.
pub(super) fn layer(reader: &mut Reader, node: &Node) -> Result<()> {
    if node.output(1).is_some() || node.output(2).is_some() {
        return Err(Error::unsupported("its statistics are used"));
    }
    let dims = reader.dims(node, 0)?;
    let shape = normalised(node, &dims)?;
    let scale = reader.fact(node, 1)?.uniform();
    let shift = reader.optional_fact(node, 2).map(|fact| fact.uniform());
    if scale == Some(1.0) && shift.is_none_or(|shift| shift == Some(0.0)) {
        let sizes = shape.iter().map(|size| Size::Known(*size)).collect();
        let (none, epsilon) = (Argument::NoTensor, Argument::Float(epsilon(node)));
        let arguments = vec![Argument::Integers(sizes), none.clone(), none, epsilon, Argument::Bool(true)];
        return reader.map(node, "layer_norm", arguments);
    }
    let mut parameters = vec![parameter(reader, node, 1, "weight")?];
    if node.input(2).is_some() {
        parameters.push(parameter(reader, node, 2, "bias")?);
    }
    if parameters.iter().any(|parameter| parameter.dims != shape) {
        return Err(Error::unsupported(format!("its parameters do not have the normalised dimensions {shape:?}")));
    }
    let layer = Layer::LayerNorm { shape, epsilon: epsilon(node) };
    let input = reader.tensor(node, 0)?;
    reader.give(node, 0, Kind::Layer { layer, input, parameters }, ElementType::Float32, dims);
    Ok(())
}

/// RMSNormalization.
pub(super) fn root_mean_square(reader: &mut Reader, node: &Node) -> Result<()> {
    let shape = normalised(node, &reader.dims(node, 0)?)?;
    let weight = reader.tensor(node, 1)?;
    let sizes = shape.iter().map(|size| Size::Known(*size)).collect();
    let epsilon = Argument::Float(epsilon(node));
    reader.map(node, "rms_norm", vec![Argument::Integers(sizes), Argument::SomeTensor(weight), epsilon])
}

/// GroupNormalization with a scale per channel.
pub(super) fn group(reader: &mut Reader, node: &Node) -> Result<()> {
    if node.opset < 21 {
        return Err(Error::unsupported("before operator set 21 it has one scale per group; convert the file"));
    }
    groups(reader, node, node.int("num_groups", 1))
}

/// InstanceNormalization: as many groups as channels.
pub(super) fn instance(reader: &mut Reader, node: &Node) -> Result<()> {
    let (scale, shift) = (reader.fact(node, 1)?.uniform(), reader.fact(node, 2)?.uniform());
    if scale == Some(1.0) && shift == Some(0.0) {
        let (none, epsilon) = (Argument::NoTensor, Argument::Float(epsilon(node)));
        let statistics = [Argument::Bool(true), Argument::Float(0.0), epsilon, Argument::Bool(true)];
        return reader.map(node, "instance_norm", [vec![none; 4], statistics.to_vec()].concat());
    }
    let channels = reader.dims(node, 0)?.get(1).and_then(Expression::known);
    groups(reader, node, channels.ok_or_else(|| Error::unsupported("its number of channels is not known"))?)
}

fn groups(reader: &mut Reader, node: &Node, groups: i64) -> Result<()> {
    let dims = reader.dims(node, 0)?;
    let parameters = vec![parameter(reader, node, 1, "weight")?, parameter(reader, node, 2, "bias")?];
    let features = parameters[0].dims.first().copied().unwrap_or(0);
    let layer = Layer::GroupNorm { groups, features, epsilon: epsilon(node) };
    let input = reader.tensor(node, 0)?;
    reader.give(node, 0, Kind::Layer { layer, input, parameters }, ElementType::Float32, dims);
    Ok(())
}

fn parameter(reader: &Reader, node: &Node, position: usize, role: &str) -> Result<Parameter> {
    let found = reader.constant(node, position).and_then(|(id, _)| reader.parameter(id, role));
    found.ok_or_else(|| Error::unsupported(format!("its {role} is no constant")))
}

fn normalised(node: &Node, dims: &[Expression]) -> Result<Vec<i64>> {
    let axis = axis_of(node.int("axis", -1), dims.len())?;
    let shape = dims[axis..].iter().map(Expression::known).collect::<Option<_>>();
    shape.ok_or_else(|| Error::unsupported("the sizes that are normalised are known only when the model runs"))
}

fn epsilon(node: &Node) -> f64 {
    shortest(node.float("epsilon", 1e-5))
}

/// Without what the subtraction left: 0.1, not 0.09999999999999998.
fn rounded(number: f64) -> f64 {
    (number * 1e9).round() / 1e9
}
