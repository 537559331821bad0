//! Parts of tensors, and tensors from parts: Slice, Split, Concat, Pad, Trilu, CumSum.

use super::reader::Reader;
use super::shape::axis_of;
use super::sizes::Expression;
use crate::operation::{Argument, Kind, Size};
use crate::{Error, Result};
use fngd_onnx::graph::{ElementType, Node, ValueId};

pub(super) fn integer(value: i64) -> Argument {
    Argument::Integer(Size::Known(value))
}

pub(super) fn axis_argument(axis: usize) -> Argument {
    integer(axis as i64)
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
