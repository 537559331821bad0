//! Float constants that look like parameters and are none.
//!
//! Every rule looks at what the graph does with the constant or at its elements, never at names.

use super::Uses;
use crate::graph::{Graph, Node, TensorData, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Constants with more than one element that must not be trained, and why.
pub(super) fn find(graph: &Graph, uses: &Uses) -> BTreeMap<ValueId, &'static str> {
    let mut found = BTreeMap::new();
    for (id, data) in &graph.initializers {
        if data.elements() < 2 {
            continue;
        }
        if !data.element_type.is_float() {
            if is_read_only_as(graph, uses, *id, |node, slot| node.op_type == "DequantizeLinear" && slot == 0) {
                found.insert(*id, QUANTISED);
            }
            continue;
        }
        if let Some(reason) = reason(graph, uses, *id, data) {
            found.insert(*id, reason);
        }
    }
    for id in rotary_tables(graph, &found) {
        found.insert(id, "cosine and sine table");
    }
    found
}

fn reason(graph: &Graph, uses: &Uses, id: ValueId, data: &TensorData) -> Option<&'static str> {
    if let Some(why) = graph.fixed.get(&id) {
        return Some(why);
    }
    if ends_only_in(graph, uses, id, &COMPUTING, |node, _| matches!(node.op_type.as_str(), "Sin" | "Cos")) {
        return Some("frequencies of sines and cosines");
    }
    if ends_only_in(graph, uses, id, &COMPUTING, |node, slot| slot > 0 && is_resize(node)) {
        return Some("scale of a resize");
    }
    if is_read_only_as(graph, uses, id, |node, slot| node.op_type.ends_with("uantizeLinear") && slot > 0) {
        return Some("scale of a quantisation");
    }
    if inner_normalisation(graph, uses, id, data) {
        return Some("inner scale or shift of a decomposed GroupNorm");
    }
    if uses
        .readers(id)
        .iter()
        .any(|(index, slot)| graph.nodes.get(*index).is_some_and(|node| is_made_for_parameters(node, *slot)))
    {
        return None;
    }
    if is_initial_state(graph, uses, id, data) {
        return Some("initial state of a recurrent network");
    }
    if normalises_input(graph, uses, id) {
        return Some("normalises an input");
    }
    let values = data.floats()?;
    if is_mask(&values) || is_empty_mask(graph, uses, id, data, &values) {
        return Some("mask");
    }
    if is_geometric(&values) {
        return Some("slopes of a position bias");
    }
    (data.dims.len() == 1 && is_range(&values)).then_some("evenly spaced numbers")
}

fn is_resize(node: &Node) -> bool {
    matches!(node.op_type.as_str(), "Resize" | "Upsample")
}

/// Why a weight that is stored as integers is not trained.
pub(crate) const QUANTISED: &str = "quantised: integers have no gradient";

/// Whether somebody reads the value, and everybody in this way.
fn is_read_only_as(graph: &Graph, uses: &Uses, id: ValueId, way: impl Fn(&Node, usize) -> bool) -> bool {
    let readers = uses.readers(id);
    let reads = |(index, slot): &(usize, usize)| graph.nodes.get(*index).is_some_and(|node| way(node, *slot));
    !readers.is_empty() && readers.iter().all(reads)
}

/// Inputs that hold parameters whatever their elements look like.
fn is_made_for_parameters(node: &Node, slot: usize) -> bool {
    match node.op_type.as_str() {
        "Conv" | "ConvTranspose" | "PRelu" => slot > 0,
        "Gemm" => slot == 2,
        "LSTM" | "GRU" | "RNN" => matches!(slot, 1..=3 | 7),
        "BatchNormalization"
        | "LayerNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "RMSNormalization"
        | "SimplifiedLayerNormalization" => slot > 0,
        _ => false,
    }
}

/// Through these, [`ends_only_in`] follows numbers that something is computed from.
const COMPUTING: [&str; 13] = [
    "Div",
    "Mul",
    "MatMul",
    "Einsum",
    "Concat",
    "Transpose",
    "Reshape",
    "Unsqueeze",
    "Squeeze",
    "Expand",
    "Cast",
    "Identity",
    "Slice",
];

/// And through these, what is added to something.
const ADDING: [&str; 9] =
    ["Add", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Cast", "Identity", "Slice"];

/// All ways from here lead through `steps` to such a reader, and there is one.
fn ends_only_in(
    graph: &Graph,
    uses: &Uses,
    id: ValueId,
    steps: &[&str],
    is_end: impl Fn(&Node, usize) -> bool,
) -> bool {
    let (mut open, mut seen, mut ends) = (vec![id], BTreeSet::new(), false);
    while let Some(value) = open.pop() {
        if !seen.insert(value) {
            continue;
        }
        if uses.is_output(value) || seen.len() > super::uses::LONGEST_WALK {
            return false;
        }
        for (index, slot) in uses.readers(value) {
            let Some(node) = graph.nodes.get(*index) else { return false };
            match node.op_type.as_str() {
                _ if is_end(node, *slot) => ends = true,
                _ if super::uses::reads_only_form(node, *slot) => (),
                name if steps.contains(&name) => open.extend(node.output(0)),
                _ => return false,
            }
        }
    }
    ends
}

/// GroupNorm before opset 18 is Reshape, InstanceNormalization with ones and zeros, Reshape, Mul, Add: only the last two train.
fn inner_normalisation(graph: &Graph, uses: &Uses, id: ValueId, data: &TensorData) -> bool {
    let readers = uses.readers(id);
    let values = data.floats().unwrap_or_default();
    let is_all = |wanted: f32| values.iter().all(|value| *value == wanted);
    let (ones, zeros) = (is_all(1.0), is_all(0.0));
    !readers.is_empty()
        && readers.iter().all(|(index, slot)| {
            let Some(node) = graph.nodes.get(*index).filter(|node| node.op_type == "InstanceNormalization") else {
                return false;
            };
            let plain = if *slot == 1 { ones } else { zeros };
            let from_reshape = node.input(0).and_then(|input| uses.producer(graph, input));
            let to_reshape =
                node.output(0).and_then(|output| uses.only_reader(output)).and_then(|(next, _)| graph.nodes.get(next));
            let is_reshape = |node: &Node| node.op_type == "Reshape";
            plain && from_reshape.is_some_and(|(_, node)| is_reshape(node)) && to_reshape.is_some_and(is_reshape)
        })
}

/// One value everywhere, where a recurrent network starts: what exporters leave of zeros. A state that was trained is kept.
fn is_initial_state(graph: &Graph, uses: &Uses, id: ValueId, data: &TensorData) -> bool {
    let readers = uses.readers(id);
    let starts = |(index, slot): &(usize, usize)| {
        let node = graph.nodes.get(*index);
        node.is_some_and(|node| matches!(node.op_type.as_str(), "LSTM" | "GRU" | "RNN") && matches!(slot, 5 | 6))
    };
    !readers.is_empty()
        && readers.iter().all(starts)
        && data.floats().is_some_and(|values| values.windows(2).all(|pair| matches!(pair, [a, b] if a == b)))
}

/// Sub or Div right after a graph input: mean and standard deviation of the data.
fn normalises_input(graph: &Graph, uses: &Uses, id: ValueId) -> bool {
    let readers = uses.readers(id);
    !readers.is_empty()
        && readers.iter().all(|(index, slot)| {
            let Some(node) = graph.nodes.get(*index) else { return false };
            *slot == 1
                && matches!(node.op_type.as_str(), "Sub" | "Div")
                && node.input(0).is_some_and(|value| is_input(graph, uses, value))
        })
}

fn is_input(graph: &Graph, uses: &Uses, value: ValueId) -> bool {
    const SAME_DATA: [&str; 7] = ["Cast", "Identity", "Transpose", "Reshape", "Unsqueeze", "Sub", "Div"];
    let mut value = value;
    for _ in 0..super::uses::LONGEST_WALK {
        if uses.is_input(value) {
            return true;
        }
        match uses.producer(graph, value) {
            Some((_, node)) if SAME_DATA.contains(&node.op_type.as_str()) => match node.input(0) {
                Some(input) => value = input,
                None => return false,
            },
            _ => return false,
        }
    }
    false
}

/// Infinite elements, or nothing but zeros and one very negative number.
fn is_mask(values: &[f32]) -> bool {
    if values.iter().any(|value| !value.is_finite()) {
        return true;
    }
    // Seen: -100 (Swin), -10000 (BERT), the lowest float16 and float32.
    let lowest = values.iter().copied().fold(0.0, f32::min);
    lowest <= -50.0 && values.iter().all(|value| *value == 0.0 || *value == lowest)
}

/// Zeros that are added to attention scores: a mask that lets everything through, which exporters compute for a fixed batch.
fn is_empty_mask(graph: &Graph, uses: &Uses, id: ValueId, data: &TensorData, values: &[f32]) -> bool {
    let is_attention = |node: &Node, slot: usize| match node.op_type.as_str() {
        "Softmax" => slot == 0,
        "Attention" => slot == 3,
        _ => false,
    };
    data.dims.len() >= 2
        && values.iter().all(|value| *value == 0.0)
        && ends_only_in(graph, uses, id, &ADDING, is_attention)
}

/// Powers of one number, as ALiBi multiplies distances with.
fn is_geometric(values: &[f32]) -> bool {
    let [first, second, _, _, ..] = values else { return false };
    let ratio = second / first;
    let follows = |pair: &[f32]| matches!(pair, [a, b] if *a > 0.0 && (b / a - ratio).abs() <= 1e-6 * ratio);
    ratio > 0.0 && ratio < 1.0 && values.windows(2).all(follows)
}

fn is_range(values: &[f32]) -> bool {
    let [first, second, _, _, ..] = values else { return false };
    let step = second - first;
    step != 0.0 && values.windows(2).all(|pair| matches!(pair, [a, b] if (b - a - step).abs() <= 1e-4 * step.abs()))
}

/// Pairs of equal dims with a² + b² = 1 everywhere: rotary position tables that an exporter has computed already.
fn rotary_tables(graph: &Graph, found: &BTreeMap<ValueId, &'static str>) -> Vec<ValueId> {
    let mut by_dims: BTreeMap<&[u64], Vec<(ValueId, Vec<f32>)>> = BTreeMap::new();
    for (id, data) in &graph.initializers {
        let candidate =
            data.element_type.is_float() && data.elements() >= 8 && data.dims.len() >= 2 && !found.contains_key(id);
        let Some(values) = candidate.then(|| data.floats()).flatten() else { continue };
        if values.iter().all(|value| value.abs() <= 1.001) && values.iter().any(|value| *value != 0.0 && *value != 1.0)
        {
            by_dims.entry(&data.dims).or_default().push((*id, values));
        }
    }
    let mut tables = Vec::new();
    // A table per layer is the most that models have; comparing all pairs of many more would take too long.
    const MOST: usize = 256;
    for group in by_dims.values().filter(|group| group.len() <= MOST) {
        for (position, (id, values)) in group.iter().enumerate() {
            let is_partner = |(_, other): &&(ValueId, Vec<f32>)| {
                values.iter().zip(other).all(|(a, b)| (a * a + b * b - 1.0).abs() < 1e-2)
            };
            if let Some((partner, _)) = group.iter().skip(position + 1).find(is_partner) {
                tables.extend([*id, *partner]);
            }
        }
    }
    tables
}
