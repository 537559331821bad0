//! Values of which a Where replaces some elements.
//!
//! The row of a Softmax whose elements are all -∞ is NaN. Where that can happen, exporters put zeros in its place, but only on the way
//! forward: on the way back, the zeros' gradient meets the NaN. The Softmax must stop it.

use fngd_onnx::graph::{Graph, ValueId};
use std::collections::BTreeSet;

/// Values that a Where reads as one of its alternatives, directly or through Cast and Identity.
pub(crate) fn values(graph: &Graph) -> BTreeSet<ValueId> {
    let mut guarded = BTreeSet::new();
    // Readers come after what they read.
    for node in graph.nodes.iter().rev() {
        match node.op_type.as_str() {
            "Where" => guarded.extend([1, 2].iter().filter_map(|slot| node.input(*slot))),
            "Cast" | "CastLike" | "Identity" if node.output(0).is_some_and(|output| guarded.contains(&output)) => {
                guarded.extend(node.input(0));
            }
            _ => (),
        }
    }
    guarded
}
