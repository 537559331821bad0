//! Swish and SwiGLU.

use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// `x · sigmoid(alpha · x)`, times a second input if there is one.
struct Swish {
    alpha: f64,
}

pub(crate) fn swish(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Swish { alpha: f64::from(node.float("alpha", 1.0)) }))
}

impl Operator for Swish {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let gate = if self.alpha == 1.0 { x.f_silu()? } else { x.f_mul(&x.f_mul_scalar(self.alpha)?.f_sigmoid()?)? };
        let Some(linear) = inputs.optional(1) else { return Ok(vec![gate]) };
        if linear.size() != x.size() {
            return Err(Error::mismatch(format!("the gate is {:?}, the value is {:?}", x.size(), linear.size())));
        }
        Ok(vec![gate.f_mul(linear)?])
    }
}
