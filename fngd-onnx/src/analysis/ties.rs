//! What is known of a layer only when all layers are: ties, shared biases, other readers of its weight.

use super::Uses;
use super::layers::Found;
use crate::error::quoted;
use crate::graph::{Attribute, Graph, ValueId};
use crate::names::UniqueNames;
use std::collections::{BTreeMap, BTreeSet};

/// What is decided only when all uses are known: ties, shared biases, frozen weights.
pub(super) fn settle(graph: &Graph, uses: &Uses, found: &mut BTreeMap<usize, Found>, frozen: &BTreeSet<ValueId>) {
    let mut by_weight: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
    for (index, layer) in found.iter() {
        by_weight.entry(layer.info.weight).or_default().push(*index);
    }
    for indices in by_weight.values() {
        merge(graph, found, indices);
    }
    let owners = bias_owners(found);
    // By weight and by bias, not by layer: one weight may have very many uses.
    let reason_of_weight = |(weight, nodes): (&ValueId, &Vec<usize>)| {
        let reason =
            if frozen.contains(weight) { Some("frozen".into()) } else { other_reader(graph, uses, *weight, nodes) };
        Some((*weight, reason?))
    };
    let of_weights: BTreeMap<ValueId, String> = by_weight.iter().filter_map(reason_of_weight).collect();
    let reason_of_bias = |bias: &ValueId| Some((*bias, shared_bias(graph, uses, *bias, &owners, frozen)?));
    let of_biases: BTreeMap<ValueId, String> = owners.keys().filter_map(reason_of_bias).collect();
    for layer in found.values_mut() {
        let info = &mut layer.info;
        let reason = of_weights.get(&info.weight).or_else(|| of_biases.get(&info.bias?));
        if let Some(reason) = reason {
            info.plain_because.get_or_insert_with(|| reason.clone());
        }
    }
    make_names_unique(found, &by_weight);
}

/// One weight used by several nodes is one layer, if all of them use it alike.
fn merge(graph: &Graph, found: &mut BTreeMap<usize, Found>, indices: &[usize]) {
    let [first, rest @ ..] = indices else { return };
    let Some(model) = found.get(first).cloned() else { return };
    let others = || rest.iter().filter_map(|index| found.get(index));
    let reason = if others().any(|other| other.transposed != model.transposed) {
        Some("its weight is used in two orientations")
    } else if rest.iter().any(|index| geometry(graph, *index) != geometry(graph, *first)) {
        Some("its weight is used with different geometry")
    } else {
        None
    };
    let reason = reason.map(str::to_owned).or_else(|| others().find_map(|other| other.info.plain_because.clone()));
    let same_bias = others().all(|other| other.info.bias == model.info.bias);
    for index in indices {
        let Some(layer) = found.get_mut(index) else { continue };
        layer.info.name.clone_from(&model.info.name);
        if let Some(reason) = reason.as_ref().or(model.info.plain_because.as_ref()) {
            layer.info.plain_because.get_or_insert_with(|| reason.clone());
        }
        if same_bias {
            continue;
        }
        // Biases that follow stay Adds of their own; a bias inside the node cannot be taken out of it.
        if layer.info.bias_add.is_some() {
            let output = graph.nodes.get(*index).and_then(|node| node.output(0));
            (layer.info.bias, layer.info.bias_add) = (None, None);
            layer.info.output = output.unwrap_or(layer.info.output);
        } else if layer.info.bias.is_some() {
            layer.info.plain_because.get_or_insert("its weight is used with different biases".into());
        }
    }
    // A reason found for one use holds for all of them: they share one weight gradient.
    let reason = indices.iter().find_map(|index| found.get(index)?.info.plain_because.clone());
    for index in indices {
        if let Some(layer) = found.get_mut(index) {
            layer.info.plain_because.clone_from(&reason);
        }
    }
}

fn geometry(graph: &Graph, index: usize) -> Option<(&str, Vec<(&String, &Attribute)>)> {
    let node = graph.nodes.get(index)?;
    let attributes =
        node.attributes.iter().filter(|(name, _)| !name.starts_with("trans") && *name != "alpha" && *name != "beta");
    let kind = if node.op_type == "Gemm" { "MatMul" } else { node.op_type.as_str() };
    Some((kind, attributes.collect()))
}

/// For each bias the layers that add it, by their weights, and the number of nodes.
type BiasOwners = BTreeMap<ValueId, (BTreeSet<ValueId>, usize)>;

fn bias_owners(found: &BTreeMap<usize, Found>) -> BiasOwners {
    let mut owners = BiasOwners::new();
    for layer in found.values() {
        if let Some(bias) = layer.info.bias {
            let (layers, readers) = owners.entry(bias).or_default();
            layers.insert(layer.info.weight);
            *readers += 1;
        }
    }
    owners
}

fn shared_bias(
    graph: &Graph,
    uses: &Uses,
    bias: ValueId,
    owners: &BiasOwners,
    frozen: &BTreeSet<ValueId>,
) -> Option<String> {
    let name = || quoted(graph.values.get(bias.0).map_or("", |info| &info.name));
    if frozen.contains(&bias) {
        return Some(format!("its bias {} is frozen", name()));
    }
    let (layers, expected) = owners.get(&bias).map_or((0, 0), |(layers, readers)| (layers.len(), *readers));
    (layers > 1 || uses.final_readers(graph, bias) != expected).then(|| format!("its bias {} is shared", name()))
}

/// A reader of the weight that is no use of the layer: another gradient would flow into the weight past it.
fn other_reader(graph: &Graph, uses: &Uses, weight: ValueId, layer_nodes: &[usize]) -> Option<String> {
    let mut open = vec![weight];
    while let Some(value) = open.pop() {
        for (index, slot) in uses.readers(value) {
            let node = graph.nodes.get(*index)?;
            // Sorted, because they were collected in the order of the nodes.
            let is_use = *slot == 1 && layer_nodes.binary_search(index).is_ok();
            match node.op_type.as_str() {
                _ if is_use => (),
                _ if super::uses::reads_only_form(node, *slot) => (),
                "Gather" => return Some("tied with an embedding".into()),
                _ if super::uses::is_renaming(node) || super::uses::is_matrix_transpose(node) => {
                    open.extend(node.output(0))
                }
                _ => return Some(format!("its weight is also read by {}", node.describe())),
            }
        }
        if uses.is_output(value) {
            return Some("its weight is an output of the graph".into());
        }
    }
    None
}

fn make_names_unique(found: &mut BTreeMap<usize, Found>, by_weight: &BTreeMap<ValueId, Vec<usize>>) {
    let mut names = UniqueNames::default();
    let mut groups: Vec<&Vec<usize>> = by_weight.values().collect();
    groups.sort();
    for indices in groups {
        let Some(first) = indices.first().and_then(|index| found.get(index)) else { continue };
        let name = names.unique(first.info.name.clone());
        for index in indices {
            if let Some(layer) = found.get_mut(index) {
                layer.info.name.clone_from(&name);
            }
        }
    }
}
