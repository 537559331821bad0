//! The norm of the whole gradient: clipping by it, and refusing a step when it is not finite.

use super::GroupedParameter;
use crate::{Error, Result, tap};

/// What happens between backward and the update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOptions {
    /// Largest Euclidean norm of the whole gradient, > 0; a longer one is scaled down to it. `None` does not clip.
    pub clip_norm: Option<f64>,
    /// Skip a step whose gradient holds NaN or infinity, or whose squared norm overflows its kind (norms above 1e19 in float32).
    /// Costs one reduction over the gradient and one read by the host.
    pub guard: bool,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self { clip_norm: None, guard: true }
    }
}

/// What is to be done with the gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// The norm before clipping, if it was needed.
    pub norm: Option<f64>,
    /// True if the gradient is not finite and must not be used.
    pub skip: bool,
}

/// Added to the norm before dividing by it, as `torch.nn.utils.clip_grad_norm_` does.
const CLIP_EPSILON: f64 = 1e-6;

impl StepOptions {
    pub(super) fn check(&self) -> Result<()> {
        match self.clip_norm {
            Some(norm) if !(norm > 0.0 && norm.is_finite()) => {
                Err(Error::config(format!("clip_norm must be > 0 and finite, found {norm}")))
            }
            _ => Ok(()),
        }
    }

    /// Clips the gradients of `parameters` in place. The norm is computed once, and only if something asks for it.
    ///
    /// A clipped gradient that is not finite is skipped even without the
    /// guard: scaling by 1 / NaN helps nobody.
    pub(super) fn apply(&self, parameters: &[GroupedParameter]) -> Result<Verdict> {
        if self.clip_norm.is_none() && !self.guard {
            return Ok(Verdict { norm: None, skip: false });
        }
        let _no_grad = tch::no_grad_guard();
        let mut gradients = Vec::with_capacity(parameters.len());
        for parameter in parameters {
            let gradient = parameter.gradient()?;
            if gradient.defined() {
                gradients.push(gradient);
            }
        }
        // This waits for the device.
        let norm = tap::update::global_norm(&gradients)?;
        let skip = !norm.is_finite();
        if let Some(largest) = self.clip_norm
            && !skip
        {
            let factor = largest / (norm + CLIP_EPSILON);
            if factor < 1.0 {
                for gradient in &mut gradients {
                    let _ = gradient.f_mul_scalar_(factor)?;
                }
            }
        }
        Ok(Verdict { norm: Some(norm), skip })
    }
}
