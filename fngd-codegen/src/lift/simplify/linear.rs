//! A linear layer does not care in which order its rows are: what orders them anew can come after it.

use super::super::facts::Fact;
use super::super::rearrangement::Rearrangement;
use super::super::steps::{Call, Draft, Step};
use crate::operation::{Kind, Layer};
use fngd_onnx::graph::ElementType;
use std::collections::BTreeMap;

/// Most factors of the rows. Two are batch and length, in one order or the other, or merged; with more, as in windows of an image, the
/// order has a meaning of its own that should stay where it is.
const MOST_FACTORS: usize = 2;

/// Moves rearrangements that leave the last axis alone from before linear layers to behind them.
///
/// `nn.MultiheadAttention` with `batch_first` turns its input, and its output back; `addmm` merges batch and length.
pub(super) fn pass_views(draft: &mut Draft) {
    let mut made = BTreeMap::new();
    let mut steps = Vec::with_capacity(draft.steps.len());
    for mut step in std::mem::take(&mut draft.steps) {
        if let (Call::Rearrange { input, how }, Some(result)) = (&step.call, step.results.first()) {
            made.insert(*result, (*input, how.clone(), step.nodes.clone()));
        }
        let Call::Kind(Kind::Layer { layer: Layer::Linear { out_features, .. }, input, .. }) = &mut step.call else {
            steps.push(step);
            continue;
        };
        let view = made.get(input).and_then(|(source, how, nodes)| Some((*source, passing(how)?, nodes.clone())));
        let (Some((source, (first, how), nodes)), Some(result)) = (view, step.results.first_mut()) else {
            steps.push(step);
            continue;
        };
        let how = how.with_last(&(*out_features).into());
        let source = if first.is_identity() {
            source
        } else {
            let turned = draft.new_value();
            draft.facts.insert(turned, Fact::of(ElementType::Float32, first.dims()));
            let call = Call::Rearrange { input: source, how: first };
            steps.push(Step { call, results: vec![turned], nodes: nodes.clone() });
            turned
        };
        *input = source;
        let between = draft.new_value();
        let after = Step { call: Call::Rearrange { input: between, how: how.clone() }, results: vec![*result], nodes };
        draft.facts.insert(between, Fact::of(ElementType::Float32, how.input_dims()));
        made.insert(*result, (between, how, after.nodes.clone()));
        *result = between;
        steps.extend([step, after]);
    }
    draft.steps = steps;
}

/// What of `how` stays before the layer, and what passes it, if anything does.
fn passing(how: &Rearrangement) -> Option<(Rearrangement, Rearrangement)> {
    let (first, second) = how.rows_apart()?;
    let rows = second.clone().coarse().atoms().len().saturating_sub(1);
    (rows <= MOST_FACTORS && second.keeps_last() && !second.is_identity()).then_some((first, second))
}
