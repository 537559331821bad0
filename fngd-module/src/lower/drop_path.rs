//! Stochastic depth: while training, the nodes that make its mask run as they are. In evaluation the mask must not be random: it is 1
//! everywhere, and a branch that is divided by its rate of survival while training is left as it is.

use super::operator::{Inputs, Operator, Run};
use crate::Result;
use tch::Tensor;

/// An operator whose output is 1 outside of training.
pub(crate) struct OneInEvaluation(pub Box<dyn Operator>);

impl Operator for OneInEvaluation {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let outputs = self.0.run(inputs, run)?;
        if run.dropout {
            return Ok(outputs);
        }
        outputs.iter().map(|output| Ok(output.f_ones_like()?)).collect()
    }

    fn host_inputs(&self) -> &'static [usize] {
        self.0.host_inputs()
    }

    fn metadata_inputs(&self) -> &'static [usize] {
        self.0.metadata_inputs()
    }

    fn is_deterministic(&self) -> bool {
        false
    }
}

/// A Div whose output is its first input outside of training.
pub(crate) struct UndividedInEvaluation(pub Box<dyn Operator>);

impl Operator for UndividedInEvaluation {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        if run.dropout { self.0.run(inputs, run) } else { Ok(vec![inputs.get(0)?.shallow_clone()]) }
    }

    fn is_deterministic(&self) -> bool {
        false
    }
}
