//! Parts of tensors, and tensors from parts: Gather, Slice, Split, Concat, Pad, and what makes tensors of numbers.

use super::affine;
use super::facts::Fact;
use super::reader::Reader;
use super::rearrangement::Rearrangement;
use super::shape::axis_of;
use super::sizes::Expression;
use crate::operation::{Argument, Kind, Layer, Size};
use crate::{Error, Result};
use fngd_onnx::analysis::ParameterRole;
use fngd_onnx::graph::{Attribute, ElementType, Node, ValueId};

fn integer(value: i64) -> Argument {
    Argument::Integer(Size::Known(value))
}

fn axis_argument(axis: usize) -> Argument {
    integer(axis as i64)
}

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
    let arguments = vec![integer(-1)];
    let arguments = Argument::Integers(match arguments.as_slice() {
        [Argument::Integer(size)] => vec![size.clone()],
        _ => Vec::new(),
    });
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

/// Slice: `narrow` along each axis, or `slice` with a step.
pub(super) fn slice(reader: &mut Reader, node: &Node) -> Result<()> {
    let mut fact = reader.fact(node, 0)?.clone();
    let rank = fact.dims.len();
    let list = |reader: &Reader, name: &str, position: usize| -> Result<Option<Vec<Expression>>> {
        match (node.ints(name), node.input(position)) {
            (Some(values), _) => Ok(Some(values.iter().map(|value| (*value).into()).collect())),
            (None, Some(_)) => reader.integers(node, position).map(Some),
            (None, None) => Ok(None),
        }
    };
    let starts = list(reader, "starts", 1)?.unwrap_or_default();
    let ends = list(reader, "ends", 2)?.unwrap_or_default();
    let axes = list(reader, "axes", 3)?.unwrap_or_else(|| (0..starts.len()).map(|axis| (axis as i64).into()).collect());
    let steps = list(reader, "steps", 4)?.unwrap_or_else(|| vec![1.into(); starts.len()]);
    let mut result = reader.tensor(node, 0)?;
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = axis_of(axis.known().ok_or_else(|| Error::unsupported("an axis that is not constant"))?, rank)?;
        let Some(step) = step.known().filter(|step| *step > 0) else {
            return Err(Error::unsupported("a step that is negative or not constant"));
        };
        let size = fact.dims[axis].clone();
        let (start, end) = (bound(start, &size)?, bound(end, &size)?);
        if start.is(0) && end == size && step == 1 {
            continue;
        }
        let length = end.minus(&start);
        let (name, arguments) = if step == 1 {
            (
                "narrow",
                vec![axis_argument(axis), Argument::Integer(start.spelled()), Argument::Integer(length.spelled())],
            )
        } else {
            let or_end =
                |at: &Expression, end: bool| if end { Argument::None } else { Argument::Integer(at.spelled()) };
            let (from, to) = (or_end(&start, start.is(0)), or_end(&end, end == size));
            ("slice", vec![axis_argument(axis), from, to, integer(step)])
        };
        fact.dims[axis] = length.plus(&(step - 1).into()).over(&step.into());
        result = reader.between(Kind::Method { receiver: result, name, arguments }, fact.element, fact.dims.clone());
    }
    reader.rename(node, result);
    Ok(())
}

/// Where a slice begins or ends, counted from the front and inside.
fn bound(at: &Expression, size: &Expression) -> Result<Expression> {
    let Some(number) = at.known() else { return Ok(at.clone()) };
    if let Some(size) = size.known() {
        let from_front = if number < 0 { number.saturating_add(size) } else { number };
        return Ok(from_front.clamp(0, size.max(0)).into());
    }
    const FAR: i64 = 1 << 30;
    Ok(if number >= FAR {
        size.clone()
    } else if number <= -FAR {
        0.into()
    } else if number < 0 {
        size.plus(&number.into())
    } else {
        number.into()
    })
}

/// Split: `chunk` or `split_with_sizes`.
pub(super) fn split(reader: &mut Reader, node: &Node) -> Result<()> {
    let fact = reader.fact(node, 0)?.clone();
    let axis = axis_of(node.int("axis", 0), fact.dims.len())?;
    let count = node.outputs.len();
    let size = &fact.dims[axis];
    let sizes: Vec<Expression> = match (node.ints("split"), node.input(1)) {
        (Some(sizes), _) => sizes.iter().map(|size| (*size).into()).collect(),
        (None, Some(_)) => reader.integers(node, 1)?,
        (None, None) => {
            let each = size.exactly_over(&(count as i64).into());
            vec![each.ok_or_else(|| Error::unsupported("its parts are not equal"))?; count]
        }
    };
    let is_even = sizes.windows(2).all(|two| two[0] == two[1]);
    let receiver = reader.tensor(node, 0)?;
    let place = integer(if axis + 1 == fact.dims.len() { -1 } else { axis as i64 });
    let (name, first) = if is_even {
        ("chunk", integer(sizes.len() as i64))
    } else {
        ("split_with_sizes", Argument::Integers(sizes.iter().map(Expression::spelled).collect()))
    };
    let with = |size: &Expression| {
        let mut dims = fact.dims.clone();
        dims[axis] = size.clone();
        dims
    };
    let dims = sizes.iter().map(with).collect();
    reader.give_all(node, Kind::Method { receiver, name, arguments: vec![first, place] }, fact.element, dims);
    Ok(())
}

/// Whether the first dimension of input `position` is this size.
fn has(reader: &Reader, node: &Node, position: usize, size: &Expression) -> bool {
    reader.fact(node, position).is_ok_and(|fact| fact.dims.first() == Some(size))
}

/// Concat.
pub(super) fn concat(reader: &mut Reader, node: &Node) -> Result<()> {
    let first = reader.fact(node, 0)?.clone();
    let axis = axis_of(node.int("axis", 0), first.dims.len())?;
    let mut first = first;
    let (mut all, mut length) = (Vec::new(), Expression::from(0));
    let batch = reader
        .batch
        .clone()
        .filter(|batch| axis != 0 && (0..node.inputs.len()).any(|position| has(reader, node, position, &batch.size)));
    for position in 0..node.inputs.len() {
        let mut dims = reader.dims(node, position)?;
        length = length.plus(&dims[axis]);
        let mut part = reader.tensor(node, position)?;
        // One class token for all samples of the example's batch.
        if let Some(batch) = batch.as_ref().filter(|batch| batch.is_written(&dims[0])) {
            if batch.written != 1 {
                return Err(Error::unsupported(
                    "a part has the batch size of the example; export with a dynamic batch",
                ));
            }
            let mut sizes = vec![Size::Known(-1); dims.len()];
            sizes[0] = batch.size.spelled();
            dims[0] = batch.size.clone();
            let arguments = vec![Argument::Integers(sizes), Argument::Bool(false)];
            part =
                reader.between(Kind::Method { receiver: part, name: "expand", arguments }, first.element, dims.clone());
        }
        first.dims.clone_from(&dims);
        all.push(part);
    }
    if let [same] = all[..] {
        reader.rename(node, same);
        return Ok(());
    }
    let mut dims = first.dims;
    dims[axis] = length;
    let place = integer(if axis + 1 == dims.len() && axis > 1 { -1 } else { axis as i64 });
    let kind = Kind::Function { name: "cat", arguments: vec![Argument::Tensors(all), place] };
    reader.give(node, 0, kind, first.element, dims);
    Ok(())
}

/// Pad.
pub(super) fn pad(reader: &mut Reader, node: &Node) -> Result<()> {
    let fact = reader.fact(node, 0)?.clone();
    let rank = fact.dims.len();
    let given = match node.ints("pads") {
        Some(pads) => pads.iter().map(|pad| (*pad).into()).collect(),
        None => reader.integers(node, 1)?,
    };
    let axes = if node.input(3).is_some() {
        reader.numbers(node, 3)?.into_iter().map(|axis| axis_of(axis, rank)).collect::<Result<Vec<_>>>()?
    } else {
        (0..rank).collect()
    };
    let mut pads = vec![(Expression::from(0), Expression::from(0)); rank];
    for (position, axis) in axes.iter().enumerate() {
        let both = (given.get(position), given.get(position + axes.len()));
        let (Some(before), Some(behind)) = both else { return Err(Error::unsupported("`pads` is too short")) };
        pads[*axis] = (before.clone(), behind.clone());
    }
    if pads.iter().all(|(before, behind)| before.is(0) && behind.is(0)) {
        return super::elementwise::identity(reader, node);
    }
    let dims = fact.dims.iter().zip(&pads).map(|(dim, (before, behind))| dim.plus(before).plus(behind)).collect();
    // libtorch begins with the last axis, and needs no entry for what comes before the first that is padded.
    let first = pads.iter().position(|(before, behind)| !before.is(0) || !behind.is(0)).unwrap_or(0);
    let list = pads[first..].iter().rev().flat_map(|(before, behind)| [before.spelled(), behind.spelled()]);
    let list = Argument::Integers(list.collect());
    let value = match reader.optional_fact(node, 2) {
        Some(value) => value.uniform().ok_or_else(|| Error::unsupported("its value is not constant"))?,
        None => f64::from(node.float("value", 0.0)),
    };
    let receiver = reader.tensor(node, 0)?;
    let (name, arguments) = match node.string("mode", "constant") {
        "constant" if value == 0.0 => ("constant_pad_nd", vec![list]),
        "constant" => ("pad", vec![list, Argument::Text("constant"), Argument::Float(value)]),
        "reflect" => ("pad", vec![list, Argument::Text("reflect"), Argument::None]),
        "edge" => ("pad", vec![list, Argument::Text("replicate"), Argument::None]),
        _ => ("pad", vec![list, Argument::Text("circular"), Argument::None]),
    };
    reader.give(node, 0, Kind::Method { receiver, name, arguments }, fact.element, dims);
    Ok(())
}

/// `input` with zeros around its spatial dimensions.
pub(super) fn zeros_around(reader: &mut Reader, input: ValueId, dims: &[Expression], pads: &[(i64, i64)]) -> ValueId {
    let list = pads.iter().rev().flat_map(|(before, behind)| [Size::Known(*before), Size::Known(*behind)]).collect();
    let spatial = dims.iter().skip(2).zip(pads).map(|(dim, (before, behind))| dim.plus(&(before + behind).into()));
    let padded = dims.iter().take(2).cloned().chain(spatial).collect();
    let kind = Kind::Method { receiver: input, name: "constant_pad_nd", arguments: vec![Argument::Integers(list)] };
    reader.between(kind, ElementType::Float32, padded)
}

/// Range whose end is a size.
pub(super) fn range(reader: &mut Reader, node: &Node) -> Result<()> {
    let element = reader.fact(node, 0)?.element;
    let bounds = [0, 1, 2].map(|position| reader.integers(node, position));
    let [Ok(start), Ok(end), Ok(step)] = bounds else {
        return Err(Error::unsupported("its bounds are no integers that are known or read from a size"));
    };
    let (Some(start), Some(end), Some([step])) = (start.first(), end.first(), step.get(..)) else {
        return Err(Error::unsupported("its bounds are no single numbers"));
    };
    if !step.is(1) {
        return Err(Error::unsupported("its step is not 1"));
    }
    let length = end.minus(start);
    let (start, end) = (start.clone(), Argument::Integer(end.spelled()));
    let options = Argument::Options(element);
    let kind = if start.is(0) {
        Kind::Function { name: "arange", arguments: vec![end, options] }
    } else {
        Kind::Function { name: "arange_start", arguments: vec![Argument::Integer(start.spelled()), end, options] }
    };
    reader.give(node, 0, kind, element, vec![length]);
    Ok(())
}

/// ConstantOfShape whose shape is read from a size.
pub(super) fn constant_of_shape(reader: &mut Reader, node: &Node) -> Result<()> {
    let dims = reader.integers(node, 0)?;
    let fill = match node.attributes.get("value") {
        Some(Attribute::Tensor(data)) => Fact::constant(data),
        _ => Fact::of(ElementType::Float32, Vec::new()),
    };
    let number = fill.uniform().unwrap_or(0.0);
    let value = if fill.element.is_float() { Argument::Float(number) } else { integer(number as i64) };
    let sizes = Argument::Integers(dims.iter().map(Expression::spelled).collect());
    let arguments = vec![sizes, value, Argument::Options(fill.element)];
    reader.give(node, 0, Kind::Function { name: "full", arguments }, fill.element, dims);
    Ok(())
}

/// Trilu.
pub(super) fn triangle(reader: &mut Reader, node: &Node) -> Result<()> {
    let diagonal = match reader.optional_fact(node, 1) {
        Some(fact) => fact.uniform().ok_or_else(|| Error::unsupported("its diagonal is not constant"))? as i64,
        None => 0,
    };
    let name = if node.int("upper", 1) != 0 { "triu" } else { "tril" };
    reader.map(node, name, vec![integer(diagonal)])
}

/// CumSum.
pub(super) fn cumulative_sum(reader: &mut Reader, node: &Node) -> Result<()> {
    if node.int("exclusive", 0) != 0 || node.int("reverse", 0) != 0 {
        return Err(Error::unsupported("attribute `exclusive` or `reverse` has no form in generated code"));
    }
    let rank = reader.dims(node, 0)?.len();
    let [axis] = reader.numbers(node, 1)?[..] else { return Err(Error::unsupported("its axis is no single number")) };
    let axis = axis_of(axis, rank)?;
    reader.map(node, "cumsum", vec![axis_argument(axis), Argument::None])
}

/// Shape and Size, where a call wants the numbers as a tensor.
pub(super) fn size(_: &mut Reader, _: &Node) -> Result<()> {
    Err(Error::unsupported("the model computes with sizes as if they were data"))
}
