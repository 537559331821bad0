//! Which nodes become steps: layers, and everything else that a result needs.

use super::layers::{LayerNode, Layers};
use super::parameters::Parameters;
use super::table;
use crate::{Error, Result};
use fngd_onnx::analysis::Analysis;
use fngd_onnx::graph::{Graph, Node, ValueId};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// A node on its way to a step.
pub(crate) struct Draft<'a> {
    pub node: Cow<'a, Node>,
    /// What it computes, if it is a layer.
    pub layer: Option<LayerNode>,
}

impl Draft<'_> {
    /// What it reads.
    pub fn inputs(&self) -> &[Option<ValueId>] {
        self.layer.as_ref().map_or(&self.node.inputs, |layer| &layer.inputs)
    }

    /// What it writes.
    pub fn outputs(&self) -> Vec<Option<ValueId>> {
        self.layer.as_ref().map_or_else(|| self.node.outputs.clone(), |layer| vec![Some(layer.output)])
    }
}

/// The nodes that the results need: layers found, what layers replace left out.
pub(crate) fn of<'a>(
    graph: &'a Graph,
    analysis: &Analysis,
    parameters: &Parameters,
    layers: &mut Layers,
) -> Result<Vec<Draft<'a>>> {
    Ok(live(all(graph, analysis, parameters, layers)?, graph, analysis))
}

fn all<'a>(
    graph: &'a Graph,
    analysis: &Analysis,
    parameters: &Parameters,
    layers: &mut Layers,
) -> Result<Vec<Draft<'a>>> {
    let mut replaced = BTreeSet::new();
    let mut drafts = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if replaced.contains(&index) {
            continue;
        }
        let layer = if analysis.layers.contains_key(&index) {
            layers.build(graph, analysis, parameters, index).map_err(|error| error.at(node.describe()))?
        } else {
            None
        };
        replaced.extend(layer.as_ref().and_then(|layer| layer.replaces));
        drafts.push(Draft { node: Cow::Borrowed(node), layer });
    }
    Ok(drafts)
}

/// Drops nodes that no result needs, and the names of outputs that nobody reads.
fn live<'a>(drafts: Vec<Draft<'a>>, graph: &Graph, analysis: &Analysis) -> Vec<Draft<'a>> {
    let mut wanted: BTreeSet<ValueId> = graph.outputs.iter().copied().chain(analysis.logits).collect();
    let mut kept = Vec::new();
    for mut draft in drafts.into_iter().rev() {
        let outputs = draft.outputs();
        if !outputs.iter().flatten().any(|output| wanted.contains(output)) {
            continue;
        }
        if draft.layer.is_none() && outputs.iter().flatten().any(|output| !wanted.contains(output)) {
            let node = draft.node.to_mut();
            for output in &mut node.outputs {
                *output = output.filter(|output| wanted.contains(output));
            }
        }
        wanted.extend(draft.inputs().iter().flatten());
        kept.push(draft);
    }
    kept.reverse();
    kept
}

/// The error that lists every operator that is not supported.
pub(crate) fn refuse_unsupported(drafts: &[Draft]) -> Result<()> {
    let mut missing: BTreeMap<(&str, &str, i64), Vec<&str>> = BTreeMap::new();
    for Draft { node, .. } in drafts {
        if table::find(node).is_none() {
            missing.entry((&node.domain, &node.op_type, node.opset)).or_default().push(&node.name);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let lines = missing.into_iter().map(|((domain, op_type, opset), nodes)| {
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        let more = if nodes.len() > 3 { ", ..." } else { "" };
        let names = nodes.iter().take(3).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let count = if nodes.len() == 1 { "1 node".into() } else { format!("{} nodes", nodes.len()) };
        format!("\n  {op_type} ({domain}, opset {opset}): {count}: {names}{more}")
    });
    Err(Error::unsupported(format!("operators that are not supported:{}", lines.collect::<String>())))
}
