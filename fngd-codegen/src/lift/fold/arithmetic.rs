//! Arithmetic and comparisons of what is known.

use super::{Inputs, broadcast_to};
use crate::lift::elementwise::broadcast;
use crate::lift::facts::{Content, Fact};
use crate::lift::sizes::{Expression, Symbol};
use fngd_onnx::graph::ElementType;

/// Inputs `left` and `right`, each broadcast to the dimensions of both.
fn both(inputs: &Inputs, left: usize, right: usize) -> Option<(Vec<Expression>, Content, Content)> {
    let ((a, of_a), (b, of_b)) = (inputs.content(left)?, inputs.content(right)?);
    if a.dims == b.dims {
        return Some((a.dims.clone(), of_a.clone(), of_b.clone()));
    }
    let dims = broadcast(&a.dims, &b.dims);
    let (a, b) = (broadcast_to(a, &dims)?, broadcast_to(b, &dims)?);
    Some((dims, a.content?, b.content?))
}

/// Add, Sub, Mul, Div, Mod, Min, Max and Pow of two.
pub(super) fn arithmetic(inputs: &Inputs) -> Option<Fact> {
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
    Some(Fact::of(element, dims).with(content))
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

/// Comparisons and logic.
pub(super) fn comparison(inputs: &Inputs) -> Option<Fact> {
    let (dims, left, right) = both(inputs, 0, 1)?;
    let (a, b) = match (left, right) {
        (Content::Integers(a), Content::Integers(b)) => (a, b),
        (Content::Floats(a), Content::Floats(b)) => {
            let all = a
                .iter()
                .zip(&b)
                .map(|(a, b)| Some(i64::from(compared(&inputs.node.op_type, a.partial_cmp(b)?)?).into()));
            let fact = Fact::of(ElementType::Bool, dims);
            return Some(fact.with(Content::Integers(all.collect::<Option<_>>()?)));
        }
        _ => return None,
    };
    let compare = |(a, b): (&Expression, &Expression)| {
        let truth = match inputs.node.op_type.as_str() {
            "And" => a.known()? != 0 && b.known()? != 0,
            "Or" => a.known()? != 0 || b.known()? != 0,
            other => compared(other, order(a, b)?)?,
        };
        Some(i64::from(truth).into())
    };
    let all = a.iter().zip(&b).map(compare).collect::<Option<_>>()?;
    Some(Fact::of(ElementType::Bool, dims).with(Content::Integers(all)))
}

/// What a comparison says of two numbers in this order.
fn compared(op_type: &str, order: std::cmp::Ordering) -> Option<bool> {
    Some(match op_type {
        "Equal" => order.is_eq(),
        "Less" => order.is_lt(),
        "LessOrEqual" => order.is_le(),
        "Greater" => order.is_gt(),
        "GreaterOrEqual" => order.is_ge(),
        _ => return None,
    })
}

/// Where.
pub(super) fn select(inputs: &Inputs) -> Option<Fact> {
    let (dims, ..) = both(inputs, 1, 2)?;
    let dims = broadcast(&inputs.content(0)?.0.dims, &dims);
    let [condition, a, b] = [0, 1, 2].map(|position| broadcast_to(inputs.content(position)?.0, &dims));
    let (condition, a, b) = match (condition, a, b) {
        (Some(condition), Some(a), Some(b)) => (condition, a, b),
        // Sizes, of which there are few, in a list: nothing is broadcast.
        _ => {
            let [condition, a, b] = [0, 1, 2].map(|position| inputs.content(position).map(|(fact, _)| fact.clone()));
            let all = (condition?, a?, b?);
            [&all.0, &all.1, &all.2].iter().all(|fact| fact.dims == dims).then_some(all)?
        }
    };
    let (element, left, right) = (a.element, a.content?, b.content?);
    let condition: Vec<bool> =
        condition.as_integers()?.iter().map(|one| Some(one.known()? != 0)).collect::<Option<_>>()?;
    let content = match (left, right) {
        (Content::Integers(a), Content::Integers(b)) => Content::Integers(choose(&condition, a, b)),
        (Content::Floats(a), Content::Floats(b)) => Content::Floats(choose(&condition, a, b)),
        _ => return None,
    };
    Some(Fact::of(element, dims).with(content))
}

fn choose<T>(condition: &[bool], a: Vec<T>, b: Vec<T>) -> Vec<T> {
    condition.iter().zip(a.into_iter().zip(b)).map(|(first, (a, b))| if *first { a } else { b }).collect()
}

/// Functions of one number.
pub(super) fn unary(inputs: &Inputs) -> Option<Fact> {
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

/// ReduceProd of a list.
pub(super) fn product(inputs: &Inputs) -> Option<Fact> {
    let (fact, content) = inputs.content(0)?;
    let Content::Integers(all) = content else { return None };
    if fact.dims.len() != 1 || inputs.axes(1).is_some_and(|axes| axes != [0]) {
        return None;
    }
    let dims = if inputs.node.int("keepdims", 1) != 0 { vec![1.into()] } else { Vec::new() };
    Some(Fact::of(fact.element, dims).with(Content::Integers(vec![Expression::product(all)])))
}

impl Expression {
    /// Whether it is positive whatever the sizes are.
    fn is_positive(&self) -> bool {
        let sizes_only = self.symbols().all(|symbol| matches!(symbol, Symbol::Of(..)));
        sizes_only && self.lower_bound().is_some_and(|bound| bound > 0)
    }
}
