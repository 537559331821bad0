//! RandomUniformLike, which exporters write for stochastic depth.

use crate::Result;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::lower::tensors::kind_of_number;
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// Uniform numbers in `[low, high)` in the shape of the input.
struct RandomUniformLike {
    low: f64,
    high: f64,
    kind: Option<Kind>,
}

pub(crate) fn random_uniform_like(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let (low, high) = (f64::from(node.float("low", 0.0)), f64::from(node.float("high", 1.0)));
    let kind = node.attributes.contains_key("dtype").then(|| kind_of_number(node.int("dtype", 1))).flatten();
    Ok(Box::new(RandomUniformLike { low, high, kind }))
}

impl Operator for RandomUniformLike {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let like = inputs.get(0)?;
        let kind = self.kind.unwrap_or(like.kind());
        Ok(vec![Tensor::f_empty(like.size(), (kind, run.device))?.f_uniform_(self.low, self.high)?])
    }

    fn metadata_inputs(&self) -> &'static [usize] {
        &[0]
    }

    fn is_deterministic(&self) -> bool {
        false
    }
}
