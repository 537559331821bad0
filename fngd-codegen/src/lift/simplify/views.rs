//! Rearrangements in a row are one, and those that change nothing are none.

use super::super::rearrangement::Rearrangement;
use super::super::steps::{Call, Draft};
use fngd_onnx::graph::ValueId;
use std::collections::BTreeMap;

/// Joins them, and leaves out what is the identity.
pub(super) fn join(draft: &mut Draft) {
    let mut made: BTreeMap<ValueId, (ValueId, Rearrangement, Vec<usize>)> = BTreeMap::new();
    let mut same: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for step in &mut draft.steps {
        step.call.visit(&mut |value| {
            if let Some(other) = same.get(value) {
                *value = *other;
            }
        });
        let Call::Rearrange { input, how } = &mut step.call else { continue };
        if let Some((source, first, nodes)) = made.get(input)
            && let Some(both) = first.then(how)
        {
            (*input, *how) = (*source, both);
            step.nodes.extend(nodes);
        }
        let Some(result) = step.results.first() else { continue };
        if how.is_identity() {
            same.insert(*result, *input);
        } else {
            made.insert(*result, (*input, how.clone(), step.nodes.clone()));
        }
    }
    for output in &mut draft.outputs {
        if let Some(other) = same.get(output) {
            *output = *other;
        }
    }
}
