//! The weighted gradient of one use of a layer: Σ_i w_i · (sample i's contribution).
//!
//! The sum is linear in the output gradients and in the activations. So it is the ordinary gradient with sample i of either
//! of them multiplied by w_i, and no per-sample gradient is formed.

use crate::factors::bias_contributions;
use crate::layer::{BatchAxis, Convolution, Geometry};
use crate::tap::{self, ParameterGrads};
use crate::timeline::{self, Phase};
use crate::{Result, samples};
use std::time::{Duration, Instant};
use tch::Tensor;

/// What one use of a layer saw: everything that its gradient depends on.
#[derive(Debug)]
pub(crate) struct Use {
    pub activations: Tensor,
    pub output_grads: Tensor,
    pub axis: BatchAxis,
}

impl Use {
    /// The same tensors.
    pub fn share(&self) -> Result<Self> {
        let (activations, output_grads) = (self.activations.shallow_clone(), self.output_grads.shallow_clone());
        Ok(Self { activations, output_grads, axis: self.axis })
    }

    /// Some consecutive samples of a use whose batch axis is leading. Views.
    pub fn samples(&self, first: i64, count: i64, batch_size: i64) -> Result<Self> {
        let part = |tensor: &Tensor| {
            let rows = tensor.size()[0] / batch_size;
            tensor.f_narrow(0, first * rows, count * rows)
        };
        Ok(Self { activations: part(&self.activations)?, output_grads: part(&self.output_grads)?, axis: self.axis })
    }
}

/// Gradient of weight and bias from one use, computed as libtorch's own backward would: with w = 1 it is equal bit for bit.
pub(crate) fn plain_gradient(geometry: &Geometry, weight: &Tensor, bias: bool, used: &Use) -> Result<ParameterGrads> {
    match geometry {
        Geometry::Linear => linear_gradient(&used.activations, &used.output_grads, bias),
        Geometry::Convolution(g) => convolution_gradient(g, weight, &used.activations, &used.output_grads, bias),
    }
}

/// Gradient of weight and bias from one use, with sample i weighted by `coefficients[i]`.
///
/// Cost: one pass over the smaller of the two tensors, on top of the plain gradient. The time of that pass is added to `spent`.
pub(crate) fn weighted_gradient(
    geometry: &Geometry,
    weight: &Tensor,
    bias: bool,
    used: &Use,
    coefficients: &Tensor,
    spent: &mut Duration,
) -> Result<ParameterGrads> {
    let start = Instant::now();
    let span = timeline::enter(Phase::Precondition);
    let Use { activations, output_grads, axis } = used;
    if output_grads.numel() <= activations.numel() {
        let output_grads = samples::scale(output_grads, coefficients, *axis)?;
        drop(span);
        *spent += start.elapsed();
        let weighted = Use { activations: activations.shallow_clone(), output_grads, axis: *axis };
        return plain_gradient(geometry, weight, bias, &weighted);
    }
    let activations = samples::scale(activations, coefficients, *axis)?;
    let bias_grad = if bias { Some(weighted_bias(geometry, used, coefficients)?) } else { None };
    drop(span);
    *spent += start.elapsed();
    let weighted = Use { activations, output_grads: output_grads.shallow_clone(), axis: *axis };
    let (weight_grad, _) = plain_gradient(geometry, weight, false, &weighted)?;
    Ok((weight_grad, bias_grad))
}

/// Weighted gradient of the bias alone: wᵀ times the per-sample sums over positions.
fn weighted_bias(geometry: &Geometry, used: &Use, coefficients: &Tensor) -> Result<Tensor> {
    let sums = bias_contributions(geometry, &used.output_grads, used.axis, coefficients.size()[0])?;
    Ok(sums.f_transpose(0, 1)?.f_mv(&coefficients.f_to_kind(sums.kind())?)?)
}

fn linear_gradient(activations: &Tensor, output_grads: &Tensor, bias: bool) -> Result<ParameterGrads> {
    let rows = |tensor: &Tensor| -> Result<Tensor> {
        let features = *tensor.size().last().unwrap_or(&1);
        Ok(tensor.f_reshape([-1, features])?)
    };
    let output_grads = rows(output_grads)?;
    let weight_grad = output_grads.f_transpose(0, 1)?.f_mm(&rows(activations)?)?;
    let bias_grad = if bias { Some(output_grads.f_sum_dim_intlist(0i64, false, output_grads.kind())?) } else { None };
    Ok((Some(weight_grad), bias_grad))
}

fn convolution_gradient(
    geometry: &Convolution,
    weight: &Tensor,
    activations: &Tensor,
    output_grads: &Tensor,
    bias: bool,
) -> Result<ParameterGrads> {
    let (weight_grad, bias_grad) = tap::convolution_backward(output_grads, activations, weight, geometry, bias)?;
    Ok((Some(weight_grad), bias_grad))
}
