//! Dropout.

use crate::lower::arguments::Number;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// Zeros elements with probability `ratio` and scales the rest by `1 / (1 - ratio)` while training; otherwise does nothing.
///
/// Whether to drop is the module's mode, not the file's: exporters leave `training_mode` in all states.
struct Dropout {
    ratio: Number,
    wants_mask: bool,
}

pub(crate) fn dropout(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    // An attribute until operator set 11, an input from 12 on.
    let ratio = Number::attribute_or_input(node, context, "ratio", 1, 0.5)?;
    if let Number::Fixed(value) = ratio
        && !(0.0..1.0).contains(&value)
    {
        return Err(Error::malformed(format!("`ratio` is {value}, expected at least 0 and below 1")));
    }
    Ok(Box::new(Dropout { ratio, wants_mask: node.output(1).is_some() }))
}

impl Operator for Dropout {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let ratio = if run.dropout { self.ratio.read(inputs)? } else { 0.0 };
        if !(0.0..1.0).contains(&ratio) {
            return Err(Error::mismatch(format!("`ratio` is {ratio}, expected at least 0 and below 1")));
        }
        let x = inputs.get(0)?;
        if self.wants_mask {
            let keep = x.f_rand_like()?.f_ge(ratio)?;
            let output = x.f_mul(&keep.f_to_kind(x.kind())?)?.f_mul_scalar(1.0 / (1.0 - ratio))?;
            return Ok(vec![output, keep]);
        }
        Ok(vec![if ratio == 0.0 { x.shallow_clone() } else { x.f_dropout(ratio, true)? }])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1, 2]
    }

    fn is_deterministic(&self) -> bool {
        false
    }
}
