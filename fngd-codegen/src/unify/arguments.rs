//! Numbers of alike things, place by place: what is the same everywhere is written down, the rest becomes arguments.

use crate::name::Names;
use crate::parts::{Group, Role};

/// A number, or what stands in its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Integer(i64),
    Float(f64),
    Bool(bool),
    Many(Vec<Value>),
}

/// A place for a number, and what each of the alike things has there; `None` where it lacks that part.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot {
    pub role: Role,
    pub values: Vec<Option<Value>>,
}

/// What is written at a place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expression {
    Literal(Value),
    /// An argument, by index.
    Argument(usize),
    /// `4 * argument`.
    Times(i64, usize),
    /// `argument / 2`.
    Over(usize, i64),
    /// `(left - right) / 2`.
    HalfDifference(usize, usize),
    /// `left != right || …`.
    Unequal(Vec<(Expression, Expression)>),
}

/// An argument of a function of the generated file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewArgument {
    pub name: String,
    pub role: Role,
    pub values: Vec<Option<Value>>,
}

impl NewArgument {
    /// Its type: `i64`.
    pub(crate) fn rust_type(&self) -> &'static str {
        match self.values.iter().flatten().next() {
            Some(Value::Float(_)) => "f64",
            Some(Value::Bool(_)) => "bool",
            Some(Value::Many(values)) => match values.first() {
                Some(Value::Float(_)) => "&[f64]",
                Some(Value::Bool(_)) => "&[bool]",
                _ => "&[i64]",
            },
            _ => "i64",
        }
    }
}

/// Arguments, and an expression per slot. `related` lists, per slot that says whether something is there, the slots of that thing.
pub(crate) fn decide(slots: &[Slot], related: &[(usize, Vec<usize>)]) -> (Vec<NewArgument>, Vec<Expression>) {
    let mut names = Names::of_values();
    let mut arguments: Vec<NewArgument> = Vec::new();
    let mut expressions = vec![Expression::Literal(Value::Integer(0)); slots.len()];
    let is_presence = |slot: &Slot| slot.role.group == Group::Presence;
    for (index, slot) in slots.iter().enumerate().filter(|(_, slot)| !is_presence(slot)) {
        expressions[index] =
            constant(slot).or_else(|| known(slot, &arguments)).unwrap_or_else(|| add(slot, &mut names, &mut arguments));
    }
    for (index, slot) in slots.iter().enumerate().filter(|(_, slot)| is_presence(slot)) {
        let of_it = related.iter().find(|(presence, _)| *presence == index).map(|(_, slots)| slots.as_slice());
        let sizes: Vec<&Expression> = of_it.unwrap_or_default().iter().map(|slot| &expressions[*slot]).collect();
        expressions[index] = constant(slot)
            .or_else(|| condition(slot, &arguments, &sizes))
            .unwrap_or_else(|| add(slot, &mut names, &mut arguments));
    }
    widths_first(arguments, expressions)
}

/// Channels come before steps: `new(vs, c_in, c_out, stride)`.
fn widths_first(arguments: Vec<NewArgument>, mut expressions: Vec<Expression>) -> (Vec<NewArgument>, Vec<Expression>) {
    let mut order: Vec<usize> = (0..arguments.len()).collect();
    order.sort_by_key(|index| arguments[*index].role.group != Group::Width);
    let moved = |index: &mut usize| *index = order.iter().position(|old| old == index).unwrap_or(*index);
    expressions.iter_mut().for_each(|expression| expression.visit_arguments(&moved));
    (order.iter().map(|index| arguments[*index].clone()).collect(), expressions)
}

impl Expression {
    fn visit_arguments(&mut self, see: &dyn Fn(&mut usize)) {
        match self {
            Self::Literal(_) => (),
            Self::Argument(index) | Self::Times(_, index) | Self::Over(index, _) => see(index),
            Self::HalfDifference(left, right) => {
                see(left);
                see(right);
            }
            Self::Unequal(pairs) => pairs.iter_mut().for_each(|(left, right)| {
                left.visit_arguments(see);
                right.visit_arguments(see);
            }),
        }
    }
}

fn constant(slot: &Slot) -> Option<Expression> {
    let mut defined = slot.values.iter().flatten();
    let first = defined.next().cloned().unwrap_or(Value::Integer(0));
    defined.all(|value| *value == first).then_some(Expression::Literal(first))
}

fn add(slot: &Slot, names: &mut Names, arguments: &mut Vec<NewArgument>) -> Expression {
    arguments.push(NewArgument { name: names.take(slot.role.name), role: slot.role, values: slot.values.clone() });
    Expression::Argument(arguments.len() - 1)
}

/// The slot in terms of arguments that are there already.
fn known(slot: &Slot, arguments: &[NewArgument]) -> Option<Expression> {
    let fits = |wanted: Group| arguments.iter().enumerate().filter(move |(_, argument)| argument.role.group == wanted);
    let mut candidates: Vec<(usize, &NewArgument)> = fits(slot.role.group).collect();
    if slot.role.group == Group::Groups {
        candidates.extend(fits(Group::Width));
    }
    let agrees = |expression: &Expression| {
        slot.values
            .iter()
            .enumerate()
            .all(|(at, value)| value.is_none() || evaluate(expression, arguments, at) == *value)
    };
    let plain = candidates.iter().map(|(index, _)| Expression::Argument(*index)).find(|expression| agrees(expression));
    if plain.is_none() && slot.role.name == "padding" {
        // What keeps the size.
        let kernels = candidates.iter().filter(|(_, argument)| argument.role.name == "kernel");
        return kernels.map(|(index, _)| Expression::Over(*index, 2)).find(agrees);
    }
    if plain.is_some() || !matches!(slot.role.group, Group::Width | Group::Groups) {
        return plain;
    }
    let pairs = || candidates.iter().flat_map(|left| candidates.iter().map(move |right| (left.0, right.0)));
    let differences =
        pairs().map(|(left, right)| Expression::HalfDifference(left, right)).filter(|_| slot.role.name == "pad");
    // Twice as many channels out as in is a choice, four times is an expansion.
    let says_something =
        |factor: i64, index: usize| factor > 2 || !matches!(arguments[index].role.name, "c_in" | "in_features");
    let factors = || (2..=8).flat_map(|factor| candidates.iter().map(move |(index, _)| (factor, *index)));
    let factors = || factors().filter(|(factor, index)| slot.role.name == "pad" || says_something(*factor, *index));
    let times = factors().map(|(factor, index)| Expression::Times(factor, index));
    let over = factors().map(|(factor, index)| Expression::Over(index, factor));
    differences.chain(times).chain(over).find(agrees)
}

/// When the thing is there, in terms of steps and widths.
fn condition(slot: &Slot, arguments: &[NewArgument], sizes: &[&Expression]) -> Option<Expression> {
    let is = |expression: &Expression, group: Group| match expression {
        Expression::Argument(index) | Expression::Times(_, index) => arguments[*index].role.group == group,
        _ => false,
    };
    let all = || (0..arguments.len()).map(Expression::Argument);
    let step =
        all().find(|argument| is(argument, Group::Stride)).map(|step| (step, Expression::Literal(Value::Integer(1))));
    let mut widths: Vec<Expression> =
        sizes.iter().filter(|size| is(size, Group::Width)).map(|size| (*size).clone()).collect();
    widths.extend(all().filter(|argument| is(argument, Group::Width)));
    widths.dedup();
    let pairs = (0..widths.len()).flat_map(|left| (left + 1..widths.len()).map(move |right| (left, right)));
    let pairs: Vec<_> = pairs.map(|(left, right)| (widths[left].clone(), widths[right].clone())).collect();
    let both = pairs.iter().filter_map(|pair| Some(vec![step.clone()?, pair.clone()]));
    let candidates =
        both.chain(pairs.iter().map(|pair| vec![pair.clone()])).chain(step.iter().map(|step| vec![step.clone()]));
    candidates.map(Expression::Unequal).find(|expression| {
        let agrees = |(at, value): (usize, &Option<Value>)| evaluate(expression, arguments, at) == *value;
        slot.values.iter().enumerate().all(agrees)
    })
}

/// What an expression gives for the thing number `at`.
pub(crate) fn evaluate(expression: &Expression, arguments: &[NewArgument], at: usize) -> Option<Value> {
    let value = |index: usize| arguments[index].values.get(at).cloned().flatten();
    let integer = |index: usize| if let Some(Value::Integer(number)) = value(index) { Some(number) } else { None };
    Some(match expression {
        Expression::Literal(literal) => literal.clone(),
        Expression::Argument(index) => value(*index)?,
        Expression::Times(factor, index) => Value::Integer(integer(*index)?.checked_mul(*factor)?),
        Expression::Over(index, factor) => {
            let number = integer(*index)?;
            // Half of an odd kernel is what is on one side of its middle.
            let is_whole = number % factor == 0 || arguments[*index].role.name == "kernel";
            Value::Integer(is_whole.then_some(number / factor)?)
        }
        Expression::HalfDifference(left, right) => {
            let difference = integer(*left)?.checked_sub(integer(*right)?)?;
            Value::Integer((difference % 2 == 0).then_some(difference / 2)?)
        }
        Expression::Unequal(pairs) => {
            let mut any = false;
            for (left, right) in pairs {
                any |= evaluate(left, arguments, at)? != evaluate(right, arguments, at)?;
            }
            Value::Bool(any)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &'static str, group: Group, values: &[i64]) -> Slot {
        // A negative number stands for a part that is not there.
        let values = values.iter().map(|value| (*value >= 0).then_some(Value::Integer(*value))).collect();
        Slot { role: Role { name, group }, values }
    }

    fn names(arguments: &[NewArgument]) -> Vec<&str> {
        arguments.iter().map(|argument| argument.name.as_str()).collect()
    }

    #[test]
    fn a_bottleneck_has_three_arguments_and_a_condition() {
        let there = [true, false, true, false].map(|there| Some(Value::Bool(there))).to_vec();
        let slots = [
            slot("c_in", Group::Width, &[64, 256, 256, 512]),
            slot("c_out", Group::Width, &[64, 64, 128, 128]),
            slot("kernel", Group::Window, &[1, 1, 1, 1]),
            slot("stride", Group::Stride, &[1, 1, 2, 1]),
            slot("c_out", Group::Width, &[256, 256, 512, 512]),
            Slot { role: Role { name: "downsample", group: Group::Presence }, values: there },
            slot("c_in", Group::Width, &[64, -1, 256, -1]),
            slot("c_out", Group::Width, &[256, -1, 512, -1]),
        ];
        let (arguments, expressions) = decide(&slots, &[(5, vec![6, 7])]);
        use Expression::*;
        assert_eq!(names(&arguments), ["c_in", "c_out", "stride"]);
        let one = Literal(Value::Integer(1));
        let condition = Unequal(vec![(Argument(2), one.clone()), (Argument(0), Times(4, 1))]);
        assert_eq!(
            expressions,
            [Argument(0), Argument(1), one, Argument(2), Times(4, 1), condition, Argument(0), Times(4, 1)]
        );
    }

    #[test]
    fn a_condition_that_no_number_explains_is_an_argument() {
        let there = [true, false].map(|there| Some(Value::Bool(there))).to_vec();
        let (arguments, expressions) =
            decide(&[Slot { role: Role { name: "norm", group: Group::Presence }, values: there }], &[]);
        assert_eq!((names(&arguments), arguments[0].rust_type()), (vec!["norm"], "bool"));
        assert_eq!(expressions, [Expression::Argument(0)]);
    }

    #[test]
    fn steps_and_widths_are_not_mixed_up() {
        let slots = [slot("stride", Group::Stride, &[1, 2]), slot("c_in", Group::Width, &[1, 2])];
        assert_eq!(names(&decide(&slots, &[]).0), ["c_in", "stride"]);
    }

    #[test]
    fn padding_with_channels_is_half_of_what_is_new() {
        let slots = [
            slot("c_in", Group::Width, &[16, 32]),
            slot("c_out", Group::Width, &[32, 64]),
            slot("pad", Group::Width, &[8, 16]),
        ];
        let (arguments, expressions) = decide(&slots, &[]);
        assert_eq!(names(&arguments), ["c_in", "c_out"]);
        assert_eq!(expressions[2], Expression::HalfDifference(1, 0));
        let slots = [
            slot("c_in", Group::Width, &[16, 16, 32]),
            slot("c_out", Group::Width, &[16, 32, 64]),
            slot("pad", Group::Width, &[-1, 8, 16]),
        ];
        assert_eq!(decide(&slots, &[]).1[2], Expression::HalfDifference(1, 0));
    }
}
