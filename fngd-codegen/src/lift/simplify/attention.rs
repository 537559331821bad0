//! Attention: two products with a softmax between them, however the exporter wrote scale and mask.

use super::super::facts::{Content, Fact};
use super::super::rearrangement::Rearrangement;
use super::super::steps::{Call, Draft, Step};
use super::matcher::{Matcher, close};
use crate::operation::{Argument, Kind, Size};
use fngd_onnx::graph::{ElementType, ValueId};
use std::collections::BTreeMap;

/// What may not be attended to gets at most this.
const NEVER: f64 = -1e9;

/// Most calls between the softmax and the first product.
const DEEPEST: usize = 6;

/// `softmax(scale · query · keyᵀ + mask) · value`.
struct Attention {
    query: ValueId,
    /// keyᵀ.
    turned_key: ValueId,
    value: ValueId,
    scale: f64,
    mask: Option<Mask>,
    dropout: f64,
    nodes: Vec<usize>,
}

enum Mask {
    /// Is added.
    Sum(ValueId),
    /// True where attention may go.
    Keep(ValueId),
    /// True where it may not.
    Drop(ValueId),
    /// No further than the position itself.
    Causal,
}

/// Finds and names them.
pub(super) fn fuse(draft: &mut Draft) {
    let matcher = Matcher::new(draft);
    let found: Vec<_> =
        draft.steps.iter().enumerate().filter_map(|(index, step)| Some((index, find(&matcher, step)?))).collect();
    let mut before: BTreeMap<usize, Vec<Step>> = BTreeMap::new();
    for (index, attention) in found {
        let mut extra = Vec::new();
        let call = call(draft, attention, &mut extra);
        // OK because `find` saw the step.
        draft.steps[index].call = call.call;
        draft.steps[index].nodes = call.nodes;
        before.insert(index, extra);
    }
    for (index, step) in std::mem::take(&mut draft.steps).into_iter().enumerate() {
        draft.steps.extend(before.remove(&index).unwrap_or_default());
        draft.steps.push(step);
    }
}

fn call(draft: &mut Draft, attention: Attention, extra: &mut Vec<Step>) -> Step {
    let Attention { query, turned_key, value, scale, mask, dropout, nodes } = attention;
    let dims = |value: ValueId| draft.facts.get(&value).map(|fact| fact.dims.clone()).unwrap_or_default();
    let (query_dims, turned_dims) = (dims(query), dims(turned_key));
    let rank = turned_dims.len();
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(rank - 2, rank - 1);
    let turn = Rearrangement::permutation(&turned_dims, &order);
    let uses = draft.uses();
    // The views of query, key and value come right before, in this order.
    let view = |value: ValueId| {
        let step = draft.steps.get(uses.producer(value)?)?;
        match &step.call {
            Call::Rearrange { input, how } if uses.is_read_once(value) => {
                Some((*input, how.clone(), step.nodes.clone()))
            }
            _ => None,
        }
    };
    let key = view(turned_key).and_then(|(input, how, nodes)| Some((input, how.then(turn.as_ref()?)?, nodes)));
    let views = [
        view(query),
        // OK because a swap of two axes is a permutation.
        key.or_else(|| Some((turned_key, turn.clone()?, nodes.clone()))),
        view(value),
    ];
    let mut made = |call: Call, element: ElementType, dims, nodes: Vec<usize>| {
        let result = draft.new_value();
        draft.facts.insert(result, Fact::of(element, dims));
        extra.push(Step { call, results: vec![result], nodes });
        result
    };
    let mut settle = |value: ValueId, view: Option<(ValueId, Rearrangement, Vec<usize>)>| match view {
        Some((input, how, nodes)) => {
            let dims = how.dims();
            made(Call::Rearrange { input, how }, ElementType::Float32, dims, nodes)
        }
        None => value,
    };
    let [of_query, of_key, of_value] = views;
    let (query, key, value) = (settle(query, of_query), settle(turned_key, of_key), settle(value, of_value));
    let (mask, causal) = match mask {
        None => (Argument::NoTensor, false),
        Some(Mask::Causal) => (Argument::NoTensor, true),
        Some(Mask::Sum(mask) | Mask::Keep(mask)) => (Argument::SomeTensor(mask), false),
        Some(Mask::Drop(mask)) => {
            let kind = Kind::Method { receiver: mask, name: "logical_not", arguments: Vec::new() };
            let dims = turned_dims.clone();
            (Argument::SomeTensor(made(Call::Kind(kind), ElementType::Bool, dims, nodes.clone())), false)
        }
    };
    let width = query_dims.last().and_then(super::super::sizes::Expression::known);
    let is_usual = width.is_some_and(|width| close(scale, 1.0 / (width as f64).sqrt()));
    let arguments = vec![
        Argument::Tensor(query),
        Argument::Tensor(key),
        Argument::Tensor(value),
        mask,
        if dropout == 0.0 { Argument::Float(0.0) } else { Argument::WhileTraining(dropout) },
        Argument::Bool(causal),
        if is_usual { Argument::None } else { Argument::Float(scale) },
        Argument::Bool(false),
    ];
    let call = Call::Kind(Kind::Function { name: "scaled_dot_product_attention", arguments });
    Step { call, results: Vec::new(), nodes }
}

fn find<'a>(matcher: &Matcher<'a>, step: &'a Step) -> Option<Attention> {
    let (weights, [Argument::Tensor(value)]) = matcher.method(step, "matmul")? else { return None };
    let mut nodes = step.nodes.clone();
    let mut inner = matcher.inner(weights)?;
    let mut dropout = 0.0;
    if let Some((input, [Argument::Float(rate), Argument::Training])) = matcher.method(inner, "dropout") {
        nodes.extend(&inner.nodes);
        (dropout, inner) = (*rate, matcher.inner(input)?);
    }
    if let Some(safe) = without_nan(matcher, inner) {
        nodes.extend(&inner.nodes);
        inner = safe;
    }
    let (scores, [Argument::Integer(Size::Known(-1)), _]) = matcher.method(inner, "softmax")? else { return None };
    nodes.extend(&inner.nodes);
    let mut found = scores_of(matcher, matcher.inner(scores)?, DEEPEST)?;
    for side in [&mut found.query, &mut found.turned_key] {
        let product = matcher.inner_product(*side);
        if let [factor] = product.factors[..] {
            found.scale *= product.number;
            *side = factor;
        }
    }
    let rank = |value: ValueId| matcher.draft.facts.get(&value).map(|fact| fact.dims.len());
    let ranks = [rank(found.query)?, rank(found.turned_key)?, rank(*value)?];
    if ranks.iter().any(|rank| *rank < 3 || *rank != ranks[0]) {
        return None;
    }
    found.nodes.extend(nodes);
    found.nodes.sort_unstable();
    found.nodes.dedup();
    Some(Attention { value: *value, dropout, ..found })
}

/// `where(isnan(p), 0, p)`: how the dynamo exporter keeps rows that are masked completely from being NaN.
fn without_nan<'a>(matcher: &Matcher<'a>, step: &'a Step) -> Option<&'a Step> {
    let (weights, [Argument::Tensor(mask), Argument::Float(0.0)]) = matcher.method(step, "masked_fill")? else {
        return None;
    };
    let (tested, _) = matcher.method(matcher.inner(*mask)?, "isnan")?;
    (tested == weights && matcher.uses.readers(weights).len() == 2).then(|| matcher.step(weights))?
}

/// Scale, mask and the first product.
fn scores_of<'a>(matcher: &Matcher<'a>, step: &'a Step, depth: usize) -> Option<Attention> {
    let deeper = depth.checked_sub(1)?;
    if let Some((query, [Argument::Tensor(turned_key)])) = matcher.method(step, "matmul") {
        let nodes = step.nodes.clone();
        let (query, turned_key) = (query, *turned_key);
        return Some(Attention { query, turned_key, value: query, scale: 1.0, mask: None, dropout: 0.0, nodes });
    }
    let with = |scores: ValueId, mask: Mask| {
        let mut found = scores_of(matcher, matcher.inner(scores)?, deeper)?;
        found.nodes.extend(&step.nodes);
        found.mask.is_none().then_some(Attention { mask: Some(mask), ..found })
    };
    if let Some((Argument::Tensor(a), Argument::Tensor(b))) = matcher.operator(step, '+') {
        let sum = |mask: ValueId| if is_causal(matcher, mask) { Mask::Causal } else { Mask::Sum(mask) };
        return with(*a, sum(*b)).or_else(|| with(*b, sum(*a)));
    }
    if let Some((scores, [Argument::Tensor(mask), Argument::Float(number)])) = matcher.method(step, "masked_fill") {
        return (*number <= NEVER).then(|| with(scores, Mask::Drop(*mask)))?;
    }
    if let Some((scores, [Argument::Tensor(mask), Argument::Tensor(other)])) = matcher.method(step, "where_self") {
        let is_never = matcher.draft.facts.get(other)?.uniform().is_some_and(|number| number <= NEVER);
        let mask = if is_causal(matcher, *mask) { Mask::Causal } else { Mask::Keep(*mask) };
        return is_never.then(|| with(scores, mask))?;
    }
    let product = matcher.product(step);
    let [scores] = product.factors[..] else { return None };
    let found = scores_of(matcher, matcher.inner(scores).filter(|_| product.number != 1.0)?, deeper)?;
    let nodes = [found.nodes, product.nodes].concat();
    // A mask inside would be scaled with the rest.
    found.mask.is_none().then_some(Attention { scale: found.scale * product.number, nodes, ..found })
}

/// Whether a mask lets every position attend to itself and those before, and to no others.
fn is_causal(matcher: &Matcher, mask: ValueId) -> bool {
    let Some(fact) = matcher.draft.facts.get(&mask) else { return false };
    let [ends @ .., rows, columns] = fact.dims.as_slice() else { return false };
    if rows != columns || ends.iter().any(|dim| !dim.is(1)) {
        return false;
    }
    let Some(size) = rows.known().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 1) else {
        return false;
    };
    let is_before = |position: usize| position % size <= position / size;
    match &fact.content {
        Some(Content::Floats(all)) => {
            let fits =
                |(position, number): (usize, &f64)| if is_before(position) { *number == 0.0 } else { *number <= NEVER };
            all.iter().enumerate().all(fits)
        }
        Some(Content::Integers(all)) => {
            fact.element == ElementType::Bool
                && all.iter().enumerate().all(|(position, one)| one.is(i64::from(is_before(position))))
        }
        None => false,
    }
}
