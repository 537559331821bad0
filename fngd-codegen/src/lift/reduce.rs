//! Reductions along axes.

use super::pool::whole_mean;
use super::reader::Reader;
use super::shape::axes;
use crate::Result;
use crate::operation::{Argument, Kind, Size};
use fngd_onnx::graph::Node;

/// ReduceMean, ReduceSum, ReduceMax, ReduceMin.
pub(super) fn reduce(reader: &mut Reader, node: &Node) -> Result<()> {
    let fact = reader.fact(node, 0)?.clone();
    let rank = fact.dims.len();
    let given = axes(reader, node, rank)?.filter(|axes| !axes.is_empty());
    if given.is_none() && node.int("noop_with_empty_axes", 0) != 0 {
        return super::elementwise::identity(reader, node);
    }
    let mut axes = given.unwrap_or_else(|| (0..rank).collect());
    axes.sort_unstable();
    let keep = node.int("keepdims", 1) != 0;
    let receiver = reader.tensor(node, 0)?;
    let dims = fact.dims.iter().enumerate().filter(|(axis, _)| keep || !axes.contains(axis));
    let dims = dims.map(|(axis, dim)| if axes.contains(&axis) { 1.into() } else { dim.clone() }).collect();
    let list = Argument::Integers(axes.iter().map(|axis| spelled(*axis, rank)).collect());
    let kind = match node.op_type.as_str() {
        "ReduceMean" if keep && rank == 4 && axes == [2, 3] => whole_mean(receiver, rank)?,
        "ReduceMean" => {
            Kind::Method { receiver, name: "mean_dim", arguments: vec![list, Argument::Bool(keep), Argument::None] }
        }
        "ReduceSum" => {
            let arguments = vec![list, Argument::Bool(keep), Argument::None];
            Kind::Method { receiver, name: "sum_dim_intlist", arguments }
        }
        "ReduceMax" => Kind::Method { receiver, name: "amax", arguments: vec![list, Argument::Bool(keep)] },
        _ => Kind::Method { receiver, name: "amin", arguments: vec![list, Argument::Bool(keep)] },
    };
    reader.give(node, 0, kind, fact.element, dims);
    Ok(())
}

/// The last axis is -1.
fn spelled(axis: usize, rank: usize) -> Size {
    Size::Known(if axis + 1 == rank && rank < 4 { -1 } else { axis as i64 })
}
