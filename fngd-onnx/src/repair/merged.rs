//! R1 and R2: what exporters merge is taken apart again, in the graph only: the file changes when the parts no longer hold the
//! same numbers.
//!
//! Exporters store initializers with equal contents once. Freshly initialised scales and biases are all ones and zeros, so
//! parameters of different layers become one. A tensor with one value everywhere, read by several parameter slots, is taken for
//! such an accident; any other shared tensor is taken for a tie that the author wants.

use super::name;
use crate::analysis;
use crate::graph::{Graph, Node, TensorData, ValueId, ValueInfo};
use crate::names::UniqueNames;
use crate::read::{Imported, Source};
use crate::supported::MICROSOFT_DOMAIN;
use std::collections::{BTreeMap, BTreeSet};

/// Most memory for copies. Exporters merge tensors of a few kilobytes; a hostile file could merge a large one a million times.
const COPIES_BYTES: usize = 256 << 20;

/// `Identity(initializer)` stands for a tensor that was merged with that initializer.
pub(super) fn resolve_identities(imported: &mut Imported) -> Vec<String> {
    let Imported { graph, sources, .. } = imported;
    let (mut renamed, mut removed, mut done) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    let outputs: BTreeSet<ValueId> = graph.outputs.iter().copied().collect();
    let of_parameters = read_as_parameters(graph);
    let mut uniform = Uniform::default();
    let mut budget = COPIES_BYTES;
    for (index, node) in graph.nodes.iter().enumerate() {
        let (Some(input), Some(output)) = (node.input(0), node.output(0)) else { continue };
        // The input may itself be the output of such a node.
        let input = renamed.get(&input).copied().unwrap_or(input);
        let Some(data) = graph.initializers.get(&input) else { continue };
        if node.op_type != "Identity" || !node.domain.is_empty() || outputs.contains(&output) {
            continue;
        }
        removed.insert(index);
        // A number such as an epsilon is a parameter only where its reader says so.
        let may_be_parameter = data.elements() > 1 || of_parameters.contains(&output);
        // In a body, there is nothing that could be rewired.
        let own = node.index.filter(|_| may_be_parameter && !graph.fixed.contains_key(&input));
        if let Some(position) = own.filter(|_| uniform.is(input, data) && take(&mut budget, data)) {
            let copy = data.clone();
            graph.initializers.insert(output, copy);
            sources.insert(output, Source::Alias { position, of: input });
            let (name, of) = (name(&graph.values, output), name(&graph.values, input));
            done.push(format!("{name} was merged with {of} by the exporter; it is a parameter of its own again"));
        } else {
            renamed.insert(output, input);
        }
    }
    let mut index = 0;
    graph.nodes.retain(|_| {
        index += 1;
        !removed.contains(&(index - 1))
    });
    for input in graph.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut()).flatten() {
        *input = renamed.get(input).copied().unwrap_or(*input);
    }
    done
}

/// Values that some node reads as its parameter, whatever their size.
fn read_as_parameters(graph: &Graph) -> BTreeSet<ValueId> {
    let mut found = BTreeSet::new();
    for node in &graph.nodes {
        let slots = (0..node.inputs.len()).filter(|slot| is_parameter_slot(node, *slot, 1));
        found.extend(slots.filter_map(|slot| node.input(slot)));
    }
    found
}

/// Gives each parameter slot that reads a tensor of one value a tensor of its own.
pub(super) fn split_shared(imported: &mut Imported) -> Vec<String> {
    let Imported { graph, sources, .. } = imported;
    let constants = analysis::constants(graph);
    let mut readers: BTreeMap<ValueId, Vec<(usize, usize)>> = BTreeMap::new();
    let mut uniform = Uniform::default();
    for (index, node) in graph.nodes.iter().enumerate() {
        for (slot, input) in node.inputs.iter().enumerate() {
            let Some((id, data)) = input.and_then(|id| Some((id, graph.initializers.get(&id)?))) else { continue };
            // In a body, there is nothing that could be rewired.
            if node.index.is_none() || graph.fixed.contains_key(&id) || constants.contains_key(&id) {
                continue;
            }
            if is_parameter_slot(node, slot, data.elements()) && uniform.is(id, data) {
                readers.entry(id).or_default().push((index, slot));
            }
        }
    }
    // A layer that is called twice reads its bias twice, however equal the elements are; a weight of one value may be an accident, too.
    let mut weights = analysis::weights_by_bias(graph);
    weights.retain(|_, weight| graph.initializers.get(weight).is_some_and(|data| !uniform.is(*weight, data)));
    let is_one_layer = |slots: &[(usize, usize)]| {
        let mut of = slots.iter().map(|(index, _)| weights.get(index));
        of.next().flatten().is_some_and(|first| of.all(|weight| weight == Some(first)))
    };
    let mut names = UniqueNames::avoiding(graph.values.iter().map(|info| info.name.clone()));
    let (mut done, mut budget) = (Vec::new(), COPIES_BYTES);
    for (id, slots) in readers.into_iter().filter(|(_, slots)| slots.len() > 1 && !is_one_layer(slots)) {
        for (index, slot) in slots.iter().skip(1) {
            if graph.initializers.get(&id).is_some_and(|data| take(&mut budget, data)) {
                split(graph, sources, &mut names, id, *index, *slot);
            }
        }
        let (name, count) = (name(&graph.values, id), slots.len());
        done.push(format!(
            "{name} held {count} equal parameters merged by the exporter; each is a parameter of its own again"
        ));
    }
    done
}

fn split(
    graph: &mut Graph,
    sources: &mut BTreeMap<ValueId, Source>,
    names: &mut UniqueNames,
    id: ValueId,
    index: usize,
    slot: usize,
) {
    let (Some(data), Some(info)) = (graph.initializers.get(&id).cloned(), graph.values.get(id.0).cloned()) else {
        return;
    };
    let copy = ValueId(graph.values.len());
    let Some(node) = graph.nodes.get_mut(index) else { return };
    let (Some(position), Some(input)) = (node.index, node.inputs.get_mut(slot)) else { return };
    *input = Some(copy);
    let name = names.unique(format!("{}__{}", info.name, node.name));
    sources.insert(copy, Source::Copy { position, slot, of: id });
    graph.values.push(ValueInfo { name, ..info });
    graph.initializers.insert(copy, data);
}

/// Whether input `slot` of `node` is made for a parameter, or may hold one because it has several elements.
pub(super) fn is_parameter_slot(node: &Node, slot: usize, elements: usize) -> bool {
    let several = elements > 1;
    if node.domain == MICROSOFT_DOMAIN {
        return matches!(
            (node.op_type.as_str(), slot),
            ("Attention" | "FusedConv" | "FusedGemm" | "LayerNormalization", 1 | 2)
                | ("SkipLayerNormalization", 2..=4)
                | ("SkipSimplifiedLayerNormalization", 2 | 3)
                | ("BiasGelu" | "FastGelu" | "SimplifiedLayerNormalization", 1)
                | ("EmbedLayerNormalization", 5 | 6)
                | ("MultiHeadAttention", 3)
        );
    }
    node.domain.is_empty()
        && match (node.op_type.as_str(), slot) {
            ("LSTM" | "GRU" | "RNN", 1..=3) | ("SimplifiedLayerNormalization", 1) => true,
            ("Conv" | "ConvTranspose" | "Gemm", 1 | 2) => true,
            ("BatchNormalization", 1..=4) | ("PRelu", 1) => true,
            ("LayerNormalization" | "InstanceNormalization" | "GroupNormalization" | "RMSNormalization", 1 | 2) => true,
            ("MatMul" | "Add" | "Mul", 0 | 1) => several,
            _ => false,
        }
}

/// Takes what a copy of `data` needs from `budget`, if it is there.
fn take(budget: &mut usize, data: &TensorData) -> bool {
    budget.checked_sub(data.bytes.len()).map(|left| *budget = left).is_some()
}

/// Which float tensors have one value everywhere; each is looked at once.
#[derive(Default)]
struct Uniform(BTreeMap<ValueId, bool>);

impl Uniform {
    fn is(&mut self, id: ValueId, data: &TensorData) -> bool {
        let size = data.element_type.size();
        let first = data.bytes.get(..size);
        let look = || data.element_type.is_float() && data.bytes.chunks(size).all(|element| Some(element) == first);
        *self.0.entry(id).or_insert_with(look)
    }
}
