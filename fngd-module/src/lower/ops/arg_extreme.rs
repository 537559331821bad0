//! ArgMax and ArgMin.

use crate::lower::arguments::axis_of;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// The position of the largest or smallest element along an axis; the first, or the last, of equal ones.
struct ArgExtreme {
    is_max: bool,
    axis: i64,
    keeps_axis: bool,
    last: bool,
}

pub(crate) fn arg_extreme(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(ArgExtreme {
        is_max: node.op_type == "ArgMax",
        axis: node.int("axis", 0),
        keeps_axis: node.int("keepdims", 1) != 0,
        last: node.int("select_last_index", 0) != 0,
    }))
}

impl Operator for ArgExtreme {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let axis = axis_of(self.axis, x.dim())?;
        if x.size()[axis as usize] == 0 {
            return Err(Error::mismatch(format!("axis {axis} of {:?} is empty", x.size())));
        }
        let first = |x: &Tensor| {
            if self.is_max { x.f_argmax(axis, self.keeps_axis) } else { x.f_argmin(axis, self.keeps_axis) }
        };
        if !self.last {
            return Ok(vec![first(x)?]);
        }
        let last = x.size()[axis as usize] - 1;
        Ok(vec![first(&x.f_flip([axis])?)?.f_neg()?.f_add_scalar(last)?])
    }
}
