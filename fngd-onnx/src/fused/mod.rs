//! Fused operators of com.microsoft, which onnxruntime's optimizers write, as the operators that they were fused from.
//!
//! So a weight inside a fused operator is found as the layer that it is, and one implementation serves both forms. The file
//! keeps the fused nodes: nothing here reaches the writer.

mod attention;
mod linear;
mod normalisation;
mod parts;

use crate::graph::{Graph, Node};
use crate::supported::MICROSOFT_DOMAIN;
use crate::{Error, Result};
use parts::Parts;

/// Most nodes after the expansion: as many as a file may have.
const MOST_NODES: usize = 1 << 18;

/// Puts the parts of every fused operator in its place.
///
/// # Errors
/// `is_unsupported()` or `is_malformed()` naming a node that has no such form.
pub(crate) fn expand(graph: &mut Graph) -> Result<()> {
    if graph.nodes.iter().all(|node| node.domain != MICROSOFT_DOMAIN) {
        return Ok(());
    }
    let nodes = std::mem::take(&mut graph.nodes);
    let products = parts::products(&nodes);
    let mut expanded = Vec::with_capacity(nodes.len());
    for node in nodes {
        let mut parts = Parts::new(graph, &node, &products);
        let is_fused =
            node.domain == MICROSOFT_DOMAIN && one(&node, &mut parts).map_err(|error| error.at(node.describe()))?;
        let made = parts.finish();
        if is_fused {
            expanded.extend(made);
        } else {
            expanded.push(node);
        }
        if expanded.len() > MOST_NODES {
            return Err(Error::limit(format!("fused operators come to more than {MOST_NODES} nodes")));
        }
    }
    graph.nodes = expanded;
    Ok(())
}

/// Makes the parts of `node`; false if it stays as it is.
fn one(node: &Node, parts: &mut Parts) -> Result<bool> {
    match node.op_type.as_str() {
        "LayerNormalization" | "SimplifiedLayerNormalization" => normalisation::plain(node, parts)?,
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => normalisation::skip(node, parts)?,
        "EmbedLayerNormalization" => normalisation::embeddings(node, parts)?,
        "BiasGelu" | "FastGelu" | "Gelu" => linear::gelu(node, parts)?,
        "QuickGelu" => linear::quick_gelu(node, parts)?,
        "FusedGemm" => linear::gemm(node, parts)?,
        "FusedConv" => linear::convolution(node, parts)?,
        "FusedMatMul" => return linear::matmul(node, parts),
        "Attention" => attention::packed(node, parts)?,
        "MultiHeadAttention" => return attention::multi_head(node, parts),
        "RotaryEmbedding" => attention::rotary(node, parts)?,
        _ => return Ok(false),
    }
    Ok(true)
}
