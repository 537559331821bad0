//! What of a body is written as one expression, what gets a name, and what is a loop.

use super::Context;
use crate::operation::{Argument, Kind, Size};
use crate::parts::{Use, uses};
use crate::tree::{Call, Statement};
use crate::unify::{Member, Type};
use fngd_onnx::graph::ValueId;
use std::collections::{BTreeMap, BTreeSet};

/// A value that is read as often as this many calls deep is written where it is read.
const DEEPEST_OPERAND: usize = 3;
/// The same for an argument of a call.
const DEEPEST_ARGUMENT: usize = 1;

/// One step of a forward pass.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Single(Statement),
    /// A value goes through the elements of lists, one after the other.
    Loop {
        lists: Vec<Vec<String>>,
        module: usize,
        carried: usize,
        inputs: Vec<ValueId>,
        result: ValueId,
    },
}

/// Steps, and which of their results have no name.
#[derive(Debug)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
    /// Values that are written where they are read, and the step that gives them.
    pub inlined: BTreeMap<ValueId, usize>,
    /// The last step that reads a value by its name; `usize::MAX` for results of the whole.
    pub last_use: BTreeMap<ValueId, usize>,
    /// Sizes that are asked for more than once, the step that needs each first.
    pub sizes: Vec<(ValueId, usize, usize)>,
}

impl Step {
    pub(super) fn results(&self) -> Vec<ValueId> {
        match self {
            Self::Single(statement) => statement.results.clone(),
            Self::Loop { result, .. } => vec![*result],
        }
    }

    /// What is read, and how.
    pub(super) fn uses(&self, type_: &Type) -> Vec<(ValueId, Use)> {
        match self {
            Self::Single(Statement { call, results }) => match call {
                Call::Layer { input, .. } => vec![(*input, Use::Receiver)],
                Call::Module { inputs, .. } => {
                    let use_ = if inputs.len() == 1 && results.len() == 1 { Use::Receiver } else { Use::Argument };
                    inputs.iter().map(|input| (*input, use_)).collect()
                }
                Call::Operation(kind) => {
                    let mut found = uses(kind);
                    if needs_device(kind) {
                        found.extend(type_.inputs.first().map(|input| (*input, Use::Size)));
                    }
                    found
                }
            },
            Self::Loop { inputs, carried, .. } => {
                let use_ = |at: usize| if at == *carried { Use::Receiver } else { Use::Size };
                inputs.iter().enumerate().map(|(at, input)| (*input, use_(at))).collect()
            }
        }
    }
}

/// Whether it makes a tensor, which needs a device.
pub(super) fn needs_device(kind: &Kind) -> bool {
    match kind {
        Kind::Method { arguments, .. } | Kind::Function { arguments, .. } => {
            arguments.iter().any(|argument| matches!(argument, Argument::Options(_)))
        }
        _ => false,
    }
}

/// The plan for the body of a type.
pub(super) fn plan(context: &Context<'_>, index: usize) -> Plan {
    let type_ = &context.design.types[index];
    let steps = steps(context, type_);
    let mut reads: BTreeMap<ValueId, usize> = BTreeMap::new();
    let all: Vec<Vec<(ValueId, Use)>> = steps.iter().map(|step| step.uses(type_)).collect();
    for (value, _) in all.iter().flatten() {
        *reads.entry(*value).or_default() += 1;
    }
    for output in &type_.outputs {
        *reads.entry(*output).or_default() += 1;
    }
    let made: BTreeMap<ValueId, usize> = (steps.iter().enumerate())
        .filter(|(_, step)| matches!(step, Step::Single(statement) if statement.results.len() == 1))
        .flat_map(|(at, step)| step.results().into_iter().map(move |result| (result, at)))
        .collect();
    let mut inlined = BTreeMap::new();
    let mut depths = vec![1; steps.len()];
    for (at, uses) in all.iter().enumerate() {
        for (value, use_) in uses {
            let Some(maker) = made.get(value).filter(|_| reads[value] == 1) else { continue };
            let depth = depths[*maker];
            let fits = match use_ {
                Use::Receiver => true,
                Use::Operand => depth <= DEEPEST_OPERAND,
                Use::Argument => depth <= DEEPEST_ARGUMENT,
                Use::Size => false,
            };
            if fits && !makes_list(&steps[*maker]) {
                inlined.insert(*value, *maker);
                depths[at] += depth;
            }
        }
    }
    // The result of all is the last expression; several are short ones.
    for output in &type_.outputs {
        if let Some(maker) = made.get(output)
            && reads[output] == 1
            && !makes_list(&steps[*maker])
            && (type_.outputs.len() == 1 || depths[*maker] <= DEEPEST_OPERAND)
        {
            inlined.insert(*output, *maker);
        }
    }
    let mut plan = Plan { steps, inlined, last_use: BTreeMap::new(), sizes: Vec::new() };
    plan.find_last_uses(type_);
    plan
}

impl Plan {
    /// Steps that are statements of their own.
    pub(super) fn roots(&self) -> Vec<usize> {
        let hidden: BTreeSet<usize> = self.inlined.values().copied().collect();
        (0..self.steps.len()).filter(|step| !hidden.contains(step)).collect()
    }

    fn find_last_uses(&mut self, type_: &Type) {
        let mut last_use: BTreeMap<ValueId, usize> = type_.outputs.iter().map(|output| (*output, usize::MAX)).collect();
        let mut sizes: BTreeMap<(ValueId, usize), (usize, usize)> = BTreeMap::new();
        let end = self.steps.len();
        let tails = type_.outputs.iter().filter_map(|output| Some((end, *self.inlined.get(output)?)));
        let roots = self.roots().into_iter().map(|root| (root, root)).chain(tails);
        for (root, step) in roots {
            let mut open = vec![step];
            while let Some(step) = open.pop() {
                for (value, _) in self.steps[step].uses(type_) {
                    match self.inlined.get(&value) {
                        Some(maker) => open.push(*maker),
                        None => {
                            let last = last_use.entry(value).or_insert(root);
                            *last = (*last).max(root);
                        }
                    }
                }
                for size in sizes_of(&self.steps[step]) {
                    let (first, count) = sizes.entry(size).or_insert((root, 0));
                    *first = (*first).min(root);
                    *count += 1;
                }
            }
        }
        self.last_use = last_use;
        self.sizes = sizes
            .into_iter()
            .filter(|(_, (_, count))| *count > 1)
            .map(|((value, axis), (first, _))| (value, axis, first))
            .collect();
    }
}

/// The sizes that a step asks for.
fn sizes_of(step: &Step) -> Vec<(ValueId, usize)> {
    fn of(size: &Size, found: &mut Vec<(ValueId, usize)>) {
        match size {
            Size::Known(_) => (),
            Size::Of { tensor, axis } => found.push((*tensor, *axis)),
            Size::Product(sizes) | Size::Sum(sizes) => sizes.iter().for_each(|size| of(size, found)),
            Size::Quotient(left, right) => {
                of(left, found);
                of(right, found);
            }
        }
    }
    let mut found = Vec::new();
    if let Step::Single(Statement { call: Call::Operation(kind), .. }) = step {
        let arguments: &[Argument] = match kind {
            Kind::Method { arguments, .. } | Kind::Function { arguments, .. } => arguments,
            _ => &[],
        };
        for argument in arguments {
            match argument {
                Argument::Integer(size) => of(size, &mut found),
                Argument::Integers(sizes) => sizes.iter().for_each(|size| of(size, &mut found)),
                _ => (),
            }
        }
    }
    found
}

/// Whether it gives a `Vec<Tensor>`.
pub(super) fn makes_list(step: &Step) -> bool {
    const LISTS: [&str; 8] =
        ["chunk", "split", "split_with_sizes", "unbind", "tensor_split", "unsafe_chunk", "unsafe_split", "meshgrid"];
    match step {
        Step::Single(Statement {
            call: Call::Operation(Kind::Method { name, .. } | Kind::Function { name, .. }),
            ..
        }) => LISTS.contains(name),
        _ => false,
    }
}

/// Calls of the elements of whole lists, one after the other, become loops.
fn steps(context: &Context<'_>, type_: &Type) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut at = 0;
    while let Some(statement) = type_.body.get(at) {
        match whole_list(context, type_, at) {
            Some((list, module, carried, length)) => {
                // OK because `whole_list` found `length` calls of a module with one result.
                let (first, last) = (&type_.body[at], &type_.body[at + length - 1]);
                let (inputs, result) = (first.call.operands(), last.results[0]);
                at += length;
                if let Some(Step::Loop { lists, module: other, carried: slot, inputs: before, result: end }) =
                    steps.last_mut()
                {
                    let same = |position: usize| position == carried || before.get(position) == inputs.get(position);
                    let follows = inputs.get(carried) == Some(end) && *slot == carried && reads(type_, *end) == 1;
                    let is_same = context.design.type_of[*other] == context.design.type_of[module];
                    if follows && is_same && (0..inputs.len()).all(same) {
                        lists.push(list);
                        *end = result;
                        continue;
                    }
                }
                steps.push(Step::Loop { lists: vec![list], module, carried, inputs, result });
            }
            None => {
                steps.push(Step::Single(statement.clone()));
                at += 1;
            }
        }
    }
    steps
}

fn reads(type_: &Type, value: ValueId) -> usize {
    let read = type_.body.iter().flat_map(|statement| statement.call.operands()).chain(type_.outputs.iter().copied());
    read.filter(|read| *read == value).count()
}

/// The list whose elements are called from statement `at` on, each with the result of the one before: its place, a module, the input
/// that is carried, and the number of elements.
fn whole_list(context: &Context<'_>, type_: &Type, at: usize) -> Option<(Vec<String>, usize, usize, usize)> {
    let Call::Module { place, module, inputs, .. } = &type_.body[at].call else { return None };
    let (key, list) = place.split_last()?;
    let length = list_length(context, type_, list, key)?;
    let calls: Vec<&Statement> = type_.body.get(at..at + length)?.iter().collect();
    let carried = match calls.get(1).map(|call| call.call.operands()) {
        None => 0,
        Some(next) => next.iter().position(|input| calls[0].results.first() == Some(input))?,
    };
    let mut previous: Option<ValueId> = None;
    for (number, statement) in calls.iter().enumerate() {
        let Call::Module { place, inputs: others, .. } = &statement.call else { return None };
        let (other, path) = place.split_last()?;
        let [result] = statement.results.as_slice() else { return None };
        let is_next =
            path == list && crate::tree::number(other) == crate::tree::number(key).map(|key| key + number as u64);
        let same = others
            .iter()
            .zip(inputs)
            .enumerate()
            .all(|(position, (other, first))| position == carried || other == first);
        let flows =
            previous.is_none_or(|previous| others.get(carried) == Some(&previous) && reads(type_, previous) == 1);
        if !is_next || !same || !flows || others.len() != inputs.len() {
            return None;
        }
        previous = Some(*result);
    }
    Some((list.to_vec(), *module, carried, length))
}

/// How many elements the list at `place` has in this type, if it begins with `key`.
fn list_length(context: &Context<'_>, type_: &Type, place: &[String], key: &str) -> Option<usize> {
    let mut members = &type_.members;
    let (last, around) = place.split_last()?;
    for part in around {
        let Member::Module { type_, .. } = &members.iter().find(|entry| entry.key == *part)?.member else {
            return None;
        };
        members = &context.design.types[*type_].members;
    }
    let member = &members.iter().find(|entry| entry.key == *last)?.member;
    if !matches!(member, Member::List { .. } | Member::Stage { .. })
        || super::member::element_index(context, member, key) != 0
    {
        return None;
    }
    let elements = type_.body.iter().filter(|statement| match &statement.call {
        Call::Module { place: other, .. } => other.split_last().is_some_and(|(_, list)| list == place),
        _ => false,
    });
    let keys: BTreeSet<&String> = elements
        .filter_map(|statement| if let Call::Module { place, .. } = &statement.call { place.last() } else { None })
        .collect();
    Some(keys.len())
}
