//! What the name of a parameter says of the layer that owns it.

use crate::operation::{Kind, Operation};
use crate::scope::{join, split};
use fngd_onnx::graph::{Graph, ValueId};
use std::collections::BTreeMap;

/// The layer's path, `layer1.0.conv1`, or that of a parameter by itself, `encoder.position`; `None` where the exporter lost the names.
pub(super) fn path(graph: &Graph, operation: &Operation) -> Option<String> {
    let name = |source: ValueId| graph.values.get(source.0).map(|info| info.name.as_str());
    match &operation.kind {
        Kind::Layer { parameters, .. } => (parameters.iter().find_map(|parameter| of_layer(name(parameter.source)?)))
            .or_else(|| parameters.iter().find_map(|parameter| of_layer(&copy(graph, parameter.source)?))),
        Kind::Parameter(parameter) => copy(graph, parameter.source).or_else(|| full(name(parameter.source)?)),
        _ => None,
    }
}

/// Whether an operation is a buffer without a name that holds what `other` holds, which has none either.
pub(super) fn is_same_buffer(graph: &Graph, operation: &Operation, other: ValueId) -> bool {
    let Kind::Parameter(own) = &operation.kind else { return false };
    let is_nameless = |value: ValueId| graph.values.get(value.0).is_some_and(|info| full(&info.name).is_none());
    let (left, right) = (graph.initializers.get(&own.source), graph.initializers.get(&other));
    !own.trainable && is_nameless(own.source) && is_nameless(other) && left.is_some() && left == right
}

/// Of equal parameters exporters keep one. The others, which a repair made again and called `first.scale__NODE`, have the same name in the
/// module of their node: `second.scale`.
fn copy(graph: &Graph, source: ValueId) -> Option<String> {
    let name = &graph.values.get(source.0)?.name;
    let mut readers = graph.nodes.iter().filter(|node| node.inputs.contains(&Some(source)));
    let (node, first) =
        readers.find_map(|node| Some((node, name.strip_suffix(node.name.as_str())?.strip_suffix("__")?)))?;
    Some(join(&super::node::scope(node)?.path, split(&full(first)?).1))
}

/// `layer1.layer1.0.conv1.bn`, made of a node's name `/layer1/layer1.0/conv1/Conv`, as `layer1.0.conv1.bn`. `names` has paths of modules
/// by that spelling.
pub(super) fn respelled(path: String, names: &BTreeMap<String, String>) -> String {
    let ends = path.match_indices('.').map(|(end, _)| end).collect::<Vec<_>>();
    let known = ends.iter().rev().find_map(|end| Some((*end, names.get(&path[..*end])?)));
    known.map_or_else(|| path.clone(), |(end, module)| format!("{module}{}", &path[end..]))
}

/// `layer1.0.conv1.weight` gives `layer1.0.conv1`, `attention.in_proj_weight` gives `attention.in_proj`.
fn of_layer(name: &str) -> Option<String> {
    const LOCALS: [&str; 17] = [
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "kernel",
        "gamma",
        "beta",
        "scale",
        "moving_mean",
        "moving_variance",
        "embeddings",
        "w",
        "b",
        "W",
        "B",
        "weights",
        "biases",
    ];
    let name = full(name)?;
    if let Some((layer, local)) = name.rsplit_once('.')
        && LOCALS.contains(&local)
    {
        return Some(layer.to_owned());
    }
    let joined = ["_weight", "_bias", "_kernel", ".weight", ".bias"];
    let layer = joined.iter().find_map(|end| name.strip_suffix(end))?;
    (!layer.is_empty() && !layer.ends_with('.')).then(|| layer.to_owned())
}

/// The name as a path, if a person gave it.
fn full(name: &str) -> Option<String> {
    let name = name.split(':').next().filter(|_| !name.contains("::"))?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_made_up = ["val_", "Constant_", "const_", "tensor_", "t", "v"]
        .iter()
        .any(|begin| name.strip_prefix(begin).is_some_and(number));
    if is_made_up || number(name) || name.contains("_output_") {
        return None;
    }
    let parts: Vec<&str> = name.split(['/', '.']).filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_what_comes_before_the_parameter() {
        let cases = [
            ("layer1.0.conv1.weight", Some("layer1.0.conv1")),
            ("bn.running_mean", Some("bn")),
            ("encoder.attention.in_proj_weight", Some("encoder.attention.in_proj")),
            ("model/conv/kernel:0", Some("model.conv")),
            ("weight", None),
            ("onnx::MatMul_15", None),
            ("val_12", None),
            ("/conv/Constant_output_0", None),
            ("17", None),
        ];
        for (name, expected) in cases {
            assert_eq!(of_layer(name).as_deref(), expected, "{name}");
        }
    }
}
