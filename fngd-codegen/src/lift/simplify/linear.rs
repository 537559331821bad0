//! A linear layer does not care in which order its rows are: what orders them anew can come after it.

use super::super::facts::Fact;
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
        let passes = made
            .get(input)
            .filter(|(_, how, _)| how.keeps_last() && how.clone().coarse().atoms().len() <= MOST_FACTORS + 1);
        let (Some((source, how, nodes)), Some(result)) = (passes.cloned(), step.results.first_mut()) else {
            steps.push(step);
            continue;
        };
        let how = how.with_last(&(*out_features).into());
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
