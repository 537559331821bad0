//! Concatenations where a module begins: one tensor crosses its border instead of several, and each join adds to the one before.

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
