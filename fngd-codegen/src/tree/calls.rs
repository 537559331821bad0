//! The operations of one module, cut into what is one step of its body: a call of a child, or one operation.

use crate::operation::{Kind, Operation, Program};
use crate::scope::Scopes;
use fngd_onnx::graph::ValueId;
use std::collections::{BTreeMap, BTreeSet};

/// One step, before its values are known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unit {
    /// Path of the child; `None` for an operation of the module itself.
    pub child: Option<String>,
    /// Operations by index, in order.
    pub operations: Vec<usize>,
}

/// Cuts `operations`, which `child_of` sorts into children, and puts the units in an order in which they can be computed.
///
/// # Errors
/// The path of a child that cannot be computed in one piece, nor as several calls of the same thing: its operations are mixed with others'.
pub(super) fn units(
    program: &Program,
    scopes: &Scopes,
    operations: &[usize],
    child_of: impl Fn(usize) -> Option<String>,
) -> Result<Vec<Unit>, String> {
    let mut units: Vec<Unit> = Vec::new();
    let mut runs: BTreeMap<String, Vec<Vec<usize>>> = BTreeMap::new();
    let mut previous = None;
    for index in operations {
        match child_of(*index) {
            None => {
                units.push(Unit { child: None, operations: vec![*index] });
                previous = None;
            }
            Some(child) => {
                let of_child = runs.entry(child.clone()).or_default();
                match of_child.last_mut() {
                    Some(run) if previous.as_ref() == Some(&child) => run.push(*index),
                    _ => of_child.push(vec![*index]),
                }
                previous = Some(child);
            }
        }
    }
    for (child, runs) in runs {
        let calls = calls(program, scopes, runs).ok_or_else(|| child.clone())?;
        units.extend(calls.into_iter().map(|operations| Unit { child: Some(child.clone()), operations }));
    }
    order(program, units)
}

/// One list of operations per call of a child; `None` if they are not alike.
fn calls(program: &Program, scopes: &Scopes, runs: Vec<Vec<usize>>) -> Option<Vec<Vec<usize>>> {
    let all: Vec<usize> = runs.iter().flatten().copied().collect();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for index in &all {
        if let (Kind::Layer { .. }, Some(key)) = (&program.operations[*index].kind, &scopes.keys[*index]) {
            *uses.entry(crate::scope::join(&scopes.modules[*index], key)).or_default() += 1;
        }
    }
    let times = uses.values().copied().max().unwrap_or(1);
    // One call in which a layer is applied more often than another: a projection of queries and of what they are compared with.
    if times == 1 || uses.values().any(|count| *count != times) {
        return Some(vec![all]);
    }
    let pieces = if runs.len() == times {
        runs
    } else if all.len().is_multiple_of(times) {
        all.chunks(all.len() / times).map(<[usize]>::to_vec).collect()
    } else {
        return None;
    };
    let first = print(program, scopes, pieces.first()?);
    pieces.iter().all(|piece| print(program, scopes, piece) == first).then_some(pieces)
}

/// Calls, layers and wiring, with values numbered as they appear.
fn print(program: &Program, scopes: &Scopes, operations: &[usize]) -> String {
    let mut numbers: BTreeMap<ValueId, usize> = BTreeMap::new();
    let mut print = String::new();
    for index in operations {
        let mut operation: Operation = program.operations[*index].clone();
        let mut number = |value: &mut ValueId| {
            let next = numbers.len();
            *value = ValueId(*numbers.entry(*value).or_insert(next));
        };
        crate::parts::visit(&mut operation.kind, &mut |part| {
            if let crate::parts::Part::Value(value, _) = part {
                number(value);
            }
        });
        operation.results.iter_mut().for_each(number);
        print.push_str(&format!("{:?} {:?} {:?}\n", scopes.keys[*index], operation.kind, operation.results));
    }
    print
}

/// Kahn's algorithm; of several units that can be next, the one whose first operation is earliest.
fn order(program: &Program, units: Vec<Unit>) -> Result<Vec<Unit>, String> {
    let made: BTreeMap<ValueId, usize> = (units.iter().enumerate())
        .flat_map(|(unit, Unit { operations, .. })| operations.iter().map(move |index| (unit, *index)))
        .flat_map(|(unit, index)| program.operations[index].results.iter().map(move |result| (*result, unit)))
        .collect();
    let needs = |unit: usize| -> BTreeSet<usize> {
        let operands = units[unit].operations.iter().flat_map(|index| program.operations[*index].operands());
        operands.filter_map(|operand| made.get(&operand).copied()).filter(|other| *other != unit).collect()
    };
    let mut open: Vec<(usize, BTreeSet<usize>)> = (0..units.len()).map(|unit| (unit, needs(unit))).collect();
    let mut readers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (unit, needs) in &open {
        for need in needs {
            readers.entry(*need).or_default().push(*unit);
        }
    }
    let first = |unit: usize| (units[unit].operations.first().copied().unwrap_or_default(), unit);
    let mut ready: BTreeSet<(usize, usize)> =
        open.iter().filter(|(_, needs)| needs.is_empty()).map(|(unit, _)| first(*unit)).collect();
    let mut sorted = Vec::with_capacity(units.len());
    while let Some((_, unit)) = ready.pop_first() {
        sorted.push(unit);
        for reader in readers.get(&unit).into_iter().flatten() {
            let needs = &mut open[*reader].1;
            needs.remove(&unit);
            if needs.is_empty() {
                ready.insert(first(*reader));
            }
        }
    }
    if sorted.len() < units.len() {
        // Children that wait for each other; the smallest is the one whose parts cost least to spell out.
        let done: BTreeSet<usize> = sorted.into_iter().collect();
        let waiting = (0..units.len()).filter(|unit| !done.contains(unit)).map(|unit| &units[unit]);
        let mixed = waiting.filter(|unit| is_torn(unit)).min_by_key(|unit| unit.operations.len());
        // OK because a circle among pieces that each are contiguous contradicts the order of the program.
        return Err(mixed.and_then(|unit| unit.child.clone()).unwrap_or_default());
    }
    let mut units: Vec<Option<Unit>> = units.into_iter().map(Some).collect();
    Ok(sorted.into_iter().filter_map(|unit| units[unit].take()).collect())
}

/// Whether other operations come between.
fn is_torn(unit: &Unit) -> bool {
    unit.child.is_some() && unit.operations.windows(2).any(|pair| pair[1] != pair[0] + 1)
}
