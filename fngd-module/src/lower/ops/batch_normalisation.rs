//! BatchNormalization.

use super::normalise::epsilon;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::analysis::ParameterRole;
use fngd_onnx::graph::{Node, ValueId};
use tch::{Kind, Tensor, no_grad_guard};

/// Mean 0 and variance 1 per channel, over the batch while training and by running statistics otherwise; then scale and shift.
struct BatchNormalization {
    epsilon: f64,
    /// Share of the old running statistics that an update keeps (torch's momentum is one minus this).
    momentum: f64,
    /// Every element of a sample has statistics of its own, not every channel.
    per_element: bool,
    /// Running statistics that may be updated. A frozen BatchNormalization keeps its own.
    learns: bool,
    /// By which the statistics of its input are collected.
    scale: Option<ValueId>,
}

pub(crate) fn build(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let shows_statistics = (1..node.outputs.len()).any(|position| node.output(position).is_some());
    if shows_statistics && (node.int("training_mode", 0) == 0 || node.outputs.len() > 3) {
        return Err(context.unsupported("outputs for statistics are used, but attribute `training_mode` is 0"));
    }
    // Gone from operator set 9 on.
    let per_element = node.opset < 9 && node.int("spatial", 1) == 0;
    if shows_statistics {
        return Ok(Box::new(BatchStatistics { epsilon: epsilon(node)?, momentum: node.decimal("momentum", 0.9) }));
    }
    let is_statistic =
        |position| context.parameter(position).is_some_and(|p| p.info.role == ParameterRole::RunningStatistic);
    let is_frozen = (1..5).any(|position| position != 2 && context.is_frozen(position));
    Ok(Box::new(BatchNormalization {
        epsilon: epsilon(node)?,
        momentum: node.decimal("momentum", 0.9),
        scale: node.input(1),
        per_element,
        learns: is_statistic(3) && is_statistic(4) && !is_frozen,
    }))
}

impl Operator for BatchNormalization {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let size = inputs.get(0)?.size();
        if self.per_element {
            // One channel per element. The statistics keep their memory, which is updated below.
            for (position, tensor) in inputs.0.iter_mut().enumerate() {
                let flat = if position == 0 { vec![size.first().copied().unwrap_or(1), -1] } else { vec![-1] };
                *tensor = tensor.as_ref().map(|tensor| tensor.f_reshape(&flat[..])).transpose()?;
            }
        }
        let output = self.normalise(inputs, run)?;
        Ok(vec![if self.per_element { output.f_reshape(&size[..])? } else { output }])
    }

    fn output_may_be_overwritten(&self) -> bool {
        true
    }
}

impl BatchNormalization {
    fn normalise(&self, inputs: &mut Inputs, run: &Run) -> Result<Tensor> {
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
            return Ok(apply(&mean, &variance)?);
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
        Ok(output)
    }
}

/// BatchNormalization whose updated running statistics are results: it always normalises with the batch's own, and updates nothing.
struct BatchStatistics {
    epsilon: f64,
    momentum: f64,
}

impl Operator for BatchStatistics {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, scale, shift) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        if x.dim() < 2 {
            return Err(Error::mismatch(format!("input is {:?}, expected at least two dimensions", x.size())));
        }
        let none = None::<&Tensor>;
        let output = x.f_batch_norm(Some(scale), Some(shift), none, none, true, 0.0, self.epsilon, true)?;
        let axes: Vec<i64> = (0..x.dim() as i64).filter(|&axis| axis != 1).collect();
        let mean = x.f_mean_dim(&axes[..], false, None::<Kind>)?;
        let variance = x.f_var_dim(&axes[..], false, false)?;
        let updated = |running: &Tensor, new: &Tensor| running.f_lerp(new, 1.0 - self.momentum);
        Ok(vec![output, updated(inputs.get(3)?, &mean)?, updated(inputs.get(4)?, &variance)?])
    }
}
