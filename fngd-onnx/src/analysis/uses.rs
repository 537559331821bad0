//! Who computes and who reads each value.

use crate::graph::{Attribute, Graph, Node, ValueId};
use std::collections::BTreeSet;

/// Longest chain of nodes that the analysis follows from one value. Exporters write 5 at most; without an end, a file of many
/// values on one long chain would keep it busy for hours.
pub(super) const LONGEST_WALK: usize = 64;

/// Producers and consumers of a graph's values.
pub(crate) struct Uses {
    readers: Vec<Vec<(usize, usize)>>,
    producer: Vec<Option<usize>>,
    inputs: BTreeSet<ValueId>,
    outputs: BTreeSet<ValueId>,
}

/// A constant, seen through nodes that only change how it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    pub constant: ValueId,
    /// An odd number of 2-D transpositions lies between.
    pub transposed: bool,
}

impl Uses {
    /// Indexes `graph`.
    pub fn of(graph: &Graph) -> Self {
        let mut readers = vec![Vec::new(); graph.values.len()];
        let mut producer = vec![None; graph.values.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            for (slot, input) in node.inputs.iter().enumerate() {
                if let Some(list) = input.and_then(|input| readers.get_mut(input.0)) {
                    list.push((index, slot));
                }
            }
            for output in node.outputs.iter().flatten() {
                if let Some(entry) = producer.get_mut(output.0) {
                    *entry = Some(index);
                }
            }
        }
        let set = |ids: &[ValueId]| ids.iter().copied().collect();
        Self { readers, producer, inputs: set(&graph.inputs), outputs: set(&graph.outputs) }
    }

    /// `(node, input position)` of everything that reads `value`.
    pub fn readers(&self, value: ValueId) -> &[(usize, usize)] {
        self.readers.get(value.0).map_or(&[], Vec::as_slice)
    }

    /// The node that computes `value`, with its index.
    pub fn producer<'a>(&self, graph: &'a Graph, value: ValueId) -> Option<(usize, &'a Node)> {
        let index = (*self.producer.get(value.0)?)?;
        Some((index, graph.nodes.get(index)?))
    }

    /// The only reader of `value`, if it is no output of the graph.
    pub fn only_reader(&self, value: ValueId) -> Option<(usize, usize)> {
        match self.readers(value) {
            [reader] if !self.outputs.contains(&value) => Some(*reader),
            _ => None,
        }
    }

    /// Whether the caller supplies `value`.
    pub fn is_input(&self, value: ValueId) -> bool {
        self.inputs.contains(&value)
    }

    /// Whether the caller sees `value`.
    pub fn is_output(&self, value: ValueId) -> bool {
        self.outputs.contains(&value)
    }

    /// How many nodes read `value` or a renamed or cast copy of it, shapes and types aside.
    pub fn final_readers(&self, graph: &Graph, value: ValueId) -> usize {
        let (mut open, mut count) = (vec![value], usize::from(self.is_output(value)));
        while let Some(value) = open.pop() {
            for (index, slot) in self.readers(value) {
                match graph.nodes.get(*index) {
                    Some(node) if is_renaming(node) => open.extend(node.output(0)),
                    Some(node) if reads_only_form(node, *slot) => (),
                    _ => count += 1,
                }
            }
        }
        count
    }

    /// Walks back from `value` through Identity, Cast between floats and 2-D Transpose to a constant that can be trained.
    pub fn source(&self, graph: &Graph, value: ValueId) -> Option<Source> {
        let (mut value, mut transposed) = (value, false);
        let mut steps = 0;
        while !graph.initializers.contains_key(&value) {
            steps += 1;
            let (_, node) = self.producer(graph, value).filter(|_| steps <= LONGEST_WALK)?;
            if is_matrix_transpose(node) {
                transposed = !transposed;
            } else if !is_renaming(node) {
                return None;
            }
            value = node.input(0)?;
        }
        let data = graph.initializers.get(&value)?;
        let square_enough = !transposed || data.dims.len() == 2;
        let may_train = data.element_type.is_float() && !graph.fixed.contains_key(&value);
        (may_train && square_enough).then_some(Source { constant: value, transposed })
    }
}

/// Identity, or a Cast to a float type.
pub(super) fn is_renaming(node: &Node) -> bool {
    const FLOATS: [i64; 4] = [1, 10, 11, 16];
    node.domain.is_empty()
        && match node.op_type.as_str() {
            "Identity" => true,
            "Cast" => FLOATS.contains(&node.int("to", 0)),
            _ => false,
        }
}

pub(super) fn is_matrix_transpose(node: &Node) -> bool {
    let swaps = match node.attributes.get("perm") {
        Some(Attribute::Ints(perm)) => perm.as_slice() == [1, 0],
        Some(_) => false,
        // By default, all dimensions are reversed; `source` checks that there are two.
        None => true,
    };
    node.domain.is_empty() && node.op_type == "Transpose" && swaps
}

/// Reads the shape or the element type, not the elements.
pub(super) fn reads_only_form(node: &Node, slot: usize) -> bool {
    const LIKE: [&str; 5] = ["Shape", "Size", "RandomUniformLike", "RandomNormalLike", "EyeLike"];
    let name = node.op_type.as_str();
    node.domain.is_empty() && ((slot == 0 && LIKE.contains(&name)) || (slot == 1 && name == "CastLike"))
}
