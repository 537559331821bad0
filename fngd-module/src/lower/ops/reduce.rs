//! ReduceMean, ReduceSum, ReduceMax, ReduceMin, ArgMax, CumSum, and the global poolings, which are reductions too.

use crate::lower::arguments::{Integers, axes_of, axis_of, number};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

#[derive(Clone, Copy)]
enum Reduction {
    Mean,
    Sum,
    Max,
    Min,
}

struct Reduce {
    reduction: Reduction,
    axes: Integers,
    keeps_axes: bool,
    /// Without axes: do nothing instead of reducing everything.
    empty_is_noop: bool,
}

pub(crate) fn reduce(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let reduction = match node.op_type.as_str() {
        "ReduceMean" => Reduction::Mean,
        "ReduceSum" => Reduction::Sum,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        other => return Err(Error::unsupported(format!("no reduction `{other}`"))),
    };
    Ok(Box::new(Reduce {
        reduction,
        // An attribute at first; an input from operator set 13 on for ReduceSum, from 18 on for the others.
        axes: Integers::attribute_or_input(node, context, "axes", 1)?,
        keeps_axes: node.int("keepdims", 1) != 0,
        empty_is_noop: node.int("noop_with_empty_axes", 0) != 0,
    }))
}

impl Operator for Reduce {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let axes = self.axes.read(inputs)?.unwrap_or_default().into_owned();
        let x = inputs.get(0)?;
        if axes.is_empty() && self.empty_is_noop {
            return Ok(vec![x.shallow_clone()]);
        }
        let axes = if axes.is_empty() { (0..x.dim() as i64).collect() } else { axes_of(&axes, x.dim())? };
        Ok(vec![apply(self.reduction, x, &axes, self.keeps_axes)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}

fn apply(reduction: Reduction, x: &Tensor, axes: &[i64], keeps_axes: bool) -> Result<Tensor> {
    let kind = x.kind();
    Ok(match reduction {
        Reduction::Mean if kind == Kind::Float => x.f_mean_dim(axes, keeps_axes, None::<Kind>)?,
        Reduction::Mean => x.f_mean_dim(axes, keeps_axes, Kind::Double)?.f_to_kind(kind)?,
        Reduction::Sum => x.f_sum_dim_intlist(axes, keeps_axes, kind)?,
        Reduction::Max => x.f_amax(axes, keeps_axes)?,
        Reduction::Min => x.f_amin(axes, keeps_axes)?,
    })
}

struct GlobalPool(Reduction);

pub(crate) fn global_pool(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(GlobalPool(if node.op_type == "GlobalMaxPool" { Reduction::Max } else { Reduction::Mean })))
}

impl Operator for GlobalPool {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let axes: Vec<i64> = (2..x.dim() as i64).collect();
        if axes.is_empty() {
            return Err(Error::mismatch(format!("input is {:?}, expected at least 3 dimensions", x.size())));
        }
        Ok(vec![apply(self.0, x, &axes, true)?])
    }
}

struct ArgMax {
    axis: i64,
    keeps_axis: bool,
    last: bool,
}

pub(crate) fn arg_max(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let (keeps_axis, last) = (node.int("keepdims", 1) != 0, node.int("select_last_index", 0) != 0);
    Ok(Box::new(ArgMax { axis: node.int("axis", 0), keeps_axis, last }))
}

impl Operator for ArgMax {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let axis = axis_of(self.axis, x.dim())?;
        if !self.last {
            return Ok(vec![x.f_argmax(axis, self.keeps_axis)?]);
        }
        let from_the_end = x.f_flip([axis])?.f_argmax(axis, self.keeps_axis)?;
        let last = x.size()[axis as usize] - 1;
        Ok(vec![from_the_end.f_neg()?.f_add_scalar(last)?])
    }
}

struct CumSum {
    exclusive: bool,
    reverse: bool,
}

pub(crate) fn cum_sum(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(CumSum { exclusive: node.int("exclusive", 0) != 0, reverse: node.int("reverse", 0) != 0 }))
}

impl Operator for CumSum {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let axis = axis_of(number(inputs.get(1)?)? as i64, x.dim())?;
        let directed = if self.reverse { x.f_flip([axis])? } else { x.shallow_clone() };
        let mut sum = directed.f_cumsum(axis, x.kind())?;
        if self.exclusive {
            sum = sum.f_sub(&directed)?;
        }
        Ok(vec![if self.reverse { sum.f_flip([axis])? } else { sum }])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}
