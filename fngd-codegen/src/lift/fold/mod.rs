//! Shape arithmetic, done here: what is computed from constants and sizes alone.

mod arithmetic;

use super::facts::{Content, Fact, MOST_ELEMENTS};
use super::reader::Reader;
use super::shape::axis_of;
use super::sizes::Expression;
use arithmetic::{arithmetic, comparison, product, select, unary};
use fngd_onnx::graph::{Attribute, ElementType, Node};

/// What `node` gives, if that is known. Nothing is computed for it, unless a call wants it as a tensor.
pub(super) fn fold(reader: &Reader, node: &Node) -> Option<Fact> {
    if !node.domain.is_empty() || node.outputs.len() > 1 {
        return None;
    }
    let inputs = Inputs { reader, node };
    let fact = match node.op_type.as_str() {
        "Shape" => shape(&inputs),
        "Size" => Some(Fact::integers(Vec::new(), vec![Expression::product(&reader.fact(node, 0).ok()?.dims)])),
        "Identity" => inputs.content(0).map(|(fact, _)| fact.clone()),
        "Cast" => cast(&inputs, ElementType::from_number(i32::try_from(node.int("to", 0)).ok()?)?),
        "CastLike" => cast(&inputs, reader.fact(node, 1).ok()?.element),
        "Gather" => gather(&inputs),
        "Concat" => concat(&inputs),
        "Transpose" => transpose(&inputs),
        "Trilu" => triangle(&inputs),
        "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten" => reshaped(&inputs),
        "Slice" => slice(&inputs),
        "Range" => range(&inputs),
        "ConstantOfShape" => constant_of_shape(&inputs),
        "Expand" => expand(&inputs),
        "Where" => select(&inputs),
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Min" | "Max" | "Pow" => arithmetic(&inputs),
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" => comparison(&inputs),
        "Neg" | "Sqrt" | "Reciprocal" | "Floor" | "Ceil" | "Not" | "Abs" => unary(&inputs),
        "ReduceProd" => product(&inputs),
        _ => None,
    }?;
    (fact.content.as_ref()?.len() <= MOST_ELEMENTS).then_some(fact)
}

struct Inputs<'a> {
    reader: &'a Reader<'a>,
    node: &'a Node,
}

impl Inputs<'_> {
    /// Input `position` with its elements. A parameter that is trained has none.
    fn content(&self, position: usize) -> Option<(&Fact, &Content)> {
        let fact = self.reader.optional_fact(self.node, position)?;
        Some((fact, fact.content.as_ref()?))
    }

    fn numbers(&self, position: usize) -> Option<Vec<i64>> {
        self.content(position)?.0.as_integers()?.iter().map(Expression::known).collect()
    }

    fn axes(&self, position: usize) -> Option<Vec<i64>> {
        match self.node.ints("axes") {
            Some(axes) => Some(axes.to_vec()),
            None => self.numbers(position),
        }
    }
}

fn shape(inputs: &Inputs) -> Option<Fact> {
    let dims = &inputs.reader.fact(inputs.node, 0).ok()?.dims;
    let rank = i64::try_from(dims.len()).ok()?;
    let bound = |name, default| {
        let value = inputs.node.int(name, default);
        usize::try_from(if value < 0 { value.saturating_add(rank) } else { value }.clamp(0, rank)).ok()
    };
    let all = dims.get(bound("start", 0)?..bound("end", rank)?.max(bound("start", 0)?))?.to_vec();
    Some(Fact::integers(vec![i64::try_from(all.len()).ok()?.into()], all))
}

fn cast(inputs: &Inputs, to: ElementType) -> Option<Fact> {
    let (fact, content) = inputs.content(0)?;
    let content = match content {
        Content::Floats(all) if to.is_float() => Content::Floats(all.clone()),
        Content::Floats(all) if to == ElementType::Bool => {
            Content::Integers(all.iter().map(|number| i64::from(*number != 0.0).into()).collect())
        }
        Content::Floats(all) => Content::Integers(all.iter().map(|number| (number.trunc() as i64).into()).collect()),
        Content::Integers(all) if to.is_float() => {
            Content::Floats(all.iter().map(|number| number.known().map(|number| number as f64)).collect::<Option<_>>()?)
        }
        Content::Integers(all) if to == ElementType::Bool => {
            let known = all.iter().map(Expression::known);
            Content::Integers(known.map(|number| Some(i64::from(number? != 0).into())).collect::<Option<_>>()?)
        }
        Content::Integers(all) => Content::Integers(all.clone()),
    };
    let element = if to.is_float() { ElementType::Float32 } else { to };
    Some(Fact::of(element, fact.dims.clone()).with(content))
}

fn gather(inputs: &Inputs) -> Option<Fact> {
    let (data, indices) = (inputs.content(0)?.0, inputs.content(1)?.0);
    let axis = axis_of(inputs.node.int("axis", 0), data.dims.len()).ok()?;
    let (from, places) = (data.known_dims()?, indices.known_dims()?);
    let size = i64::try_from(*from.get(axis)?).ok()?;
    let place = |index: i64| usize::try_from(if index < 0 { index.saturating_add(size) } else { index }).ok();
    let chosen: Vec<usize> = inputs.numbers(1)?.into_iter().map(place).collect::<Option<_>>()?;
    let dims = [&from[..axis], &places, &from[axis + 1..]].concat();
    rearranged(data, &dims, |at| {
        let (before, rest) = at.split_at(axis);
        let (within, behind) = rest.split_at(places.len());
        let flat = within.iter().zip(&places).fold(0, |flat, (at, size)| flat * size + at);
        Some([before, &[*chosen.get(flat)?], behind].concat())
    })
}

/// The fact of a tensor of `dims` whose element at each place is that of `fact` at `source`.
fn rearranged(fact: &Fact, dims: &[usize], source: impl Fn(&[usize]) -> Option<Vec<usize>>) -> Option<Fact> {
    let (content, from) = (fact.content.as_ref()?, fact.known_dims()?);
    let count = dims.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    if count > MOST_ELEMENTS {
        return None;
    }
    let position = |mut element: usize| {
        let mut at = vec![0; dims.len()];
        for (place, size) in at.iter_mut().zip(dims).rev() {
            *place = element.checked_rem(*size)?;
            element /= size;
        }
        let at = source(&at)?;
        (at.len() == from.len()).then(|| at.iter().zip(&from).fold(0, |flat, (at, size)| flat * size + at))
    };
    let positions: Vec<usize> = (0..count).map(position).collect::<Option<_>>()?;
    let dims = dims.iter().map(|size| i64::try_from(*size).ok().map(Expression::from)).collect::<Option<_>>()?;
    Some(Fact::of(fact.element, dims).with(content.pick(&positions)?))
}

fn concat(inputs: &Inputs) -> Option<Fact> {
    let all = (0..inputs.node.inputs.len()).map(|position| inputs.content(position).map(|(fact, _)| fact));
    let all: Vec<&Fact> = all.collect::<Option<_>>()?;
    let first = all.first()?;
    if first.dims.len() != 1 {
        return None;
    }
    let content = match all.iter().map(|fact| fact.as_integers()).collect::<Option<Vec<_>>>() {
        Some(parts) => Content::Integers(parts.concat()),
        None => Content::Floats(all.iter().map(|fact| fact.as_floats()).collect::<Option<Vec<_>>>()?.concat()),
    };
    let dims = vec![i64::try_from(content.len()).ok()?.into()];
    Some(Fact::of(first.element, dims).with(content))
}

fn reshaped(inputs: &Inputs) -> Option<Fact> {
    let (fact, content) = inputs.content(0)?;
    let dims = super::shape::target(inputs.reader, inputs.node).ok()?;
    Some(Fact::of(fact.element, dims).with(content.clone()))
}

fn slice(inputs: &Inputs) -> Option<Fact> {
    let mut fact = inputs.content(0)?.0.clone();
    let starts = inputs.node.ints("starts").map(<[_]>::to_vec).or_else(|| inputs.numbers(1))?;
    let ends = inputs.node.ints("ends").map(<[_]>::to_vec).or_else(|| inputs.numbers(2))?;
    let default = || (0..i64::try_from(starts.len()).ok()?).map(Some).collect();
    let axes = match inputs.node.input(3) {
        Some(_) => inputs.numbers(3)?,
        None => inputs.node.ints("axes").map(<[_]>::to_vec).or_else(default)?,
    };
    let steps = if inputs.node.input(4).is_some() { inputs.numbers(4)? } else { vec![1; starts.len()] };
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = axis_of(*axis, fact.dims.len()).ok()?;
        let mut dims = fact.known_dims()?;
        let positions = steps_between(*start, *end, *step, i64::try_from(dims[axis]).ok()?)?;
        dims[axis] = positions.len();
        fact = rearranged(&fact, &dims, |at| {
            let mut from = at.to_vec();
            from[axis] = *positions.get(at[axis])?;
            Some(from)
        })?;
    }
    Some(fact)
}

/// The positions that a slice takes of `size`.
fn steps_between(start: i64, end: i64, step: i64, size: i64) -> Option<Vec<usize>> {
    let bound = |value: i64, low: i64, high: i64| {
        (if value < 0 { value.saturating_add(size) } else { value }).clamp(low, high.max(low))
    };
    let mut positions = Vec::new();
    let (mut at, end) = match step {
        1.. => (bound(start, 0, size), bound(end, 0, size)),
        0 => return None,
        _ => (bound(start, -1, size - 1), bound(end, -1, size - 1)),
    };
    while if step > 0 { at < end } else { at > end } {
        positions.push(usize::try_from(at).ok()?);
        at = at.saturating_add(step);
    }
    Some(positions)
}

fn transpose(inputs: &Inputs) -> Option<Fact> {
    let fact = inputs.content(0)?.0;
    let from = fact.known_dims()?;
    let order: Vec<usize> = match inputs.node.ints("perm") {
        Some(order) => order.iter().map(|axis| axis_of(*axis, from.len()).ok()).collect::<Option<_>>()?,
        None => (0..from.len()).rev().collect(),
    };
    let dims: Vec<usize> = order.iter().map(|axis| from[*axis]).collect();
    rearranged(fact, &dims, |at| {
        let mut source = vec![0; from.len()];
        order.iter().zip(at).for_each(|(axis, place)| source[*axis] = *place);
        Some(source)
    })
}

/// Trilu.
fn triangle(inputs: &Inputs) -> Option<Fact> {
    let (fact, content) = inputs.content(0)?;
    let [.., rows, columns] = fact.known_dims()?[..] else { return None };
    let diagonal = if inputs.node.input(1).is_some() { *inputs.numbers(1)?.first()? } else { 0 };
    let upper = inputs.node.int("upper", 1) != 0;
    let keeps = |position: usize| {
        let (row, column) = (position / columns % rows, position % columns);
        let distance = column as i64 - row as i64;
        if upper { distance >= diagonal } else { distance <= diagonal }
    };
    let content = match content {
        Content::Integers(all) => Content::Integers(masked(all, keeps, &0.into())),
        Content::Floats(all) => Content::Floats(masked(all, keeps, &0.0)),
    };
    Some(fact.clone().with(content))
}

fn masked<T: Clone>(all: &[T], keeps: impl Fn(usize) -> bool, zero: &T) -> Vec<T> {
    all.iter().enumerate().map(|(position, one)| if keeps(position) { one.clone() } else { zero.clone() }).collect()
}

fn range(inputs: &Inputs) -> Option<Fact> {
    let [start, end, step] = [0, 1, 2].map(|position| inputs.numbers(position).and_then(|all| all.first().copied()));
    let (start, end, step) = (start?, end?, step.filter(|step| *step > 0)?);
    if end.saturating_sub(start) / step > i64::try_from(MOST_ELEMENTS).ok()? {
        return None;
    }
    let mut all = Vec::new();
    let mut next = start;
    while next < end {
        all.push(next.into());
        next = next.checked_add(step)?;
    }
    Some(Fact::integers(vec![i64::try_from(all.len()).ok()?.into()], all))
}

fn constant_of_shape(inputs: &Inputs) -> Option<Fact> {
    let dims = inputs.content(0)?.0.as_integers()?.to_vec();
    let count = dims.iter().map(|dim| usize::try_from(dim.known()?).ok()).collect::<Option<Vec<_>>>()?;
    let count = count.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    if count > MOST_ELEMENTS {
        return None;
    }
    let fill = match inputs.node.attributes.get("value") {
        Some(Attribute::Tensor(data)) => Fact::constant(data),
        _ => Fact::of(ElementType::Float32, Vec::new()).with(Content::Floats(vec![0.0])),
    };
    Some(Fact::of(fill.element, dims).with(fill.content?.pick(&vec![0; count])?))
}

fn expand(inputs: &Inputs) -> Option<Fact> {
    let fact = inputs.content(0)?.0;
    let dims = super::elementwise::broadcast(&fact.dims, inputs.content(1)?.0.as_integers()?);
    broadcast_to(fact, &dims)
}

/// `fact` broadcast to `dims`.
fn broadcast_to(fact: &Fact, dims: &[Expression]) -> Option<Fact> {
    let (from, to) = (fact.known_dims()?, Fact::of(fact.element, dims.to_vec()).known_dims()?);
    let offset = to.len().checked_sub(from.len())?;
    rearranged(fact, &to, |at| {
        Some(at[offset..].iter().zip(&from).map(|(place, size)| if *size == 1 { 0 } else { *place }).collect())
    })
}
