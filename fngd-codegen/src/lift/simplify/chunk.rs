//! `view`, `permute`, and then every element along an axis: chunks.
//!
//! So packed projections are unpacked: `qkv.view([n, l, 3, heads, d]).permute([2, 0, 3, 1, 4])`, then `select(0, 0)` and so on, are
//! `qkv.chunk(3, -1)`, each rearranged.

use super::super::facts::Fact;
use super::super::rearrangement::Rearrangement;
use super::super::steps::{Call, Draft, Step};
use super::matcher::Matcher;
use crate::operation::{Argument, Kind, Size};
use fngd_onnx::graph::ValueId;
use std::collections::BTreeMap;

/// Most chunks.
const MOST: usize = 16;

struct Found {
    input: ValueId,
    axis: usize,
    count: usize,
    rest: Rearrangement,
    nodes: Vec<usize>,
    /// Each select's step, and its index along the axis.
    selects: Vec<(usize, usize)>,
}

/// Finds and replaces them.
pub(super) fn of_selects(draft: &mut Draft) {
    let matcher = Matcher::new(draft);
    let found: Vec<Found> = draft.steps.iter().filter_map(|step| find(&matcher, step)).collect();
    let mut before: BTreeMap<usize, Step> = BTreeMap::new();
    for Found { input, axis, count, rest, nodes, selects } in found {
        let dims = rest.input_dims();
        let parts: Vec<ValueId> = (0..count).map(|_| draft.new_value()).collect();
        for part in &parts {
            let element = draft.facts.get(&input).map_or(fngd_onnx::graph::ElementType::Float32, |fact| fact.element);
            draft.facts.insert(*part, Fact::of(element, dims.clone()));
        }
        let place = if axis + 1 == dims.len() { -1 } else { axis as i64 };
        let integer = |value| Argument::Integer(Size::Known(value));
        let arguments = vec![integer(count as i64), integer(place)];
        let call = Call::Kind(Kind::Method { receiver: input, name: "chunk", arguments });
        // OK because `find` gives at least two selects.
        let first = selects.iter().map(|(step, _)| *step).min().unwrap_or(0);
        for (step, index) in selects {
            draft.steps[step].call = Call::Rearrange { input: parts[index], how: rest.clone() };
        }
        before.insert(first, Step { call, results: parts, nodes });
    }
    let steps = std::mem::take(&mut draft.steps);
    for (index, step) in steps.into_iter().enumerate() {
        draft.steps.extend(before.remove(&index));
        draft.steps.push(step);
    }
}

fn find(matcher: &Matcher, step: &Step) -> Option<Found> {
    let (Call::Rearrange { input, how }, [result]) = (&step.call, step.results.as_slice()) else { return None };
    let mut selects = Vec::new();
    let mut along = None;
    for reader in matcher.uses.readers(*result) {
        let (_, arguments) = matcher.method(matcher.draft.steps.get(*reader)?, "select")?;
        let [Argument::Integer(Size::Known(axis)), Argument::Integer(Size::Known(index))] = arguments else {
            return None;
        };
        if along.is_some_and(|along| along != *axis) {
            return None;
        }
        along = Some(*axis);
        selects.push((*reader, *index));
    }
    let axis = usize::try_from(along?).ok()?;
    let count = how.dims().get(axis)?.known().and_then(|count| usize::try_from(count).ok())?;
    let (source, rest) = how.without(axis)?;
    let place = |index: i64| {
        let from_front = if index < 0 { index.checked_add(count as i64)? } else { index };
        usize::try_from(from_front).ok().filter(|index| *index < count)
    };
    let selects: Vec<_> =
        selects.into_iter().map(|(step, index)| Some((step, place(index)?))).collect::<Option<_>>()?;
    let is_worth_it = selects.len() > 1 && count <= MOST;
    is_worth_it.then(|| Found { input: *input, axis: source, count, rest, nodes: step.nodes.clone(), selects })
}
