//! MaxUnpool.

use super::pool::window;
use super::window::{Window, pad, spatial_sizes};
use crate::lower::arguments::{Integers, product};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// Puts each element back to where MaxPool found it; zeros elsewhere.
struct MaxUnpool {
    window: Window,
    output_shape: Integers,
}

pub(crate) fn max_unpool(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(MaxUnpool { window: window(node)?, output_shape: Integers::input(node, context, 2)? }))
}

impl Operator for MaxUnpool {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let wanted = self.output_shape.read(inputs)?;
        let (x, places) = (inputs.get(0)?, inputs.get(1)?);
        let (spatial, window) = (spatial_sizes(x, self.window.kernel.len())?, &self.window);
        if places.size() != x.size() {
            return Err(Error::mismatch(format!("input is {:?}, its indices are {:?}", x.size(), places.size())));
        }
        let (before, after) = window.pads(&spatial);
        let mut size = x.size();
        for (index, &length) in spatial.iter().enumerate() {
            let whole = (length - 1) * window.stride[index] + window.kernel[index];
            size[index + 2] = (whole - before[index] - after[index]).max(0);
        }
        run.affordable(&size)?;
        let places = places.f_to_kind(Kind::Int64)?.f_reshape([-1])?;
        let zeros = Tensor::f_zeros([product(&size)], (x.kind(), x.device()))?;
        let result = zeros.f_scatter(0, &places, &x.f_reshape([-1])?)?.f_reshape(&size[..])?;
        let Some(wanted) = wanted else { return Ok(vec![result]) };
        if wanted.len() != size.len() || wanted[..2] != size[..2] {
            return Err(Error::mismatch(format!("`output_shape` is {wanted:?}, the unpooled input is {size:?}")));
        }
        // Indices count in the smaller tensor; what the larger one has more is behind.
        let behind: Vec<i64> =
            wanted[2..].iter().zip(&size[2..]).map(|(wanted, own)| wanted.saturating_sub(*own)).collect();
        Ok(vec![pad(&result, &vec![0; behind.len()], &behind, 0.0)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[2]
    }
}
