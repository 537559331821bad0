//! Stochastic gradient descent with momentum.

use super::rule::scalar_like;
use super::slots::{Slots, copy_like};
use super::{GroupedParameter, UpdateRule};
use crate::state::TensorMap;
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

    fn update_one(&mut self, parameter: &GroupedParameter, mut gradient: Tensor, learning_rate: f64) -> Result<()> {
        let SgdConfig { momentum, nesterov, weight_decay } = self.config;
        let mut weight = parameter.parameter.tensor.shallow_clone();
        let weight_decay = weight_decay * parameter.weight_decay_scale;
        let scaled_rate = scalar_like(&weight, -learning_rate * parameter.learning_rate_scale)?;
        if weight_decay != 0.0 {
            let _ = gradient.f_addcmul_(&weight, &scalar_like(&weight, weight_decay)?)?;
        }
        if !self.has_momentum() {
            self.plain.advance(parameter.name(), || Ok([]))?;
            let _ = weight.f_addcmul_(&gradient, &scaled_rate)?;
            return Ok(());
        }
        let mut first = false;
        let slot = self.momentum.advance(parameter.name(), || {
            first = true;
            Ok([copy_like(&weight, &gradient)?])
        })?;
        let [buffer] = &mut slot.buffers;
        if !first {
            let _ = buffer.f_mul_scalar_(momentum)?;
            let _ = buffer.f_add_(&gradient)?;
        }
        if nesterov {
            let _ = gradient.f_addcmul_(buffer, &scalar_like(&weight, momentum)?)?;
            let _ = weight.f_addcmul_(&gradient, &scaled_rate)?;
        } else {
            let _ = weight.f_addcmul_(buffer, &scaled_rate)?;
        }
        Ok(())
    }
}
