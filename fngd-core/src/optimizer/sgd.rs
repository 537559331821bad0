//! Stochastic gradient descent with momentum.

use super::slots::Slots;
use super::{GroupedParameter, UpdateRule, buckets};
use crate::state::TensorMap;
use crate::tap::update::{self, FusedSgd};
use crate::{Error, Result};
use tch::Tensor;

/// Settings of [`Sgd`].
///
/// ```
/// use fngd_core::optimizer::SgdConfig;
/// let config = SgdConfig { momentum: 1.5, ..Default::default() };
/// assert_eq!(config.build().unwrap_err().to_string(), "momentum must be in [0, 1), found 1.5");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdConfig {
    /// μ, in [0, 1). Zero keeps no buffer.
    pub momentum: f64,
    /// Look ahead: step along g + μm instead of m.
    pub nesterov: bool,
    /// L2 penalty, >= 0: added to the gradient, so momentum sees it.
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    /// The recipe of the paper's code base for CIFAR.
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: false, weight_decay: 5e-4 }
    }
}

impl SgdConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// `is_config()` names the setting that is out of range.
    pub fn build(self) -> Result<Sgd> {
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Error::config(format!("momentum must be in [0, 1), found {}", self.momentum)));
        }
        if self.nesterov && self.momentum == 0.0 {
            return Err(Error::config("nesterov needs momentum > 0, found 0"));
        }
        super::groups::check_scale("weight_decay", self.weight_decay)?;
        Ok(Sgd { config: self, momentum: Slots::new(["momentum"]), plain: Slots::new([]) })
    }
}

/// Stochastic gradient descent with momentum, as `torch.optim.SGD` defines it (dampening 0).
///
/// With gradient g, parameter θ, learning rate η and weight decay ω:
/// g ← g + ωθ; m ← g at the first update, then μm + g; θ ← θ − ηm, or θ − η(g + μm) with Nesterov.
#[derive(Debug)]
pub struct Sgd {
    config: SgdConfig,
    momentum: Slots<1>,
    plain: Slots<0>,
}

impl UpdateRule for Sgd {
    fn update(&mut self, parameters: &[GroupedParameter], learning_rate: f64) -> Result<()> {
        let SgdConfig { momentum, nesterov, weight_decay } = self.config;
        let settings = |parameter: &GroupedParameter, steps: i64| FusedSgd {
            learning_rate: learning_rate * parameter.learning_rate_scale,
            weight_decay: weight_decay * parameter.weight_decay_scale,
            momentum,
            nesterov,
            first: steps == 1,
        };
        if self.has_momentum() {
            for bucket in buckets::fill(parameters, &mut self.momentum, settings)? {
                let [buffers] = &bucket.buffers;
                update::sgd(&bucket.weights, &bucket.gradients, buffers, bucket.settings)?;
            }
        } else {
            for bucket in buckets::fill(parameters, &mut self.plain, settings)? {
                update::sgd(&bucket.weights, &bucket.gradients, &[], bucket.settings)?;
            }
        }
        Ok(())
    }

    fn state(&self, parameters: &[GroupedParameter]) -> Result<Vec<(String, Tensor)>> {
        if self.has_momentum() { self.momentum.state(parameters) } else { self.plain.state(parameters) }
    }

    fn load_state(&mut self, parameters: &[GroupedParameter], state: &mut TensorMap) -> Result<()> {
        if self.has_momentum() { self.momentum.load(parameters, state) } else { self.plain.load(parameters, state) }
    }

    fn state_bytes(&self, parameters: &[GroupedParameter]) -> u64 {
        if self.has_momentum() { self.momentum.state_bytes(parameters) } else { self.plain.state_bytes(parameters) }
    }
}

impl Sgd {
    fn has_momentum(&self) -> bool {
        self.config.momentum > 0.0
    }
}
