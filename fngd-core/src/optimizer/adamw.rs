//! Adam with decoupled weight decay.

use super::slots::Slots;
use super::{GroupedParameter, UpdateRule, buckets};
use crate::state::TensorMap;
use crate::tap::update::{self, FusedAdamw};
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
        let AdamwConfig { beta1, beta2, epsilon, weight_decay } = self.config;
        let settings = |parameter: &GroupedParameter, steps: i64| FusedAdamw {
            learning_rate: learning_rate * parameter.learning_rate_scale,
            beta1,
            beta2,
            weight_decay: weight_decay * parameter.weight_decay_scale,
            epsilon,
            steps,
        };
        for bucket in buckets::fill(parameters, &mut self.moments, settings)? {
            let [first_moments, second_moments] = &bucket.buffers;
            update::adamw(&bucket.weights, &bucket.gradients, [first_moments, second_moments], bucket.settings)?;
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
