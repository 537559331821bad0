//! Softmax, LogSoftmax and Hardmax.

use crate::lower::arguments::{axis_of, product};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

#[derive(Clone, Copy)]
enum Function {
    Softmax,
    LogSoftmax,
    /// 1 at the first of the largest elements, 0 elsewhere.
    Hardmax,
}

struct Softmax {
    function: Function,
    axis: i64,
    /// Before operator set 13 everything from `axis` on is one dimension.
    flattens: bool,
    /// NaN, the result for a row of -∞, is replaced later: no gradient may come back through it.
    is_guarded: bool,
}

pub(crate) fn softmax(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let function = match node.op_type.as_str() {
        "Softmax" => Function::Softmax,
        "LogSoftmax" => Function::LogSoftmax,
        "Hardmax" => Function::Hardmax,
        other => return Err(Error::unsupported(format!("no function `{other}` along an axis"))),
    };
    let flattens = node.opset < 13;
    let axis = node.int("axis", if flattens { 1 } else { -1 });
    Ok(Box::new(Softmax { function, axis, flattens, is_guarded: context.is_guarded() }))
}

impl Softmax {
    fn apply(&self, x: &Tensor, axis: i64) -> Result<Tensor> {
        Ok(match self.function {
            Function::Softmax if self.is_guarded => guarded_softmax(x, axis)?,
            Function::Softmax => x.f_softmax(axis, None::<Kind>)?,
            Function::LogSoftmax => x.f_log_softmax(axis, None::<Kind>)?,
            Function::Hardmax => x.f_zeros_like()?.f_scatter_value(axis, &x.f_argmax(axis, true)?, 1.0)?,
        })
    }
}

impl Operator for Softmax {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let rank = x.dim();
        // An axis equal to the rank was allowed when it was where to flatten.
        let axis = if self.flattens && self.axis == rank as i64 { self.axis } else { axis_of(self.axis, rank)? };
        if !self.flattens || axis + 1 == rank as i64 {
            return Ok(vec![self.apply(x, axis)?]);
        }
        let size = x.size();
        let rows = product(&size[..axis as usize]);
        let matrix = x.f_reshape([rows, product(&size[axis as usize..])])?;
        Ok(vec![self.apply(&matrix, 1)?.f_reshape(&size[..])?])
    }
}

/// Softmax whose gradient is zero, not NaN, where the row is -∞ throughout. There the result is NaN, as the specification has it.
fn guarded_softmax(x: &Tensor, axis: i64) -> Result<Tensor> {
    if x.numel() == 0 {
        return Ok(x.f_softmax(axis, None::<Kind>)?);
    }
    let is_masked = x.f_detach()?.f_amax(&[axis][..], true)?.f_eq(f64::NEG_INFINITY)?;
    Ok(x.f_masked_fill(&is_masked, 0.0)?.f_softmax(axis, None::<Kind>)?.f_masked_fill(&is_masked, f64::NAN)?)
}
