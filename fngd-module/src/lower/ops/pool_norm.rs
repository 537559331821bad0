//! LpPool.

use super::global_pool::norm_order;
use super::pool::{dilated_mean, window};
use super::window::{Window, pad, spatial_sizes};
use crate::Result;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// The root of order `p` of the sum of powers of order `p` over each window; padding adds nothing.
struct LpPool {
    window: Window,
    p: f64,
}

pub(crate) fn lp_pool(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(LpPool { window: window(node)?, p: norm_order(node)? }))
}

impl Operator for LpPool {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, window) = (inputs.get(0)?, &self.window);
        let (before, after) = window.exact_pads(&spatial_sizes(x, window.kernel.len())?);
        let powers = pad(&x.f_abs()?.f_pow_tensor_scalar(self.p)?, &before, &after, 0.0)?;
        let elements = window.kernel.iter().product::<i64>() as f64;
        let sum = dilated_mean(window, &powers)?.f_mul_scalar(elements)?;
        // The root of 0 has an infinite slope: what is 0 takes part in no gradient.
        let empty = sum.f_eq(0)?;
        Ok(vec![sum.f_masked_fill(&empty, 1.0)?.f_pow_tensor_scalar(1.0 / self.p)?.f_masked_fill(&empty, 0.0)?])
    }
}
