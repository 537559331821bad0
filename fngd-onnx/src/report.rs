//! What an import tells the user.

use crate::analysis::{Analysis, QUANTISED};
use crate::error::quoted;
use crate::export;
use crate::graph::{Dim, Graph, TensorData, ValueId};
use crate::read::{Imported, Source};
use crate::repair::{self, Repaired};
use crate::supported::OPSETS;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How to export from PyTorch so that nothing is lost.
pub const EXPORT_AGAIN: &str = "model.train(); torch.onnx.export(model, args, \"model.onnx\", dynamo=True, optimize=False, \
     dynamic_shapes=({0: torch.export.Dim(\"batch\")},))";

/// Facts about the file, and what its reader should know before training.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// IR version of the file.
    pub ir_version: i64,
    /// Version of the default operator set.
    pub opset: i64,
    /// Name and version of the program that wrote the file.
    pub producer: String,
    /// Nodes by operator.
    pub operators: BTreeMap<String, usize>,
    /// Functions whose body took the place of nodes, and of how many: local ones of the file as `domain::name`, others as ONNX
    /// defines them.
    pub functions: BTreeMap<String, usize>,
    /// Name of the value that the loss reads.
    pub logits: Option<String>,
    /// What is changed in the graph, here and in the written file.
    pub repairs: Vec<Repaired>,
    /// What makes training worse than it could be, and what to do.
    pub warnings: Vec<String>,
}

/// How often each operator is used; `domain::name` for those of other domains than ai.onnx.
pub(crate) fn operators(graph: &Graph) -> BTreeMap<String, usize> {
    let mut operators = BTreeMap::new();
    for node in &graph.nodes {
        let name =
            if node.domain.is_empty() { node.op_type.clone() } else { format!("{}::{}", node.domain, node.op_type) };
        *operators.entry(name).or_insert(0) += 1;
    }
    operators
}

pub(crate) fn of(imported: &Imported, analysis: &Analysis) -> ImportReport {
    let graph = &imported.graph;
    let header = &imported.header;
    let opset = header.opsets.get("").copied().unwrap_or(0);
    let mut warnings = Vec::new();
    if opset > *OPSETS.end() {
        warnings
            .push(format!("opset {opset} is newer than the newest known one ({}): taken to be the same", OPSETS.end()));
    }
    let lost = lost(imported, analysis);
    let advice =
        (!lost.is_empty()).then(|| format!("to keep what the exporter took away, export again with: {EXPORT_AGAIN}"));
    warnings.extend(lost.into_iter().chain(advice));
    warnings.extend(random(graph));
    warnings.extend(not_finite(graph, analysis));
    warnings.extend(shared(graph, analysis));
    warnings.extend(fixed(graph, analysis));
    warnings.extend(quantised(graph, analysis));
    ImportReport {
        ir_version: header.ir_version,
        opset,
        producer: header.producer.clone(),
        operators: operators(graph),
        functions: imported.expanded.clone(),
        logits: analysis.logits.and_then(|id| graph.values.get(id.0)).map(|info| info.name.clone()),
        repairs: Vec::new(),
        warnings,
    }
}

fn baked_batch(graph: &Graph) -> Option<String> {
    let info = graph.values.get(graph.inputs.first()?.0)?;
    let Dim::Known(size) = info.dims.as_ref()?.first()? else { return None };
    Some(format!(
        "batch size {size} is fixed in the file: the first dimension of input {} is {size}",
        quoted(&info.name)
    ))
}

/// What the exporter took away, and how much of it repair brought back. A Dropout leaves no trace.
fn lost(imported: &Imported, analysis: &Analysis) -> Vec<String> {
    let graph = &imported.graph;
    let restored: BTreeSet<usize> = imported.restored.iter().map(|restored| restored.position).collect();
    let left = || graph.nodes.iter().filter(|node| node.index.is_none_or(|index| !restored.contains(&index)));
    let folded = left().filter(|node| repair::was_folded_into(graph, node)).count();
    let deleted = left().filter(|node| repair::lost_bias(node)).count();
    let is_appended = |source: &&Source| matches!(source, Source::Appended { .. });
    let appended = imported.sources.values().filter(is_appended).count();
    let line = |what: &str, left: usize, restored: usize, cost: &str| {
        let all = left + restored;
        match (restored, left) {
            (0, 0) => None,
            (0, _) => Some(format!("{all} {what} by the exporter and {cost}")),
            (_, 0) => Some(format!("{all} {what} by the exporter; all were restored")),
            _ => Some(format!("{all} {what} by the exporter; {restored} were restored, {left} {cost}")),
        }
    };
    let norms = line("BatchNormalization were folded into layers", folded, restored.len(), "cannot train as such");
    let biases = line("biases of zeros were deleted", deleted, appended, "cannot train");
    [baked_batch(graph), norms, biases, lost_names(analysis)].into_iter().flatten().collect()
}

/// Parameters that the exporter computed and gave a number instead of a name.
fn lost_names(analysis: &Analysis) -> Option<String> {
    let renamed =
        analysis.parameters.values().filter(|info| repair::hints::is_made_up(&info.name)).map(|info| &info.name);
    let (count, example) = (renamed.clone().count(), renamed.clone().next()?);
    Some(format!("{count} parameters lost their name, such as {}", quoted(example)))
}

fn random(graph: &Graph) -> Option<String> {
    let count = export::random_nodes_left(graph);
    (count > 0).then(|| format!("{count} nodes draw random numbers in the written file too"))
}

/// Small tensors that several nodes have as scale, shift or bias. The dynamo exporter stores equal tensors of up to 1024 elements once,
/// and copies of one layer, which `torch.nn.TransformerEncoder` makes, start equal. Or the author wants them tied: nobody can tell.
fn shared(graph: &Graph, analysis: &Analysis) -> Vec<String> {
    const MERGED_ELEMENTS: usize = 1024;
    let mut owners: BTreeMap<ValueId, BTreeSet<ValueId>> = BTreeMap::new();
    // Layers are told apart by their weight: with one weight in all of them, the bias is one too.
    for layer in analysis.layers.values() {
        owners.entry(layer.bias.unwrap_or(layer.weight)).or_default().insert(layer.weight);
    }
    for node in graph.nodes.iter().filter(|node| node.op_type.ends_with("Normalization")) {
        for id in [1, 2].iter().filter_map(|slot| node.input(*slot)) {
            owners.entry(id).or_default().extend(node.output(0));
        }
    }
    let mut found = Vec::new();
    for (id, owners) in owners.iter().filter(|(_, owners)| owners.len() > 1) {
        let small = |data: &&TensorData| (2..=MERGED_ELEMENTS).contains(&data.elements());
        let Some(data) = graph.initializers.get(id).filter(small) else { continue };
        let size = data.element_type.size();
        // Repair takes apart what holds one value only.
        if data.bytes.chunks(size).any(|element| Some(element) != data.bytes.get(..size)) {
            let name = quoted(graph.values.get(id.0).map_or("", |info| &info.name));
            found.push(format!(
                "{name} is scale, shift or bias of {} nodes and kept tied; if that is not meant, export with optimize=False",
                owners.len()
            ));
        }
    }
    found
}

/// Tensors that look as if they could be trained, but lie where the writer changes nothing.
fn fixed(graph: &Graph, analysis: &Analysis) -> Vec<String> {
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (id, reason) in analysis.constants.iter().filter(|(id, _)| graph.fixed.contains_key(id)) {
        found.entry(reason).or_default().push(quoted(graph.values.get(id.0).map_or("", |info| &info.name)));
    }
    let sentence = |(reason, names): (&str, Vec<String>)| {
        let (count, some) = (names.len(), names.iter().take(3).cloned().collect::<Vec<_>>().join(", "));
        let more = if count > 3 { ", ..." } else { "" };
        format!(
            "{count} tensors keep their value, since each {reason}: {some}{more}; initializers of the main graph can be trained"
        )
    };
    found.into_iter().map(sentence).collect()
}

/// Weights whose float values the file does not have.
fn quantised(graph: &Graph, analysis: &Analysis) -> Option<String> {
    let ids: Vec<_> = analysis.constants.iter().filter(|(_, reason)| **reason == QUANTISED).map(|(id, _)| id).collect();
    let some: Vec<_> =
        ids.iter().take(3).map(|id| quoted(graph.values.get(id.0).map_or("", |info| &info.name))).collect();
    let (count, more) = (ids.len(), if ids.len() > 3 { ", ..." } else { "" });
    (count > 0).then(|| {
        let names = some.join(", ");
        format!("{count} weights are stored as integers and keep their value: {names}{more}; train the model before it is quantised")
    })
}

/// Training from NaN gives NaN.
fn not_finite(graph: &Graph, analysis: &Analysis) -> Vec<String> {
    let mut found = Vec::new();
    for (id, info) in &analysis.parameters {
        let values = graph.initializers.get(id).and_then(TensorData::floats).unwrap_or_default();
        let count = values.iter().filter(|value| !value.is_finite()).count();
        if count > 0 {
            found.push(format!("{count} of {} values of {} are NaN or infinite", values.len(), quoted(&info.name)));
        }
    }
    found
}
