//! Operators that only order elements anew: Reshape, Flatten, Squeeze, Unsqueeze, Transpose; and Expand, Tile, DepthToSpace.

use super::elementwise::broadcast;
use super::reader::Reader;
use super::rearrangement::Rearrangement;
use super::sizes::Expression;
use crate::operation::{Argument, Kind, Size};
use crate::{Error, Result};
use fngd_onnx::graph::Node;

/// Reshape, Flatten, Squeeze and Unsqueeze.
pub(super) fn reshape(reader: &mut Reader, node: &Node) -> Result<()> {
    let (dims, target) = (reader.dims(node, 0)?, target(reader, node)?);
    if dims == target {
        let same = reader.tensor(node, 0)?;
        reader.rename(node, same);
        return Ok(());
    }
    if let Some(how) = Rearrangement::reshape(&dims, &target) {
        return reader.rearrange(node, how, target);
    }
    let sizes = target.iter().map(Expression::spelled).collect();
    let (element, receiver) = (reader.fact(node, 0)?.element, reader.tensor(node, 0)?);
    let kind = Kind::Method { receiver, name: "reshape", arguments: vec![Argument::Integers(sizes)] };
    reader.give(node, 0, kind, element, target);
    Ok(())
}

/// The dimensions that one of these gives.
pub(super) fn target(reader: &Reader, node: &Node) -> Result<Vec<Expression>> {
    let dims = reader.dims(node, 0)?;
    match node.op_type.as_str() {
        "Reshape" => reshape_target(reader, node, &dims),
        "Flatten" => {
            let axis = axis_of(node.int("axis", 1), dims.len() + 1)?;
            let (left, right) = dims.split_at(axis);
            Ok(vec![Expression::product(left), Expression::product(right)])
        }
        "Squeeze" => {
            let axes = axes(reader, node, dims.len())?;
            let is_dropped = |axis: usize, dim: &Expression| match &axes {
                Some(axes) => axes.contains(&axis),
                None => dim.is(1),
            };
            let kept = dims.iter().enumerate().filter(|(axis, dim)| !is_dropped(*axis, dim));
            Ok(kept.map(|(_, dim)| dim.clone()).collect())
        }
        "Unsqueeze" => {
            let given = given_axes(reader, node)?.unwrap_or_default();
            let rank = dims.len() + given.len();
            let axes: Vec<usize> = given.iter().map(|axis| axis_of(*axis, rank)).collect::<Result<_>>()?;
            let mut rest = dims.into_iter();
            let of = |axis| if axes.contains(&axis) { Some(1.into()) } else { rest.next() };
            (0..rank).map(of).collect::<Option<_>>().ok_or_else(|| Error::unsupported("axes are given twice"))
        }
        other => Err(Error::unsupported(format!("{other} gives no dimensions"))),
    }
}

fn reshape_target(reader: &Reader, node: &Node, dims: &[Expression]) -> Result<Vec<Expression>> {
    let wanted = match node.ints("shape") {
        Some(shape) => shape.iter().map(|size| (*size).into()).collect(),
        None => reader.integers(node, 1)?,
    };
    let keeps_zero = node.int("allowzero", 0) != 0;
    let copied = wanted.iter().enumerate().map(|(axis, size)| match dims.get(axis) {
        Some(dim) if size.is(0) && !keeps_zero => dim.clone(),
        _ => size.clone(),
    });
    let mut target: Vec<Expression> = copied.collect();
    if let Some(batch) = &reader.batch
        && let Some(target) = batch.reshape(dims, &target)
    {
        return Ok(target);
    }
    if let Some(open) = target.iter().position(|size| size.is(-1)) {
        let others = target.iter().enumerate().filter(|(axis, _)| *axis != open).map(|(_, size)| size);
        let (all, others) = (Expression::product(dims), Expression::product(others));
        target[open] = all.exactly_over(&others).unwrap_or_else(|| all.over(&others));
    }
    Ok(target)
}

/// Transpose.
pub(super) fn transpose(reader: &mut Reader, node: &Node) -> Result<()> {
    let dims = reader.dims(node, 0)?;
    let order: Vec<usize> = match node.ints("perm") {
        Some(order) => order.iter().map(|axis| axis_of(*axis, dims.len())).collect::<Result<_>>()?,
        None => (0..dims.len()).rev().collect(),
    };
    let how = Rearrangement::permutation(&dims, &order)
        .ok_or_else(|| Error::unsupported(format!("`perm` is {order:?} for {} dimensions", dims.len())))?;
    let turned = how.dims();
    reader.rearrange(node, how, turned)
}

/// Expand, to sizes that are read from other tensors.
pub(super) fn expand(reader: &mut Reader, node: &Node) -> Result<()> {
    let fact = reader.fact(node, 0)?.clone();
    let mut wanted = reader.integers(node, 1)?;
    // A class token for every sample of the example's batch.
    if let (Some(batch), Some(first)) = (&reader.batch, wanted.first_mut())
        && batch.is_written(first)
        && batch.written != 1
    {
        *first = batch.size.clone();
    }
    let target = broadcast(&fact.dims, &wanted);
    if target == fact.dims {
        let same = reader.tensor(node, 0)?;
        reader.rename(node, same);
        return Ok(());
    }
    let offset = target.len() - fact.dims.len();
    // -1 is what the axis has already.
    let size = |(axis, size): (usize, &Expression)| {
        let is_same = axis >= offset && fact.dims.get(axis - offset) == Some(size);
        if is_same { Size::Known(-1) } else { size.spelled() }
    };
    let sizes = target.iter().enumerate().map(size).collect();
    let receiver = reader.tensor(node, 0)?;
    let arguments = vec![Argument::Integers(sizes), Argument::Bool(false)];
    reader.give(node, 0, Kind::Method { receiver, name: "expand", arguments }, fact.element, target);
    Ok(())
}

/// Tile.
pub(super) fn tile(reader: &mut Reader, node: &Node) -> Result<()> {
    let fact = reader.fact(node, 0)?.clone();
    let times = reader.integers(node, 1)?;
    let sizes = times.iter().map(Expression::spelled).collect();
    let dims = fact.dims.iter().zip(&times).map(|(dim, times)| dim.times(times)).collect();
    let receiver = reader.tensor(node, 0)?;
    let kind = Kind::Method { receiver, name: "repeat", arguments: vec![Argument::Integers(sizes)] };
    reader.give(node, 0, kind, fact.element, dims);
    Ok(())
}

/// DepthToSpace, as `nn.PixelShuffle` is exported.
pub(super) fn pixel_shuffle(reader: &mut Reader, node: &Node) -> Result<()> {
    let (fact, factor) = (reader.fact(node, 0)?.clone(), node.int("blocksize", 1));
    let [batch, channels, height, width] = fact.dims.as_slice() else {
        return Err(Error::unsupported("its input has not 4 dimensions"));
    };
    if node.string("mode", "DCR") != "CRD" {
        return Err(Error::unsupported("mode `DCR` has no form in libtorch"));
    }
    let channels = channels.exactly_over(&factor.saturating_mul(factor).into());
    let channels = channels.ok_or_else(|| Error::unsupported("its channels are no multiple of the block"))?;
    let dims = vec![batch.clone(), channels, height.times(&factor.into()), width.times(&factor.into())];
    let receiver = reader.tensor(node, 0)?;
    let arguments = vec![Argument::Integer(Size::Known(factor))];
    reader.give(node, 0, Kind::Method { receiver, name: "pixel_shuffle", arguments }, fact.element, dims);
    Ok(())
}

/// `axis` counted from the front.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize> {
    let count = i64::try_from(rank).unwrap_or(i64::MAX);
    let from_front = if axis < 0 { axis.saturating_add(count) } else { axis };
    usize::try_from(from_front)
        .ok()
        .filter(|axis| *axis < rank)
        .ok_or_else(|| Error::unsupported(format!("axis {axis} of {rank} dimensions")))
}

/// Axes from attribute or second input, from the front.
pub(super) fn axes(reader: &Reader, node: &Node, rank: usize) -> Result<Option<Vec<usize>>> {
    match given_axes(reader, node)? {
        Some(axes) => axes.into_iter().map(|axis| axis_of(axis, rank)).collect::<Result<_>>().map(Some),
        None => Ok(None),
    }
}

fn given_axes(reader: &Reader, node: &Node) -> Result<Option<Vec<i64>>> {
    match (node.ints("axes"), node.input(1)) {
        (Some(axes), _) => Ok(Some(axes.to_vec())),
        (None, Some(_)) => reader.numbers(node, 1).map(Some),
        (None, None) => Ok(None),
    }
}
