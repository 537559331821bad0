//! A linear layer does not care in which order its rows are: what orders them anew can come after it.

use super::super::facts::Fact;
use super::super::rearrangement::Rearrangement;
use super::super::sizes::Expression;
use super::super::steps::{Call, Draft, Step};
use super::matcher::Matcher;
use crate::operation::{Argument, Kind, Layer};
use fngd_onnx::graph::{ElementType, ValueId};
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
        let Some((input, out_features)) = linear(&mut step.call, &draft.facts) else {
            steps.push(step);
            continue;
        };
        let view = made.get(input).and_then(|(source, how, nodes)| Some((*source, passing(how)?, nodes.clone())));
        let (Some((source, (first, how), nodes)), Some(result)) = (view, step.results.first_mut()) else {
            steps.push(step);
            continue;
        };
        let how = how.with_last(&out_features);
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

/// Input and width of the output, if `call` is a linear layer or its function.
fn linear<'a>(call: &'a mut Call, facts: &BTreeMap<ValueId, Fact>) -> Option<(&'a mut ValueId, Expression)> {
    match call {
        Call::Kind(Kind::Layer { layer: Layer::Linear { out_features, .. }, input, .. }) => {
            Some((input, (*out_features).into()))
        }
        Call::Kind(Kind::Method { receiver, name: "linear", arguments }) => {
            let [Argument::Tensor(weight), _] = arguments.as_slice() else { return None };
            Some((receiver, facts.get(weight)?.dims.first()?.clone()))
        }
        _ => None,
    }
}

/// `x.matmul(&weight.tr()) + bias` is `x.linear(&weight, Some(&bias))`: a layer on a part of a parameter, such as the projection of
/// the queries alone in cross-attention.
pub(super) fn of_parts(draft: &mut Draft) {
    let matcher = Matcher::new(draft);
    let find = |(index, step): (usize, &Step)| {
        let (Argument::Tensor(a), Argument::Tensor(b)) = matcher.operator(step, '+')? else { return None };
        let (product, bias) = [(a, b), (b, a)].into_iter().find_map(|(product, bias)| {
            let inner = matcher.inner(*product)?;
            matcher.method(inner, "matmul").map(|_| (inner, *bias))
        })?;
        let (input, [Argument::Tensor(turned)]) = matcher.method(product, "matmul")? else { return None };
        let Call::Rearrange { input: weight, how } = &matcher.inner(*turned)?.call else { return None };
        let dims = |value: &ValueId| matcher.draft.facts.get(value).map(|fact| fact.dims.clone());
        let weight_dims = dims(weight)?;
        let is_turned =
            weight_dims.len() == 2 && Rearrangement::permutation(&weight_dims, &[1, 0]).as_ref() == Some(how);
        let fits = dims(&bias)?.as_slice() == weight_dims.get(..1)?;
        let nodes = [product.nodes.as_slice(), &step.nodes].concat();
        (is_turned && fits).then_some((index, input, *weight, bias, nodes))
    };
    let found: Vec<_> = draft.steps.iter().enumerate().filter_map(find).collect();
    for (index, receiver, weight, bias, nodes) in found {
        let arguments = vec![Argument::Tensor(weight), Argument::SomeTensor(bias)];
        // OK because the index is that of a step.
        draft.steps[index].call = Call::Kind(Kind::Method { receiver, name: "linear", arguments });
        draft.steps[index].nodes = nodes;
    }
}

/// What of `how` stays before the layer, and what passes it, if anything does.
fn passing(how: &Rearrangement) -> Option<(Rearrangement, Rearrangement)> {
    let (first, second) = how.rows_apart()?;
    let rows = second.clone().coarse().atoms().len().saturating_sub(1);
    (rows <= MOST_FACTORS && second.keeps_last() && !second.is_identity()).then_some((first, second))
}
