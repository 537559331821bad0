//! The last step: rearrangements become calls, and sizes are read where they are at hand.

use super::facts::Fact;
use super::rearrangement::Rearrangement;
use super::sizes::Expression;
use super::steps::{Call, Draft};
use crate::operation::{Argument, Kind, Operation, Program, Size};
use fngd_onnx::graph::{ElementType, ValueId};

/// Spells everything.
pub(super) fn spell(mut draft: Draft) -> Program {
    let steps = std::mem::take(&mut draft.steps);
    let mut speller = Speller { operations: Vec::with_capacity(steps.len()), draft };
    for step in steps {
        match step.call {
            Call::Kind(kind) => speller.call(kind, step.results, &step.nodes),
            Call::Rearrange { input, how } => {
                if let Some(result) = step.results.first() {
                    speller.rearrange(input, &how.coarse(), *result, &step.nodes);
                }
            }
        }
    }
    let Speller { operations, draft } = speller;
    Program { inputs: draft.inputs, outputs: draft.outputs, operations }
}

struct Speller {
    operations: Vec<Operation>,
    draft: Draft,
}

impl Speller {
    fn call(&mut self, mut kind: Kind, results: Vec<ValueId>, nodes: &[usize]) {
        let hand = match &kind {
            Kind::Method { receiver, .. } => Some(*receiver),
            Kind::Function { arguments, .. } => arguments.iter().find_map(|argument| match argument {
                Argument::Tensor(value) => Some(*value),
                Argument::Tensors(values) => values.first().copied(),
                _ => None,
            }),
            _ => None,
        };
        if let Kind::Method { arguments, .. } | Kind::Function { arguments, .. } = &mut kind {
            for argument in arguments {
                match argument {
                    Argument::Integer(size) => *size = self.near(&Expression::from(&*size), hand),
                    Argument::Integers(sizes) => {
                        sizes.iter_mut().for_each(|size| *size = self.near(&Expression::from(&*size), hand));
                    }
                    _ => (),
                }
            }
        }
        self.operations.push(Operation { kind, results, nodes: nodes.to_vec() });
    }

    /// `size`, read from the tensor at hand if it has it, else from the latest that has, else as computed.
    fn near(&self, size: &Expression, hand: Option<ValueId>) -> Size {
        if let Some(known) = size.known() {
            return Size::Known(known);
        }
        let earlier = self.operations.iter().rev().flat_map(|operation| operation.results.iter());
        let inputs = self.draft.inputs.iter();
        let all = hand.iter().chain(inputs).chain(earlier);
        let axis_of = |tensor: &ValueId| self.draft.facts.get(tensor)?.dims.iter().position(|dim| dim == size);
        if let Some((tensor, axis)) = all.into_iter().find_map(|tensor| Some((*tensor, axis_of(tensor)?))) {
            return Size::Of { tensor, axis };
        }
        match size.spelled() {
            Size::Product(parts) => Size::Product(self.all_near(&parts, hand)),
            Size::Sum(parts) => Size::Sum(self.all_near(&parts, hand)),
            Size::Quotient(a, b) => {
                let of = |part: &Size| Box::new(self.near(&Expression::from(part), hand));
                Size::Quotient(of(&a), of(&b))
            }
            other => other,
        }
    }

    fn all_near(&self, parts: &[Size], hand: Option<ValueId>) -> Vec<Size> {
        parts.iter().map(|part| self.near(&Expression::from(part), hand)).collect()
    }

    /// At most a view, a permutation and a view.
    fn rearrange(&mut self, input: ValueId, how: &Rearrangement, result: ValueId, nodes: &[usize]) {
        let dims = self.draft.facts.get(&input).map_or_else(|| how.input_dims(), |fact| fact.dims.clone());
        let order: Vec<usize> = how.axes().iter().flatten().copied().collect();
        if order.is_sorted() {
            self.reshape(input, &dims, &how.dims(), result, nodes, true);
            return;
        }
        let is_split = how.groups().iter().any(|group| group.len() > 1);
        let units = |axes: &[Vec<usize>]| axes.iter().filter(|axis| axis.is_empty()).count();
        let keeps_units = !is_split && units(&how.groups()) == units(how.axes());
        let is_merged = how.axes().iter().any(|axis| axis.len() > 1);
        if keeps_units && !is_merged {
            // Axes of size 1 keep their order among themselves.
            let mut unit_axes = how
                .groups()
                .iter()
                .enumerate()
                .filter(|(_, group)| group.is_empty())
                .map(|(axis, _)| axis)
                .collect::<Vec<_>>()
                .into_iter();
            let axis_of = |atom: usize| how.groups().iter().position(|group| group.contains(&atom));
            let order: Option<Vec<usize>> = how
                .axes()
                .iter()
                .map(|axis| match axis.first() {
                    Some(atom) => axis_of(*atom),
                    None => unit_axes.next(),
                })
                .collect();
            // OK because every atom is in a group.
            self.permute(input, &dims, &order.unwrap_or_default(), result, nodes);
            return;
        }
        // One axis for each block, in the input's order, then in the output's.
        let how = how.clone().of_blocks();
        let order: Vec<usize> = how.axes().iter().flatten().copied().collect();
        let atoms = how.atoms().to_vec();
        let apart = if atoms == dims { input } else { self.draft.new_value() };
        if apart != input {
            self.reshape(input, &dims, &atoms, apart, nodes, true);
        }
        let turned_dims: Vec<Expression> = order.iter().map(|atom| atoms[*atom].clone()).collect();
        let target = how.dims();
        let turned = if turned_dims == target { result } else { self.draft.new_value() };
        self.permute(apart, &atoms, &order, turned, nodes);
        if turned != result {
            self.reshape(turned, &turned_dims, &target, result, nodes, false);
        }
    }

    fn permute(&mut self, input: ValueId, dims: &[Expression], order: &[usize], result: ValueId, nodes: &[usize]) {
        let moved: Vec<usize> = (0..order.len()).filter(|axis| order[*axis] != *axis).collect();
        let integer = |axis: usize| Size::Known(axis as i64);
        let (name, arguments) = match moved[..] {
            [first, second] => {
                ("transpose", vec![Argument::Integer(integer(first)), Argument::Integer(integer(second))])
            }
            _ => ("permute", vec![Argument::Integers(order.iter().map(|axis| integer(*axis)).collect())]),
        };
        let dims = order.iter().map(|axis| dims[*axis].clone()).collect();
        self.method(input, name, arguments, dims, result, nodes);
    }

    /// `flatten`, `unsqueeze`, `squeeze_dim`, or else `view` (`reshape` for what may not be contiguous).
    fn reshape(
        &mut self,
        input: ValueId,
        dims: &[Expression],
        target: &[Expression],
        result: ValueId,
        nodes: &[usize],
        viewable: bool,
    ) {
        let integer = |value: i64| Argument::Integer(Size::Known(value));
        let (name, arguments) = if let Some((start, end)) = merged(dims, target) {
            let end = if end + 1 == dims.len() { -1 } else { end as i64 };
            ("flatten", vec![integer(start as i64), integer(end)])
        } else if let Some(axis) = inserted(dims, target) {
            ("unsqueeze", vec![integer(if axis + 1 == target.len() { -1 } else { axis as i64 })])
        } else if let Some(axis) = inserted(target, dims) {
            ("squeeze_dim", vec![integer(if axis + 1 == dims.len() { -1 } else { axis as i64 })])
        } else {
            let only_splits = target.len() >= dims.len();
            let name = if viewable && only_splits { "view" } else { "reshape" };
            (name, vec![Argument::Integers(self.sizes(input, target))])
        };
        self.method(input, name, arguments, target.to_vec(), result, nodes);
    }

    /// The first size that is not known is what is left: -1.
    fn sizes(&self, input: ValueId, target: &[Expression]) -> Vec<Size> {
        let open = target.iter().position(|size| size.known().is_none());
        let of = |(axis, size): (usize, &Expression)| {
            if Some(axis) == open { Size::Known(-1) } else { self.near(size, Some(input)) }
        };
        target.iter().enumerate().map(of).collect()
    }

    fn method(
        &mut self,
        receiver: ValueId,
        name: &'static str,
        arguments: Vec<Argument>,
        dims: Vec<Expression>,
        result: ValueId,
        nodes: &[usize],
    ) {
        let element = self.draft.facts.get(&receiver).map_or(ElementType::Float32, |fact| fact.element);
        self.draft.facts.insert(result, Fact::of(element, dims));
        let kind = Kind::Method { receiver, name, arguments };
        self.operations.push(Operation { kind, results: vec![result], nodes: nodes.to_vec() });
    }
}

/// The axes that become one, if that is all that happens.
fn merged(dims: &[Expression], target: &[Expression]) -> Option<(usize, usize)> {
    let count = dims.len().checked_sub(target.len()).filter(|count| *count > 0)?;
    let start = dims.iter().zip(target).position(|(a, b)| a != b).unwrap_or(target.len().checked_sub(1)?);
    let end = start + count;
    let is_rest_same = dims.get(end + 1..)? == target.get(start + 1..)?;
    let product = Expression::product(dims.get(start..=end)?);
    // An axis of size 1 that goes is squeezed.
    let is_squeeze =
        count == 1 && (dims[start].is(1) || dims[end].is(1)) && inserted(target, dims).is_some() && !dims[end].is(1);
    (is_rest_same && product == target[start] && !is_squeeze).then_some((start, end))
}

/// The axis of size 1 that `longer` has in addition.
fn inserted(shorter: &[Expression], longer: &[Expression]) -> Option<usize> {
    let axis = shorter.iter().zip(longer).position(|(a, b)| a != b).unwrap_or(shorter.len());
    let fits = longer.len() == shorter.len() + 1 && longer.get(axis)?.is(1);
    (fits && shorter.get(axis..)? == longer.get(axis + 1..)?).then_some(axis)
}
