//! Stochastic depth in the written file: the branches that it drops while training are always there in use.
//!
//! Unlike Dropout, the nodes that drop them have no mode: a runtime would go on dropping branches.

use super::splice::Edit;
use super::structure::{fields_of, input};
use crate::analysis::drop_path::masks;
use crate::error::quoted;
use crate::graph::{Graph, Node};
use crate::read::Imported;
use crate::wire::put_bytes;
use crate::{Error, Result};

/// The edits that make an Identity of each masking Mul and remove the nodes that make the masks, with sentences for the report.
pub(crate) fn remove(file: &[u8], imported: &Imported) -> Result<(Vec<Edit>, Vec<String>)> {
    let (mut edits, mut log) = (Vec::new(), Vec::new());
    for mask in masks(&imported.graph) {
        let span = |node: &Node| node.index.and_then(|index| imported.spans.nodes.get(index)).ok_or_else(lost);
        let product = span(mask.product)?;
        let mut fields = Vec::new();
        put_bytes(&mut fields, 4, b"Identity");
        let range = fields_of(file, product, 4)?.into_iter().next().ok_or_else(lost)?;
        edits.push(Edit { range, fields });
        edits.push(input(file, product, mask.slot, None)?);
        if let Some(division) = mask.division {
            let branch = division.input(0).and_then(|value| imported.graph.values.get(value.0)).ok_or_else(lost)?;
            edits.push(input(file, product, 1 - mask.slot.min(1), Some(&branch.name))?);
            edits.push(Edit { range: span(division)?.field.clone(), fields: Vec::new() });
        }
        for node in &mask.nodes {
            edits.push(Edit { range: span(node)?.field.clone(), fields: Vec::new() });
        }
        log.push(format!("Mul {} put in inference mode: it drops no branch", quoted(&mask.product.name)));
    }
    Ok((edits, log))
}

/// How many nodes that draw random numbers `remove` leaves in the file.
pub(crate) fn left_over(graph: &Graph) -> usize {
    let draws =
        |name: &str| name.starts_with("RandomUniform") || name.starts_with("RandomNormal") || name == "Bernoulli";
    let all = graph.nodes.iter().filter(|node| node.domain.is_empty() && draws(&node.op_type)).count();
    all.saturating_sub(masks(graph).len())
}

fn lost() -> Error {
    Error::malformed("the node that should be edited is not where it was read")
}
