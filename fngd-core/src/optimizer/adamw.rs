//! Adam with decoupled weight decay.

use super::slots::Slots;
use super::{GroupedParameter, UpdateRule};
use crate::state::TensorMap;
use crate::{Error, Result};
use tch::Tensor;

/// Settings of [`Adamw`].
///
/// ```
/// use fngd_core::optimizer::AdamwConfig;
/// let config = AdamwConfig { beta2: 1.0, ..Default::default() };
/// assert_eq!(config.build().unwrap_err().to_string(), "beta2 must be in [0, 1), found 1");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamwConfig {
    /// Decay of the average of gradients, in [0, 1).
    pub beta1: f64,
    /// Decay of the average of squared gradients, in [0, 1).
    pub beta2: f64,
    /// ε > 0, added to the root of that average.
    pub epsilon: f64,
    /// Decoupled decay, >= 0, in units of the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamwConfig {
    /// The defaults of `torch.optim.AdamW`.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-2 }
    }
}

impl AdamwConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// `is_config()` names the setting that is out of range.
    pub fn build(self) -> Result<Adamw> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::config(format!("{name} must be in [0, 1), found {beta}")));
            }
        }
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return Err(Error::config(format!("epsilon must be > 0 and finite, found {}", self.epsilon)));
        }
        super::groups::check_scale("weight_decay", self.weight_decay)?;
        Ok(Adamw { config: self, moments: Slots::new(["first_moment", "second_moment"]) })
    }
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), as `torch.optim.AdamW` defines it.
///
/// At update t with gradient g, parameter θ, learning rate η and weight decay ω:
/// θ ← θ(1 − ηω); m ← m + (1 − β₁)(g − m); v ← β₂v + (1 − β₂)g²; θ ← θ − η/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε).
#[derive(Debug)]
pub struct Adamw {
    config: AdamwConfig,
    moments: Slots<2>,
}

impl UpdateRule for Adamw {
    fn update(&mut self, parameters: &[GroupedParameter], learning_rate: f64) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        for parameter in parameters {
            let gradient = parameter.gradient()?;
            if gradient.defined() {
                self.update_one(parameter, gradient, learning_rate).map_err(|error| error.at(parameter))?;
            }
        }
        Ok(())
    }

    fn state(&self, parameters: &[GroupedParameter]) -> Result<Vec<(String, Tensor)>> {
        self.moments.state(parameters)
    }

    fn load_state(&mut self, parameters: &[GroupedParameter], state: &mut TensorMap) -> Result<()> {
        self.moments.load(parameters, state)
    }

    fn state_bytes(&self, parameters: &[GroupedParameter]) -> u64 {
        self.moments.state_bytes(parameters)
    }
}

impl Adamw {
    fn update_one(&mut self, parameter: &GroupedParameter, mut gradient: Tensor, learning_rate: f64) -> Result<()> {
        let AdamwConfig { beta1, beta2, epsilon, weight_decay } = self.config;
        let mut weight = parameter.parameter.tensor.shallow_clone();
        let learning_rate = learning_rate * parameter.learning_rate_scale;
        let weight_decay = weight_decay * parameter.weight_decay_scale;
        let zeros = || -> Result<Tensor> { Ok(weight.f_detach()?.f_zeros_like()?) };
        let slot = self.moments.advance(parameter.name(), || Ok([zeros()?, zeros()?]))?;
        let steps = slot.steps as f64;
        let [first_moment, second_moment] = &mut slot.buffers;

        if weight_decay != 0.0 {
            let _ = weight.f_mul_scalar_(1.0 - learning_rate * weight_decay)?;
        }
        let _ = first_moment.f_lerp_(&gradient, 1.0 - beta1)?;
        // The gradient is used up: its memory holds (1 - β₂)g², then the denominator, and nothing is allocated.
        let _ = gradient.f_square_()?.f_mul_scalar_(1.0 - beta2)?;
        let _ = second_moment.f_mul_scalar_(beta2)?.f_add_(&gradient)?;
        let _ = second_moment.f_sqrt_out(&gradient)?;
        let _ = gradient.f_div_scalar_((1.0 - beta2.powf(steps)).sqrt())?.f_add_scalar_(epsilon)?;
        let step_size = learning_rate / (1.0 - beta1.powf(steps));
        if step_size != 0.0 {
            // The sign and size of the step go into the denominator, since tch's `addcdiv_` has no factor.
            let _ = gradient.f_div_scalar_(-step_size)?;
            let _ = weight.f_addcdiv_(first_moment, &gradient)?;
        }
        Ok(())
    }
}
