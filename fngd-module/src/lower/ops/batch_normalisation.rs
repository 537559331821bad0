//! BatchNormalization.

use super::normalise::epsilon;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::analysis::ParameterRole;
use fngd_onnx::graph::{Node, ValueId};
use tch::{Tensor, no_grad_guard};

/// Mean 0 and variance 1 per channel, over the batch while training and by running statistics otherwise; then scale and shift.
struct BatchNormalization {
    epsilon: f64,
    /// Share of the old running statistics that an update keeps (torch's momentum is one minus this).
    momentum: f64,
    /// Running statistics that may be updated. A frozen BatchNormalization keeps its own.
    learns: bool,
    /// By which the statistics of its input are collected.
    scale: Option<ValueId>,
}

pub(crate) fn build(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    if (1..node.outputs.len()).any(|position| node.output(position).is_some()) {
        return Err(context.unsupported("the outputs for running statistics are used"));
    }
    if node.opset < 9 && node.int("spatial", 1) == 0 {
        return Err(context.unsupported("attribute `spatial` is 0, only statistics per channel are supported"));
    }
    let is_statistic =
        |position| context.parameter(position).is_some_and(|p| p.info.role == ParameterRole::RunningStatistic);
    let is_frozen = (1..5).any(|position| position != 2 && context.is_frozen(position));
    Ok(Box::new(BatchNormalization {
        epsilon: epsilon(node)?,
        momentum: f64::from(node.float("momentum", 0.9)),
        scale: node.input(1),
        learns: is_statistic(3) && is_statistic(4) && !is_frozen,
    }))
}

impl Operator for BatchNormalization {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (mean, variance) = (inputs.take(3)?, inputs.take(4)?);
        let (x, scale, shift) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        if let (Some(observed), Some(scale)) = (run.observed, self.scale) {
            observed.add(scale, x)?;
        }
        let training = run.training && self.learns;
        let apply = |mean: &Tensor, variance: &Tensor| {
            let share_of_new = 1.0 - self.momentum;
            x.f_batch_norm(
                Some(scale),
                Some(shift),
                Some(mean),
                Some(variance),
                training,
                share_of_new,
                self.epsilon,
                true,
            )
        };
        if !training {
            return Ok(vec![apply(&mean, &variance)?]);
        }
        let size = x.size();
        let values_per_channel = size.iter().product::<i64>() / size.get(1).copied().unwrap_or(1).max(1);
        if values_per_channel < 2 {
            return Err(Error::mismatch(format!(
                "input is {size:?}: one value per channel has no variance to train with, use a larger batch"
            )));
        }
        // libtorch adds the variance with divisor n - 1 to its running value, ONNX the one with divisor n. So libtorch gets
        // a running value that is n / (n - 1) too large, in a tensor of its own because backward keeps it.
        let share = (values_per_channel - 1) as f64 / values_per_channel as f64;
        let enlarged = variance.f_mul_scalar(1.0 / share)?;
        let output = apply(&mean, &enlarged)?;
        let _guard = no_grad_guard();
        let _ = enlarged.f_mul_scalar_out(&variance, share)?;
        Ok(vec![output])
    }

    fn output_may_be_overwritten(&self) -> bool {
        true
    }
}
