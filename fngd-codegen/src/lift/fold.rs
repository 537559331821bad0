//! Shape arithmetic, done here: what is computed from constants and sizes alone.

use super::facts::{Content, Fact, MOST_ELEMENTS};
use super::reader::Reader;
use super::sizes::{Expression, Symbol};
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
    Some(Fact { element, dims: fact.dims.clone(), content: Some(content) })
}

fn gather(inputs: &Inputs) -> Option<Fact> {
    let (fact, content) = inputs.content(0)?;
    let [size] = fact.known_dims()?[..] else { return None };
    if !matches!(inputs.node.int("axis", 0), 0 | -1) {
        return None;
    }
    let place =
        |index: i64| usize::try_from(if index < 0 { index.checked_add_unsigned(size as u64)? } else { index }).ok();
    let positions: Vec<usize> = inputs.numbers(1)?.into_iter().map(place).collect::<Option<_>>()?;
    let dims = inputs.reader.dims(inputs.node, 1).ok()?;
    Some(Fact { element: fact.element, dims, content: Some(content.pick(&positions)?) })
}

fn concat(inputs: &Inputs) -> Option<Fact> {
    let (mut integers, mut element) = (Vec::new(), ElementType::Int64);
    for position in 0..inputs.node.inputs.len() {
        let fact = inputs.content(position)?.0;
        if fact.dims.len() != 1 {
            return None;
        }
        integers.extend(fact.as_integers()?.iter().cloned());
        element = fact.element;
    }
    let dims = vec![i64::try_from(integers.len()).ok()?.into()];
    Some(Fact { element, dims, content: Some(Content::Integers(integers)) })
}

fn reshaped(inputs: &Inputs) -> Option<Fact> {
    let (fact, content) = inputs.content(0)?;
    let dims = super::shape::target(inputs.reader, inputs.node).ok()?;
    Some(Fact { element: fact.element, dims, content: Some(content.clone()) })
}

fn slice(inputs: &Inputs) -> Option<Fact> {
    let (fact, content) = inputs.content(0)?;
    let [size] = fact.known_dims()?[..] else { return None };
    let size = i64::try_from(size).ok()?;
    let (start, end) = match inputs.node.ints("starts") {
        Some(starts) => (*starts.first()?, *inputs.node.ints("ends")?.first()?),
        None => (*inputs.numbers(1)?.first()?, *inputs.numbers(2)?.first()?),
    };
    let step = if inputs.node.input(4).is_some() { *inputs.numbers(4)?.first()? } else { 1 };
    let bound =
        |value: i64, low: i64, high: i64| (if value < 0 { value.saturating_add(size) } else { value }).clamp(low, high);
    let mut positions = Vec::new();
    if step > 0 {
        let mut at = bound(start, 0, size);
        while at < bound(end, 0, size) {
            positions.push(usize::try_from(at).ok()?);
            at = at.saturating_add(step);
        }
    } else if step < 0 {
        let mut at = bound(start, -1, size - 1);
        while at > bound(end, -1, size - 1) {
            positions.push(usize::try_from(at).ok()?);
            at = at.saturating_add(step);
        }
    } else {
        return None;
    }
    let dims = vec![i64::try_from(positions.len()).ok()?.into()];
    Some(Fact { element: fact.element, dims, content: Some(content.pick(&positions)?) })
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
        _ => Fact { element: ElementType::Float32, dims: Vec::new(), content: Some(Content::Floats(vec![0.0])) },
    };
    Some(Fact { element: fill.element, dims, content: Some(fill.content?.pick(&vec![0; count])?) })
}

fn expand(inputs: &Inputs) -> Option<Fact> {
    let (fact, content) = inputs.content(0)?;
    let target: Vec<Expression> = inputs.content(1)?.0.as_integers()?.to_vec();
    let target = super::elementwise::broadcast(&fact.dims, &target);
    let result = Fact { element: fact.element, dims: target, content: None };
    let positions = positions(fact, &result)?;
    Some(Fact { content: Some(content.pick(&positions)?), ..result })
}

/// For each element of `result`, the element of `fact` that is broadcast to it.
fn positions(fact: &Fact, result: &Fact) -> Option<Vec<usize>> {
    let (from, to) = (fact.known_dims()?, result.known_dims()?);
    let count = to.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    if count > MOST_ELEMENTS || from.len() > to.len() {
        return None;
    }
    let offset = to.len() - from.len();
    let place = |mut element: usize| {
        let (mut place, mut stride) = (0, 1);
        for axis in (0..to.len()).rev() {
            let at = element.checked_rem(to[axis])?;
            element /= to[axis];
            if axis >= offset {
                let size = from[axis - offset];
                place += stride * if size == 1 { 0 } else { at };
                stride *= size;
            }
        }
        Some(place)
    };
    (0..count).map(place).collect()
}

/// Inputs `left` and `right`, each broadcast to the dimensions of both.
fn both(inputs: &Inputs, left: usize, right: usize) -> Option<(Vec<Expression>, Content, Content)> {
    let ((a, of_a), (b, of_b)) = (inputs.content(left)?, inputs.content(right)?);
    if a.dims == b.dims {
        return Some((a.dims.clone(), of_a.clone(), of_b.clone()));
    }
    let dims = super::elementwise::broadcast(&a.dims, &b.dims);
    let result = Fact::of(a.element, dims);
    let (a, b) = (of_a.pick(&positions(a, &result)?)?, of_b.pick(&positions(b, &result)?)?);
    Some((result.dims, a, b))
}

fn arithmetic(inputs: &Inputs) -> Option<Fact> {
    if inputs.node.inputs.len() != 2 {
        return None;
    }
    let (dims, left, right) = both(inputs, 0, 1)?;
    let element = inputs.content(0)?.0.element;
    let content = match (left, right) {
        (Content::Integers(a), Content::Integers(b)) => {
            let pairs = a.iter().zip(&b);
            Content::Integers(pairs.map(|(a, b)| integer(&inputs.node.op_type, a, b)).collect::<Option<_>>()?)
        }
        (Content::Floats(a), Content::Floats(b)) => {
            let pairs = a.iter().zip(&b);
            Content::Floats(pairs.map(|(a, b)| float(&inputs.node.op_type, *a, *b)).collect::<Option<_>>()?)
        }
        _ => return None,
    };
    Some(Fact { element, dims, content: Some(content) })
}

fn integer(op_type: &str, a: &Expression, b: &Expression) -> Option<Expression> {
    Some(match op_type {
        "Add" => a.plus(b),
        "Sub" => a.minus(b),
        "Mul" => a.times(b),
        // Sizes are not negative; of other numbers ONNX rounds to 0.
        "Div" if a.known().is_none_or(|a| a >= 0) && b.known().is_none_or(|b| b > 0) => a.over(b),
        "Mod" => match (a.known(), b.known()) {
            (Some(a), Some(b)) => a.checked_rem_euclid(b)?.into(),
            _ => {
                a.exactly_over(b)?;
                0.into()
            }
        },
        "Min" | "Max" => match order(a, b)? {
            std::cmp::Ordering::Less if op_type == "Min" => a.clone(),
            std::cmp::Ordering::Greater if op_type == "Max" => a.clone(),
            _ => b.clone(),
        },
        _ => return None,
    })
}

fn float(op_type: &str, a: f64, b: f64) -> Option<f64> {
    Some(match op_type {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        "Div" => a / b,
        "Min" => a.min(b),
        "Max" => a.max(b),
        "Pow" => a.powf(b),
        _ => return None,
    })
}

/// Which is larger, whatever the sizes are: they are at least 1.
fn order(a: &Expression, b: &Expression) -> Option<std::cmp::Ordering> {
    let difference = a.minus(b);
    if let Some(known) = difference.known() {
        return Some(known.cmp(&0));
    }
    if difference.is_positive() {
        return Some(std::cmp::Ordering::Greater);
    }
    difference.times(&(-1).into()).is_positive().then_some(std::cmp::Ordering::Less)
}

fn comparison(inputs: &Inputs) -> Option<Fact> {
    let (dims, left, right) = both(inputs, 0, 1)?;
    let (Content::Integers(a), Content::Integers(b)) = (left, right) else { return None };
    let compare = |(a, b): (&Expression, &Expression)| {
        let truth = match inputs.node.op_type.as_str() {
            "And" => a.known()? != 0 && b.known()? != 0,
            "Or" => a.known()? != 0 || b.known()? != 0,
            "Equal" => order(a, b)?.is_eq(),
            "Less" => order(a, b)?.is_lt(),
            "LessOrEqual" => order(a, b)?.is_le(),
            "Greater" => order(a, b)?.is_gt(),
            _ => order(a, b)?.is_ge(),
        };
        Some(i64::from(truth).into())
    };
    let all = a.iter().zip(&b).map(compare).collect::<Option<_>>()?;
    Some(Fact { element: ElementType::Bool, dims, content: Some(Content::Integers(all)) })
}

fn select(inputs: &Inputs) -> Option<Fact> {
    let condition = inputs.content(0)?.0;
    let (dims, left, right) = both(inputs, 1, 2)?;
    let element = inputs.content(1)?.0.element;
    if condition.dims != dims {
        return None;
    }
    let condition: Vec<bool> =
        condition.as_integers()?.iter().map(|one| Some(one.known()? != 0)).collect::<Option<_>>()?;
    let content = match (left, right) {
        (Content::Integers(a), Content::Integers(b)) => Content::Integers(choose(&condition, a, b)),
        (Content::Floats(a), Content::Floats(b)) => Content::Floats(choose(&condition, a, b)),
        _ => return None,
    };
    Some(Fact { element, dims, content: Some(content) })
}

fn choose<T>(condition: &[bool], a: Vec<T>, b: Vec<T>) -> Vec<T> {
    condition.iter().zip(a.into_iter().zip(b)).map(|(first, (a, b))| if *first { a } else { b }).collect()
}

fn unary(inputs: &Inputs) -> Option<Fact> {
    let (fact, content) = inputs.content(0)?;
    let op_type = inputs.node.op_type.as_str();
    let content = match content {
        Content::Floats(all) => {
            let map = |number: &f64| {
                Some(match op_type {
                    "Neg" => -number,
                    "Sqrt" => number.sqrt(),
                    "Reciprocal" => number.recip(),
                    "Floor" => number.floor(),
                    "Ceil" => number.ceil(),
                    "Abs" => number.abs(),
                    _ => return None,
                })
            };
            Content::Floats(all.iter().map(map).collect::<Option<_>>()?)
        }
        Content::Integers(all) => {
            let map = |number: &Expression| {
                Some(match op_type {
                    "Neg" => number.times(&(-1).into()),
                    "Not" => i64::from(number.known()? == 0).into(),
                    "Abs" => number.known()?.checked_abs()?.into(),
                    _ => return None,
                })
            };
            Content::Integers(all.iter().map(map).collect::<Option<_>>()?)
        }
    };
    Some(Fact { content: Some(content), ..fact.clone() })
}

fn product(inputs: &Inputs) -> Option<Fact> {
    let (fact, content) = inputs.content(0)?;
    let Content::Integers(all) = content else { return None };
    if fact.dims.len() != 1 || inputs.axes(1).is_some_and(|axes| axes != [0]) {
        return None;
    }
    let dims = if inputs.node.int("keepdims", 1) != 0 { vec![1.into()] } else { Vec::new() };
    Some(Fact { content: Some(Content::Integers(vec![Expression::product(all)])), dims, element: fact.element })
}

impl Expression {
    /// Whether it is positive whatever the sizes are.
    fn is_positive(&self) -> bool {
        let sizes_only = self.symbols().all(|symbol| matches!(symbol, Symbol::Of(..)));
        sizes_only && self.lower_bound().is_some_and(|bound| bound > 0)
    }
}
