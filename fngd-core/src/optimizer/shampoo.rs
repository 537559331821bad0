//! A preconditioner for each dimension of a tensor.

use super::blocks::Blocks;
use super::matrices::{Matrices, Packed};
use super::modes::{self, Side};
use super::slots::{Slots, with_gradients};
use super::spectrum::{Failures, inverse_root};
use super::{GroupedParameter, UpdateRule};
use crate::state::TensorMap;
use crate::timeline::{self, Phase};
use crate::{Error, Result};
use tch::Tensor;

/// Settings of [`Shampoo`].
///
/// ```
/// use fngd_core::optimizer::ShampooConfig;
/// let config = ShampooConfig { block_size: 0, ..Default::default() };
/// assert_eq!(config.build().unwrap_err().to_string(), "block_size must be in [1, 8192], found 0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShampooConfig {
    /// μ of the momentum on the preconditioned gradient, in [0, 1).
    pub momentum: f64,
    /// Look ahead: step along d + μm instead of m.
    pub nesterov: bool,
    /// Decay, >= 0: added to the preconditioned gradient, so momentum sees it and the preconditioner does not.
    pub weight_decay: f64,
    /// Largest side of a block, from 1 to 8192.
    pub block_size: i64,
    /// ε > 0: the statistics start as εI.
    pub epsilon: f64,
    /// Updates between two that the statistics see, >= 1.
    pub statistics_every_steps: u64,
    /// Updates between two that take roots, >= 1.
    pub roots_every_steps: u64,
    /// Where the length of a step comes from.
    pub graft: Graft,
}

/// Where the length of a step comes from. Its direction is Shampoo's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Graft {
    /// From Shampoo itself: the paper's form, whose steps shrink as the statistics grow.
    Nothing,
    /// From the gradient.
    Sgd,
    /// From Adam's g/(√v̂ + ε), whose first moment is the momentum here.
    Adam {
        /// Decay of the average of squared gradients, in [0, 1).
        beta2: f64,
        /// ε > 0, added to the root of that average.
        epsilon: f64,
    },
}

impl Graft {
    /// Adam's with its usual settings.
    pub fn adam() -> Self {
        Self::Adam { beta2: 0.999, epsilon: 1e-8 }
    }
}

impl Default for ShampooConfig {
    /// Those of the code that the paper's tables were made with (Zhang et al., Eva, arXiv 2308.02123), for CIFAR.
    fn default() -> Self {
        Self {
            momentum: 0.9,
            nesterov: false,
            weight_decay: 5e-4,
            block_size: 128,
            epsilon: 1e-12,
            statistics_every_steps: 10,
            roots_every_steps: 10,
            graft: Graft::Sgd,
        }
    }
}

impl ShampooConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// `is_config()` names the setting that is out of range.
    pub fn build(self) -> Result<Shampoo> {
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Error::config(format!("momentum must be in [0, 1), found {}", self.momentum)));
        }
        if self.nesterov && self.momentum == 0.0 {
            return Err(Error::config("nesterov needs momentum > 0, found 0"));
        }
        if !(1..=8192).contains(&self.block_size) {
            return Err(Error::config(format!("block_size must be in [1, 8192], found {}", self.block_size)));
        }
        let every =
            [("statistics_every_steps", self.statistics_every_steps), ("roots_every_steps", self.roots_every_steps)];
        if let Some((name, _)) = every.iter().find(|(_, steps)| *steps == 0) {
            return Err(Error::config(format!("{name} must be >= 1, found 0")));
        }
        let mut positive = vec![("epsilon", self.epsilon)];
        if let Graft::Adam { beta2, epsilon } = self.graft {
            if !(0.0..1.0).contains(&beta2) {
                return Err(Error::config(format!("graft beta2 must be in [0, 1), found {beta2}")));
            }
            positive.push(("graft epsilon", epsilon));
        }
        if let Some((name, found)) = positive.iter().find(|(_, value)| !(*value > 0.0 && value.is_finite())) {
            return Err(Error::config(format!("{name} must be > 0 and finite, found {found}")));
        }
        super::groups::check_scale("weight_decay", self.weight_decay)?;
        Ok(Shampoo {
            config: self,
            momentum: Slots::new(["momentum"]),
            squares: Slots::new(["second_moment"]),
            matrices: Matrices::new(["statistics", "roots"]),
            failures: Failures::default(),
        })
    }
}

/// Shampoo (Gupta, Koren, Singer, arXiv 1802.09568, Algorithm 2), on blocks, with a grafted step length (Anil et al.,
/// arXiv 2002.09018).
///
/// A tensor's small neighbouring dimensions are merged, large ones split into blocks. For a block with gradient G of k dimensions,
/// in each dimension i: Sᵢ ← Sᵢ + G₍ᵢ₎G₍ᵢ₎ᵀ, from εI, and Pᵢ = Sᵢ^(−1/2k). The blocks of G multiplied by P₁ … P_k make d, which is brought to the
/// length of the graft, tensor by tensor. Then, with learning rate η and weight decay ω: d ← d + ωθ; m ← μm + d; θ ← θ − ηm,
/// or θ − η(d + μm) with Nesterov. The grafted forms and the decay outside the preconditioner are those of the published code; the paper
/// has neither: [`Graft::Nothing`] and ω = 0.
///
/// Roots are taken by eigendecomposition; the published code uses a coupled Newton iteration, to the same end. Where it fails, it
/// is tried in float64; where that fails too, the previous root is kept. Both are counted in the step's report.
///
/// Cost: for each block of sides nᵢ, N = Πnᵢ: N·Σnᵢ multiply-adds for d, as many for the statistics, about 10·Σnᵢ³ for the roots. State: two
/// numbers per number of a block's squares, one per parameter, one more with [`Graft::Adam`].
#[derive(Debug)]
pub struct Shampoo {
    config: ShampooConfig,
    momentum: Slots<1>,
    /// Averages of squared gradients, of [`Graft::Adam`] only.
    squares: Slots<1>,
    matrices: Matrices,
    failures: Failures,
}

/// Prefix of the names of the graft's state.
const GRAFT: &str = "graft";
/// Least length that a direction is divided by.
const LEAST_NORM: f64 = 1e-30;

impl UpdateRule for Shampoo {
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
        let mut state = self.momentum.state(parameters)?;
        state.extend(self.matrices.state(parameters));
        if self.grafts_adam() {
            let graft = self.squares.state(parameters)?;
            state.extend(graft.into_iter().map(|(name, tensor)| (format!("{GRAFT}.{name}"), tensor)));
        }
        Ok(state)
    }

    fn load_state(&mut self, parameters: &[GroupedParameter], state: &mut TensorMap) -> Result<()> {
        let mut graft = state.split(GRAFT);
        self.momentum.load(parameters, state)?;
        let known = |parameter: &GroupedParameter| {
            self.momentum.knows(parameter).then(|| self.blocks(parameter).matrix_sizes())
        };
        let mut matrices = Matrices::new(["statistics", "roots"]);
        matrices.load(parameters, state, known)?;
        self.matrices = matrices;
        if self.grafts_adam() {
            self.squares.load(parameters, &mut graft)?;
        }
        graft.finish()
    }

    fn state_bytes(&self, parameters: &[GroupedParameter]) -> u64 {
        let matrices = |parameter| Matrices::bytes(parameter, &self.blocks(parameter).matrix_sizes());
        let graft = if self.grafts_adam() { self.squares.state_bytes(parameters) } else { 0 };
        self.momentum.state_bytes(parameters) + graft + parameters.iter().map(matrices).sum::<u64>()
    }

    fn failures(&self) -> Failures {
        self.failures
    }
}

impl Shampoo {
    fn grafts_adam(&self) -> bool {
        matches!(self.config.graft, Graft::Adam { .. })
    }

    fn blocks(&self, parameter: &GroupedParameter) -> Blocks {
        Blocks::of(&parameter.parameter.tensor.size(), self.config.block_size)
    }

    fn update_one(&mut self, parameter: &GroupedParameter, gradient: &Tensor, learning_rate: f64) -> Result<()> {
        let ShampooConfig { momentum: factor, nesterov, weight_decay, .. } = self.config;
        let mut weight = parameter.parameter.tensor.shallow_clone();
        let steps = self.momentum.advance(parameter)?.steps;
        let mut direction = self.direction(parameter, gradient, steps - 1)?.f_reshape(weight.size())?;
        if let Some(length) = self.graft_norm(parameter, gradient)? {
            let scale = length.f_div(&direction.f_norm()?.f_clamp_min(LEAST_NORM)?)?;
            direction = direction.f_mul(&scale)?;
        }
        let decay = weight_decay * parameter.weight_decay_scale;
        if decay != 0.0 {
            direction = direction.f_add(&weight.f_mul_scalar(decay)?)?;
        }
        let [momentum] = &mut self.momentum.slot(parameter).buffers;
        let _ = momentum.f_mul_scalar_(factor)?.f_add_(&direction)?;
        let ahead = if nesterov { direction.f_add(&momentum.f_mul_scalar(factor)?)? } else { momentum.shallow_clone() };
        let _ = weight.f_sub_(&ahead.f_mul_scalar(learning_rate)?)?;
        Ok(())
    }

    /// The preconditioned gradient, in merged form. `before`: updates before this one.
    fn direction(&mut self, parameter: &GroupedParameter, gradient: &Tensor, before: i64) -> Result<Tensor> {
        let blocks = self.blocks(parameter);
        let is_due = |every: u64| before.unsigned_abs().is_multiple_of(every);
        let sizes = blocks.matrix_sizes();
        let [statistics, roots] = self.matrices.of(parameter, &sizes, [self.config.epsilon, 1.0])?;
        let gradient = blocks.merged(gradient)?;
        let direction = gradient.f_empty_like()?;
        for (index, (part, mut target)) in blocks.views(&gradient)?.iter().zip(blocks.views(&direction)?).enumerate() {
            let first = index * blocks.order();
            if is_due(self.config.statistics_every_steps) {
                let _span = timeline::enter_layer(Phase::Gram, parameter.owner());
                for mode in 0..blocks.order() {
                    let _ = statistics.matrices[first + mode].f_add_(&modes::gram(part, mode)?)?;
                }
            }
            if is_due(self.config.roots_every_steps) {
                let _span = timeline::enter_layer(Phase::Solve, parameter.owner());
                for position in first..first + blocks.order() {
                    take_root(statistics, roots, position, 2 * blocks.order(), &mut self.failures)?;
                }
            }
            let _span = timeline::enter_layer(Phase::Precondition, parameter.owner());
            let roots: Vec<_> = roots.matrices[first..first + blocks.order()].iter().map(Some).collect();
            target.f_copy_(&modes::multiply(part, &roots, Side::Rows)?)?;
        }
        Ok(direction)
    }

    /// The length that the direction gets; `None` if it keeps its own.
    fn graft_norm(&mut self, parameter: &GroupedParameter, gradient: &Tensor) -> Result<Option<Tensor>> {
        match self.config.graft {
            Graft::Nothing => Ok(None),
            Graft::Sgd => Ok(Some(gradient.f_norm()?)),
            Graft::Adam { beta2, epsilon } => {
                let slot = self.squares.advance(parameter)?;
                let correction = 1.0 - beta2.powf(slot.steps as f64);
                let [squares] = &mut slot.buffers;
                let _ = squares.f_mul_scalar_(beta2)?.f_add_(&gradient.f_square()?.f_mul_scalar(1.0 - beta2)?)?;
                let root = squares.f_div_scalar(correction)?.f_sqrt()?.f_add_scalar(epsilon)?;
                Ok(Some(gradient.f_div(&root)?.f_norm()?))
            }
        }
    }
}

fn take_root(statistics: &Packed, roots: &mut Packed, at: usize, root: usize, failures: &mut Failures) -> Result<()> {
    if let Some(taken) = inverse_root(&statistics.matrices[at], root as f64, failures)? {
        roots.matrices[at].f_copy_(&taken)?;
    }
    Ok(())
}
