//! The program while it is being simplified: calls, and rearrangements that are not yet spelled as calls.

use super::facts::Fact;
use super::rearrangement::Rearrangement;
use crate::operation::{Argument, Kind};
use fngd_onnx::graph::ValueId;
use std::collections::{BTreeMap, BTreeSet};

/// One call, in the making.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub call: Call,
    pub results: Vec<ValueId>,
    pub nodes: Vec<usize>,
}

/// What is called.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    /// As it will be.
    Kind(Kind),
    /// The elements of a tensor in another order: several calls, or none.
    Rearrange { input: ValueId, how: Rearrangement },
}

/// All calls, in order, and what is known of the values between them.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub steps: Vec<Step>,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
    pub facts: BTreeMap<ValueId, Fact>,
    /// Fields that hold a constant of the file.
    pub constants: BTreeMap<ValueId, ValueId>,
    next: usize,
}

impl Draft {
    /// Without steps; new values are numbered from `next`.
    pub fn new(next: usize, inputs: Vec<ValueId>) -> Self {
        Self { next, inputs, ..Self::default() }
    }

    /// A value without a producer yet.
    pub fn new_value(&mut self) -> ValueId {
        self.next += 1;
        ValueId(self.next - 1)
    }

    /// Which step gives each value, and how often each is read.
    pub fn uses(&self) -> Uses {
        let mut uses = Uses::default();
        for (index, step) in self.steps.iter().enumerate() {
            uses.producers.extend(step.results.iter().map(|result| (*result, index)));
            for value in step.call.reads() {
                uses.readers.entry(value).or_default().push(index);
            }
        }
        for output in &self.outputs {
            // The caller reads, too: no step has this number.
            uses.readers.entry(*output).or_default().push(usize::MAX);
        }
        uses
    }

    /// Removes what nobody reads.
    pub fn remove_unused(&mut self) {
        let mut read: BTreeSet<ValueId> = self.outputs.iter().copied().collect();
        let mut kept = Vec::with_capacity(self.steps.len());
        for step in std::mem::take(&mut self.steps).into_iter().rev() {
            if step.results.iter().any(|result| read.contains(result)) {
                read.extend(step.call.reads());
                kept.push(step);
            }
        }
        kept.reverse();
        self.steps = kept;
    }
}

/// Producers and readers.
#[derive(Debug, Default)]
pub(super) struct Uses {
    producers: BTreeMap<ValueId, usize>,
    readers: BTreeMap<ValueId, Vec<usize>>,
}

impl Uses {
    /// Index of the step that gives `value`.
    pub fn producer(&self, value: ValueId) -> Option<usize> {
        self.producers.get(&value).copied()
    }

    /// Indices of the steps that read `value`, one for each time.
    pub fn readers(&self, value: ValueId) -> &[usize] {
        self.readers.get(&value).map_or(&[], Vec::as_slice)
    }

    /// Whether `value` is read once, by a step.
    pub fn is_read_once(&self, value: ValueId) -> bool {
        matches!(self.readers(value), [reader] if *reader != usize::MAX)
    }
}

impl Call {
    /// The values that it reads, as often as it does. Sizes that are read are not among them: they are spelled last.
    pub fn reads(&self) -> Vec<ValueId> {
        let mut all = Vec::new();
        self.clone().visit(&mut |value| all.push(*value));
        all
    }

    /// All values that it reads, to change them.
    pub fn visit(&mut self, change: &mut impl FnMut(&mut ValueId)) {
        match self {
            Self::Rearrange { input, .. } => change(input),
            Self::Kind(Kind::Layer { input, .. }) => change(input),
            Self::Kind(Kind::Parameter(_)) => (),
            Self::Kind(Kind::Method { receiver, arguments, .. }) => {
                change(receiver);
                arguments.iter_mut().for_each(|argument| visit(argument, change));
            }
            Self::Kind(Kind::Function { arguments, .. }) => {
                arguments.iter_mut().for_each(|argument| visit(argument, change));
            }
            Self::Kind(Kind::Operator { left, right, .. }) => {
                visit(left, change);
                visit(right, change);
            }
        }
    }
}

fn visit(argument: &mut Argument, change: &mut impl FnMut(&mut ValueId)) {
    match argument {
        Argument::Tensor(value) | Argument::SomeTensor(value) => change(value),
        Argument::Tensors(values) => values.iter_mut().for_each(change),
        _ => (),
    }
}
