//! SKFAC: KFAC with factors of as many samples as a batch has, inverted by the Sherman-Morrison-Woodbury formula.

use super::curvature::{Curvature, Gradient, Observation, Update};
use super::decompose::inverse;
use super::matrix::Shape;
use super::rows::Rows;
use super::running::take_like;
use super::source::LayerwiseGradient;
use super::{Pace, check_damping};
use crate::preconditioner::Facts;
use crate::state::TensorMap;
use crate::tap::ParameterGrads;
use crate::{Error, Layer, Result};
use tch::Tensor;

/// SKFAC (Tang et al., CVPR 2021): KFAC of one batch, whose factors have rank B at most.
///
/// With the rows a_i (activations, averaged over the positions of sample i; a 1 appended where there is a bias) of X and the rows
/// g_i (output gradients of the sample's own loss, summed over its positions) of Y:
///
/// - A = XᵀX/B, G = YᵀY/B, π² = (tr A / dim A) / (tr G / dim G), λ_a = π√λ, λ_g = √λ/π
/// - (A + λ_a I)⁻¹ = (1/λ_a) [I − Xᵀ(λ_a B I + XXᵀ)⁻¹X], and the same for G: only B × B matrices are inverted
/// - V = (G + λ_g I)⁻¹ ∇ (A + λ_a I)⁻¹, then the KL clip of [`KfacConfig`](super::KfacConfig)
///
/// No running averages: the batch of the latest refresh stands for all. (The paper sums the activations over positions too.
/// Then A ⊗ G is T² times too large; the mean keeps the size of the Fisher matrix.) The micro-batches of a step are one batch.
///
/// Cost: B²(p + d) + B³ at a refresh, about 4Bpd at every step; state B(p + d) + 2B² numbers a layer.
///
/// ```
/// use fngd_core::optimizer::SkfacConfig;
/// let config = SkfacConfig { damping: -1.0, ..Default::default() };
/// assert_eq!(config.check().unwrap_err().to_string(), "damping must be > 0 and finite, found -1");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SkfacConfig {
    /// λ > 0.
    pub damping: f64,
    /// Steps for which a batch stands, >= 1.
    pub refresh_every_steps: u64,
    /// κ > 0; `None` does not clip.
    pub kl_clip: Option<f64>,
}

impl Default for SkfacConfig {
    /// The settings of its paper; the KL clip is KFAC's.
    fn default() -> Self {
        Self { damping: 1e-3, refresh_every_steps: 10, kl_clip: Some(1e-3) }
    }
}

impl SkfacConfig {
    /// The configuration, if every value is in its range.
    ///
    /// # Errors
    /// `is_config()` names the setting that is out of range.
    pub fn check(self) -> Result<Self> {
        check_damping(self.damping)?;
        self.pace().check()?;
        Ok(self)
    }

    /// Taps `layers`.
    ///
    /// # Errors
    /// Those of [`check`](Self::check); `is_config()` without layers; `is_state()` if another optimizer has tapped them.
    pub fn build(self, layers: Vec<Layer>) -> Result<LayerwiseGradient> {
        let config = self.check()?;
        LayerwiseGradient::build("SKFAC", layers, config.pace(), |_, facts| Box::new(Skfac::new(config, facts)))
    }

    fn pace(&self) -> Pace {
        let steps = self.refresh_every_steps;
        Pace { statistics_every_steps: steps, refresh_every_steps: steps, kl_clip: self.kl_clip }
    }
}

/// The rows of one batch of one layer.
#[derive(Debug)]
pub(crate) struct Skfac {
    config: SkfacConfig,
    shape: Shape,
    /// X `[G, B, p]` and Y `[G, B, d]` of each micro-batch of this step.
    news: Vec<[Tensor; 2]>,
    kept: Option<[Factor; 2]>,
}

/// One side.
#[derive(Debug)]
struct Factor {
    /// X or Y
    rows: Tensor,
    /// λ_a or λ_g, `[G, 1, 1]`
    damping: Tensor,
    /// (λBI + XXᵀ)⁻¹, `[G, B, B]`
    inverse: Tensor,
}

const SIDES: [&str; 2] = ["input", "output"];

impl Skfac {
    pub fn new(config: SkfacConfig, facts: &Facts) -> Self {
        Self { config, shape: Shape::of(facts), news: Vec::new(), kept: None }
    }
}

impl Curvature for Skfac {
    fn observe(&mut self, facts: &Facts, seen: &Observation<'_>) -> Result<()> {
        self.news.push(Rows::summed(facts, seen, &self.shape)?);
        Ok(())
    }

    fn discard(&mut self) {
        self.news.clear();
    }

    fn update(&mut self, _refresh: bool) -> Result<Update> {
        let news = std::mem::take(&mut self.news);
        if news.is_empty() {
            return Ok(Update::Kept);
        }
        let side = |side: usize| Tensor::f_cat(&news.iter().map(|rows| &rows[side]).collect::<Vec<_>>(), 1);
        let (inputs, outputs) = (side(0)?, side(1)?);
        // Mean of the diagonal of XᵀX/B.
        let trace = |rows: &Tensor| rows.f_square()?.f_mean_dim(&[1i64, 2][..], true, rows.kind());
        let (input_trace, output_trace) = (trace(&inputs)?, trace(&outputs)?);
        let usable = input_trace.f_gt(0.0)?.f_logical_and(&output_trace.f_gt(0.0)?)?;
        let ratio = input_trace.f_div(&output_trace)?;
        // A dead layer has no scale to balance.
        let pi = ratio.f_where_self(&usable, &ratio.f_ones_like()?)?.f_sqrt()?;
        let root = self.config.damping.sqrt();
        let (input, output) =
            (Factor::of(inputs, pi.f_mul_scalar(root)?)?, Factor::of(outputs, pi.f_reciprocal()?.f_mul_scalar(root)?)?);
        let (Some((input, first)), Some((output, second))) = (input, output) else { return Ok(Update::Failed) };
        self.kept = Some([input, output]);
        Ok(Update::Made { retried: first || second })
    }

    fn precondition(&self, facts: &Facts, gradient: &Gradient) -> Result<Option<ParameterGrads>> {
        let Some([inputs, outputs]) = &self.kept else { return Ok(None) };
        let gradient = self.shape.matrix(gradient)?;
        let right = inputs.solve(&gradient.f_transpose(1, 2)?)?.f_transpose(1, 2)?;
        self.shape.gradients(&outputs.solve(&right)?, facts).map(Some)
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let Some(kept) = &self.kept else { return Ok(Vec::new()) };
        let tensors = kept.iter().zip(SIDES).flat_map(|(factor, side)| {
            let Factor { rows, damping, inverse } = factor;
            [("rows", rows), ("damping", damping), ("inverse", inverse)]
                .map(|(what, tensor)| (format!("{side}_{what}"), tensor.shallow_clone()))
        });
        Ok(tensors.collect())
    }

    fn load_state(&mut self, _facts: &Facts, state: &mut TensorMap) -> Result<()> {
        self.news.clear();
        self.kept = None;
        let Some(size) = state.size("input_rows") else { return Ok(()) };
        let Shape { groups, rows, columns, kind, device, .. } = self.shape;
        let [_, samples, _] = size[..] else {
            return Err(Error::state(format!(
                "tensor `input_rows`: expected [{groups}, B, {columns}], found {size:?}"
            )));
        };
        let mut side = |side: &str, features: i64| -> Result<Factor> {
            let mut take =
                |what: &str, size: [i64; 3]| take_like(state, &format!("{side}_{what}"), &size, (kind, device));
            Ok(Factor {
                rows: take("rows", [groups, samples, features])?,
                damping: take("damping", [groups, 1, 1])?,
                inverse: take("inverse", [groups, samples, samples])?,
            })
        };
        self.kept = Some([side(SIDES[0], columns)?, side(SIDES[1], rows)?]);
        Ok(())
    }

    fn state_bytes(&self, _facts: &Facts) -> u64 {
        // How large a batch is shows only when it comes.
        let numbers = |factor: &Factor| factor.rows.numel() + factor.damping.numel() + factor.inverse.numel();
        let total = self.kept.as_ref().map_or(0, |kept| kept.iter().map(numbers).sum());
        self.shape.bytes(total as i64)
    }
}

impl Factor {
    /// `None` if the damped Gram matrix of the rows cannot be inverted; else also whether float64 was needed.
    fn of(rows: Tensor, damping: Tensor) -> Result<Option<(Self, bool)>> {
        let samples = rows.size()[1];
        let identity = Tensor::f_eye(samples, (rows.kind(), rows.device()))?;
        let damped = identity.f_mul(&damping.f_mul_scalar(samples as f64)?)?;
        let Some(made) = inverse(&rows.f_bmm(&rows.f_transpose(1, 2)?)?.f_add(&damped)?)? else { return Ok(None) };
        let [inverse] = made.value;
        Ok(Some((Self { rows, damping, inverse }, made.retried)))
    }

    /// (XᵀX/B + λI)⁻¹ M for M `[G, f, n]`.
    fn solve(&self, matrix: &Tensor) -> Result<Tensor> {
        let along = self.rows.f_transpose(1, 2)?.f_bmm(&self.inverse.f_bmm(&self.rows.f_bmm(matrix)?)?)?;
        Ok(matrix.f_sub(&along)?.f_div(&self.damping)?)
    }
}
