//! Adam in the eigenbasis of Shampoo's statistics.

use super::matrices::Matrices;
use super::modes::{self, Side};
use super::slots::{Slots, with_gradients};
use super::spectrum::{Failures, eigen, refined};
use super::{GroupedParameter, UpdateRule};
use crate::state::TensorMap;
use crate::timeline::{self, Phase};
use crate::{Error, Result};
use tch::Tensor;

/// Settings of [`Soap`].
///
/// ```
/// use fngd_core::optimizer::SoapConfig;
/// let config = SoapConfig { basis_every_steps: 0, ..Default::default() };
/// assert_eq!(config.build().unwrap_err().to_string(), "basis_every_steps must be >= 1, found 0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoapConfig {
    /// Decay of the average of gradients, in [0, 1).
    pub beta1: f64,
    /// Decay of the averages of squared gradients and of the statistics, in [0, 1).
    pub beta2: f64,
    /// ε > 0, added to the root of the average of squares.
    pub epsilon: f64,
    /// Decoupled decay, >= 0, in units of the learning rate.
    pub weight_decay: f64,
    /// Updates between two that refine the basis, >= 1.
    pub basis_every_steps: u64,
    /// Dimensions larger than this keep the identity as their basis; >= 1.
    pub largest_factor: i64,
    /// The first update of a parameter with a basis only sets that basis, as in the published code; the paper leaves the start open. Without it, the
    /// first step divides by itself what round-off leaves where the first gradient has nothing.
    pub skip_first: bool,
}

impl Default for SoapConfig {
    /// The paper's, Section 6 and its published code.
    fn default() -> Self {
        Self {
            beta1: 0.95,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.01,
            basis_every_steps: 10,
            largest_factor: 10_000,
            skip_first: true,
        }
    }
}

impl SoapConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// `is_config()` names the setting that is out of range.
    pub fn build(self) -> Result<Soap> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::config(format!("{name} must be in [0, 1), found {beta}")));
            }
        }
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return Err(Error::config(format!("epsilon must be > 0 and finite, found {}", self.epsilon)));
        }
        if self.basis_every_steps == 0 {
            return Err(Error::config("basis_every_steps must be >= 1, found 0"));
        }
        if self.largest_factor < 1 {
            return Err(Error::config(format!("largest_factor must be >= 1, found {}", self.largest_factor)));
        }
        super::groups::check_scale("weight_decay", self.weight_decay)?;
        Ok(Soap {
            config: self,
            moments: Slots::new(["first_moment", "second_moment"]),
            matrices: Matrices::new(["statistics", "basis"]),
            failures: Failures::default(),
        })
    }
}

/// SOAP (Vyas et al., arXiv 2409.11321, Algorithm 3): Adam on gradients rotated into the eigenbasis of Shampoo's statistics.
///
/// For a parameter of two or more dimensions longer than 1, in each such dimension i that is not longer than `largest_factor`: at the
/// first update Sᵢ = (1 − β₂)G₍ᵢ₎G₍ᵢ₎ᵀ and Qᵢ are its eigenvectors; that update ends here, and is not counted, unless `skip_first` is off. At update t, with G′ and M′ for G and M multiplied by every Qᵢᵀ:
/// θ ← θ(1 − ηω); M ← M + (1 − β₁)(G − M); V ← β₂V + (1 − β₂)G′²; θ ← θ − η/(1 − β₁ᵗ) · N, with N for M′/(√V/√(1 − β₂ᵗ) + ε) multiplied by every Qᵢ.
/// From the second update on Sᵢ ← β₂Sᵢ + (1 − β₂)G₍ᵢ₎G₍ᵢ₎ᵀ afterwards, and every so many updates Qᵢ ← the Q of QR(SᵢQᵢ). Bias corrections as Adam has them:
/// the paper leaves them out of its listing. Other parameters have no Q: this is [`Adamw`](super::Adamw) then. The published code
/// also sorts a basis by its eigenvalues and V with it, which changes the order of the columns only.
///
/// A first basis whose eigendecomposition fails is tried in float64; where that fails too, or a refined basis is not finite, the
/// previous one (at first the identity) is kept. Both are counted in the step's report.
///
/// Cost: for sides nᵢ, N = Πnᵢ: 4·N·Σnᵢ multiply-adds, and about 3·Σnᵢ³ for a refined basis. State: two numbers per parameter and two per
/// number of the squares of its sides.
#[derive(Debug)]
pub struct Soap {
    config: SoapConfig,
    /// The second one belongs to rotated gradients.
    moments: Slots<2>,
    matrices: Matrices,
    failures: Failures,
}

impl UpdateRule for Soap {
    fn update(&mut self, parameters: &[GroupedParameter], learning_rate: f64) -> Result<()> {
        self.failures = Failures::default();
        let _no_grad = tch::no_grad_guard();
        for (parameter, gradient) in with_gradients(parameters)? {
            self.update_one(parameter, &gradient, learning_rate * parameter.learning_rate_scale)
                .map_err(|error| error.at(parameter))?;
        }
        Ok(())
    }

    fn state(&self, parameters: &[GroupedParameter]) -> Result<Vec<(String, Tensor)>> {
        let mut state = self.moments.state(parameters)?;
        state.extend(self.matrices.state(parameters));
        Ok(state)
    }

    fn load_state(&mut self, parameters: &[GroupedParameter], state: &mut TensorMap) -> Result<()> {
        self.moments.load(parameters, state)?;
        let (moments, config) = (&self.moments, self.config);
        self.matrices.load(parameters, state, |parameter| moments.knows(parameter).then(|| config.sizes(parameter)))
    }

    fn state_bytes(&self, parameters: &[GroupedParameter]) -> u64 {
        let matrices = |parameter| Matrices::bytes(parameter, &self.config.sizes(parameter));
        self.moments.state_bytes(parameters) + parameters.iter().map(matrices).sum::<u64>()
    }

    fn failures(&self) -> Failures {
        self.failures
    }
}

impl Soap {
    fn update_one(&mut self, parameter: &GroupedParameter, gradient: &Tensor, learning_rate: f64) -> Result<()> {
        let SoapConfig { beta1, beta2, epsilon, .. } = self.config;
        let modes = self.config.modes(parameter);
        let skips_first = self.config.skip_first && !modes.is_empty();
        let slot = self.moments.advance(parameter)?;
        let updates = slot.steps;
        let matrices = self.matrices.of(parameter, &self.config.sizes(parameter), [0.0, 1.0])?;
        let [statistics, bases] = matrices;
        if updates == 1 {
            let _span = timeline::enter_layer(Phase::Solve, parameter.owner());
            for ((mode, statistic), basis) in modes.iter().zip(&mut statistics.matrices).zip(&mut bases.matrices) {
                let _ = statistic.f_add_(&modes::gram(gradient, *mode)?.f_mul_scalar(1.0 - beta2)?)?;
                if let Some([_, vectors]) = eigen(statistic, &mut self.failures)? {
                    basis.f_copy_(&vectors)?;
                }
            }
            if skips_first {
                return Ok(());
            }
        }
        let steps = updates - i64::from(skips_first);
        let mut by_mode: Vec<Option<&Tensor>> = vec![None; gradient.dim()];
        modes.iter().zip(&bases.matrices).for_each(|(&mode, basis)| by_mode[mode] = Some(basis));

        let [first, second] = &mut slot.buffers;
        let _ = first.f_lerp_(gradient, 1.0 - beta1)?;
        let span = timeline::enter_layer(Phase::Precondition, parameter.owner());
        let rotated = modes::multiply(gradient, &by_mode, Side::Rows)?;
        let _ = second.f_mul_scalar_(beta2)?.f_add_(&rotated.f_square()?.f_mul_scalar(1.0 - beta2)?)?;
        let root = second.f_div_scalar(1.0 - beta2.powf(steps as f64))?.f_sqrt()?.f_add_scalar(epsilon)?;
        let normalised = modes::multiply(first, &by_mode, Side::Rows)?.f_div(&root)?;
        let direction = modes::multiply(&normalised, &by_mode, Side::Columns)?;
        drop(span);

        let mut weight = parameter.parameter.tensor.shallow_clone();
        let decay = self.config.weight_decay * parameter.weight_decay_scale;
        if decay != 0.0 {
            let _ = weight.f_mul_scalar_(1.0 - learning_rate * decay)?;
        }
        let step = direction.f_mul_scalar(learning_rate / (1.0 - beta1.powf(steps as f64)))?;
        let _ = weight.f_sub_(&step)?;

        let is_due = steps.unsigned_abs() % self.config.basis_every_steps == 0;
        for ((mode, statistic), basis) in modes.iter().zip(&mut statistics.matrices).zip(&mut bases.matrices) {
            if updates > 1 {
                let _span = timeline::enter_layer(Phase::Gram, parameter.owner());
                let _ = statistic.f_lerp_(&modes::gram(gradient, *mode)?, 1.0 - beta2)?;
            }
            if is_due {
                let _span = timeline::enter_layer(Phase::Solve, parameter.owner());
                if let Some(better) = refined(statistic, basis, &mut self.failures)? {
                    basis.f_copy_(&better)?;
                }
            }
        }
        Ok(())
    }
}

impl SoapConfig {
    /// The dimensions of a parameter that have a basis.
    fn modes(&self, parameter: &GroupedParameter) -> Vec<usize> {
        let size = parameter.parameter.tensor.size();
        let is_matrix = size.iter().filter(|&&length| length > 1).count() >= 2 && !size.contains(&0);
        let has_basis = |length: i64| is_matrix && length > 1 && length <= self.largest_factor;
        (0..size.len()).filter(|&mode| has_basis(size[mode])).collect()
    }

    /// The sizes of its matrices.
    fn sizes(&self, parameter: &GroupedParameter) -> Vec<i64> {
        let size = parameter.parameter.tensor.size();
        self.modes(parameter).into_iter().map(|mode| size[mode]).collect()
    }
}
