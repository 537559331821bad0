//! MBF: the empirical Fisher matrix in many small blocks.

use super::curvature::{Curvature, Gradient, Observation, Update};
use super::decompose::inverse;
use super::matrix::Shape;
use super::rows::{Rows, with_one};
use super::running::{Running, take_like};
use super::source::LayerwiseGradient;
use super::{Pace, check_damping, check_decay};
use crate::layer::Geometry;
use crate::preconditioner::Facts;
use crate::state::TensorMap;
use crate::tap::ParameterGrads;
use crate::{Layer, Result};
use tch::{Kind, Tensor};

/// The mini-block Fisher method (Bahamou, Goldfarb and Ren, AISTATS 2023, arXiv 2202.04124).
///
/// With u the gradient of a sample's own loss, the empirical Fisher matrix of a layer, (1/B) Σ uuᵀ, is kept in blocks only:
///
/// - convolution: one block for each pair of output and input channel, over the k numbers of its kernel:
///   F_oi = (1/B) Σ u_oi u_oiᵀ, `[k, k]` (k = 9 for 3 × 3); a bias is a block of one number for each output channel
/// - linear layer: one block for a row of the weight (a 1 appended to the inputs where there is a bias), the mean over the d rows:
///   F = (1/Bd) Σ Σ_o u_o u_oᵀ, `[p, p]`, shared by all of them
/// - running averages M ← εM + (1 − ε)M̂ with ε = min(1 − 1/k, `decay`) at the k-th observation
/// - V = (M + λI)⁻¹ ∇, block by block; then the KL clip of [`KfacConfig`](super::KfacConfig), which is not MBF's own
///
/// u are the samples' gradients themselves; where weights are tied, of all uses together. A transposed convolution has one block
/// for each kernel too; its bias trains with the plain gradient.
///
/// Cost for a convolution: BTpd + Bkpd at an observation, pdk² at a refresh, pdk at every step; state 2pdk numbers a layer. For a
/// linear layer on one position: Bp², p³, dp², 2p².
///
/// ```
/// use fngd_core::optimizer::MbfConfig;
/// let config = MbfConfig { decay: 1.0, ..Default::default() };
/// assert_eq!(config.check().unwrap_err().to_string(), "decay must be in [0, 1), found 1");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MbfConfig {
    /// λ > 0, added to the eigenvalues of every block.
    pub damping: f64,
    /// Largest ε, in [0, 1): weight of the past in running averages.
    pub decay: f64,
    /// Steps from one observation to the next, >= 1.
    pub statistics_every_steps: u64,
    /// Steps from one factorisation to the next, >= 1.
    pub refresh_every_steps: u64,
    /// κ > 0; `None` does not clip.
    pub kl_clip: Option<f64>,
}

impl Default for MbfConfig {
    /// Ours, not tuned beyond a digits model: the paper searches the damping anew for each problem.
    fn default() -> Self {
        Self { damping: 3e-3, decay: 0.9, statistics_every_steps: 10, refresh_every_steps: 100, kl_clip: Some(1e-3) }
    }
}

impl MbfConfig {
    /// The configuration, if every value is in its range.
    ///
    /// # Errors
    /// `is_config()` names the setting that is out of range.
    pub fn check(self) -> Result<Self> {
        check_damping(self.damping)?;
        check_decay(self.decay)?;
        self.pace().check()?;
        Ok(self)
    }

    /// Taps `layers`.
    ///
    /// # Errors
    /// Those of [`check`](Self::check); `is_config()` without layers; `is_state()` if another optimizer has tapped them.
    pub fn build(self, layers: Vec<Layer>) -> Result<LayerwiseGradient> {
        let config = self.check()?;
        LayerwiseGradient::build("MBF", layers, config.pace(), |_, facts| Box::new(Mbf::new(config, facts)))
    }

    fn pace(&self) -> Pace {
        Pace {
            statistics_every_steps: self.statistics_every_steps,
            refresh_every_steps: self.refresh_every_steps,
            kl_clip: self.kl_clip,
        }
    }
}

/// The blocks of one layer.
#[derive(Debug)]
pub(crate) struct Mbf {
    config: MbfConfig,
    shape: Shape,
    blocks: Blocks,
    /// M of the weight's blocks, `[blocks, size, size]`, and of the bias's, `[biases, 1, 1]`.
    moments: Running<2>,
    /// (M + λI)⁻¹ of both.
    inverses: Option<[Tensor; 2]>,
}

/// How a layer's weight is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Blocks {
    count: i64,
    size: i64,
    /// Blocks of one number: the bias of a convolution. A linear layer's bias is in its block.
    biases: i64,
    linear: bool,
}

const MOMENTS: [&str; 2] = ["moment", "bias_moment"];
const INVERSES: [&str; 2] = ["inverse", "bias_inverse"];
/// Most bytes of per-sample gradients formed at a time.
const GRADIENT_BYTES: u64 = 64 << 20;

impl Blocks {
    fn of(facts: &Facts, shape: &Shape) -> Self {
        if matches!(facts.geometry, Geometry::Linear) {
            return Self { count: 1, size: shape.columns, biases: 0, linear: true };
        }
        let size = facts.weight.size();
        let biases = if shape.joint_bias { shape.groups * shape.rows } else { 0 };
        Self { count: size[0] * size[1], size: size[2..].iter().product(), biases, linear: false }
    }

    fn sizes(self) -> [[i64; 3]; 2] {
        [[self.count, self.size, self.size], [self.biases, 1, 1]]
    }
}

impl Mbf {
    pub fn new(config: MbfConfig, facts: &Facts) -> Self {
        let shape = Shape::of(facts);
        let blocks = Blocks::of(facts, &shape);
        Self { config, shape, blocks, moments: Running::new(config.decay), inverses: None }
    }

    /// Σ over samples of u_oi u_oiᵀ for each kernel, `[G · d · C, k, k]`, and of the squared gradients of the bias.
    fn kernels(&self, rows: &Rows) -> Result<[Tensor; 2]> {
        let Shape { groups, rows: features, .. } = self.shape;
        let (samples, size) = (rows.inputs.size()[0], self.blocks.size);
        let inputs = rows.inputs.f_flatten(0, 1)?;
        let channels = self.blocks.count / (groups * features);
        let feature_bytes = self.shape.bytes(samples * groups * channels * size).max(1);
        // OK because a layer has far fewer than 2^63 features.
        let at_a_time = (GRADIENT_BYTES / feature_bytes).clamp(1, features as u64) as i64;
        let mut parts = Vec::new();
        for from in (0..features).step_by(at_a_time as usize) {
            let count = at_a_time.min(features - from);
            let outputs = rows.outputs.f_narrow(3, from, count)?.f_flatten(0, 1)?;
            let gradients = rows.ordered(outputs.f_transpose(1, 2)?.f_bmm(&inputs)?)?;
            // [B, G · count · C, k] → [G · count · C, k, B]
            let by_block = gradients.f_reshape([samples, groups * count * channels, size])?.f_permute([1, 2, 0])?;
            let squares = by_block.f_bmm(&by_block.f_transpose(1, 2)?)?;
            parts.push(squares.f_view([groups, count, channels, size, size])?);
        }
        let weight = Tensor::f_cat(&parts, 1)?.f_reshape([self.blocks.count, size, size])?;
        let bias = if self.blocks.biases == 0 {
            weight.f_new_zeros([0, 1, 1], (weight.kind(), weight.device()))?
        } else {
            let sums = rows.outputs.f_sum_dim_intlist(2i64, false, weight.kind())?;
            sums.f_square()?.f_sum_dim_intlist(0i64, false, weight.kind())?.f_reshape([-1, 1, 1])?
        };
        Ok([weight, bias])
    }

    /// Σ over samples and features of u_o u_oᵀ, `[1, p, p]`.
    fn shared(&self, rows: &Rows) -> Result<[Tensor; 2]> {
        // [B, T, p] and [B, T, d]
        let mut inputs = rows.inputs.f_squeeze_dim(1)?;
        if self.shape.joint_bias {
            inputs = with_one(&inputs)?;
        }
        let outputs = rows.outputs.f_squeeze_dim(1)?;
        let flat = |tensor: &Tensor| tensor.f_reshape([-1, self.shape.columns]);
        let block = if rows.positions() <= self.shape.rows {
            // Σ_o u_o u_oᵀ = Aᵀ (GGᵀ) A with A and G the inputs and output gradients of the sample: u is never formed.
            let gram = outputs.f_bmm(&outputs.f_transpose(1, 2)?)?;
            flat(&inputs)?.f_transpose(0, 1)?.f_matmul(&flat(&gram.f_bmm(&inputs)?)?)?
        } else {
            let gradients = flat(&outputs.f_transpose(1, 2)?.f_bmm(&inputs)?)?;
            gradients.f_transpose(0, 1)?.f_matmul(&gradients)?
        };
        let none = block.f_new_zeros([0, 1, 1], (block.kind(), block.device()))?;
        Ok([block.f_unsqueeze(0)?, none])
    }
}

impl Curvature for Mbf {
    fn observe(&mut self, facts: &Facts, seen: &Observation<'_>) -> Result<()> {
        let mut sums: Option<[Tensor; 2]> = None;
        let mut scale = 1.0;
        Rows::in_parts(facts, seen, |rows| {
            let parts = if self.blocks.linear { self.shared(&rows)? } else { self.kernels(&rows)? };
            scale = rows.input_scale * rows.output_scale;
            sums = Some(match sums.take() {
                Some([mut weight, mut bias]) => [weight.f_add_(&parts[0])?, bias.f_add_(&parts[1])?],
                None => parts,
            });
            Ok(())
        })?;
        let Some([weight, bias]) = sums else { return Ok(()) };
        let factor = scale * scale / seen.batch_size as f64;
        let shared_by = if self.blocks.linear { self.shape.rows as f64 } else { 1.0 };
        self.moments.observe([weight.f_mul_scalar(factor / shared_by)?, bias.f_mul_scalar(factor)?])
    }

    fn discard(&mut self) {
        self.moments.discard();
    }

    fn update(&mut self, refresh: bool) -> Result<Update> {
        self.moments.absorb()?;
        let Some(moments) = self.moments.value().filter(|_| refresh || self.inverses.is_none()) else {
            return Ok(Update::Kept);
        };
        let damped = |moment: &Tensor| -> Result<Tensor> {
            let identity = Tensor::f_eye(moment.size()[1], (moment.kind(), moment.device()))?;
            Ok(moment.f_add(&identity.f_mul_scalar(self.config.damping)?)?)
        };
        let Some(weight) = inverse(&damped(&moments[0])?)? else { return Ok(Update::Failed) };
        let (bias, bias_retried) = if self.blocks.biases == 0 {
            (moments[1].shallow_clone(), false)
        } else {
            let Some(made) = inverse(&damped(&moments[1])?)? else { return Ok(Update::Failed) };
            let [bias] = made.value;
            (bias, made.retried)
        };
        let [block] = weight.value;
        self.inverses = Some([block, bias]);
        Ok(Update::Made { retried: weight.retried || bias_retried })
    }

    fn precondition(&self, facts: &Facts, gradient: &Gradient) -> Result<Option<ParameterGrads>> {
        let Some([weight, bias]) = &self.inverses else { return Ok(None) };
        if self.blocks.linear {
            let matrix = self.shape.matrix(gradient)?;
            return self.shape.gradients(&matrix.f_bmm(weight)?, facts).map(Some);
        }
        let kernels = gradient.weight.f_to_kind(self.shape.kind)?;
        let kernels = kernels.f_reshape([self.blocks.count, 1, self.blocks.size])?;
        let direction = kernels.f_bmm(weight)?.f_reshape(facts.weight.size())?;
        let bias = match gradient.bias.as_ref().filter(|_| self.blocks.biases > 0) {
            Some(gradient) => Some(gradient.f_to_kind(self.shape.kind)?.f_mul(&bias.f_reshape([-1])?)?),
            None => None,
        };
        Ok(Some((Some(direction), bias)))
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = self.moments.state(MOMENTS)?;
        if let Some(inverses) = &self.inverses {
            state.extend(INVERSES.map(str::to_owned).into_iter().zip(inverses.iter().map(Tensor::shallow_clone)));
        }
        // A layer without such blocks has nothing to save of them.
        state.retain(|(_, tensor)| tensor.numel() > 0);
        Ok(state)
    }

    fn load_state(&mut self, _facts: &Facts, state: &mut TensorMap) -> Result<()> {
        let options = (self.shape.kind, self.shape.device);
        let [weight, bias] = self.blocks.sizes();
        self.moments.load(MOMENTS, [&weight, &bias], options, state)?;
        self.inverses = None;
        if state.contains(INVERSES[0]) {
            let mut take = |name: &str, size: &[i64]| take_like(state, name, size, options);
            self.inverses = Some([take(INVERSES[0], &weight)?, take(INVERSES[1], &bias)?]);
        }
        Ok(())
    }

    fn state_bytes(&self, _facts: &Facts) -> u64 {
        let numbers: i64 = self.blocks.sizes().iter().map(|size| size.iter().product::<i64>()).sum();
        self.shape.bytes(2 * numbers) + Kind::Int64.elt_size_in_bytes() as u64
    }
}
