//! CausalConvWithState.

use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// A convolution of each channel that sees the present and the past; its second output is the past of what comes next.
struct CausalConvolution {
    has_silu: bool,
}

pub(crate) fn build(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let has_silu = match node.string("activation", "none") {
        "none" => false,
        "silu" | "swish" => true,
        other => {
            let message = format!("attribute `activation` is `{other}`, expected `none`, `silu` or `swish`");
            return Err(Error::malformed(message));
        }
    };
    Ok(Box::new(CausalConvolution { has_silu }))
}

impl Operator for CausalConvolution {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, weight) = (inputs.get(0)?, inputs.get(1)?);
        let (&[batch, channels, _], &[rows, 1, width]) = (&x.size()[..], &weight.size()[..]) else {
            let sizes = (x.size(), weight.size());
            let message = format!("input is {:?}, weight is {:?}; expected [N, C, L] and [C, 1, k]", sizes.0, sizes.1);
            return Err(Error::mismatch(message));
        };
        if width == 0 {
            return Err(Error::mismatch("the kernel has no elements"));
        }
        let past = match inputs.optional(3) {
            Some(past) => past.shallow_clone(),
            None => Tensor::f_zeros([batch, channels, width - 1], (x.kind(), x.device()))?,
        };
        if rows != channels || past.size() != [batch, channels, width - 1] {
            let message = format!("{channels} channels, weight {:?}, past state {:?}", weight.size(), past.size());
            return Err(Error::mismatch(message));
        }
        let all = Tensor::f_cat(&[&past, x], 2)?;
        let output = all.f_conv1d(weight, inputs.optional(2), 1, 0, 1, channels)?;
        let next = all.f_slice(2, all.size()[2] - (width - 1), None, 1)?;
        Ok(vec![if self.has_silu { output.f_silu()? } else { output }, next])
    }
}
