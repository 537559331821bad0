//! Linear layers and convolutions with what was fused into them: a scale, a transposition, an activation function.

use super::parts::{Parts, attributes};
use crate::graph::{Attribute, Node, ValueId};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// BiasGelu, FastGelu and Gelu.
pub(super) fn gelu(node: &Node, parts: &mut Parts) -> Result<()> {
    let approximate = if node.op_type == "FastGelu" { "tanh" } else { "none" };
    let x = required(node, 0)?;
    let sum = match node.input(1) {
        Some(bias) => parts.add(x, bias),
        None => x,
    };
    let how = attributes([("approximate", Attribute::String(approximate.into()))]);
    parts.node_to("Gelu", &[Some(sum)], how, node.outputs.clone());
    Ok(())
}

/// `x · sigmoid(alpha · x)`
pub(super) fn quick_gelu(node: &Node, parts: &mut Parts) -> Result<()> {
    let x = required(node, 0)?;
    let alpha = parts.number(node.float("alpha", 1.702));
    let scaled = parts.node("Mul", &[Some(x), Some(alpha)], BTreeMap::new());
    let gate = parts.node("Sigmoid", &[Some(scaled)], BTreeMap::new());
    parts.node_to("Mul", &[Some(x), Some(gate)], BTreeMap::new(), node.outputs.clone());
    Ok(())
}

/// Gemm and an activation function.
pub(super) fn gemm(node: &Node, parts: &mut Parts) -> Result<()> {
    let inner = without(node, &["activation", "activation_alpha", "activation_beta", "activation_gamma"]);
    let numbers: Vec<f32> = ["activation_alpha", "activation_beta", "activation_gamma"]
        .iter()
        .filter(|name| node.attributes.contains_key(**name))
        .map(|name| node.float(name, 0.0))
        .collect();
    let product = parts.node("Gemm", &node.inputs, inner);
    activation(node, product, &numbers, parts)
}

/// Conv, perhaps the sum with another tensor, and an activation function.
pub(super) fn convolution(node: &Node, parts: &mut Parts) -> Result<()> {
    let inner = without(node, &["activation", "activation_params"]);
    let inputs: Vec<_> = node.inputs.iter().take(3).copied().collect();
    let mut output = parts.node("Conv", &inputs, inner);
    if let Some(other) = node.input(3) {
        output = parts.add(output, other);
    }
    let numbers: &[f32] = match node.attributes.get("activation_params") {
        Some(Attribute::Floats(numbers)) => numbers,
        _ => &[],
    };
    activation(node, output, numbers, parts)
}

/// MatMul with a weight and a scale; false if the weight is none, because then the number of dimensions is not known.
pub(super) fn matmul(node: &Node, parts: &mut Parts) -> Result<bool> {
    let turns = |name: &str| node.int(name, 0) != 0;
    let is_matrix = parts.constant_dims(node.input(1)).is_some_and(|dims| dims.len() == 2);
    if !is_matrix || turns("transA") || turns("transBatchA") || turns("transBatchB") {
        return Ok(false);
    }
    let mut weight = node.input(1);
    if turns("transB") {
        weight = Some(parts.node("Transpose", &[weight], attributes([("perm", Attribute::Ints(vec![1, 0]))])));
    }
    let inputs = [node.input(0), weight];
    let alpha = node.float("alpha", 1.0);
    if alpha == 1.0 {
        parts.node_to("MatMul", &inputs, BTreeMap::new(), node.outputs.clone());
        return Ok(true);
    }
    let product = parts.node("MatMul", &inputs, BTreeMap::new());
    let alpha = parts.number(alpha);
    parts.node_to("Mul", &[Some(product), Some(alpha)], BTreeMap::new(), node.outputs.clone());
    Ok(true)
}

/// Attribute `activation` of `x`, with its numbers in onnxruntime's order.
fn activation(node: &Node, x: ValueId, numbers: &[f32], parts: &mut Parts) -> Result<()> {
    let name = node.string("activation", "");
    let names: &[&str] = match name {
        "" => {
            parts.node_to("Identity", &[Some(x)], BTreeMap::new(), node.outputs.clone());
            return Ok(());
        }
        "Relu" | "Tanh" | "Sigmoid" | "Softplus" | "Softsign" => &[],
        "LeakyRelu" | "Elu" | "ThresholdedRelu" => &["alpha"],
        "HardSigmoid" => &["alpha", "beta"],
        "Clip" => {
            let &[low, high] = numbers else {
                return Err(Error::malformed(format!("Clip has two bounds, found {numbers:?}")));
            };
            let bounds = [Some(x), Some(parts.number(low)), Some(parts.number(high))];
            parts.node_to("Clip", &bounds, BTreeMap::new(), node.outputs.clone());
            return Ok(());
        }
        other => return Err(Error::unsupported(format!("attribute `activation` is `{other}`"))),
    };
    let pairs = names.iter().zip(numbers);
    let settings = pairs.map(|(name, number)| ((*name).to_owned(), Attribute::Float(*number))).collect();
    parts.node_to(name, &[Some(x)], settings, node.outputs.clone());
    Ok(())
}

fn without(node: &Node, names: &[&str]) -> BTreeMap<String, Attribute> {
    let kept = node.attributes.iter().filter(|(name, _)| !names.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Input `position`.
pub(super) fn required(node: &Node, position: usize) -> Result<ValueId> {
    node.input(position).ok_or_else(|| Error::malformed(format!("input {position} is missing")))
}
