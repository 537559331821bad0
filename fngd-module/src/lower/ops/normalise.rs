//! Normalisations without running statistics: LayerNormalization, RMSNormalization, InstanceNormalization, GroupNormalization, LRN.

use super::window::LARGEST;
use crate::lower::arguments::axis_of;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// Mean 0 and variance 1 over the axes from `axis` on, then scale and shift.
struct LayerNormalization {
    axis: i64,
    epsilon: f64,
    wants_statistics: bool,
}

pub(crate) fn layer(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let wants_statistics = node.output(1).is_some() || node.output(2).is_some();
    Ok(Box::new(LayerNormalization { axis: node.int("axis", -1), epsilon: epsilon(node)?, wants_statistics }))
}

impl Operator for LayerNormalization {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, scale, shift) = (inputs.get(0)?, inputs.get(1)?, inputs.optional(2));
        let size = x.size();
        let axis = axis_of(self.axis, size.len())?;
        let normalised = &size[axis as usize..];
        let fits = |tensor: &Tensor| tensor.size() == normalised;
        let y = if fits(scale) && shift.is_none_or(fits) {
            x.f_layer_norm(normalised, Some(scale), shift, self.epsilon, true)?
        } else {
            // A scale that is broadcast.
            let none = None::<&Tensor>;
            let scaled = x.f_layer_norm(normalised, none, none, self.epsilon, true)?.f_mul(scale)?;
            if let Some(shift) = shift { scaled.f_add(shift)? } else { scaled }
        };
        if !self.wants_statistics {
            return Ok(vec![y]);
        }
        // libtorch's own function has them too, but without a gradient.
        let axes: Vec<i64> = (axis..size.len() as i64).collect();
        let mean = x.f_mean_dim(&axes[..], true, None::<Kind>)?;
        let variance = x.f_sub(&mean)?.f_square()?.f_mean_dim(&axes[..], true, None::<Kind>)?;
        Ok(vec![y, mean, variance.f_add_scalar(self.epsilon)?.f_rsqrt()?])
    }

    fn output_may_be_overwritten(&self) -> bool {
        true
    }
}

/// `scale · x / sqrt(mean(x²) + ε)` over the axes from `axis` on.
struct RmsNormalization {
    axis: i64,
    epsilon: f64,
}

pub(crate) fn rms(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(RmsNormalization { axis: node.int("axis", -1), epsilon: epsilon(node)? }))
}

impl Operator for RmsNormalization {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, scale) = (inputs.get(0)?, inputs.get(1)?);
        let size = x.size();
        let normalised = &size[axis_of(self.axis, size.len())? as usize..];
        Ok(vec![if scale.size() == normalised {
            x.f_rms_norm(normalised, Some(scale), self.epsilon)?
        } else {
            x.f_rms_norm(normalised, None::<&Tensor>, self.epsilon)?.f_mul(scale)?
        }])
    }
}

/// Mean 0 and variance 1 per sample and channel, then scale and shift.
struct InstanceNormalization {
    epsilon: f64,
}

pub(crate) fn instance(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(InstanceNormalization { epsilon: epsilon(node)? }))
}

impl Operator for InstanceNormalization {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, scale, shift) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        let none = None::<&Tensor>;
        Ok(vec![x.f_instance_norm(Some(scale), Some(shift), none, none, true, 0.0, self.epsilon, true)?])
    }
}

/// Mean 0 and variance 1 per sample and group of channels, then scale and shift.
struct GroupNormalization {
    groups: i64,
    epsilon: f64,
    /// Operator set 18 has one scale per group, 21 one per channel.
    scale_per_group: bool,
}

pub(crate) fn group(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let groups = node.int("num_groups", 0);
    if groups < 1 {
        return Err(Error::malformed(format!("attribute `num_groups` is {groups}, expected at least 1")));
    }
    Ok(Box::new(GroupNormalization { groups, epsilon: epsilon(node)?, scale_per_group: node.opset < 21 }))
}

impl Operator for GroupNormalization {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, scale, shift) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        let channels = x.size().get(1).copied().unwrap_or(0);
        if channels % self.groups != 0 {
            return Err(Error::mismatch(format!("{} groups do not divide {channels} channels", self.groups)));
        }
        let per_channel = |tensor: &Tensor| -> Result<Tensor> {
            if !self.scale_per_group {
                return Ok(tensor.shallow_clone());
            }
            let spread = tensor.f_reshape([self.groups, 1])?.f_expand([self.groups, channels / self.groups], false)?;
            Ok(spread.f_reshape([channels])?)
        };
        Ok(vec![x.f_group_norm(
            self.groups,
            Some(per_channel(scale)?),
            Some(per_channel(shift)?),
            self.epsilon,
            true,
        )?])
    }
}

/// Local response normalisation: `x / (bias + alpha / size · Σ x²)^beta`, the sum over `size` neighbouring channels.
struct LocalResponseNormalization {
    size: i64,
    alpha: f64,
    beta: f64,
    bias: f64,
}

pub(crate) fn local_response(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let size = node.int("size", 0);
    if !(1..=LARGEST).contains(&size) {
        return Err(Error::malformed(format!("attribute `size` is {size}, expected 1 to {LARGEST}")));
    }
    let float = |name, default| f64::from(node.float(name, default));
    let (alpha, beta, bias) = (float("alpha", 1e-4), float("beta", 0.75), float("bias", 1.0));
    Ok(Box::new(LocalResponseNormalization { size, alpha, beta, bias }))
}

impl Operator for LocalResponseNormalization {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let size = x.size();
        if size.len() < 3 {
            return Err(Error::mismatch(format!("input is {size:?}, expected at least 3 dimensions")));
        }
        let rows = x.f_square()?.f_reshape([size[0], 1, size[1], -1])?;
        // Wider windows see every channel too.
        let width = self.size.min(2 * size[1] + 1);
        let (front, behind) = ((width - 1) / 2, width / 2);
        let padded = rows.f_pad([0, 0, front, behind], "constant", 0.0)?;
        let mean = padded.f_avg_pool2d([width, 1], [1, 1], [0, 0], false, true, None::<i64>)?.f_reshape(&size[..])?;
        let alpha = self.alpha * width as f64 / self.size as f64;
        let divisor = mean.f_mul_scalar(alpha)?.f_add_scalar(self.bias)?.f_pow_tensor_scalar(self.beta)?;
        Ok(vec![x.f_div(&divisor)?.f_to_kind(x.kind())?])
    }
}

/// Attribute `epsilon`, which libtorch takes as it is.
pub(super) fn epsilon(node: &Node) -> Result<f64> {
    let epsilon = node.decimal("epsilon", 1e-5);
    if !(epsilon >= 0.0 && epsilon.is_finite()) {
        return Err(Error::malformed(format!("attribute `epsilon` is {epsilon}, expected a number of at least 0")));
    }
    Ok(epsilon)
}
