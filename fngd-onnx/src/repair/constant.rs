//! R7: weights that the file makes with ConstantOfShape are parameters.
//!
//! Model zoos keep files small that way. The file gets a Constant node in place of it when the elements are no longer equal
//! (`export`).

use super::merged::is_parameter_slot;
use super::{Wanted, name};
use crate::analysis::Uses;
use crate::graph::{Attribute, Graph, Node, TensorData, ValueId};
use crate::read::{Imported, Source};
use std::collections::BTreeSet;

/// Most memory for all of them. VGG-19, the largest that we know of, needs 575 MB.
const MOST_BYTES: usize = 1 << 30;

pub(super) fn promote(imported: &mut Imported, _: &Wanted) -> Vec<String> {
    let Imported { graph, sources, .. } = imported;
    let uses = Uses::of(graph);
    let (mut budget, mut removed, mut made) = (MOST_BYTES, BTreeSet::new(), Vec::new());
    for index in 0..graph.nodes.len() {
        let Some(found) = Weight::find(graph, &uses, index, budget) else { continue };
        budget -= found.bytes;
        removed.extend(found.nodes.iter().copied());
        graph.initializers.insert(found.value, found.tensor());
        sources.insert(found.value, Source::Made { position: found.position, from: found.from });
        made.push(name(&graph.values, found.value));
    }
    if made.is_empty() {
        return Vec::new();
    }
    let mut index = 0;
    graph.nodes.retain(|_| {
        index += 1;
        !removed.contains(&(index - 1))
    });
    let (count, more) = (made.len(), if made.len() > 3 { ", ..." } else { "" });
    made.truncate(3);
    vec![format!("{count} weights that the file makes with ConstantOfShape are parameters: {}{more}", made.join(", "))]
}

/// A weight made by ConstantOfShape, perhaps with a Reshape.
struct Weight {
    value: ValueId,
    dims: Vec<u64>,
    /// The one element.
    element: TensorData,
    bytes: usize,
    /// Nodes that are not needed then, by their index in `Graph::nodes`.
    nodes: Vec<usize>,
    /// Position in the file of the node that computes `value`.
    position: usize,
    /// And of the ConstantOfShape before it.
    from: Option<usize>,
}

impl Weight {
    fn find(graph: &Graph, uses: &Uses, index: usize, budget: usize) -> Option<Self> {
        let node = graph.nodes.get(index).filter(|node| node.op_type == "ConstantOfShape" && node.domain.is_empty())?;
        let (value, position) = (node.output(0)?, node.index?);
        let shape = integers(graph, node.input(0)?)?;
        let dims = shape.iter().map(|size| u64::try_from(*size).ok()).collect::<Option<Vec<_>>>()?;
        let element = match node.attributes.get("value") {
            None => TensorData::from_floats(vec![1], &[0.0]),
            Some(Attribute::Tensor(data)) if data.element_type.is_float() && data.elements() == 1 => data.clone(),
            Some(_) => return None,
        };
        let elements = dims.iter().try_fold(1u64, |product, size| product.checked_mul(*size))?;
        let bytes = usize::try_from(elements).ok()?.checked_mul(element.element_type.size())?;
        if bytes == 0 || bytes > budget || uses.is_output(value) {
            return None;
        }
        let mut found = Self { value, dims, element, bytes, nodes: vec![index], position, from: None };
        if feeds_weight(graph, uses, value, found.dims.len()) || is_scale(graph, uses, value) {
            return Some(found);
        }
        let (next, reshape) = only_reader(graph, uses, value, "Reshape")?;
        found.value = reshape.output(0).filter(|output| !uses.is_output(*output))?;
        found.dims = reshaped(&found.dims, elements, &integers(graph, reshape.input(1)?)?)?;
        found.nodes.push(next);
        (found.position, found.from) = (reshape.index?, Some(position));
        feeds_weight(graph, uses, found.value, found.dims.len()).then_some(found)
    }

    fn tensor(&self) -> TensorData {
        let bytes = self.element.bytes.repeat(self.bytes / self.element.bytes.len().max(1));
        TensorData { element_type: self.element.element_type, dims: self.dims.clone(), bytes }
    }
}

/// Whether some node reads `value` as its weight.
fn feeds_weight(graph: &Graph, uses: &Uses, value: ValueId, rank: usize) -> bool {
    uses.readers(value).iter().any(|(index, slot)| {
        graph.nodes.get(*index).is_some_and(|node| {
            is_parameter_slot(node, *slot, 1) || (node.op_type == "MatMul" && *slot == 1 && rank == 2)
        })
    })
}

/// Scale or shift per channel, as Caffe2 exports it: Unsqueeze, and then Mul or Add.
fn is_scale(graph: &Graph, uses: &Uses, value: ValueId) -> bool {
    let unsqueezed = only_reader(graph, uses, value, "Unsqueeze").and_then(|(_, node)| node.output(0));
    unsqueezed.is_some_and(|value| {
        only_reader(graph, uses, value, "Mul").is_some() || only_reader(graph, uses, value, "Add").is_some()
    })
}

fn only_reader<'a>(graph: &'a Graph, uses: &Uses, value: ValueId, op_type: &str) -> Option<(usize, &'a Node)> {
    let (index, slot) = uses.only_reader(value)?;
    let node = graph.nodes.get(index).filter(|node| node.op_type == op_type && node.domain.is_empty())?;
    // The shape of a Reshape is no weight.
    (slot == 0 || op_type != "Reshape").then_some((index, node))
}

/// What a Reshape to `shape` makes of `dims`.
fn reshaped(dims: &[u64], elements: u64, shape: &[i64]) -> Option<Vec<u64>> {
    let size = |(axis, size): (usize, &i64)| match size {
        -1 => Some(1),
        0 => dims.get(axis).copied(),
        size => u64::try_from(*size).ok(),
    };
    let mut new = shape.iter().enumerate().map(size).collect::<Option<Vec<_>>>()?;
    let product = |dims: &[u64]| dims.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
    if let Some(open) = shape.iter().position(|size| *size == -1) {
        *new.get_mut(open)? = elements.checked_div(product(&new)?)?;
    }
    (product(&new)? == elements).then_some(new)
}

fn integers(graph: &Graph, id: ValueId) -> Option<Vec<i64>> {
    graph.initializers.get(&id)?.integers()
}

#[cfg(test)]
mod tests {
    use super::reshaped;

    #[test]
    fn reshapes() {
        assert_eq!(reshaped(&[6, 4], 24, &[0, -1]), Some(vec![6, 4]));
        assert_eq!(reshaped(&[24], 24, &[2, -1, 3]), Some(vec![2, 4, 3]));
        assert_eq!(reshaped(&[24], 24, &[5, -1]), None);
        assert_eq!(reshaped(&[24], 24, &[0, 0]), None);
        assert_eq!(reshaped(&[24], 24, &[-2, -12]), None);
        assert_eq!(reshaped(&[24], 24, &[0, 0, -1]), None);
    }
}
