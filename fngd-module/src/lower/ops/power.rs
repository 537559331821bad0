//! Pow.

use crate::Result;
use crate::lower::arguments::number;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::lower::tensors::is_float;
use fngd_onnx::graph::Node;
use tch::Tensor;

/// `base ^ exponent`, in the element type of the base.
struct Pow {
    exponent: Option<f64>,
}

pub(crate) fn pow(_: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let exponent = context.constant(1).filter(|tensor| tensor.numel() == 1).map(number).transpose()?;
    Ok(Box::new(Pow { exponent }))
}

impl Operator for Pow {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (base, exponent) = (inputs.get(0)?, inputs.get(1)?);
        // A known exponent has a cheaper backward, and one of 2 is a multiplication.
        if let (Some(value), true, true) = (self.exponent, is_float(base.kind()), exponent.dim() <= base.dim()) {
            return Ok(vec![base.f_pow_tensor_scalar(value)?]);
        }
        Ok(vec![base.f_pow(exponent)?.f_to_kind(base.kind())?])
    }
}
