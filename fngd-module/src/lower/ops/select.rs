//! Operators that pick elements by their values: NonZero, Compress, Unique, ReverseSequence.

use crate::lower::arguments::axis_of;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// The positions of elements other than 0, one row per dimension.
struct NonZero;

pub(crate) fn non_zero(_: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(NonZero))
}

impl Operator for NonZero {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.get(0)?.f_nonzero()?.f_transpose(0, 1)?])
    }
}

/// The elements, or slices along `axis`, for which a condition holds.
struct Compress {
    axis: Option<i64>,
}

pub(crate) fn compress(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Compress { axis: optional_axis(node) }))
}

impl Operator for Compress {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, condition) = (inputs.get(0)?, inputs.get(1)?);
        let (x, axis) = match self.axis {
            Some(axis) => (x.shallow_clone(), axis_of(axis, x.dim())?),
            None => (x.f_reshape([-1])?, 0),
        };
        let length = x.size()[axis as usize];
        if condition.dim() != 1 {
            return Err(Error::mismatch(format!("`condition` is {:?}, expected one dimension", condition.size())));
        }
        // It may be shorter than the axis; what it does not reach is left out.
        let picked = condition.f_slice(0, 0, length, 1)?.f_nonzero()?.f_reshape([-1])?;
        Ok(vec![x.f_index_select(axis, &picked)?])
    }
}

/// Every element, or slice along `axis`, once; where each was first; which one each was; how often.
struct Unique {
    axis: Option<i64>,
    /// In ascending order, not in the order of their first appearance.
    sorted: bool,
}

pub(crate) fn unique(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Unique { axis: optional_axis(node), sorted: node.int("sorted", 1) != 0 }))
}

impl Operator for Unique {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let (x, axis) = match self.axis {
            Some(axis) => (x.shallow_clone(), axis_of(axis, x.dim())?),
            None => (x.f_reshape([-1])?, 0),
        };
        let (values, inverse, counts) = x.f_detach()?.f_unique_dim(axis, true, true, true)?;
        // In the order of `inverse`, equal ones stand together, the first of them in front.
        let (_, by_value) = inverse.f_sort_stable(true, 0, false)?;
        let offsets = counts.f_cumsum(0, Kind::Int64)?.f_sub(&counts)?;
        let first = by_value.f_index_select(0, &offsets)?;
        // Picked from the input: libtorch's function has no gradient.
        let pick = |first: &Tensor| if first.numel() > 0 { x.f_index_select(axis, first) } else { Ok(values) };
        if self.sorted {
            return Ok(vec![pick(&first)?, first, inverse, counts]);
        }
        let order = first.f_argsort(0, false)?;
        let range = Tensor::f_arange(order.numel() as i64, (Kind::Int64, x.device()))?;
        let places = order.f_zeros_like()?.f_scatter(0, &order, &range)?;
        let first = first.f_index_select(0, &order)?;
        let counts = counts.f_index_select(0, &order)?;
        Ok(vec![pick(&first)?, first, places.f_index_select(0, &inverse)?, counts])
    }
}

/// The first elements along `time_axis` in reverse, as many as each sample of `batch_axis` says.
struct ReverseSequence {
    time_axis: i64,
    batch_axis: i64,
}

pub(crate) fn reverse_sequence(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(ReverseSequence { time_axis: node.int("time_axis", 0), batch_axis: node.int("batch_axis", 1) }))
}

impl Operator for ReverseSequence {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, lengths) = (inputs.get(0)?, inputs.get(1)?);
        let size = x.size();
        let (time, batch) = (axis_of(self.time_axis, size.len())?, axis_of(self.batch_axis, size.len())?);
        if time == batch {
            return Err(Error::malformed(format!("`time_axis` and `batch_axis` are both {time}")));
        }
        if lengths.size() != [size[batch as usize]] {
            let message = format!("`sequence_lens` is {:?}, the input {size:?} along axis {batch}", lengths.size());
            return Err(Error::mismatch(message));
        }
        let along = |tensor: &Tensor, axis: i64| {
            let mut shape = vec![1; size.len()];
            shape[axis as usize] = size[axis as usize];
            tensor.f_reshape(&shape[..])
        };
        let steps = along(&Tensor::f_arange(size[time as usize], (Kind::Int64, x.device()))?, time)?;
        let lengths = along(&lengths.f_to_kind(Kind::Int64)?, batch)?;
        let reversed = lengths.f_sub(&steps)?.f_sub_scalar(1)?;
        let positions = reversed.f_where_self(&steps.f_lt_tensor(&lengths)?, &steps)?;
        Ok(vec![x.f_gather(time, &positions.f_expand(&size[..], false)?, false)?])
    }
}

fn optional_axis(node: &Node) -> Option<i64> {
    node.attributes.contains_key("axis").then(|| node.int("axis", 0))
}
