//! Linear and convolution layers, found by following the data: exporters write them in many ways.

use super::{LayerInfo, Uses};
use crate::error::quoted;
use crate::graph::{Attribute, Graph, Node, ValueId};
use crate::names::UniqueNames;
use std::collections::{BTreeMap, BTreeSet};

/// A layer, and what is needed to compare its uses.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub info: LayerInfo,
    pub is_convolution: bool,
    /// The stored weight is `[in, out]`.
    pub transposed: bool,
}

/// Every node that multiplies activations by a constant weight, by its index.
pub(super) fn find(graph: &Graph, uses: &Uses) -> BTreeMap<usize, Found> {
    let mut found = BTreeMap::new();
    for (index, node) in graph.nodes.iter().enumerate().filter(|(_, node)| node.domain.is_empty()) {
        let layer = match node.op_type.as_str() {
            "MatMul" | "Gemm" => linear(graph, uses, index, node),
            "Conv" | "ConvTranspose" => convolution(graph, uses, index, node),
            _ => None,
        };
        found.extend(layer.map(|layer| (index, layer)));
    }
    found
}

fn linear(graph: &Graph, uses: &Uses, index: usize, node: &Node) -> Option<Found> {
    let source = uses.source(graph, node.input(1)?)?;
    let weight = graph.initializers.get(&source.constant)?;
    let [rows, columns] = weight.dims.as_slice() else { return None };
    let gemm = node.op_type == "Gemm";
    let transposed = (gemm && node.int("transB", 0) != 0) == source.transposed;
    let out_features = if transposed { *columns } else { *rows };
    let mut info = LayerInfo {
        name: String::new(),
        weight: source.constant,
        bias: None,
        bias_add: None,
        activations: node.input(0)?,
        output: node.output(0)?,
        plain_because: None,
    };
    if gemm {
        let scales = [("alpha", node.float("alpha", 1.0)), ("beta", node.float("beta", 1.0))];
        if let Some((name, scale)) = scales.into_iter().find(|(_, scale)| *scale != 1.0) {
            info.plain_because = Some(format!("{name} is {scale}"));
        } else if node.int("transA", 0) != 0 {
            info.plain_because = Some("its activations are transposed".into());
        }
    }
    match node.input(2).filter(|_| gemm) {
        Some(value) => own_bias(graph, uses, value, out_features, &mut info),
        None => following_bias(graph, uses, out_features, &mut info),
    }
    info.name = name(graph, &info, index);
    Some(Found { info, is_convolution: false, transposed })
}

fn convolution(graph: &Graph, uses: &Uses, index: usize, node: &Node) -> Option<Found> {
    let source = uses.source(graph, node.input(1)?)?;
    let weight = graph.initializers.get(&source.constant)?;
    if source.transposed || !(3..=5).contains(&weight.dims.len()) {
        return None;
    }
    let mut info = LayerInfo {
        name: String::new(),
        weight: source.constant,
        bias: None,
        bias_add: None,
        activations: node.input(0)?,
        output: node.output(0)?,
        plain_because: None,
    };
    let out_channels = if node.op_type == "Conv" {
        *weight.dims.first()?
    } else {
        weight.dims.get(1)?.checked_mul(u64::try_from(node.int("group", 1)).ok()?)?
    };
    if let Some(value) = node.input(2) {
        own_bias(graph, uses, value, out_channels, &mut info);
    }
    info.name = name(graph, &info, index);
    Some(Found { info, is_convolution: true, transposed: false })
}

/// The bias that the node itself adds. `None` is left only where the sum is proven to be zero.
fn own_bias(graph: &Graph, uses: &Uses, value: ValueId, out_features: u64, info: &mut LayerInfo) {
    if let Some(source) = uses.source(graph, value).filter(|source| !source.transposed) {
        match graph.initializers.get(&source.constant) {
            Some(data) if data.dims == [out_features] => info.bias = Some(source.constant),
            Some(data) => {
                let because = format!("its bias has dims {:?}, expected [{out_features}]", data.dims);
                info.plain_because.get_or_insert(because);
            }
            None => (),
        }
    } else if !is_zero(graph, uses, value) {
        info.plain_because.get_or_insert("its bias is computed by other nodes".into());
    }
}

/// A bias that an Add after the node adds.
fn following_bias(graph: &Graph, uses: &Uses, out_features: u64, info: &mut LayerInfo) {
    let Some((index, slot)) = uses.only_reader(info.output) else { return };
    let Some(add) = graph.nodes.get(index).filter(|node| node.op_type == "Add" && node.domain.is_empty()) else {
        return;
    };
    let other = match (slot, add.inputs.as_slice()) {
        (0, [_, Some(other)]) | (1, [Some(other), _]) => *other,
        _ => return,
    };
    let Some(source) = uses.source(graph, other).filter(|source| !source.transposed) else { return };
    let is_bias = graph.initializers.get(&source.constant).is_some_and(|data| data.dims == [out_features]);
    if let (true, Some(sum)) = (is_bias, add.output(0)) {
        (info.bias, info.bias_add, info.output) = (Some(source.constant), Some(index), sum);
    }
}

/// Whether `value` is zero whatever the inputs are: what remains of a deleted bias, `CastLike(Expand(0, Shape(W)), x)`.
fn is_zero(graph: &Graph, uses: &Uses, value: ValueId) -> bool {
    // Large tensors of zeros are never what remains of a bias.
    const MOST: usize = 1 << 16;
    let mut value = value;
    for _ in 0..super::uses::LONGEST_WALK {
        if let Some(data) = graph.initializers.get(&value) {
            return data.elements() <= MOST
                && data.floats().map_or_else(
                    || data.integers().is_some_and(|all| all.iter().all(|element| *element == 0)),
                    |all| all.iter().all(|element| *element == 0.0),
                );
        }
        let Some((_, node)) = uses.producer(graph, value) else { return false };
        match node.op_type.as_str() {
            "ConstantOfShape" => {
                return match node.attributes.get("value") {
                    None => true,
                    Some(Attribute::Tensor(data)) => {
                        data.floats().is_some_and(|all| all.iter().all(|element| *element == 0.0))
                    }
                    Some(_) => false,
                };
            }
            "CastLike" | "Cast" | "Expand" | "Identity" | "Reshape" => match node.input(0) {
                Some(input) => value = input,
                None => return false,
            },
            _ => return false,
        }
    }
    false
}

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

/// A name that a reader of the original model would recognise.
fn name(graph: &Graph, info: &LayerInfo, node: usize) -> String {
    let value = |id: ValueId| graph.values.get(id.0).map_or("", |info| info.name.as_str());
    let weight = value(info.weight);
    if let Some(name) = weight.strip_suffix(".weight").or_else(|| weight.strip_suffix("_weight")) {
        return name.to_owned();
    }
    let bias = info.bias.map_or("", value);
    if let Some(name) = bias.strip_suffix(".bias").or_else(|| bias.strip_suffix("_bias")) {
        return name.to_owned();
    }
    let scope = graph.nodes.get(node).and_then(|node| scope(node, weight));
    scope.unwrap_or_else(|| weight.to_owned())
}

/// The module that a node comes from, where the exporter has renamed the weight.
fn scope(node: &Node, weight: &str) -> Option<String> {
    if weight.starts_with("val_") {
        // Dynamo: `['', 'encoder', 'encoder.linear1', 'linear_3']`, the last being the operation.
        let scopes = node.metadata.get("pkg.torch.onnx.name_scopes")?;
        let mut names = scopes.trim_matches(['[', ']']).rsplit(", ").map(|name| name.trim_matches(['\'', '"']));
        names.nth(1).filter(|name| !name.is_empty()).map(str::to_owned)
    } else if weight.starts_with("onnx::") {
        // TorchScript: `/encoder/layers.0/linear1/MatMul`.
        let (scope, _) = node.name.strip_prefix('/')?.rsplit_once('/')?;
        Some(scope.replace('/', "."))
    } else {
        None
    }
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
