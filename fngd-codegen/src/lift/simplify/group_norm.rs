//! GroupNorm, which exporters write as InstanceNormalization of groups, then a scale and a shift per channel.

use super::super::sizes::Expression;
use super::super::steps::{Call, Draft, Step};
use super::matcher::Matcher;
use crate::operation::{Argument, Kind, Layer, Parameter};
use fngd_onnx::graph::ValueId;

/// Finds and names them.
pub(super) fn find(draft: &mut Draft) {
    let matcher = Matcher::new(draft);
    let found: Vec<_> =
        draft.steps.iter().enumerate().filter_map(|(index, step)| Some((index, of(&matcher, step)?))).collect();
    for (index, (kind, nodes)) in found {
        // OK because the index is that of a step.
        draft.steps[index].call = Call::Kind(kind);
        draft.steps[index].nodes = nodes;
    }
}

/// `view(instance_norm(view(x))) * scale + shift`.
fn of<'a>(matcher: &Matcher<'a>, step: &'a Step) -> Option<(Kind, Vec<usize>)> {
    let (scaled, bias) = operands(matcher, step, '+')?;
    let scaled = matcher.inner(scaled)?;
    let (normal, weight) = operands(matcher, scaled, '*')?;
    let back = matcher.inner(normal)?;
    let Call::Rearrange { input: normalised, .. } = &back.call else { return None };
    let norm = matcher.inner(*normalised)?;
    let (grouped, arguments) = matcher.method(norm, "instance_norm")?;
    let [Argument::NoTensor, Argument::NoTensor, _, _, _, _, Argument::Float(epsilon), _] = arguments else {
        return None;
    };
    let groups = matcher.inner(grouped)?;
    let Call::Rearrange { input, how } = &groups.call else { return None };
    let dims = |value: &ValueId| matcher.draft.facts.get(value).map(|fact| fact.dims.as_slice());
    let (x, split) = (dims(input)?, how.dims());
    // The channels are divided into groups, nothing else changes places; then all is as before.
    let [batch, channels, ..] = x else { return None };
    let fits =
        split.first() == Some(batch) && how.axes().iter().flatten().is_sorted() && dims(back.results.first()?)? == x;
    let features = channels.known()?;
    let count = split.get(1).and_then(Expression::known).filter(|count| *count > 0 && features % count == 0)?;
    let rank = x.len();
    let (weight, bias) = (per_channel(matcher, weight, features, rank)?, per_channel(matcher, bias, features, rank)?);
    let named = |name: &str, parameter: &Parameter| Parameter {
        name: name.to_owned(),
        dims: vec![features],
        ..parameter.clone()
    };
    let kind = Kind::Layer {
        layer: Layer::GroupNorm { groups: count, features, epsilon: *epsilon },
        input: *input,
        parameters: vec![named("weight", weight), named("bias", bias)],
    };
    let mut nodes: Vec<usize> = [groups, norm, back, scaled, step].iter().flat_map(|step| step.nodes.clone()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    fits.then_some((kind, nodes))
}

/// The computed operand and the other.
fn operands<'a>(matcher: &Matcher<'a>, step: &'a Step, symbol: char) -> Option<(ValueId, ValueId)> {
    let (Argument::Tensor(a), Argument::Tensor(b)) = matcher.operator(step, symbol)? else { return None };
    let is_field = |value: &ValueId| field(matcher, *value).is_some();
    match (is_field(a), is_field(b)) {
        (false, true) => Some((*a, *b)),
        (true, false) => Some((*b, *a)),
        _ => None,
    }
}

/// The parameter that `value` is, or is a view of.
fn field<'a>(matcher: &Matcher<'a>, value: ValueId) -> Option<&'a Parameter> {
    match &matcher.step(value)?.call {
        Call::Kind(Kind::Parameter(parameter)) => Some(parameter),
        Call::Rearrange { input, .. } => match &matcher.step(*input)?.call {
            Call::Kind(Kind::Parameter(parameter)) => Some(parameter),
            _ => None,
        },
        _ => None,
    }
}

/// A parameter with one element for each channel, the second axis of `rank`.
fn per_channel<'a>(matcher: &Matcher<'a>, value: ValueId, features: i64, rank: usize) -> Option<&'a Parameter> {
    let dims = &matcher.draft.facts.get(&value)?.dims;
    let behind = dims.iter().rev().take_while(|dim| dim.is(1)).count();
    let rest = &dims[..dims.len() - behind];
    let is_channel = rest.last()?.is(features) && rest.iter().rev().skip(1).all(|dim| dim.is(1)) && behind + 2 == rank;
    field(matcher, value).filter(|parameter| is_channel && parameter.dims.iter().product::<i64>() == features)
}
