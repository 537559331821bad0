//! Stochastic depth in the written file: the branches that it drops while training are always there in use.
//!
//! Exporters write it as RandomUniformLike, a comparison or a Floor, casts, a Div by the rate of survival, and a Mul with the
//! branch. Unlike Dropout, none of these has a mode: a runtime would go on dropping branches.

use super::splice::Edit;
use super::structure::{fields_of, input};
use crate::analysis::Uses;
use crate::error::quoted;
use crate::graph::{Graph, Node, ValueId};
use crate::read::Imported;
use crate::wire::put_bytes;
use crate::{Error, Result};
use std::collections::BTreeSet;

/// One random mask.
struct Mask<'a> {
    /// The nodes that make it.
    nodes: Vec<&'a Node>,
    /// The node that applies it, and at which input.
    product: &'a Node,
    slot: usize,
}

/// The edits that make an Identity of each masking Mul and remove the nodes that make the masks, with sentences for the report.
pub(crate) fn remove(file: &[u8], imported: &Imported) -> Result<(Vec<Edit>, Vec<String>)> {
    let (mut edits, mut log) = (Vec::new(), Vec::new());
    for mask in masks(&imported.graph) {
        let span = |node: &Node| imported.spans.nodes.get(node.index).ok_or_else(lost);
        let product = span(mask.product)?;
        let mut fields = Vec::new();
        put_bytes(&mut fields, 4, b"Identity");
        let range = fields_of(file, product, 4)?.into_iter().next().ok_or_else(lost)?;
        edits.push(Edit { range, fields });
        edits.push(input(file, product, mask.slot, None)?);
        for node in &mask.nodes {
            edits.push(Edit { range: span(node)?.field.clone(), fields: Vec::new() });
        }
        log.push(format!("Mul {} put in inference mode: it drops no branch", quoted(&mask.product.name)));
    }
    Ok((edits, log))
}

/// How many RandomUniformLike `remove` leaves in the file.
pub(crate) fn left_over(graph: &Graph) -> usize {
    let all = graph.nodes.iter().filter(|node| node.op_type == "RandomUniformLike").count();
    all.saturating_sub(masks(graph).len())
}

fn masks(graph: &Graph) -> Vec<Mask<'_>> {
    let uses = Uses::of(graph);
    let random = graph.nodes.iter().filter(|node| node.op_type == "RandomUniformLike" && node.domain.is_empty());
    let mut products = BTreeSet::new();
    // A product of two masks stays: it cannot become an Identity of both.
    random.filter_map(|node| mask(graph, &uses, node)).filter(|mask| products.insert(mask.product.index)).collect()
}

/// Follows the random numbers to the Mul, as long as nobody else reads them.
fn mask<'a>(graph: &'a Graph, uses: &Uses, random: &'a Node) -> Option<Mask<'a>> {
    let mut nodes = vec![random];
    // A comparison or a rounding has made zeros and ones of the random numbers.
    let mut is_binary = false;
    let mut value: ValueId = random.output(0)?;
    loop {
        // Dynamo casts the rate to the type of the random numbers: that reads their type only, and goes with them.
        let (types, values): (Vec<_>, Vec<_>) = uses.readers(value).iter().partition(|(index, slot)| {
            *slot == 1 && graph.nodes.get(*index).is_some_and(|node| node.op_type == "CastLike")
        });
        nodes.extend(types.iter().filter_map(|(index, _)| graph.nodes.get(*index)));
        let [(index, slot)] = values.as_slice() else { return None };
        let node = graph.nodes.get(*index)?;
        match node.op_type.as_str() {
            "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Floor" if !is_binary => is_binary = true,
            "Add" if !is_binary => (),
            "Cast" | "CastLike" | "Identity" | "Div" if *slot == 0 => (),
            "Mul" if is_binary && node.inputs.len() == 2 => {
                return removable(graph, uses, &nodes, node).then_some(Mask { nodes, product: node, slot: *slot });
            }
            _ => return None,
        }
        nodes.push(node);
        value = node.output(0)?;
    }
}

/// Whether nothing but `product` needs what `nodes` compute.
fn removable(graph: &Graph, uses: &Uses, nodes: &[&Node], product: &Node) -> bool {
    let gone: BTreeSet<usize> = nodes.iter().copied().chain([product]).map(|node| node.index).collect();
    let stays = |index: usize| graph.nodes.get(index).is_none_or(|node| !gone.contains(&node.index));
    nodes
        .iter()
        .flat_map(|node| node.outputs.iter().flatten())
        .all(|output| !uses.is_output(*output) && uses.readers(*output).iter().all(|(index, _)| !stays(*index)))
}

fn lost() -> Error {
    Error::malformed("the node that should be edited is not where it was read")
}
