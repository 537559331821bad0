//! SplitToSequence and SequenceAt as slices.
//!
//! PyTorch's exporter writes `torch.split` and `torch.chunk` as a sequence of which single parts are taken. The rest of this
//! crate knows tensors only, so each part becomes a Slice of the whole.

use crate::graph::{Attribute, ElementType, Graph, Node, TensorData, ValueId};
use std::collections::BTreeMap;

/// Replaces every SequenceAt at a known place of a SplitToSequence of known lengths. Others stay, and are refused as unsupported.
pub(super) fn to_slices(graph: &mut Graph) {
    let splits: BTreeMap<ValueId, Node> = graph
        .nodes
        .iter()
        .filter(|node| node.op_type == "SplitToSequence" && node.domain.is_empty())
        .filter_map(|node| Some((node.output(0)?, node.clone())))
        .collect();
    let initializers = &graph.initializers;
    for node in graph.nodes.iter_mut().filter(|node| node.op_type == "SequenceAt" && node.domain.is_empty()) {
        let slice = (|| {
            let split = splits.get(&node.input(0)?)?;
            let position = initializers.get(&node.input(1)?)?.integers()?.first().copied()?;
            let lengths = initializers.get(&split.input(1)?)?;
            let (start, end) = part(lengths, position)?;
            Some((split.input(0)?, start, end, split.int("axis", 0)))
        })();
        let Some((whole, start, end, axis)) = slice else { continue };
        node.op_type = "Slice".into();
        node.inputs = vec![Some(whole)];
        let bounds = [("starts", start), ("ends", end), ("axes", axis)];
        node.attributes = bounds.map(|(name, value)| (name.to_owned(), Attribute::Ints(vec![value]))).into();
    }
    let read: std::collections::BTreeSet<ValueId> =
        graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&graph.outputs).copied().collect();
    graph
        .nodes
        .retain(|node| node.output(0).is_none_or(|output| !splits.contains_key(&output) || read.contains(&output)));
}

/// Where part number `position` begins and ends: all parts have one length, or each has its own.
fn part(lengths: &TensorData, position: i64) -> Option<(i64, i64)> {
    let all = lengths.integers().filter(|_| matches!(lengths.element_type, ElementType::Int32 | ElementType::Int64))?;
    if lengths.dims.is_empty() {
        // How many parts there are, and so which one a negative position means, is not known.
        let length = *all.first().filter(|_| position >= 0)?;
        let start = position.checked_mul(length)?;
        return Some((start, start.checked_add(length)?));
    }
    let position = if position < 0 { position.checked_add(i64::try_from(all.len()).ok()?)? } else { position };
    let position = usize::try_from(position).ok()?;
    let start = all.get(..position)?.iter().try_fold(0i64, |sum, length| sum.checked_add(*length))?;
    Some((start, start.checked_add(*all.get(position)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(dims: &[u64], values: &[i64]) -> TensorData {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        TensorData { element_type: ElementType::Int64, dims: dims.to_vec(), bytes }
    }

    #[test]
    fn parts_of_equal_and_of_given_lengths() {
        assert_eq!(part(&integers(&[], &[48]), 2), Some((96, 144)));
        assert_eq!(part(&integers(&[], &[48]), -1), None);
        assert_eq!(part(&integers(&[3], &[32, 64, 5]), 1), Some((32, 96)));
        assert_eq!(part(&integers(&[3], &[32, 64, 5]), -1), Some((96, 101)));
        assert_eq!(part(&integers(&[3], &[32, 64, 5]), 3), None);
    }

    #[test]
    fn only_parts_at_known_places_become_slices() {
        let node = |op_type: &str, inputs: &[usize], output: usize| Node {
            index: Some(0),
            name: String::new(),
            op_type: op_type.into(),
            domain: String::new(),
            opset: 20,
            inputs: inputs.iter().map(|&value| Some(ValueId(value))).collect(),
            outputs: vec![Some(ValueId(output))],
            attributes: [("axis".to_owned(), Attribute::Int(1))].into(),
            metadata: BTreeMap::new(),
        };
        let mut graph = Graph {
            nodes: vec![node("SplitToSequence", &[0, 1], 2), node("SequenceAt", &[2, 3], 4)],
            initializers: [(ValueId(1), integers(&[], &[4])), (ValueId(3), integers(&[], &[1]))].into(),
            outputs: vec![ValueId(4)],
            ..Graph::default()
        };
        let mut open = graph.clone();
        open.nodes.push(node("SequenceAt", &[2, 0], 5));
        to_slices(&mut graph);
        let [slice] = &graph.nodes[..] else { panic!("{:?}", graph.nodes) };
        assert_eq!((slice.op_type.as_str(), slice.inputs.as_slice()), ("Slice", &[Some(ValueId(0))][..]));
        assert_eq!(
            (slice.ints("starts"), slice.ints("ends"), slice.ints("axes")),
            (Some(&[4][..]), Some(&[8][..]), Some(&[1][..]))
        );
        to_slices(&mut open);
        let kinds: Vec<&str> = open.nodes.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(kinds, ["SplitToSequence", "Slice", "SequenceAt"]);
    }
}
