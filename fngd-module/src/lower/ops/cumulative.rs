//! CumSum and CumProd.

use crate::Result;
use crate::lower::arguments::{axis_of, number};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// The sum or product of all elements up to each one.
struct Cumulative {
    multiplies: bool,
    /// The element itself does not count.
    exclusive: bool,
    reverse: bool,
}

pub(crate) fn cumulative(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Cumulative {
        multiplies: node.op_type == "CumProd",
        exclusive: node.int("exclusive", 0) != 0,
        reverse: node.int("reverse", 0) != 0,
    }))
}

impl Operator for Cumulative {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let axis = axis_of(number(inputs.get(1)?)? as i64, x.dim())?;
        let mut terms = if self.reverse { x.f_flip([axis])? } else { x.shallow_clone() };
        let length = x.size()[axis as usize];
        if self.exclusive && length > 0 {
            let neutral = terms.f_slice(axis, 0, 1, 1)?.f_full_like(i64::from(self.multiplies))?;
            terms = Tensor::f_cat(&[&neutral, &terms.f_slice(axis, 0, length - 1, 1)?], axis)?;
        }
        let kind = x.kind();
        let result = if self.multiplies { terms.f_cumprod(axis, kind)? } else { terms.f_cumsum(axis, kind)? };
        Ok(vec![if self.reverse { result.f_flip([axis])? } else { result }])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}
