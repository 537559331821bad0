//! Softmax and LogSoftmax.

use crate::Result;
use crate::lower::arguments::{axis_of, product};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

struct Softmax {
    axis: i64,
    /// Before operator set 13 everything from `axis` on is one dimension.
    flattens: bool,
    logarithm: bool,
}

pub(crate) fn softmax(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let flattens = node.opset < 13;
    let axis = node.int("axis", if flattens { 1 } else { -1 });
    Ok(Box::new(Softmax { axis, flattens, logarithm: node.op_type == "LogSoftmax" }))
}

impl Softmax {
    fn apply(&self, x: &Tensor, axis: i64) -> Result<Tensor> {
        Ok(if self.logarithm { x.f_log_softmax(axis, None::<Kind>)? } else { x.f_softmax(axis, None::<Kind>)? })
    }
}

impl Operator for Softmax {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let axis = axis_of(self.axis, x.dim())?;
        if !self.flattens || axis + 1 == x.dim() as i64 {
            return Ok(vec![self.apply(x, axis)?]);
        }
        let size = x.size();
        let rows = product(&size[..axis as usize]);
        let matrix = x.f_reshape([rows, product(&size[axis as usize..])])?;
        Ok(vec![self.apply(&matrix, 1)?.f_reshape(&size[..])?])
    }
}
