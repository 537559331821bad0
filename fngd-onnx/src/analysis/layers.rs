//! Linear and convolution layers, found by following the data: exporters write them in many ways.

use super::{LayerInfo, Uses};
use crate::graph::{Attribute, Graph, Node, ValueId};
use crate::repair::hints;
use std::collections::BTreeMap;

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
    // Before operator set 7, an Add could say which dimension a vector belongs to.
    let is_plain =
        |node: &&Node| node.op_type == "Add" && node.domain.is_empty() && !node.attributes.contains_key("axis");
    let Some(add) = graph.nodes.get(index).filter(is_plain) else { return };
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

fn name(graph: &Graph, info: &LayerInfo, node: usize) -> String {
    let value = |id: ValueId| graph.values.get(id.0).map_or("", |info| info.name.as_str());
    let (weight, bias) = (value(info.weight), info.bias.map_or("", value));
    graph.nodes.get(node).map_or_else(|| weight.to_owned(), |node| layer_name(node, weight, bias))
}

/// The name that a reader of the original model would recognise, for the layer of `node` with tensors of these names.
pub(crate) fn layer_name(node: &Node, weight: &str, bias: &str) -> String {
    let stem = |name: &'static str, of: &str| {
        of.strip_suffix(name).and_then(|rest| rest.strip_suffix(['.', '_'])).map(str::to_owned)
    };
    let named = stem("weight", weight).or_else(|| stem("bias", bias)).or_else(|| scope(node, weight));
    named.unwrap_or_else(|| weight.to_owned())
}

/// The module that a node comes from, where the exporter has renamed the weight.
fn scope(node: &Node, weight: &str) -> Option<String> {
    if weight.starts_with("val_") {
        hints::module(node).map(str::to_owned)
    } else if weight.starts_with("onnx::") {
        // TorchScript: `/encoder/layers.0/linear1/MatMul`.
        let (scope, _) = node.name.strip_prefix('/')?.rsplit_once('/')?;
        Some(scope.replace('/', "."))
    } else {
        None
    }
}
