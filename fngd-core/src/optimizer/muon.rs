//! Momentum, orthogonalised.

use super::slots::{Slots, with_gradients};
use super::{Adamw, AdamwConfig, GroupedParameter, UpdateRule};
use crate::module::Role;
use crate::state::TensorMap;
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Settings of [`Muon`].
///
/// ```
/// use fngd_core::optimizer::MuonConfig;
/// let config = MuonConfig { newton_schulz_steps: 0, ..Default::default() };
/// assert_eq!(config.build().unwrap_err().to_string(), "newton_schulz_steps must be in [1, 99], found 0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MuonConfig {
    /// μ, in [0, 1).
    pub momentum: f64,
    /// Look ahead: orthogonalise G + μM instead of M.
    pub nesterov: bool,
    /// Steps of the Newton-Schulz iteration, from 1 to 99.
    pub newton_schulz_steps: u32,
    /// Decoupled decay of the matrices, >= 0, in units of the learning rate.
    pub weight_decay: f64,
    /// How the step of a matrix depends on its shape.
    pub scale: MuonScale,
    /// Which weights are orthogonalised.
    pub scope: MuonScope,
    /// What the iteration computes in.
    pub precision: MuonPrecision,
    /// The rule of everything else.
    pub rest: AdamwConfig,
    /// Its learning rate, >= 0, as a share of the one of the matrices.
    pub rest_learning_rate_scale: f64,
}

/// The step of a d × p matrix, as a factor on the learning rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MuonScale {
    /// √max(1, d/p), Jordan's.
    #[default]
    Original,
    /// 0.2·√max(d, p): steps as large as those of Adam (Liu et al., arXiv 2502.16982).
    MatchRms,
}

/// Which weights are orthogonalised. Biases, normalisation, embeddings and what has fewer than two dimensions never are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MuonScope {
    /// All weights but the first and the last that the model reports: its stem and its head. A model of two layers has no others.
    #[default]
    Hidden,
    /// All weights.
    All,
}

/// What the Newton-Schulz iteration computes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MuonPrecision {
    /// In the kind of the parameter, as the formula says.
    #[default]
    Full,
    /// In bfloat16, as the published implementations do: faster on GPUs that multiply it, and rounded to three digits.
    Bfloat16,
}

impl Default for MuonConfig {
    /// The published ones (Jordan's repository), but for `rest_learning_rate_scale`: there it is 3e-4 / 0.02, for language models. Here the
    /// rest gets what AdamW gets on its own, 1e-3, if the matrices get 0.02.
    fn default() -> Self {
        Self {
            momentum: 0.95,
            nesterov: true,
            newton_schulz_steps: 5,
            weight_decay: 0.01,
            scale: MuonScale::default(),
            scope: MuonScope::default(),
            precision: MuonPrecision::default(),
            rest: AdamwConfig { beta2: 0.95, ..AdamwConfig::default() },
            rest_learning_rate_scale: 0.05,
        }
    }
}

impl MuonConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// `is_config()` names the setting that is out of range.
    pub fn build(self) -> Result<Muon> {
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Error::config(format!("momentum must be in [0, 1), found {}", self.momentum)));
        }
        if self.nesterov && self.momentum == 0.0 {
            return Err(Error::config("nesterov needs momentum > 0, found 0"));
        }
        if !(1..=99).contains(&self.newton_schulz_steps) {
            let found = self.newton_schulz_steps;
            return Err(Error::config(format!("newton_schulz_steps must be in [1, 99], found {found}")));
        }
        super::groups::check_scale("weight_decay", self.weight_decay)?;
        super::groups::check_scale("rest_learning_rate_scale", self.rest_learning_rate_scale)?;
        Ok(Muon { config: self, momentum: Slots::new(["momentum"]), rest: self.rest.build()? })
    }
}

/// Muon (Jordan et al., <https://kellerjordan.github.io/posts/muon/>): momentum whose singular values are all brought near 1.
///
/// A weight of d outputs is a matrix of d rows; a convolution's is flattened to \[out, in·k\]. At each update, with gradient G,
/// learning rate η, weight decay ω and matrix W: M ← μM + G; U = G + μM (Nesterov) or M; W ← W(1 − ηω);
/// W ← W − η·√max(1, d/p)·NS(U), where NS brings X = U/‖U‖_F, transposed so that it is not higher than wide, five times to
/// (aI + bA + cA²)X with A = XXᵀ and a, b, c = 3.4445, −4.7750, 2.0315. These coefficients leave singular values between about 0.7 and 1.2
/// rather than at 1: they are chosen to lift small ones fast.
///
/// Every other parameter is [`Adamw`]'s, with `rest_learning_rate_scale` times the learning rate.
///
/// `torch.optim.Muon` keeps (1 − μ)M, which NS does not see, and rounds X to bfloat16: [`MuonPrecision::Bfloat16`].
///
/// Cost: about 5·(2d + p)·d² multiply-adds with d ≤ p. Matrices of one shape are one batched product. State: one number per number of
/// a matrix, two for the rest.
#[derive(Debug)]
pub struct Muon {
    config: MuonConfig,
    momentum: Slots<1>,
    rest: Adamw,
}

/// Prefix of the names of AdamW's state.
const REST: &str = "rest";
/// Least norm that a matrix is divided by.
const LEAST_NORM: f64 = 1e-7;

impl UpdateRule for Muon {
    fn update(&mut self, parameters: &[GroupedParameter], learning_rate: f64) -> Result<()> {
        let (matrices, rest) = self.config.scope.split(parameters);
        self.rest.update(&rest, learning_rate * self.config.rest_learning_rate_scale)?;
        let _no_grad = tch::no_grad_guard();
        for stack in self.stacks(&matrices)? {
            let directions = orthogonalise(&Tensor::f_stack(&stack.matrices, 0)?, self.config)?.f_unbind(0)?;
            for (parameter, direction) in stack.parameters.iter().zip(directions) {
                self.apply(parameter, &direction, learning_rate * parameter.learning_rate_scale)?;
            }
        }
        Ok(())
    }

    fn state(&self, parameters: &[GroupedParameter]) -> Result<Vec<(String, Tensor)>> {
        let (matrices, rest) = self.config.scope.split(parameters);
        let mut state = self.momentum.state(&matrices)?;
        state.extend(self.rest.state(&rest)?.into_iter().map(|(name, tensor)| (format!("{REST}.{name}"), tensor)));
        Ok(state)
    }

    fn load_state(&mut self, parameters: &[GroupedParameter], state: &mut TensorMap) -> Result<()> {
        let (matrices, rest) = self.config.scope.split(parameters);
        let mut of_rest = state.split(REST);
        self.momentum.load(&matrices, state)?;
        self.rest.load_state(&rest, &mut of_rest)?;
        of_rest.finish()
    }

    fn state_bytes(&self, parameters: &[GroupedParameter]) -> u64 {
        let (matrices, rest) = self.config.scope.split(parameters);
        self.momentum.state_bytes(&matrices) + self.rest.state_bytes(&rest)
    }
}

/// Matrices that one batched product handles.
struct Stack {
    matrices: Vec<Tensor>,
    parameters: Vec<GroupedParameter>,
    form: (Vec<i64>, Kind, Device),
}

impl Muon {
    /// Advances the momentum of every matrix that has a gradient, and sorts what is to be orthogonalised by form.
    fn stacks(&mut self, matrices: &[GroupedParameter]) -> Result<Vec<Stack>> {
        let mut stacks: Vec<Stack> = Vec::new();
        for (parameter, gradient) in with_gradients(matrices)? {
            let slot = self.momentum.advance(parameter).map_err(|error| error.at(parameter))?;
            let [momentum] = &mut slot.buffers;
            let _ = momentum.f_mul_scalar_(self.config.momentum)?.f_add_(&gradient)?;
            let ahead = if self.config.nesterov {
                gradient.f_add(&momentum.f_mul_scalar(self.config.momentum)?)?
            } else {
                momentum.shallow_clone()
            };
            let matrix = ahead.f_flatten(1, -1)?;
            let form = (matrix.size(), matrix.f_kind()?, matrix.device());
            let index = stacks.iter().position(|stack| stack.form == form).unwrap_or(stacks.len());
            if index == stacks.len() {
                stacks.push(Stack { matrices: Vec::new(), parameters: Vec::new(), form });
            }
            stacks[index].matrices.push(matrix);
            stacks[index].parameters.push(parameter.clone());
        }
        Ok(stacks)
    }

    fn apply(&self, parameter: &GroupedParameter, direction: &Tensor, learning_rate: f64) -> Result<()> {
        let mut weight = parameter.parameter.tensor.shallow_clone();
        let decay = self.config.weight_decay * parameter.weight_decay_scale;
        if decay != 0.0 {
            let _ = weight.f_mul_scalar_(1.0 - learning_rate * decay)?;
        }
        let size = direction.size();
        let scale = self.config.scale.of(size[0], size[1]);
        let step = direction.f_mul_scalar(learning_rate * scale)?.f_reshape(weight.size())?;
        let _ = weight.f_sub_(&step)?;
        Ok(())
    }
}

impl MuonScope {
    /// The parameters that are orthogonalised, and the others.
    fn split(self, parameters: &[GroupedParameter]) -> (Vec<GroupedParameter>, Vec<GroupedParameter>) {
        let is_matrix = |grouped: &GroupedParameter| {
            let tensor = &grouped.parameter.tensor;
            grouped.parameter.role == Role::Weight && tensor.dim() >= 2 && tensor.numel() > 0
        };
        let ends = [parameters.iter().position(is_matrix), parameters.iter().rposition(is_matrix)];
        let (mut matrices, mut rest) = (Vec::new(), Vec::new());
        for (index, parameter) in parameters.iter().enumerate() {
            let is_end = self == Self::Hidden && ends.contains(&Some(index));
            if is_matrix(parameter) && !is_end { &mut matrices } else { &mut rest }.push(parameter.clone());
        }
        (matrices, rest)
    }
}

impl MuonScale {
    fn of(self, rows: i64, columns: i64) -> f64 {
        let (rows, columns) = (rows as f64, columns as f64);
        match self {
            Self::Original => (rows / columns).max(1.0).sqrt(),
            Self::MatchRms => 0.2 * rows.max(columns).sqrt(),
        }
    }
}

/// Newton-Schulz on each matrix of `matrices`, `[n, d, p]`. A matrix of zeros stays one.
fn orthogonalise(matrices: &Tensor, config: MuonConfig) -> Result<Tensor> {
    // From the post named above: the quintic with the steepest slope at 0 that keeps singular values in reach of 1.
    const A: f64 = 3.4445;
    const B: f64 = -4.7750;
    const C: f64 = 2.0315;
    let kind = matrices.f_kind()?;
    let mut x = match config.precision {
        MuonPrecision::Full => matrices.shallow_clone(),
        MuonPrecision::Bfloat16 => matrices.f_to_kind(Kind::BFloat16)?,
    };
    let size = matrices.size();
    let is_high = size[1] > size[2];
    if is_high {
        x = x.f_transpose(1, 2)?;
    }
    let norm = x.f_linalg_norm_ord_str("fro", &[1i64, 2][..], true, x.f_kind()?)?;
    x = x.f_div(&norm.f_clamp_min(LEAST_NORM)?)?;
    for _ in 0..config.newton_schulz_steps {
        let gram = x.f_bmm(&x.f_transpose(1, 2)?)?;
        let polynomial = gram.f_baddbmm(&gram, &gram, B, C)?;
        x = x.f_baddbmm(&polynomial, &x, A, 1.0)?;
    }
    if is_high {
        x = x.f_transpose(1, 2)?;
    }
    Ok(x.f_to_kind(kind)?)
}
