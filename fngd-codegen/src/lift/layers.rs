//! Layers with a weight matrix: Conv, ConvTranspose, MatMul, Gemm.

use super::elementwise::joined;
use super::reader::Reader;
use super::sizes::Expression;
use super::window::Window;
use crate::operation::{Argument, Kind, Layer, Parameter};
use crate::{Error, Result};
use fngd_onnx::analysis::LayerInfo;
use fngd_onnx::graph::{ElementType, Node, ValueId};

/// Conv and ConvTranspose with a constant weight.
pub(super) fn convolution(reader: &mut Reader, node: &Node) -> Result<()> {
    let layer = reader.layer().ok_or_else(|| Error::unsupported("its weight is computed by other nodes"))?;
    let parameters = parameters(reader, &layer)?;
    // A bias that is zero whatever happens is none: what some exporters leave of a deleted one.
    if let Some(why) = layer.plain_because.clone().filter(|_| node.input(2).is_some() && layer.bias.is_none()) {
        return Err(Error::unsupported(why));
    }
    let weight = parameters.first().map(|weight| weight.dims.clone()).unwrap_or_default();
    let [first, second, kernel @ ..] = weight.as_slice() else {
        return Err(Error::unsupported("its weight has fewer than 3 dimensions"));
    };
    let dims = reader.dims(node, 0)?;
    if dims.len() != kernel.len() + 2 {
        return Err(Error::unsupported(format!(
            "its input has {} dimensions, its weight {}",
            dims.len(),
            weight.len()
        )));
    }
    let transposed = node.op_type == "ConvTranspose";
    let groups = node.int("group", 1);
    let window = Window::read(node, kernel)?;
    let (in_channels, out_channels) =
        if transposed { (*first, second.saturating_mul(groups)) } else { (second.saturating_mul(groups), *first) };
    let mut input = reader.tensor(node, 0)?;
    let padding = match window.symmetric(&dims[2..])? {
        Some(padding) => padding,
        None if transposed => return Err(Error::unsupported("its padding is not the same on both sides")),
        None => {
            input = super::index::zeros_around(reader, input, &dims, &window.pads(&dims[2..])?);
            vec![0; kernel.len()]
        }
    };
    let output_padding =
        transposed.then(|| node.ints("output_padding").map_or_else(|| vec![0; kernel.len()], <[i64]>::to_vec));
    let spatial = match &output_padding {
        None => window.output(&dims[2..])?,
        Some(extra) if node.ints("output_shape").is_none() => window.transposed_output(&dims[2..], extra)?,
        Some(_) => return Err(Error::unsupported("attribute `output_shape` is given; export with `output_padding`")),
    };
    let result = [vec![dims[0].clone(), out_channels.into()], spatial].concat();
    let layer = Layer::Convolution {
        in_channels,
        out_channels,
        kernel: kernel.to_vec(),
        stride: window.stride,
        padding,
        dilation: window.dilation,
        groups,
        bias: parameters.len() > 1,
        output_padding,
    };
    reader.give(node, 0, Kind::Layer { layer, input, parameters }, ElementType::Float32, result);
    Ok(())
}

/// MatMul: a linear layer, with the Add of its bias, or a product of two tensors.
pub(super) fn matmul(reader: &mut Reader, node: &Node) -> Result<()> {
    if let Some(layer) = reader.layer() {
        return linear(reader, node, &layer);
    }
    let (a, b) = (reader.dims(node, 0)?, reader.dims(node, 1)?);
    let ([left @ .., rows, _], [right @ .., _, columns]) = (a.as_slice(), b.as_slice()) else {
        return Err(Error::unsupported("an operand has fewer than 2 dimensions"));
    };
    let dims = [joined(reader, left, right)?, vec![rows.clone(), columns.clone()]].concat();
    let (receiver, other) = (reader.tensor(node, 0)?, reader.tensor(node, 1)?);
    let kind = Kind::Method { receiver, name: "matmul", arguments: vec![Argument::Tensor(other)] };
    reader.give(node, 0, kind, ElementType::Float32, dims);
    Ok(())
}

/// Gemm: a linear layer.
pub(super) fn gemm(reader: &mut Reader, node: &Node) -> Result<()> {
    let is_plain = node.float("alpha", 1.0) == 1.0 && node.int("transA", 0) == 0;
    let is_plain = is_plain && (node.input(2).is_none() || node.float("beta", 1.0) == 1.0);
    match reader.layer().filter(|_| is_plain) {
        Some(layer) => match &layer.plain_because {
            Some(why) if node.input(2).is_some() && layer.bias.is_none() => Err(Error::unsupported(why)),
            _ => linear(reader, node, &layer),
        },
        None if is_plain && reader.model.analysis().layers.contains_key(&reader.index) => product(reader, node),
        None => Err(Error::unsupported(
            "it is no linear layer: its weight is computed, or `alpha`, `beta` or `transA` is set",
        )),
    }
}

/// Gemm with a weight that the model holds the other way round, for another layer.
fn product(reader: &mut Reader, node: &Node) -> Result<()> {
    let (mut dims, weight) = (reader.dims(node, 0)?, reader.dims(node, 1)?);
    let is_turned = node.int("transB", 0) != 0;
    if let ([.., last], [rows, columns]) = (dims.as_mut_slice(), weight.as_slice()) {
        *last = if is_turned { rows } else { columns }.clone();
    }
    let (receiver, other) = (reader.tensor(node, 0)?, reader.tensor(node, 1)?);
    let mut arguments = vec![Argument::Tensor(other)];
    if is_turned {
        arguments.push(Argument::NoTensor);
    }
    let name = if is_turned { "linear" } else { "matmul" };
    let kind = Kind::Method { receiver, name, arguments };
    if node.input(2).is_none() {
        reader.give(node, 0, kind, ElementType::Float32, dims);
        return Ok(());
    }
    let left = Argument::Tensor(reader.between(kind, ElementType::Float32, dims.clone()));
    let right = Argument::Tensor(reader.tensor(node, 2)?);
    reader.give(node, 0, Kind::Operator { symbol: '+', left, right }, ElementType::Float32, dims);
    Ok(())
}

fn linear(reader: &mut Reader, node: &Node, layer: &LayerInfo) -> Result<()> {
    let parameters = parameters(reader, layer)?;
    let [out_features, in_features] = parameters.first().map(|weight| weight.dims.clone()).unwrap_or_default()[..]
    else {
        return Err(Error::unsupported("its weight is no matrix"));
    };
    let mut dims = reader.dims(node, 0)?;
    if let Some(last) = dims.last_mut() {
        *last = out_features.into();
    }
    let input = reader.tensor(node, 0)?;
    // nn.MultiheadAttention says `in_proj_weight`.
    let name = reader.graph.values.get(layer.weight.0).map_or("", |info| info.name.as_str());
    let underscored =
        name.rsplit('.').next().is_some_and(|last| last.len() > "_weight".len() && last.ends_with("_weight"));
    let kind = Kind::Layer {
        layer: Layer::Linear { in_features, out_features, bias: parameters.len() > 1, underscored },
        input,
        parameters,
    };
    match layer.bias_add {
        None => reader.give(node, 0, kind, ElementType::Float32, dims),
        Some(add) => absorb(reader, add, layer.output, kind, dims),
    }
    Ok(())
}

/// The layer gives what the Add of its bias gave.
fn absorb(reader: &mut Reader, add: usize, output: ValueId, kind: Kind, dims: Vec<Expression>) {
    reader.absorbed.insert(add);
    let mut whole = reader.graph.nodes[add].clone();
    whole.outputs = vec![Some(output)];
    reader.give(&whole, 0, kind, ElementType::Float32, dims);
    if let Some(step) = reader.draft.steps.last_mut() {
        step.nodes.push(add);
    }
}

fn parameters(reader: &Reader, layer: &LayerInfo) -> Result<Vec<Parameter>> {
    let of = |id: ValueId, role: &str| {
        reader.parameter(id, role).ok_or_else(|| Error::unsupported(format!("its {role} is no constant")))
    };
    let mut all = vec![of(layer.weight, "weight")?];
    if let Some(bias) = layer.bias {
        all.push(of(bias, "bias")?);
    }
    Ok(all)
}
