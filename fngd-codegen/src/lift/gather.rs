//! Gather, GatherElements, GatherND: elements picked by their places.

use super::affine;
use super::facts::Fact;
use super::index::axis_argument;
use super::reader::Reader;
use super::rearrangement::Rearrangement;
use super::shape::axis_of;
use super::sizes::Expression;
use crate::operation::{Argument, Kind, Layer, Size};
use crate::{Error, Result};
use fngd_onnx::analysis::ParameterRole;
use fngd_onnx::graph::{ElementType, Node};

/// Gather: an embedding, one element of an axis, or several.
pub(super) fn gather(reader: &mut Reader, node: &Node) -> Result<()> {
    let (data, indices) = (reader.fact(node, 0)?.clone(), reader.fact(node, 1)?.clone());
    let axis = axis_of(node.int("axis", 0), data.dims.len())?;
    let (before, behind) = (&data.dims[..axis], &data.dims[axis + 1..]);
    let dims = [before, &indices.dims, behind].concat();
    if let (true, Some([index])) = (indices.dims.is_empty(), indices.as_integers()) {
        let receiver = reader.tensor(node, 0)?;
        let arguments = vec![axis_argument(axis), Argument::Integer(index.spelled())];
        reader.give(node, 0, Kind::Method { receiver, name: "select", arguments }, data.element, dims);
        return Ok(());
    }
    refuse_negative(&indices)?;
    if axis == 0 && embedding(reader, node, &dims)? {
        return Ok(());
    }
    if let Some(affine) = affine::of_fact(&indices).filter(|_| axis == 0)
        && affine.counts(&indices.dims)
    {
        // All elements in their order: of one sample, if the file knows only one.
        let mut whole = indices.dims.clone();
        if let (Some(batch), Some(first)) = (&reader.batch, whole.first_mut())
            && batch.is_written(first)
        {
            *first = batch.size.clone();
        }
        for places in [indices.dims.clone(), whole] {
            let target = [&places, behind].concat();
            if data.dims[0] == Expression::product(&places)
                && let Some(how) = Rearrangement::reshape(&data.dims, &target)
            {
                return reader.rearrange(node, how, target);
            }
        }
    }
    if reader.batch.is_some() && data.dims[axis].known().is_none() && indices.content.is_some() {
        return Err(Error::unsupported("it picks samples of the example's batch; export with a dynamic batch"));
    }
    let index = reader.tensor(node, 1)?;
    let receiver = reader.tensor(node, 0)?;
    if indices.dims.len() == 1 {
        let arguments = vec![axis_argument(axis), Argument::Tensor(index)];
        reader.give(node, 0, Kind::Method { receiver, name: "index_select", arguments }, data.element, dims);
        return Ok(());
    }
    let flat = vec![Expression::product(&indices.dims)];
    let arguments = Argument::Integers(vec![Size::Known(-1)]);
    let kind = Kind::Method { receiver: index, name: "reshape", arguments: vec![arguments] };
    let list = reader.between(kind, ElementType::Int64, flat.clone());
    let arguments = vec![axis_argument(axis), Argument::Tensor(list)];
    let kind = Kind::Method { receiver, name: "index_select", arguments };
    let picked = reader.between(kind, data.element, [before, &flat, behind].concat());
    let sizes = dims.iter().map(Expression::spelled).collect();
    let kind = Kind::Method { receiver: picked, name: "reshape", arguments: vec![Argument::Integers(sizes)] };
    reader.give(node, 0, kind, data.element, dims);
    Ok(())
}

/// libtorch counts no places from the end.
fn refuse_negative(indices: &Fact) -> Result<()> {
    let is_negative = |index: &Expression| index.known().is_some_and(|number| number < 0);
    match indices.as_integers().and_then(|all| all.iter().find(|index| is_negative(index))) {
        Some(index) => Err(Error::unsupported(format!(
            "it picks element {}, counted from the end; make its indices positive",
            index.known().unwrap_or(0)
        ))),
        None => Ok(()),
    }
}

/// A table of vectors, read by numbers of words: not one that is read at fixed places, which is a parameter by itself.
fn embedding(reader: &mut Reader, node: &Node, dims: &[Expression]) -> Result<bool> {
    let Some((table, data)) = reader.constant(node, 0) else { return Ok(false) };
    let info = reader.model.analysis().parameters.get(&table);
    let is_table = info.is_some_and(|info| matches!(info.role, ParameterRole::Embedding | ParameterRole::LinearWeight));
    let is_named = info.is_some_and(|info| info.name.ends_with("weight"));
    let is_fixed = reader.constant(node, 1).is_some();
    let ([words, width], true) = (data.dims.as_slice(), is_table && (is_named || !is_fixed)) else { return Ok(false) };
    let sizes = (i64::try_from(*words), i64::try_from(*width), reader.parameter(table, "weight"));
    let (Ok(words), Ok(width), Some(parameter)) = sizes else { return Ok(false) };
    let input = reader.tensor(node, 1)?;
    let kind = Kind::Layer { layer: Layer::Embedding { words, width }, input, parameters: vec![parameter] };
    reader.give(node, 0, kind, ElementType::Float32, dims.to_vec());
    Ok(true)
}

/// GatherND with indices that count along axes of their own, `mask[batch, position]`: the tensor in another form.
pub(super) fn gather_nd(reader: &mut Reader, node: &Node) -> Result<()> {
    let refused = || Error::unsupported("its indices do not simply count; no Rust can be written for that yet");
    let fact = reader.fact(node, 0)?.clone();
    let places = reader.dims(node, 1)?.split_last().map(|(_, places)| places.to_vec()).ok_or_else(refused)?;
    let parts = index_parts(reader, node).ok_or_else(refused)?;
    let rest = fact.dims.get(parts.len()..).ok_or_else(refused)?.to_vec();
    if node.int("batch_dims", 0) != 0 {
        return Err(refused());
    }
    let batch = reader.batch.clone();
    let is_batch = |dim: &Expression| batch.as_ref().is_some_and(|batch| *dim == batch.size);
    let mut along = Vec::new();
    for (part, dim) in parts.iter().zip(&fact.dims) {
        let affine = affine::of_fact(part).ok_or_else(refused)?;
        let axis = match affine.axis(&part.dims) {
            Some(axis) => axis,
            // The one sample of the example's batch.
            None if affine.number().is_some_and(|number| number.is(0)) && (dim.is(1) || is_batch(dim)) => 0,
            None => return Err(refused()),
        };
        let counted = &part.dims[axis];
        let is_written = batch.as_ref().is_some_and(|batch| batch.is_written(counted)) && is_batch(dim);
        if part.dims.last().is_none_or(|last| !last.is(1)) || !(counted == dim || is_written) {
            return Err(refused());
        }
        along.push(axis);
    }
    let mut places = places;
    for (axis, dim) in along.iter().zip(&fact.dims).filter(|(_, dim)| is_batch(dim)) {
        places[*axis] = dim.clone();
    }
    let mut order: Vec<usize> = (0..along.len()).collect();
    order.sort_by_key(|part| along[*part]);
    let is_distinct = order.windows(2).all(|two| along[two[0]] != along[two[1]]);
    order.extend(along.len()..fact.dims.len());
    let turned = Rearrangement::permutation(&fact.dims, &order).filter(|_| is_distinct).ok_or_else(refused)?;
    let size = |(axis, dim): (usize, &Expression)| if along.contains(&axis) { dim.clone() } else { 1.into() };
    let spread = [places.iter().enumerate().map(size).collect(), rest.clone()].concat();
    let spaced = Rearrangement::reshape(&turned.dims(), &spread).ok_or_else(refused)?;
    let how = turned.then(&spaced).ok_or_else(refused)?;
    if spread != [places, rest].concat() {
        return Err(refused());
    }
    reader.rearrange(node, how, spread)
}

/// What is known of each coordinate that GatherND reads, which lie side by side in the last axis of its indices.
fn index_parts(reader: &Reader, node: &Node) -> Option<Vec<Fact>> {
    let fact = reader.fact(node, 1).ok()?;
    let (count, places) = fact.dims.split_last()?;
    if let Some(all) = fact.as_integers() {
        let count = usize::try_from(count.known()?).ok()?;
        let dims = [places, &[1.into()]].concat();
        let part = |which| Fact::integers(dims.clone(), all.iter().skip(which).step_by(count).cloned().collect());
        return Some((0..count).map(part).collect());
    }
    let concat = reader.producer(reader.input(node, 1).ok()?).filter(|node| node.op_type == "Concat")?;
    let is_last = axis_of(concat.int("axis", 0), fact.dims.len()).ok()? == places.len();
    (0..concat.inputs.len()).map(|position| is_last.then(|| reader.fact(concat, position).ok().cloned())?).collect()
}

/// GatherElements.
pub(super) fn gather_elements(reader: &mut Reader, node: &Node) -> Result<()> {
    let data = reader.fact(node, 0)?.clone();
    let axis = axis_of(node.int("axis", 0), data.dims.len())?;
    let dims = reader.dims(node, 1)?;
    let (receiver, index) = (reader.tensor(node, 0)?, reader.tensor(node, 1)?);
    let arguments = vec![axis_argument(axis), Argument::Tensor(index), Argument::Bool(false)];
    reader.give(node, 0, Kind::Method { receiver, name: "gather", arguments }, data.element, dims);
    Ok(())
}
