//! Reductions over axes: ReduceSum, ReduceMean, ReduceMax, ReduceL2 and the rest of them.

use crate::lower::arguments::{Integers, axes_of};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::lower::tensors::is_float;
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Scalar, TchError, Tensor};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reduction {
    Mean,
    Sum,
    Max,
    Min,
    Product,
    /// Sum of absolute values.
    L1,
    /// Root of the sum of squares.
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
}

struct Reduce {
    reduction: Reduction,
    axes: Integers,
    keeps_axes: bool,
    /// Without axes: reduce over none of them instead of over all.
    empty_is_none: bool,
}

pub(crate) fn reduce(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let reduction = match node.op_type.as_str() {
        "ReduceMean" => Reduction::Mean,
        "ReduceSum" => Reduction::Sum,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Product,
        "ReduceL1" => Reduction::L1,
        "ReduceL2" => Reduction::L2,
        "ReduceSumSquare" => Reduction::SumSquare,
        "ReduceLogSum" => Reduction::LogSum,
        "ReduceLogSumExp" => Reduction::LogSumExp,
        other => return Err(Error::unsupported(format!("no reduction `{other}`"))),
    };
    Ok(Box::new(Reduce {
        reduction,
        // An attribute at first; an input from operator set 13 on for ReduceSum, from 18 on for the others.
        axes: Integers::attribute_or_input(node, context, "axes", 1)?,
        keeps_axes: node.int("keepdims", 1) != 0,
        empty_is_none: node.int("noop_with_empty_axes", 0) != 0,
    }))
}

impl Operator for Reduce {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let axes = self.axes.read(inputs)?.unwrap_or_default().into_owned();
        let x = inputs.get(0)?;
        if axes.is_empty() && self.empty_is_none {
            // What remains is the function of each element: the square of ReduceSumSquare, for example.
            let alone = apply(self.reduction, &x.f_unsqueeze(-1)?, &[x.dim() as i64], false)?;
            return Ok(vec![alone]);
        }
        let axes = if axes.is_empty() { (0..x.dim() as i64).collect() } else { axes_of(&axes, x.dim())? };
        Ok(vec![apply(self.reduction, x, &axes, self.keeps_axes)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}

/// Reduces `x` over `axes`, counted from the front. The result has the element type of `x`.
pub(super) fn apply(reduction: Reduction, x: &Tensor, axes: &[i64], keeps_axes: bool) -> Result<Tensor> {
    let kind = x.kind();
    let sum = |x: &Tensor| x.f_sum_dim_intlist(axes, keeps_axes, x.kind());
    Ok(match reduction {
        Reduction::Mean => in_float(x, |x| x.f_mean_dim(axes, keeps_axes, None::<Kind>))?,
        Reduction::Sum => sum(x)?,
        Reduction::Max | Reduction::Min => extreme(reduction, x, axes, keeps_axes)?,
        Reduction::Product => product(x, axes, keeps_axes)?.f_to_kind(kind)?,
        Reduction::L1 => sum(&x.f_abs()?)?,
        // The norm's gradient at 0 is 0, that of a square root is infinite.
        Reduction::L2 => in_float(x, |x| x.f_norm_scalaropt_dim(2, axes, keeps_axes))?,
        Reduction::SumSquare => sum(&x.f_mul(x)?)?,
        Reduction::LogSum => in_float(x, |x| x.f_sum_dim_intlist(axes, keeps_axes, None::<Kind>)?.f_log())?,
        Reduction::LogSumExp => in_float(x, |x| x.f_logsumexp(axes, keeps_axes))?,
    })
}

/// Integers have no means, roots and logarithms: they go through float64.
fn in_float(x: &Tensor, function: impl Fn(&Tensor) -> std::result::Result<Tensor, TchError>) -> Result<Tensor> {
    match x.kind() {
        kind if is_float(kind) => Ok(function(x)?),
        kind => Ok(function(&x.f_to_kind(Kind::Double)?)?.f_to_kind(kind)?),
    }
}

/// The largest or the smallest element; of none, the one that loses against every other.
fn extreme(reduction: Reduction, x: &Tensor, axes: &[i64], keeps_axes: bool) -> Result<Tensor> {
    let is_max = reduction == Reduction::Max;
    if x.numel() > 0 {
        return Ok(if is_max { x.f_amax(axes, keeps_axes)? } else { x.f_amin(axes, keeps_axes)? });
    }
    let (lowest, highest) = match x.kind() {
        Kind::Bool => (0, 1),
        Kind::Uint8 => (0, i64::from(u8::MAX)),
        Kind::Int8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        Kind::Int16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        Kind::Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    let loser = match x.kind() {
        kind if is_float(kind) => Scalar::float(if is_max { f64::NEG_INFINITY } else { f64::INFINITY }),
        _ => Scalar::int(if is_max { lowest } else { highest }),
    };
    // The sum has the right size, whatever it is made of.
    let like = x.f_sum_dim_intlist(axes, keeps_axes, x.kind())?;
    Ok(like.f_full_like(loser)?)
}

/// libtorch multiplies along one axis at a time.
fn product(x: &Tensor, axes: &[i64], keeps_axes: bool) -> Result<Tensor> {
    let mut result = x.shallow_clone();
    let mut axes = axes.to_vec();
    axes.sort_unstable();
    for &axis in axes.iter().rev() {
        result = result.f_prod_dim_int(axis, keeps_axes, x.kind())?;
    }
    Ok(result)
}
