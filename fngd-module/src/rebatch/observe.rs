//! The size of every value of a graph in one run, and the contents of those that are the same in all runs.

use crate::lower::tensors;
use crate::{BuildOptions, Result, TrainableModule};
use fngd_onnx::analysis::Analysis;
use fngd_onnx::graph::{ElementType, Graph, TensorData, ValueId};
use fngd_onnx::{Observed, OnnxModel};
use std::collections::BTreeSet;
use tch::{Kind, Tensor};

/// Larger tensors hold no sizes, indices or masks that are worth a copy.
const MOST_CONTENTS: usize = 1 << 22;

/// Runs `model` on `inputs` and looks at everything that its outputs need.
pub(super) fn values(model: &OnnxModel, options: &BuildOptions, inputs: &[Tensor]) -> Result<Observed> {
    let (graph, analysis) = (model.graph(), model.analysis());
    let needed = needed(graph, analysis);
    let constant = computed_from_constants(graph, analysis);
    let mut seen = Observed::default();
    for (id, data) in graph.initializers.iter().filter(|(id, _)| needed.contains(id)) {
        seen.sizes.insert(*id, data.dims.iter().map(|&dim| dim as i64).collect());
        if constant.contains(id) && data.elements() <= MOST_CONTENTS {
            seen.contents.insert(*id, data.clone());
        }
    }
    // Every value as an output of the graph. Layers would hide what lies between a product and its bias.
    let wanted: Vec<ValueId> = needed.into_iter().filter(|id| !graph.initializers.contains_key(id)).collect();
    let graph = Graph { outputs: wanted.clone(), ..graph.clone() };
    let analysis = Analysis { layers: Default::default(), logits: None, ..analysis.clone() };
    let module = TrainableModule::without_probing(&graph, &analysis, options)?;
    let found = tch::no_grad(|| module.forward(inputs))?;
    for (id, tensor) in wanted.into_iter().zip(found) {
        seen.sizes.insert(id, tensor.size());
        let is_wanted = tensor.kind() != Kind::Float || constant.contains(&id);
        if is_wanted && tensor.numel() <= MOST_CONTENTS {
            seen.contents.extend(contents(&tensor)?.map(|data| (id, data)));
        }
    }
    Ok(seen)
}

/// The values that outputs and logits are computed from, and they themselves.
fn needed(graph: &Graph, analysis: &Analysis) -> BTreeSet<ValueId> {
    let mut needed: BTreeSet<ValueId> = graph.outputs.iter().copied().chain(analysis.logits).collect();
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().flatten().any(|output| needed.contains(output)) {
            needed.extend(node.inputs.iter().flatten());
        }
    }
    needed
}

/// The values that depend on no parameter, on no input but its dimensions, and on no random number.
fn computed_from_constants(graph: &Graph, analysis: &Analysis) -> BTreeSet<ValueId> {
    let is_parameter = |id: &ValueId| analysis.parameters.contains_key(id);
    let mut constant: BTreeSet<ValueId> = graph.initializers.keys().copied().filter(|id| !is_parameter(id)).collect();
    for node in &graph.nodes {
        let is_random =
            node.op_type.starts_with("Random") || matches!(node.op_type.as_str(), "Bernoulli" | "Multinomial");
        let reads_sizes = matches!(node.op_type.as_str(), "Shape" | "Size");
        if !is_random && (reads_sizes || node.inputs.iter().flatten().all(|input| constant.contains(input))) {
            constant.extend(node.outputs.iter().flatten());
        }
    }
    constant
}

fn contents(tensor: &Tensor) -> Result<Option<TensorData>> {
    let flat = tensor.f_detach()?.f_reshape([-1])?;
    let dims: Vec<u64> = tensor.size().iter().map(|&dim| dim as u64).collect();
    let data = |element_type, bytes| TensorData { element_type, dims: dims.clone(), bytes };
    Ok(match tensor.kind() {
        Kind::Float => Some(tensors::to_data(tensor)?),
        Kind::Int64 => Some(TensorData::from_integers(dims, &Vec::<i64>::try_from(&flat)?)),
        Kind::Int => {
            let values = Vec::<i32>::try_from(&flat)?;
            Some(data(ElementType::Int32, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        }
        Kind::Bool => {
            let values = Vec::<u8>::try_from(&flat.f_to_kind(Kind::Uint8)?)?;
            Some(data(ElementType::Bool, values))
        }
        _ => None,
    })
}
