//! CenterCropPad.

use super::window;
use crate::lower::arguments::{Integers, axes_of};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// Cuts off or adds zeros on both sides of each axis; where that is uneven, one more behind.
struct CenterCropPad {
    axes: Option<Vec<i64>>,
    shape: Integers,
}

pub(crate) fn centre_crop_pad(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let axes = node.ints("axes").map(<[i64]>::to_vec);
    Ok(Box::new(CenterCropPad { axes, shape: Integers::input(node, context, 1)? }))
}

impl Operator for CenterCropPad {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let shape = self.shape.require(inputs, "shape")?;
        let x = inputs.get(0)?;
        let size = x.size();
        let axes = match &self.axes {
            Some(axes) => axes_of(axes, size.len())?,
            None => (0..size.len() as i64).collect(),
        };
        if shape.len() != axes.len() || shape.iter().any(|&length| length < 0) {
            return Err(Error::mismatch(format!("`shape` is {shape:?} for {} axes", axes.len())));
        }
        let (mut before, mut after, mut largest) = (vec![0; size.len()], vec![0; size.len()], size.clone());
        for (&axis, &wanted) in axes.iter().zip(shape.iter()) {
            let axis = axis as usize;
            let added = wanted - size[axis];
            // Towards zero in both directions.
            before[axis] = added / 2;
            after[axis] = added - before[axis];
            largest[axis] = wanted.max(size[axis]);
        }
        run.affordable(&largest)?;
        Ok(vec![window::pad(x, &before, &after, 0.0)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}
