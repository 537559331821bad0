//! MatMul and Gemm where they are no layer: products of activations, or forms that a layer does not cover.

use crate::lower::arguments::broadcast_size;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

struct MatMul;

pub(crate) fn matmul(_: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(MatMul))
}

impl Operator for MatMul {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        if let ([a_batch @ .., rows, _], [b_batch @ .., _, columns]) = (&a.size()[..], &b.size()[..]) {
            run.affordable(&[&broadcast_size(a_batch, b_batch)?[..], &[*rows, *columns]].concat())?;
        }
        Ok(vec![a.f_matmul(b)?])
    }
}

/// `alpha · A B + beta · C`, `A` and `B` transposed on request.
struct Gemm {
    transpose_a: bool,
    transpose_b: bool,
    alpha: f64,
    beta: f64,
}

pub(crate) fn gemm(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Gemm {
        transpose_a: node.int("transA", 0) != 0,
        transpose_b: node.int("transB", 0) != 0,
        alpha: f64::from(node.float("alpha", 1.0)),
        beta: f64::from(node.float("beta", 1.0)),
    }))
}

impl Operator for Gemm {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (a, b) = (matrix(inputs.get(0)?, self.transpose_a)?, matrix(inputs.get(1)?, self.transpose_b)?);
        run.affordable(&[a.size()[0], b.size()[1]])?;
        let mut product = a.f_matmul(&b)?;
        if self.alpha != 1.0 {
            product = product.f_mul_scalar(self.alpha)?;
        }
        let Some(c) = inputs.optional(2) else { return Ok(vec![product]) };
        let c = if self.beta == 1.0 { c.shallow_clone() } else { c.f_mul_scalar(self.beta)? };
        Ok(vec![product.f_add(&c)?])
    }

    fn output_may_be_overwritten(&self) -> bool {
        true
    }
}

fn matrix(tensor: &Tensor, transposed: bool) -> Result<Tensor> {
    if tensor.dim() != 2 {
        return Err(Error::mismatch(format!("a matrix is needed, found a tensor of size {:?}", tensor.size())));
    }
    Ok(if transposed { tensor.f_transpose(0, 1)? } else { tensor.shallow_clone() })
}
