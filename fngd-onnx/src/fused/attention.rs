//! Attention with the linear layer in front of it, and rotary positions.

use super::linear::required;
use super::parts::{Parts, attributes};
use crate::graph::{Attribute, Node, ValueId};
use crate::supported::MICROSOFT_DOMAIN;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Attention whose queries, keys and values come from one linear layer: that layer, a Split, and MultiHeadAttention.
pub(super) fn packed(node: &Node, parts: &mut Parts) -> Result<()> {
    if node.int("do_rotary", 0) != 0 || node.int("past_present_share_buffer", 0) != 0 || node.input(6).is_some() {
        return Err(Error::unsupported("rotary positions or a shared buffer inside of Attention"));
    }
    let (x, weight) = (required(node, 0)?, required(node, 1)?);
    let mut product = parts.node("MatMul", &[Some(x), Some(weight)], BTreeMap::new());
    if let Some(bias) = node.input(2) {
        product = parts.add(product, bias);
    }
    let sizes = node.ints("qkv_hidden_sizes").filter(|sizes| !sizes.is_empty()).map(<[i64]>::to_vec);
    let [query, key, value] = split(product, -1, sizes.as_deref(), parts);
    let mut inputs = vec![Some(query), Some(key), Some(value), None, node.input(3), node.input(5)];
    if let Some(past) = node.input(4) {
        let [past_key, past_value] = split(past, 0, None, parts).map(|half| {
            let axis = parts.integers(&[0]);
            parts.node("Squeeze", &[Some(half), Some(axis)], BTreeMap::new())
        });
        inputs.extend([Some(past_key), Some(past_value)]);
    }
    let mut outputs = vec![node.output(0)];
    if let Some(present) = node.output(1) {
        let (key, value) = (parts.value("present_key"), parts.value("present_value"));
        outputs.extend([Some(key), Some(value)]);
        parts.node_to("MultiHeadAttention", &inputs, node.attributes.clone(), outputs);
        parts.last_is(MICROSOFT_DOMAIN);
        let [key, value] = [key, value].map(|state| {
            let axis = parts.integers(&[0]);
            parts.node("Unsqueeze", &[Some(state), Some(axis)], BTreeMap::new())
        });
        let axis = attributes([("axis", Attribute::Int(0))]);
        parts.node_to("Concat", &[Some(key), Some(value)], axis, vec![Some(present)]);
    } else {
        parts.node_to("MultiHeadAttention", &inputs, node.attributes.clone(), outputs);
        parts.last_is(MICROSOFT_DOMAIN);
    }
    Ok(())
}

/// MultiHeadAttention without the biases of its inputs; false if it has none.
pub(super) fn multi_head(node: &Node, parts: &mut Parts) -> Result<bool> {
    if node.input(8).is_some() || node.input(9).is_some() {
        return Err(Error::unsupported("inputs `past_sequence_length` and `cache_indirection`"));
    }
    let Some(bias) = node.input(3) else { return Ok(false) };
    let (Some(query), Some(key), Some(value)) = (node.input(0), node.input(1), node.input(2)) else {
        return Err(Error::unsupported("a bias of packed queries, keys and values"));
    };
    let mut inputs = node.inputs.clone();
    for (position, (input, part)) in [query, key, value].into_iter().zip(split::<3>(bias, 0, None, parts)).enumerate() {
        let sum = parts.add(input, part);
        inputs.splice(position..=position, [Some(sum)]);
    }
    inputs.splice(3..4, [None]);
    parts.same(inputs);
    Ok(true)
}

/// The operator of ai.onnx has its inputs in another order.
pub(super) fn rotary(node: &Node, parts: &mut Parts) -> Result<()> {
    if node.int("is_packed_batching", 0) != 0 || node.float("scale", 1.0) != 1.0 {
        return Err(Error::unsupported("packed batches or a scale of rotary positions"));
    }
    let inputs = [node.input(0), node.input(2), node.input(3), node.input(1)];
    let names = ["interleaved", "num_heads", "rotary_embedding_dim"];
    let settings = names.map(|name| (name, Attribute::Int(node.int(name, 0))));
    parts.node_to("RotaryEmbedding", &inputs, attributes(settings), node.outputs.clone());
    Ok(())
}

fn split<const COUNT: usize>(x: ValueId, axis: i64, sizes: Option<&[i64]>, parts: &mut Parts) -> [ValueId; COUNT] {
    let outputs: [ValueId; COUNT] = std::array::from_fn(|_| parts.value("Split"));
    let mut settings = attributes([("axis", Attribute::Int(axis))]);
    let mut inputs = vec![Some(x)];
    match sizes {
        Some(sizes) => inputs.push(Some(parts.integers(sizes))),
        None => settings.extend(attributes([("num_outputs", Attribute::Int(COUNT as i64))])),
    }
    parts.node_to("Split", &inputs, settings, outputs.map(Some).to_vec());
    outputs
}
