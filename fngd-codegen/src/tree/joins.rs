//! Concatenations where a module begins: one tensor crosses its border instead of several, and each join adds to the one before.

use super::program::common;
use crate::operation::{Argument, Kind, Program};
use crate::scope::{Scopes, is_within, split};
use fngd_onnx::graph::ValueId;
use std::collections::BTreeMap;

/// Moves a `cat` of values from outside to the module around. Modules that differ in how many tensors they join, as in a DenseNet, become
/// alike.
pub(super) fn hoist(program: &Program, scopes: &mut Scopes) {
    let mut made: BTreeMap<ValueId, usize> = BTreeMap::new();
    for (index, operation) in program.operations.iter().enumerate() {
        made.extend(operation.results.iter().map(|result| (*result, index)));
        let Kind::Function { name: "cat", .. } = &operation.kind else { continue };
        let operands = operation.operands();
        while !scopes.modules[index].is_empty() {
            let module = &scopes.modules[index];
            let is_inside =
                |value: &ValueId| made.get(value).is_some_and(|maker| is_within(&scopes.modules[*maker], module));
            if operands.len() < 2 || operands.iter().any(is_inside) {
                break;
            }
            scopes.modules[index] = split(module).0.to_owned();
        }
    }
}

/// So many operations may be moved together.
const LONGEST_PREPARATION: usize = 8;

/// Moves what a module computes from outside values alone, for itself and for others, to the module around them all: the mask that an
/// exporter computes in the first of many layers.
pub(super) fn hoist_shared(program: &Program, scopes: &mut Scopes) {
    let mut made: BTreeMap<ValueId, usize> = BTreeMap::new();
    let mut readers: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
    for (index, operation) in program.operations.iter().enumerate() {
        made.extend(operation.results.iter().map(|result| (*result, index)));
        operation.operands().iter().for_each(|operand| readers.entry(*operand).or_default().push(index));
    }
    for (index, operation) in program.operations.iter().enumerate() {
        let home = scopes.modules[index].clone();
        let is_inside = |index: &usize, scopes: &Scopes| is_within(&scopes.modules[*index], &home);
        let reading: Vec<usize> =
            operation.results.iter().filter_map(|value| readers.get(value)).flatten().copied().collect();
        let inside = reading.iter().filter(|reader| is_inside(reader, scopes)).count();
        if home.is_empty() || inside == 0 || inside == reading.len() {
            continue;
        }
        let Some(moved) = preparation(program, &made, index, &|index| is_inside(&index, scopes)) else { continue };
        let mut target = reading.iter().fold(home.clone(), |target, reader| common(&target, &scopes.modules[*reader]));
        // A list of layers computes nothing itself.
        while !target.is_empty() && !scopes.modules.contains(&target) {
            target = split(&target).0.to_owned();
        }
        moved.into_iter().for_each(|index| scopes.modules[index] = target.clone());
    }
}

/// The operations that lead to `last` from what is outside; `None` if there are layers or parameters among them, or too many.
fn preparation(
    program: &Program,
    made: &BTreeMap<ValueId, usize>,
    last: usize,
    is_inside: &dyn Fn(usize) -> bool,
) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    let mut open = vec![last];
    while let Some(index) = open.pop() {
        let operation = &program.operations[index];
        if matches!(operation.kind, Kind::Layer { .. } | Kind::Parameter(_)) || found.len() > LONGEST_PREPARATION {
            return None;
        }
        if !found.contains(&index) {
            found.push(index);
            let makers = operation.operands().into_iter().filter_map(|value| made.get(&value).copied());
            open.extend(makers.filter(|maker| is_inside(*maker)));
        }
    }
    Some(found)
}

/// A `cat` that begins with all that another one joins takes that one's result.
pub(super) fn share(program: &mut Program, scopes: &Scopes) {
    let mut joins: Vec<(String, Vec<ValueId>, Vec<Argument>, ValueId)> = Vec::new();
    for (operation, module) in program.operations.iter_mut().zip(&scopes.modules) {
        let Kind::Function { name: "cat", arguments } = &mut operation.kind else { continue };
        let Some((Argument::Tensors(values), rest)) = arguments.split_first_mut() else { continue };
        let all = values.clone();
        let longest = (joins.iter())
            .filter(|(home, begin, other, _)| {
                home == module && other.as_slice() == rest && begin.len() < all.len() && all.starts_with(begin)
            })
            .max_by_key(|(_, begin, ..)| begin.len());
        if let Some((_, begin, _, result)) = longest {
            values.splice(..begin.len(), [*result]);
        }
        if let [result] = operation.results.as_slice() {
            joins.push((module.clone(), all, rest.to_vec(), *result));
        }
    }
}
