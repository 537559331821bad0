//! Which constants are parameters: decided by who reads them.

use super::layers::Found;
use super::{ParameterInfo, ParameterRole as Role, Uses};
use crate::graph::{Graph, Node, TensorData, ValueId};
use regex::RegexSet;
use std::collections::{BTreeMap, BTreeSet};

/// What a reader makes of a constant.
#[derive(Clone, Copy)]
enum Reading {
    /// The slot is made for a parameter.
    Role(Role),
    /// Arithmetic: a parameter if it has more than one element.
    Operand,
    /// Arithmetic on a value computed from the constant alone: look at who reads that.
    Through,
    /// No gradient flows here.
    Nothing,
}

/// Values that keep what they have: named by `freeze`, and running statistics of a BatchNormalization whose scale is.
pub(super) fn frozen(graph: &Graph, freeze: &RegexSet) -> BTreeSet<ValueId> {
    let named = |id: ValueId| graph.values.get(id.0).is_some_and(|info| freeze.is_match(&info.name));
    let mut frozen: BTreeSet<ValueId> = graph.initializers.keys().copied().filter(|id| named(*id)).collect();
    for node in graph.nodes.iter().filter(|node| node.op_type == "BatchNormalization") {
        if node.input(1).is_some_and(|scale| frozen.contains(&scale)) {
            frozen.extend([3, 4].iter().filter_map(|slot| node.input(*slot)));
        }
    }
    frozen
}

/// All parameters, and the constants that are none (`constants` and those that only meet no gradient).
pub(super) fn find(
    graph: &Graph,
    uses: &Uses,
    layers: &BTreeMap<usize, Found>,
    mut constants: BTreeMap<ValueId, &'static str>,
    frozen: &BTreeSet<ValueId>,
) -> (BTreeMap<ValueId, ParameterInfo>, BTreeMap<ValueId, &'static str>) {
    let mut parameters = BTreeMap::new();
    let of_layers = in_layers(layers);
    let may_train = |id: &ValueId, data: &TensorData| data.element_type.is_float() && !graph.fixed.contains_key(id);
    for (id, data) in graph.initializers.iter().filter(|(id, data)| may_train(id, data)) {
        let layer = of_layers.get(id);
        if layer.is_some() {
            constants.remove(id);
        } else if constants.contains_key(id) {
            continue;
        }
        let role = layer.map(|(role, _)| *role).or_else(|| role(graph, uses, *id, data));
        let Some(role) = role else {
            if data.elements() > 1 && !uses.readers(*id).is_empty() {
                constants.insert(*id, "read only where no gradient flows");
            }
            continue;
        };
        let is_frozen = frozen.contains(id);
        let trainable = !is_frozen && role != Role::RunningStatistic;
        let preconditioned = trainable && layer.is_some_and(|(_, layer)| layer.info.plain_because.is_none());
        parameters.insert(
            *id,
            ParameterInfo {
                name: graph.values.get(id.0).map(|info| info.name.clone()).unwrap_or_default(),
                role,
                trainable,
                preconditioned,
                reason: reason(role, is_frozen, layer.map(|(_, layer)| *layer), data),
                transposed: role == Role::LinearWeight && layer.is_some_and(|(_, layer)| layer.transposed),
            },
        );
    }
    (parameters, constants)
}

fn in_layers(layers: &BTreeMap<usize, Found>) -> BTreeMap<ValueId, (Role, &Found)> {
    let mut found = BTreeMap::new();
    for layer in layers.values() {
        let role = if layer.is_convolution { Role::ConvolutionWeight } else { Role::LinearWeight };
        found.entry(layer.info.weight).or_insert((role, layer));
    }
    for layer in layers.values() {
        if let Some(bias) = layer.info.bias {
            found.entry(bias).or_insert((Role::Bias, layer));
        }
    }
    found
}

/// The first role in this order that a reader gives; `None` for a constant.
fn role(graph: &Graph, uses: &Uses, id: ValueId, data: &TensorData) -> Option<Role> {
    const ORDER: [Role; 8] = [
        Role::RunningStatistic,
        Role::ConvolutionWeight,
        Role::LinearWeight,
        Role::RecurrentWeight,
        Role::NormalisationScale,
        Role::NormalisationShift,
        Role::Bias,
        Role::Embedding,
    ];
    // With each value whether a Concat lies between: then only recurrent networks say what it is, whose gates exporters put together.
    let (mut open, mut seen) = (vec![(id, false)], BTreeSet::new());
    let (mut roles, mut operand) = (BTreeSet::new(), false);
    let uniform = is_uniform(data);
    while let Some((value, is_part)) = open.pop() {
        if !seen.insert((value, is_part)) {
            continue;
        }
        for (index, slot) in uses.readers(value) {
            let Some(node) = graph.nodes.get(*index) else { continue };
            let (joins, reading) = (node.op_type == "Concat", reading(node, *slot, data, uniform));
            match reading {
                Reading::Role(role) if !is_part || is_recurrent(node) => {
                    roles.insert(role);
                }
                Reading::Operand => operand = true,
                _ => (),
            }
            if joins || matches!(reading, Reading::Through) {
                open.extend(node.outputs.iter().flatten().map(|output| (*output, is_part || joins)));
            }
        }
    }
    let role = ORDER.into_iter().find(|role| roles.contains(role)).or_else(|| roles.first().copied());
    role.or_else(|| (operand && data.elements() > 1).then_some(Role::Other))
}

fn reading(node: &Node, slot: usize, data: &TensorData, uniform: bool) -> Reading {
    if super::uses::reads_only_form(node, slot) {
        return Reading::Nothing;
    }
    match (node.op_type.as_str(), slot) {
        ("Conv" | "ConvTranspose", 1) => Reading::Role(Role::ConvolutionWeight),
        ("Conv" | "ConvTranspose" | "Gemm", 2) => Reading::Role(Role::Bias),
        ("Gemm" | "MatMul" | "FusedMatMul", 0 | 1) if data.dims.len() >= 2 => Reading::Role(Role::LinearWeight),
        ("LSTM" | "GRU" | "RNN", 1 | 2 | 7) => Reading::Role(Role::RecurrentWeight),
        ("LSTM" | "GRU" | "RNN", 3) => Reading::Role(Role::Bias),
        ("LSTM" | "GRU" | "RNN", 5 | 6) => Reading::Operand,
        ("BatchNormalization", 3 | 4) => Reading::Role(Role::RunningStatistic),
        (
            "BatchNormalization"
            | "LayerNormalization"
            | "InstanceNormalization"
            | "GroupNormalization"
            | "RMSNormalization"
            | "SimplifiedLayerNormalization",
            1,
        ) => Reading::Role(Role::NormalisationScale),
        ("BatchNormalization" | "LayerNormalization" | "InstanceNormalization" | "GroupNormalization", 2) => {
            Reading::Role(Role::NormalisationShift)
        }
        ("PRelu" | "CausalConvWithState", 1) => Reading::Role(Role::Other),
        ("Gather", 0) => Reading::Role(if data.dims.len() >= 2 { Role::Embedding } else { Role::Other }),
        ("Where", 1 | 2) if uniform => Reading::Nothing,
        ("Where", 1 | 2) | ("GatherElements" | "GatherND", 0) | ("Attention", 0..=3) | ("MatMul" | "Gemm", 0 | 1) => {
            Reading::Operand
        }
        ("Add" | "Sub" | "Mul" | "Div" | "Concat" | "Sum" | "Mean" | "Max" | "Min" | "Pow" | "Einsum", _) => {
            Reading::Operand
        }
        // Zeros that something is written into are no parameter.
        ("ScatterND" | "ScatterElements", 0 | 2) if !uniform => Reading::Operand,
        // A number spread over all elements: what a decomposed GroupNorm has inside.
        ("Expand" | "Tile", 0) if data.elements() == 1 => Reading::Nothing,
        (
            "Identity" | "Transpose" | "CastLike" | "Split" | "Neg" | "Abs" | "Exp" | "Log" | "Sqrt" | "Reciprocal"
            | "Relu" | "LeakyRelu" | "Elu" | "Softplus" | "Sigmoid" | "HardSigmoid" | "Tanh" | "Softmax" | "Clip"
            | "Pad" | "Resize" | "Upsample" | "LpNormalization" | "QuantizeLinear" | "DequantizeLinear",
            0,
        )
        | ("Reshape" | "Unsqueeze" | "Squeeze" | "Flatten" | "Expand" | "Slice" | "Tile", 0) => Reading::Through,
        ("Cast", 0) if super::uses::is_renaming(node) => Reading::Through,
        _ => Reading::Nothing,
    }
}

fn is_recurrent(node: &Node) -> bool {
    matches!(node.op_type.as_str(), "LSTM" | "GRU" | "RNN")
}

fn is_uniform(data: &TensorData) -> bool {
    data.floats().is_none_or(|values| values.windows(2).all(|pair| matches!(pair, [a, b] if a == b)))
}

fn reason(role: Role, frozen: bool, layer: Option<&Found>, data: &TensorData) -> String {
    if frozen {
        return "frozen".into();
    }
    match (layer, role) {
        (Some(layer), _) => {
            let kind = if layer.is_convolution { "convolution" } else { "linear layer" };
            let place = format!("{kind} `{}`", layer.info.name);
            layer.info.plain_because.as_ref().map_or(place.clone(), |why| format!("{place}, plain gradient: {why}"))
        }
        (None, Role::RunningStatistic) => "updated from batches, not by gradient".into(),
        (None, Role::NormalisationScale | Role::NormalisationShift) => "normalisation: plain gradient".into(),
        (None, Role::Embedding) => "embedding: plain gradient".into(),
        (None, Role::LinearWeight) if data.dims.len() > 2 => {
            format!("plain gradient: a matrix product with {} dimensions", data.dims.len())
        }
        (None, Role::LinearWeight) => {
            "plain gradient: the weight is the left operand, or is computed from the constant".into()
        }
        (None, Role::RecurrentWeight) => "recurrent network: plain gradient".into(),
        (None, Role::ConvolutionWeight) => "plain gradient: the weight is computed from the constant".into(),
        (None, Role::Bias | Role::Other) => "not part of a linear layer or convolution: plain gradient".into(),
    }
}
