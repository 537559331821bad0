//! The value that the loss reads.

use super::Uses;
use crate::graph::{Graph, ValueId};

/// The first output, or what goes into the Softmax, LogSoftmax or Sigmoid that makes it.
///
/// With `skip_tail` false, always the first output.
pub(super) fn find(graph: &Graph, uses: &Uses, skip_tail: bool) -> Option<ValueId> {
    let output = *graph.outputs.first()?;
    if !skip_tail {
        return Some(output);
    }
    let mut value = output;
    while let Some((_, node)) = uses.producer(graph, value) {
        let input = node.input(0);
        match (node.op_type.as_str(), input) {
            _ if !node.domain.is_empty() => break,
            ("Softmax" | "LogSoftmax" | "Sigmoid", Some(input)) => return Some(input),
            // A file that computes its own loss is trained on what that reads.
            ("SoftmaxCrossEntropyLoss", Some(input)) => return Some(input),
            ("Identity" | "NegativeLogLikelihoodLoss", Some(input)) => value = input,
            ("Cast", Some(input)) if super::uses::is_renaming(node) => value = input,
            _ => break,
        }
    }
    Some(output)
}
