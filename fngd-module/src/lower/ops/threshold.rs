//! Functions that are 0 around or below a threshold: ThresholdedRelu and Shrink.

use crate::Result;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// `x` above `alpha`, 0 elsewhere.
struct ThresholdedRelu {
    alpha: f64,
}

pub(crate) fn thresholded_relu(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(ThresholdedRelu { alpha: f64::from(node.float("alpha", 1.0)) }))
}

impl Operator for ThresholdedRelu {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.get(0)?.f_threshold(self.alpha, 0.0)?])
    }
}

/// `x - bias` above `threshold`, `x + bias` below its negative, 0 in between.
struct Shrink {
    bias: f64,
    threshold: f64,
}

pub(crate) fn shrink(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let (bias, threshold) = (f64::from(node.float("bias", 0.0)), f64::from(node.float("lambd", 0.5)));
    Ok(Box::new(Shrink { bias, threshold }))
}

impl Operator for Shrink {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let (above, below) = (x.f_gt(self.threshold)?, x.f_lt(-self.threshold)?);
        let kind = x.kind();
        let moved = |by: f64| -> Result<Tensor> { Ok(x.f_add_scalar(by)?.f_to_kind(kind)?) };
        let lower = moved(self.bias)?.f_where_self(&below, &x.f_zeros_like()?)?;
        Ok(vec![moved(-self.bias)?.f_where_self(&above, &lower)?])
    }
}
