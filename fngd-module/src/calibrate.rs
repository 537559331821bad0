//! Statistics of real data for the BatchNormalizations that the importer restored.
//!
//! A restored BatchNormalization starts as the identity with mean 0 and variance 1. Trained like that, its running statistics
//! would be wrong until enough batches had passed. Measured in evaluation, where every one of them is still the identity, one
//! pass gives the statistics of all of them at once.

use crate::{Error, Result};
use fngd_onnx::graph::ValueId;
use std::cell::RefCell;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Mean and variance of what went into each BatchNormalization, by its scale.
#[derive(Default)]
pub(crate) struct Observed(RefCell<BTreeMap<ValueId, Moments>>);

/// Per channel, in float64.
pub(crate) struct Moments {
    /// Values seen in each channel.
    count: f64,
    pub mean: Tensor,
    /// With divisor n, as ONNX has it.
    pub variance: Tensor,
}

impl Observed {
    /// Adds the values of `x`, whose channels are in dimension 1, for the BatchNormalization with this scale.
    pub fn add(&self, scale: ValueId, x: &Tensor) -> Result<()> {
        let size = x.size();
        let others: Vec<i64> = (0..size.len() as i64).filter(|dim| *dim != 1).collect();
        let count = others.iter().map(|dim| size[*dim as usize] as f64).product::<f64>();
        if count == 0.0 {
            return Ok(());
        }
        let (variance, mean) = x.f_to_kind(Kind::Double)?.f_var_mean_correction(&others[..], 0, false)?;
        let new = Moments { count, mean, variance };
        let mut all = self.0.borrow_mut();
        let together = match all.remove(&scale) {
            Some(old) => old.with(&new)?,
            None => new,
        };
        all.insert(scale, together);
        Ok(())
    }

    /// What was seen.
    pub fn into_moments(self) -> BTreeMap<ValueId, Moments> {
        self.0.into_inner()
    }
}

impl Moments {
    /// Of both together (Chan, Golub and LeVeque 1979): no sum of squares loses digits.
    fn with(&self, other: &Self) -> Result<Self> {
        let count = self.count + other.count;
        let share = other.count / count;
        let difference = other.mean.f_sub(&self.mean)?;
        let mean = self.mean.f_add(&difference.f_mul_scalar(share)?)?;
        let within = self.variance.f_mul_scalar(1.0 - share)?.f_add(&other.variance.f_mul_scalar(share)?)?;
        let between = difference.f_square()?.f_mul_scalar(share * (1.0 - share))?;
        Ok(Self { count, mean, variance: within.f_add(&between)? })
    }

    /// Refuses what would make training useless.
    pub fn check(&self) -> Result<()> {
        let finite = self.mean.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0
            && self.variance.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0;
        if finite { Ok(()) } else { Err(Error::mismatch("its input has values that are not finite")) }
    }
}

/// A BatchNormalization's scale and shift for other statistics, so that evaluation computes the same as before:
/// `γ' = s·√(σ'² + ε)` and `β' = β + (μ' - μ)·s` with `s = γ / √(σ² + ε)`.
pub(crate) fn same_function(
    [scale, shift, mean, variance]: [&Tensor; 4],
    new: &Moments,
    epsilon: f64,
) -> Result<(Tensor, Tensor)> {
    let double = |tensor: &Tensor| tensor.f_to_kind(Kind::Double);
    let deviation = |variance: &Tensor| variance.f_add_scalar(epsilon)?.f_sqrt();
    let slope = double(scale)?.f_div(&deviation(&double(variance)?)?)?;
    let moved = new.mean.f_sub(&double(mean)?)?.f_mul(&slope)?;
    Ok((slope.f_mul(&deviation(&new.variance)?)?, double(shift)?.f_add(&moved)?))
}
