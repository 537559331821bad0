//! LayerNormalization and RMSNormalization with the sums in front of them.

use super::linear::required;
use super::parts::{Parts, attributes};
use crate::graph::{Attribute, Node, ValueId};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// The same operators as in ai.onnx.
pub(super) fn plain(node: &Node, parts: &mut Parts) -> Result<()> {
    let settings = node.attributes.clone();
    if node.op_type == "LayerNormalization" {
        parts.node_to("LayerNormalization", &node.inputs, settings, node.outputs.clone());
    } else {
        refuse_statistics(node, 1)?;
        parts.node_to("RMSNormalization", &node.inputs, settings, vec![node.output(0)]);
    }
    Ok(())
}

/// The normalised sum of two branches, and a bias that was left of the layer in front.
pub(super) fn skip(node: &Node, parts: &mut Parts) -> Result<()> {
    let is_simplified = node.op_type == "SkipSimplifiedLayerNormalization";
    let (mut branch, mut other) = (required(node, 0)?, required(node, 1)?);
    if parts.is_product(other) && !parts.is_product(branch) {
        std::mem::swap(&mut branch, &mut other);
    }
    if let Some(bias) = node.input(if is_simplified { 3 } else { 4 }) {
        branch = parts.add(branch, bias);
    }
    let sum = match node.output(3) {
        Some(output) => {
            parts.node_to("Add", &[Some(branch), Some(other)], BTreeMap::new(), vec![Some(output)]);
            output
        }
        None => parts.add(branch, other),
    };
    let epsilon = epsilon(node);
    let (scale, shift) = (node.input(2), node.input(3));
    if is_simplified {
        refuse_statistics(node, 1)?;
        parts.node_to("RMSNormalization", &[Some(sum), scale], epsilon, vec![node.output(0)]);
    } else {
        let outputs = (0..3).map(|position| node.output(position)).collect();
        parts.node_to("LayerNormalization", &[Some(sum), scale, shift], epsilon, outputs);
    }
    Ok(())
}

/// Word, position and segment embeddings, their sum, normalised.
pub(super) fn embeddings(node: &Node, parts: &mut Parts) -> Result<()> {
    let ids = required(node, 0)?;
    let words = gather(required(node, 2)?, ids, parts);
    let table = required(node, 3)?;
    let positions = match node.input(8) {
        Some(positions) => gather(table, positions, parts),
        None => {
            // As many rows as there are words in a sentence.
            let range = attributes([("start", Attribute::Int(1)), ("end", Attribute::Int(2))]);
            let length = parts.node("Shape", &[Some(ids)], range);
            let (start, axis) = (parts.integers(&[0]), parts.integers(&[0]));
            parts.node("Slice", &[Some(table), Some(start), Some(length), Some(axis)], BTreeMap::new())
        }
    };
    let mut sum = parts.add(words, positions);
    if let (Some(segments), Some(table)) = (node.input(1), node.input(4)) {
        let segments = gather(table, segments, parts);
        sum = parts.add(sum, segments);
    }
    if let Some(output) = node.output(2) {
        parts.node_to("Identity", &[Some(sum)], BTreeMap::new(), vec![Some(output)]);
    }
    if let Some(output) = node.output(1) {
        let mask = node.input(7).ok_or_else(|| Error::unsupported("output 1 (`mask_index`) without a mask"))?;
        let axis = parts.integers(&[1]);
        let settings = attributes([("keepdims", Attribute::Int(0))]);
        parts.node_to("ReduceSum", &[Some(mask), Some(axis)], settings, vec![Some(output)]);
    }
    let inputs = [Some(sum), node.input(5), node.input(6)];
    parts.node_to("LayerNormalization", &inputs, epsilon(node), vec![node.output(0)]);
    Ok(())
}

fn gather(table: ValueId, ids: ValueId, parts: &mut Parts) -> ValueId {
    parts.node("Gather", &[Some(table), Some(ids)], BTreeMap::new())
}

fn epsilon(node: &Node) -> BTreeMap<String, Attribute> {
    attributes([("epsilon", Attribute::Float(node.float("epsilon", 1e-12)))])
}

fn refuse_statistics(node: &Node, first: usize) -> Result<()> {
    match (first..3).find(|position| node.output(*position).is_some()) {
        Some(position) => Err(Error::unsupported(format!("output {position}, a statistic, is used"))),
        None => Ok(()),
    }
}
