//! Operators that cut and join: Concat, Split, Slice, Trilu.

use crate::lower::arguments::{Integers, axis_of, number};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

struct Concat {
    axis: i64,
}

pub(crate) fn concat(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    // Required from operator set 4 on; 1 before.
    Ok(Box::new(Concat { axis: node.int("axis", 1) }))
}

impl Operator for Concat {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let parts = inputs.all();
        let rank = parts.first().map_or(0, |part| part.dim());
        Ok(vec![Tensor::f_cat(&parts, axis_of(self.axis, rank)?)?])
    }
}

struct Split {
    axis: i64,
    lengths: Integers,
    /// How many parts where no lengths are given.
    parts: i64,
}

pub(crate) fn split(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    // Lengths are an attribute until operator set 12, an input from 13 on; 18 added `num_outputs`.
    let lengths = Integers::attribute_or_input(node, context, "split", 1)?;
    let parts = node.int("num_outputs", node.outputs.len() as i64);
    if !(1..=1 << 16).contains(&parts) {
        return Err(Error::malformed(format!("`num_outputs` is {parts}, expected 1 to 65536")));
    }
    Ok(Box::new(Split { axis: node.int("axis", 0), lengths, parts }))
}

impl Operator for Split {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let lengths = self.lengths.read(inputs)?;
        let x = inputs.get(0)?;
        let axis = axis_of(self.axis, x.dim())?;
        let lengths = match lengths {
            Some(lengths) => lengths.into_owned(),
            None => {
                // Equal parts; the last one is smaller where it does not come out even.
                let total = x.size()[axis as usize];
                let length = (total + self.parts - 1) / self.parts;
                (0..self.parts).map(|part| length.min((total - part * length).max(0))).collect()
            }
        };
        Ok(x.f_split_with_sizes(&lengths[..], axis)?)
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}

struct Slice {
    starts: Integers,
    ends: Integers,
    axes: Integers,
    steps: Integers,
}

pub(crate) fn slice(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    // Attributes until operator set 9, inputs (and steps) from 10 on.
    let argument = |name, position| Integers::attribute_or_input(node, context, name, position);
    let (starts, ends) = (argument("starts", 1)?, argument("ends", 2)?);
    Ok(Box::new(Slice { starts, ends, axes: argument("axes", 3)?, steps: argument("steps", 4)? }))
}

impl Operator for Slice {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (starts, ends) = (self.starts.require(inputs, "starts")?, self.ends.require(inputs, "ends")?);
        let (axes, steps) = (self.axes.read(inputs)?, self.steps.read(inputs)?);
        let mut result = inputs.get(0)?.shallow_clone();
        for index in 0..starts.len() {
            let at = |list: &[i64], name: &str| {
                let message =
                    || Error::mismatch(format!("`starts` has {} entries, `{name}` has {}", starts.len(), list.len()));
                list.get(index).copied().ok_or_else(message)
            };
            let axis = axes.as_deref().map_or(Ok(index as i64), |axes| at(axes, "axes"))?;
            let step = steps.as_deref().map_or(Ok(1), |steps| at(steps, "steps"))?;
            let axis = axis_of(axis, result.dim())?;
            result = cut(&result, axis, starts[index], at(&ends, "ends")?, step)?;
        }
        Ok(vec![result])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1, 2, 3, 4]
    }
}

fn cut(x: &Tensor, axis: i64, start: i64, end: i64, step: i64) -> Result<Tensor> {
    let length = x.size()[axis as usize];
    let from_front = |bound: i64| if bound < 0 { bound.saturating_add(length) } else { bound };
    match step {
        0 => Err(Error::malformed("`steps` has a 0")),
        1.. => {
            let (start, end) = (from_front(start).clamp(0, length), from_front(end).clamp(0, length));
            if (start, end, step) == (0, length, 1) {
                return Ok(x.shallow_clone());
            }
            Ok(x.f_slice(axis, start, end.max(start), step)?)
        }
        _ => {
            // Backwards: index i is index length - 1 - i of the flipped tensor.
            if length == 0 {
                return Ok(x.shallow_clone());
            }
            let (start, end) = (from_front(start).clamp(0, length - 1), from_front(end).clamp(-1, length - 1));
            let (start, end) = (length - 1 - start, length - 1 - end);
            Ok(x.f_flip([axis])?.f_slice(axis, start, end.max(start), step.saturating_neg())?)
        }
    }
}

struct Trilu {
    upper: bool,
}

pub(crate) fn trilu(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Trilu { upper: node.int("upper", 1) != 0 }))
}

impl Operator for Trilu {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let diagonal = inputs.optional(1).map_or(Ok(0.0), number)? as i64;
        let x = inputs.get(0)?;
        let [.., rows, columns] = x.size()[..] else {
            return Err(Error::mismatch(format!("input is {:?}, expected matrices", x.size())));
        };
        // Further out nothing changes, except for libtorch's arithmetic.
        let diagonal = diagonal.clamp(-rows - 1, columns + 1);
        Ok(vec![if self.upper { x.f_triu(diagonal)? } else { x.f_tril(diagonal)? }])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}
