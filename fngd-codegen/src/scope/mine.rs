//! Blocks that repeat, in a model that says nothing of its modules.

use crate::operation::{Kind, Program};
use fngd_onnx::graph::ValueId;
use std::collections::{BTreeMap, hash_map::DefaultHasher};
use std::hash::{Hash, Hasher};

/// Fewer operations are no block.
const SHORTEST: usize = 3;
/// So many operations are compared with each other; a longer program stays flat.
const LONGEST_PROGRAM: usize = 20_000;

/// Per operation the path of its block, `blocks.3`, or nothing.
///
/// A window of operations that follows itself with the same calls and the same wiring is a block. The arrangement that covers most is
/// taken; of those the one with the shortest windows.
pub(super) fn blocks(program: &Program) -> Vec<String> {
    let prints = fingerprints(program);
    let mut paths = vec![String::new(); prints.len()];
    if prints.len() > LONGEST_PROGRAM {
        return paths;
    }
    let (mut from, mut number) = (0, 1);
    while let Some(run) = best(&prints, from) {
        let name = if number == 1 { "blocks".to_owned() } else { format!("blocks{number}") };
        for (position, path) in paths.iter_mut().skip(run.start).take(run.length * run.count).enumerate() {
            *path = format!("{name}.{}", position / run.length);
        }
        from = run.start + run.length * run.count;
        number += 1;
    }
    paths
}

struct Run {
    start: usize,
    length: usize,
    count: usize,
}

/// The run from `from` on that covers most.
fn best(prints: &[u64], from: usize) -> Option<Run> {
    let mut best: Option<Run> = None;
    for length in SHORTEST..=(prints.len() - from) / 2 {
        // How many operations in a row equal the one `length` later.
        let mut equal = 0;
        for index in from..=prints.len() - length {
            if index + length < prints.len() && prints[index] == prints[index + length] {
                equal += 1;
                continue;
            }
            let count = equal / length + 1;
            let covered = best.as_ref().map_or(0, |run| run.length * run.count);
            if count > 1 && count * length > covered {
                best = Some(Run { start: index - equal, length, count });
            }
            equal = 0;
        }
    }
    best
}

/// Per operation a number that says what it calls and how far before it its operands were made.
fn fingerprints(program: &Program) -> Vec<u64> {
    // Inputs count as made just before: the first block reads one where the others read a result.
    let mut made: BTreeMap<ValueId, usize> = program.inputs.iter().map(|input| (*input, 0)).collect();
    let mut prints = Vec::with_capacity(program.operations.len());
    for (index, operation) in program.operations.iter().enumerate() {
        let mut hasher = DefaultHasher::new();
        operation.noun().hash(&mut hasher);
        if let Kind::Method { name, .. } | Kind::Function { name, .. } = &operation.kind {
            name.hash(&mut hasher);
        }
        for operand in operation.operands() {
            made.get(&operand).map(|operand| index + 1 - operand).hash(&mut hasher);
        }
        prints.push(hasher.finish());
        made.extend(operation.results.iter().map(|result| (*result, index + 1)));
    }
    prints
}
