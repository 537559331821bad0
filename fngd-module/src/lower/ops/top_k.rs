//! TopK.

use crate::lower::arguments::{Integers, axis_of};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// The `k` largest or smallest elements along an axis, in order, and where they are.
struct TopK {
    k: Integers,
    axis: i64,
    largest: bool,
}

pub(crate) fn top_k(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    // An attribute until operator set 9, an input from 10 on.
    let k = match node.attributes.contains_key("k") {
        true => Integers::Fixed(vec![node.int("k", 0)]),
        false => Integers::input(node, context, 1)?,
    };
    Ok(Box::new(TopK { k, axis: node.int("axis", -1), largest: node.int("largest", 1) != 0 }))
}

impl Operator for TopK {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let k = self.k.require(inputs, "k")?;
        let x = inputs.get(0)?;
        let axis = axis_of(self.axis, x.dim())?;
        let length = x.size()[axis as usize];
        let [k] = k[..] else {
            return Err(Error::mismatch(format!("`k` has {} numbers, expected 1", k.len())));
        };
        if !(0..=length).contains(&k) {
            return Err(Error::mismatch(format!("`k` is {k}, expected 0 to {length}, the length of axis {axis}")));
        }
        // Of equal elements, the first comes first: libtorch's own topk does not promise that.
        let (values, positions) = x.f_sort_stable(true, axis, self.largest)?;
        Ok(vec![values.f_slice(axis, 0, k, 1)?, positions.f_slice(axis, 0, k, 1)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}
