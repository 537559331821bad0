//! R6: a bias of zeros that the exporter deleted is a parameter.
//!
//! The file gets it when it is no longer zero (`export`).

use super::{Wanted, hints, name};
use crate::analysis::{Uses, layer_name};
use crate::graph::{Graph, Node, TensorData, ValueId, ValueInfo};
use crate::names::UniqueNames;
use crate::read::{Imported, Source};

/// The input that holds the bias of Conv, ConvTranspose and Gemm.
const SLOT: usize = 2;

pub(super) fn restore(imported: &mut Imported, wanted: &Wanted) -> Vec<String> {
    let Imported { graph, sources, .. } = imported;
    let uses = Uses::of(graph);
    let mut names = UniqueNames::avoiding(graph.values.iter().map(|info| info.name.clone()));
    let mut places = Vec::new();
    for index in 0..graph.nodes.len() {
        let Some((stem, data)) = missing(graph, &uses, wanted, index) else { continue };
        let id = ValueId(graph.values.len());
        let Some(node) = graph.nodes.get_mut(index) else { continue };
        let Some(position) = node.index else { continue };
        node.inputs.resize(SLOT, None);
        node.inputs.push(Some(id));
        graph.values.push(ValueInfo { name: names.unique(format!("{stem}.bias")), ..ValueInfo::default() });
        graph.initializers.insert(id, data);
        sources.insert(id, Source::Appended { position, slot: SLOT });
        places.push(name(&graph.values, id));
    }
    if places.is_empty() {
        return Vec::new();
    }
    let (count, more) = (places.len(), if places.len() > 3 { ", ..." } else { "" });
    places.truncate(3);
    let places = places.join(", ");
    vec![format!("{count} biases of zeros that the exporter deleted are parameters again: {places}{more}")]
}

/// The name of the layer of node number `index` and its bias, if it has lost one.
fn missing(graph: &Graph, uses: &Uses, wanted: &Wanted, index: usize) -> Option<(String, TensorData)> {
    let node = graph.nodes.get(index)?;
    let is_layer = node.domain.is_empty() && matches!(node.op_type.as_str(), "Conv" | "ConvTranspose" | "Gemm");
    let has_lost_it = lost_bias(node) || wanted.options.restore_bias;
    if !is_layer || node.input(SLOT).is_some() || node.index.is_none() || !has_lost_it {
        return None;
    }
    // There it would be taken out again.
    let is_norm = |(reader, _): &(usize, usize)| {
        graph.nodes.get(*reader).is_some_and(|reader| reader.op_type == "BatchNormalization")
    };
    if uses.readers(node.output(0)?).iter().any(is_norm) {
        return None;
    }
    let weight = node.input(1)?;
    let data = graph.initializers.get(&weight).filter(|data| data.element_type.is_float())?;
    let size = match (node.op_type.as_str(), data.dims.as_slice()) {
        ("Conv", [out, _, _, ..]) => *out,
        ("ConvTranspose", [_, out, _, ..]) => out.checked_mul(u64::try_from(node.int("group", 1)).ok()?)?,
        ("Gemm", [rows, columns]) if node.float("beta", 1.0) == 1.0 => {
            if node.int("transB", 0) == 0 {
                *columns
            } else {
                *rows
            }
        }
        _ => return None,
    };
    // The weight has as many elements at least, so this cannot ask for much.
    let bytes = vec![0; usize::try_from(size).ok()?.checked_mul(data.element_type.size())?];
    let name = graph.values.get(weight.0).map_or("", |info| info.name.as_str());
    Some((layer_name(node, name, ""), TensorData { element_type: data.element_type, dims: vec![size], bytes }))
}

/// Whether the exporter deleted a bias here.
///
/// It does so for layers too that never had one: on the way, it makes them a bias of zeros. What the node was in PyTorch tells.
pub(crate) fn lost_bias(node: &Node) -> bool {
    let had_one = || match hints::call(node) {
        Some((target, arguments)) if target.contains("conv") || target.contains("linear") => {
            arguments.get(SLOT).is_some_and(|bias| *bias != "None")
        }
        _ => true,
    };
    hints::made_by(node, "RemoveOptionalBias") && node.input(SLOT).is_none() && had_one()
}
