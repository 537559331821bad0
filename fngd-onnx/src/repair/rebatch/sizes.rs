//! Which elements of a vector of sizes grow with the batch.
//!
//! Exporters compute some shapes at run time: Shape, then Gather or Slice, then Concat. What they take from other dimensions is a
//! constant in such a file, whatever computes it; what they take from the batch needs no repair.

use super::Observed;
use crate::graph::{Node, ValueId};

/// The elements of `node`'s output that grow with the batch, given those of its inputs. `None` where that is not known.
pub(super) fn growing(
    node: &Node,
    seen: &Observed,
    growing: impl Fn(ValueId) -> Option<Vec<bool>>,
) -> Option<Vec<bool>> {
    let inputs: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
    let flags = |id: ValueId| growing(id).or_else(|| Some(vec![false; seen.elements(id)?]));
    let first = || flags(*inputs.first()?);
    let integers = |slot: usize| seen.integers(node.input(slot)?);
    let one = |slot: usize| integers(slot)?.first().copied();
    match node.op_type.as_str() {
        "Identity" | "Cast" | "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten" => first(),
        "Concat" => {
            let parts = inputs.iter().map(|id| flags(*id)).collect::<Option<Vec<_>>>()?;
            Some(parts.concat())
        }
        "Gather" => {
            let data = first()?;
            let pick = |index: i64| {
                let index = if index < 0 { index + data.len() as i64 } else { index };
                data.get(usize::try_from(index).ok()?).copied()
            };
            integers(1)?.into_iter().map(pick).collect()
        }
        "Slice" => {
            let data = first()?;
            let bound = |value: i64| {
                let length = data.len() as i64;
                (if value < 0 { value + length } else { value }).clamp(0, length) as usize
            };
            let (starts, ends) = (node.ints("starts"), node.ints("ends"));
            let start = starts.and_then(|starts| starts.first().copied()).or_else(|| one(1))?;
            let end = ends.and_then(|ends| ends.first().copied()).or_else(|| one(2))?;
            if one(4).unwrap_or(1) != 1 {
                return None;
            }
            data.get(bound(start)..bound(end).max(bound(start))).map(<[bool]>::to_vec)
        }
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Where" | "Equal" | "Min" | "Max" => {
            let parts = inputs.iter().map(|id| flags(*id)).collect::<Option<Vec<_>>>()?;
            let length = parts.iter().map(Vec::len).max()?;
            let at = |part: &Vec<bool>, position: usize| {
                if part.len() == 1 { part.first().copied() } else { part.get(position).copied() }
            };
            let element = |position| parts.iter().map(|part| at(part, position)).collect::<Option<Vec<_>>>();
            (0..length).map(|position| Some(element(position)?.contains(&true))).collect()
        }
        _ => None,
    }
}
