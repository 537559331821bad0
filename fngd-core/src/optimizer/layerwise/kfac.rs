//! KFAC: Kronecker-factored approximate curvature.

use super::curvature::{Curvature, Gradient, Observation, Update};
use super::decompose::{eigh, inverse};
use super::matrix::Shape;
use super::rows::{self, Rows};
use super::running::{Running, take_like};
use super::shifts;
use super::source::LayerwiseGradient;
use super::{Form, Pace, check_damping, check_decay};
use crate::layer::Geometry;
use crate::preconditioner::Facts;
use crate::state::TensorMap;
use crate::tap::ParameterGrads;
use crate::{Error, Layer, Result};
use tch::{Kind, Tensor};

/// Kronecker-factored approximate curvature (Martens and Grosse, arXiv 1503.05671; convolutions: Grosse and Martens,
/// arXiv 1602.01407).
///
/// The Fisher matrix of a layer is taken for a Kronecker product A ⊗ G. With a the rows of the layer's input (patches, for a
/// convolution; a 1 appended where there is a bias) and g the output gradients of each sample's own loss, B samples of T
/// positions:
///
/// - A = (1/BT) Σ aaᵀ, G = (1/B) Σ ggᵀ, sums over samples and positions. (The paper on convolutions has the factor 1/T in G
///   instead of in A. Only the product counts.)
/// - Running averages: M ← εM + (1 − ε)M̂ with ε = min(1 − 1/k, `decay`) at the k-th observation.
/// - [`KfacInverse::Eigen`]: A = Q_a D_a Q_aᵀ, G = Q_g D_g Q_gᵀ, and V = Q_g [(Q_gᵀ ∇ Q_a) / (d_g d_aᵀ + λ)] Q_aᵀ, which is
///   exactly (A ⊗ G + λI)⁻¹ ∇.
/// - [`KfacInverse::Cholesky`]: V = (G + √λ/π I)⁻¹ ∇ (A + π√λ I)⁻¹, π² = (tr A / dim A) / (tr G / dim G).
/// - KL clip: all V are multiplied by min(1, √(κ / (η² |Σ ⟨V, ∇⟩|))) with the learning rate η.
///
/// Groups of a convolution have factors of their own. [`Form::Published`] is the widely used PyTorch implementation (kfac-pytorch):
/// g are gradients of the mean loss; a and g of convolutions are divided by T and both moments are means over all positions, which
/// makes the damping of a convolution T⁵ times as strong; running averages start from I, with a constant ε.
///
/// Cost: BT(p² + d²) at an observation, about 9(p³ + d³) at a refresh, 2pd(p + d) at every step; state 2(p² + d²) numbers a layer. A 3×3
/// convolution of stride 1 and padding 1 without a bias is observed for BT(5p²/27 + d²), and keeps 39p²/81 numbers for A.
///
/// ```
/// use fngd_core::optimizer::KfacConfig;
/// let config = KfacConfig { refresh_every_steps: 0, ..Default::default() };
/// assert_eq!(config.check().unwrap_err().to_string(), "refresh_every_steps must be >= 1, found 0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KfacConfig {
    /// λ > 0, added to the eigenvalues of A ⊗ G.
    pub damping: f64,
    /// Largest ε, in [0, 1): weight of the past in running averages.
    pub decay: f64,
    /// Steps from one observation to the next, >= 1.
    pub statistics_every_steps: u64,
    /// Steps from one factorisation to the next, >= 1.
    pub refresh_every_steps: u64,
    /// κ > 0; `None` does not clip.
    pub kl_clip: Option<f64>,
    /// How the damped factors are inverted.
    pub inverse: KfacInverse,
    /// The papers, or the published implementation.
    pub form: Form,
}

/// How KFAC inverts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KfacInverse {
    /// Eigenvectors of both factors: the damped product is inverted exactly.
    Eigen,
    /// Each factor damped by itself, balanced by π, and inverted by Cholesky: cheaper, less exact.
    Cholesky,
}

impl Default for KfacConfig {
    /// The recipe of the FNGD paper's code base for CIFAR.
    fn default() -> Self {
        Self {
            damping: 3e-3,
            decay: 0.95,
            statistics_every_steps: 1,
            refresh_every_steps: 10,
            kl_clip: Some(1e-3),
            inverse: KfacInverse::Eigen,
            form: Form::Textbook,
        }
    }
}

impl KfacConfig {
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
        LayerwiseGradient::build("KFAC", layers, config.pace(), |_, facts| Box::new(Kfac::new(config, facts)))
    }

    fn pace(&self) -> Pace {
        Pace {
            statistics_every_steps: self.statistics_every_steps,
            refresh_every_steps: self.refresh_every_steps,
            kl_clip: self.kl_clip,
        }
    }
}

/// Both factors of one layer.
#[derive(Debug)]
pub(crate) struct Kfac {
    config: KfacConfig,
    shape: Shape,
    /// Whether A is kept as the products of [`shifts`], which are fewer numbers and had for less.
    by_shifts: bool,
    /// A `[G, p, p]`, or the products that it is made of, and G `[G, d, d]`.
    moments: Running<2>,
    /// As named in [`KfacInverse::names`].
    factors: Option<Vec<Tensor>>,
}

const MOMENTS: [&str; 2] = ["input_moment", "output_moment"];

impl KfacInverse {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Eigen => &["input_values", "input_vectors", "output_values", "output_vectors"],
            Self::Cholesky => &["input_inverse", "output_inverse"],
        }
    }
}

impl Kfac {
    pub fn new(config: KfacConfig, facts: &Facts) -> Self {
        let moments = match config.form {
            Form::Textbook => Running::new(config.decay),
            Form::Published => Running::constant(config.decay),
        };
        Self { config, shape: Shape::of(facts), by_shifts: shifts::apply_to(facts), moments, factors: None }
    }

    fn sizes(&self) -> [Vec<i64>; 2] {
        let Shape { groups, rows, columns, .. } = self.shape;
        [vec![groups, columns, columns], vec![groups, rows, rows]]
    }

    /// As [`sizes`](Self::sizes), of what is averaged.
    fn kept_sizes(&self) -> [Vec<i64>; 2] {
        let [inputs, outputs] = self.sizes();
        let channels = self.shape.columns / 9;
        [if self.by_shifts { vec![shifts::PRODUCTS, channels, channels] } else { inputs }, outputs]
    }

    /// Σ aaᵀ over samples and positions as it is kept.
    fn input_sums(&self, facts: &Facts, seen: &Observation<'_>) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        let mut add = |part: Tensor| -> Result<()> {
            sum = Some(match sum.take() {
                Some(mut sum) => sum.f_add_(&part)?,
                None => part,
            });
            Ok(())
        };
        if self.by_shifts {
            seen.uses.iter().try_for_each(|used| add(shifts::products(&used.activations)?))?;
        } else {
            Rows::in_parts(facts, seen, |rows| add(rows.input_moment(&self.shape)?))?;
        }
        sum.ok_or_else(|| Error::state("nothing was seen of a layer"))
    }

    /// A + π√λ I and G + √λ/π I.
    fn damped(&self, [inputs, outputs]: &[Tensor; 2]) -> Result<[Tensor; 2]> {
        let mean_trace = |moment: &Tensor| -> Result<Tensor> {
            Ok(moment.f_diagonal(0, 1, 2)?.f_mean_dim(1i64, false, moment.kind())?.f_view([-1, 1, 1])?)
        };
        let (input_trace, output_trace) = (mean_trace(inputs)?, mean_trace(outputs)?);
        let usable = input_trace.f_gt(0.0)?.f_logical_and(&output_trace.f_gt(0.0)?)?;
        let ratio = input_trace.f_div(&output_trace)?;
        // A dead layer has no scale to balance.
        let pi = ratio.f_where_self(&usable, &ratio.f_ones_like()?)?.f_sqrt()?;
        let root = self.config.damping.sqrt();
        let damp = |moment: &Tensor, damping: &Tensor| -> Result<Tensor> {
            let identity = Tensor::f_eye(moment.size()[1], (moment.kind(), moment.device()))?;
            Ok(moment.f_add(&identity.f_mul(damping)?)?)
        };
        Ok([damp(inputs, &pi.f_mul_scalar(root)?)?, damp(outputs, &pi.f_reciprocal()?.f_mul_scalar(root)?)?])
    }
}

impl Curvature for Kfac {
    fn observe(&mut self, facts: &Facts, seen: &Observation<'_>) -> Result<()> {
        let inputs = self.input_sums(facts, seen)?;
        let outputs = rows::output_moment(facts, seen)?;
        let [input_scale, output_scale] = rows::scales(facts, seen);
        let (samples, positions) = (seen.batch_size as f64, rows::positions(facts, seen) as f64);
        let (input_factor, output_factor) = match self.config.form {
            Form::Textbook => {
                (input_scale * input_scale / (samples * positions), output_scale * output_scale / samples)
            }
            Form::Published => {
                let spatial = if matches!(facts.geometry, Geometry::Linear) { 1.0 } else { positions };
                let mean = 1.0 / (samples * positions * spatial * spatial);
                // The scales hold B, which this form leaves out, and the accumulation, which is no part of any form.
                let unscaled = |scale: f64| if scale == 1.0 { 1.0 } else { (scale / samples) * (scale / samples) };
                (mean * unscaled(input_scale), mean * unscaled(output_scale))
            }
        };
        self.moments.observe([inputs.f_mul_scalar(input_factor)?, outputs.f_mul_scalar(output_factor)?])
    }

    fn discard(&mut self) {
        self.moments.discard();
    }

    fn update(&mut self, refresh: bool) -> Result<Update> {
        if self.config.form == Form::Published && self.moments.is_empty() && self.moments.has_news() {
            let options = (self.shape.kind, self.shape.device);
            let identity = |size: Vec<i64>| Tensor::f_eye(size[1], options)?.f_expand(&size[..], false);
            let [inputs, outputs] = self.sizes();
            let channels = self.shape.columns / 9;
            let inputs = if self.by_shifts { shifts::identity(channels, options)? } else { identity(inputs)? };
            self.moments.start_from([inputs, identity(outputs)?]);
        }
        self.moments.absorb()?;
        let Some(moments) = self.moments.value().filter(|_| refresh || self.factors.is_none()) else {
            return Ok(Update::Kept);
        };
        let [inputs, outputs] = moments;
        let moments =
            [if self.by_shifts { shifts::moment(inputs)? } else { inputs.shallow_clone() }, outputs.shallow_clone()];
        let (made, retried) = match self.config.inverse {
            KfacInverse::Eigen => {
                let (Some(inputs), Some(outputs)) = (eigh(&moments[0])?, eigh(&moments[1])?) else {
                    return Ok(Update::Failed);
                };
                let retried = inputs.retried || outputs.retried;
                (inputs.value.into_iter().chain(outputs.value).collect(), retried)
            }
            KfacInverse::Cholesky => {
                let [inputs, outputs] = self.damped(&moments)?;
                let (Some(inputs), Some(outputs)) = (inverse(&inputs)?, inverse(&outputs)?) else {
                    return Ok(Update::Failed);
                };
                let retried = inputs.retried || outputs.retried;
                (inputs.value.into_iter().chain(outputs.value).collect(), retried)
            }
        };
        self.factors = Some(made);
        Ok(Update::Made { retried })
    }

    fn precondition(&self, facts: &Facts, gradient: &Gradient) -> Result<Option<ParameterGrads>> {
        let gradient = self.shape.matrix(gradient)?;
        let direction = match self.factors.as_deref() {
            Some([input_values, input_vectors, output_values, output_vectors]) => {
                let rotated = output_vectors.f_transpose(1, 2)?.f_bmm(&gradient)?.f_bmm(input_vectors)?;
                let eigenvalues = output_values.f_unsqueeze(2)?.f_mul(&input_values.f_unsqueeze(1)?)?;
                let scaled = rotated.f_div(&eigenvalues.f_add_scalar(self.config.damping)?)?;
                output_vectors.f_bmm(&scaled)?.f_bmm(&input_vectors.f_transpose(1, 2)?)?
            }
            Some([input_inverse, output_inverse]) => output_inverse.f_bmm(&gradient)?.f_bmm(input_inverse)?,
            _ => return Ok(None),
        };
        self.shape.gradients(&direction, facts).map(Some)
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = self.moments.state(MOMENTS)?;
        if let Some(factors) = &self.factors {
            let names = self.config.inverse.names();
            state.extend(names.iter().zip(factors).map(|(name, factor)| ((*name).to_owned(), factor.shallow_clone())));
        }
        Ok(state)
    }

    fn load_state(&mut self, _facts: &Facts, state: &mut TensorMap) -> Result<()> {
        let [kept_inputs, kept_outputs] = self.kept_sizes();
        self.moments.load(MOMENTS, [&kept_inputs, &kept_outputs], (self.shape.kind, self.shape.device), state)?;
        let [inputs, outputs] = self.sizes();
        let names = self.config.inverse.names();
        self.factors = None;
        if names.iter().any(|name| state.contains(name)) {
            let mut factors = Vec::new();
            for name in names {
                let size = if name.starts_with("input") { &inputs } else { &outputs };
                let size = if name.ends_with("values") { &size[..2] } else { &size[..] };
                factors.push(take_like(state, name, size, (self.shape.kind, self.shape.device))?);
            }
            self.factors = Some(factors);
        }
        Ok(())
    }

    fn state_bytes(&self, _facts: &Facts) -> u64 {
        let Shape { groups, rows, columns, .. } = self.shape;
        let factors = groups * (columns * columns + rows * rows);
        let moments: i64 = self.kept_sizes().iter().map(|size| size.iter().product::<i64>()).sum();
        let values = if self.config.inverse == KfacInverse::Eigen { groups * (columns + rows) } else { 0 };
        self.shape.bytes(moments + factors + values) + Kind::Int64.elt_size_in_bytes() as u64
    }
}
