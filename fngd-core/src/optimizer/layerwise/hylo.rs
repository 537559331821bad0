//! HyLo: a natural gradient from a few samples of one batch.

use super::curvature::{Curvature, Gradient, Observation, Update};
use super::decompose::inverse;
use super::interpolative::skeleton;
use super::matrix::Shape;
use super::rows::Rows;
use super::running::take_like;
use super::source::LayerwiseGradient;
use super::{Pace, check_damping};
use crate::preconditioner::Facts;
use crate::random::Stream;
use crate::state::TensorMap;
use crate::tap::ParameterGrads;
use crate::{Error, Layer, Result};
use tch::{Kind, Tensor};

/// HyLo (Mu et al., SC 2022).
///
/// Sample i's gradient is taken for one outer product, U_i = g_i ⊗ a_i, with a_i the layer's input averaged over the positions of
/// the sample (a 1 appended where there is a bias) and g_i the output gradient of the sample's own loss summed over them.
/// r = ⌈`ratio` · B⌉ samples S stand for the batch, in one of two ways:
///
/// - [`HyloRows::ImportanceSampling`] (KIS): drawn with replacement, sample j with probability p_j ∝ ‖a_j‖‖g_j‖. Û has the columns
///   U_j / √(B r p_j), so that ÛÛᵀ is the empirical Fisher matrix of the batch on average over draws, and M = (ÛᵀÛ + λI)⁻¹.
/// - [`HyloRows::Interpolative`] (KID): the Gram matrix K = (AAᵀ) ∘ (GGᵀ) of the whole batch is decomposed, K ≈ P K_SS Pᵀ, by
///   Cholesky with diagonal pivoting; so U ≈ Û Pᵀ with the columns U_j, j in S, and M = Pᵀ (P K_SS Pᵀ + BλI)⁻¹ P. No chance is
///   involved. The decomposition stands for U itself: what it leaves of K is left out.
///
/// V = (1/λ) [∇ − Û M Ûᵀ∇], which is (F + λI)⁻¹ ∇ with F = ÛÛᵀ (KIS) or ÛPᵀPÛᵀ/B (KID), by the Sherman-Morrison-Woodbury formula;
///
/// then the KL clip of [`KfacConfig`](super::KfacConfig). Groups of a convolution choose for themselves. The micro-batches of a step
/// are one batch. Draws depend on `seed`, the layer and the refresh only. (The paper switches between the two as training goes;
/// here one is chosen.)
///
/// Cost: B(p + d) and r²(p + d) + r³ at a refresh (KIS), B²(p + d) + Br² + r³ (KID); about 4rpd at every step; state r(p + d + r)
/// numbers a layer.
///
/// ```
/// use fngd_core::optimizer::HyloConfig;
/// let config = HyloConfig { ratio: 0.0, ..Default::default() };
/// assert_eq!(config.check().unwrap_err().to_string(), "ratio must be in (0, 1], found 0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HyloConfig {
    /// λ > 0, added to the eigenvalues of the empirical Fisher matrix.
    pub damping: f64,
    /// Share of the batch that is kept, in (0, 1].
    pub ratio: f64,
    /// How it is chosen.
    pub rows: HyloRows,
    /// Steps for which a choice stands, >= 1.
    pub refresh_every_steps: u64,
    /// κ > 0; `None` does not clip.
    pub kl_clip: Option<f64>,
    /// Seeds the draws.
    pub seed: u64,
}

/// How HyLo chooses the samples that stand for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HyloRows {
    /// Kernel importance sampling (KIS): drawn in proportion to the norms of their gradients.
    ImportanceSampling,
    /// Kernel interpolative decomposition (KID): the others are combinations of them.
    Interpolative,
}

impl Default for HyloConfig {
    /// Ratio and refresh of the paper. The damping is ours, not tuned.
    fn default() -> Self {
        Self {
            damping: 0.3,
            ratio: 0.1,
            rows: HyloRows::ImportanceSampling,
            refresh_every_steps: 100,
            kl_clip: Some(1e-3),
            seed: 0,
        }
    }
}

impl HyloConfig {
    /// The configuration, if every value is in its range.
    ///
    /// # Errors
    /// `is_config()` names the setting that is out of range.
    pub fn check(self) -> Result<Self> {
        check_damping(self.damping)?;
        if !(self.ratio > 0.0 && self.ratio <= 1.0) {
            return Err(Error::config(format!("ratio must be in (0, 1], found {}", self.ratio)));
        }
        self.pace().check()?;
        Ok(self)
    }

    /// Taps `layers`.
    ///
    /// # Errors
    /// Those of [`check`](Self::check); `is_config()` without layers; `is_state()` if another optimizer has tapped them.
    pub fn build(self, layers: Vec<Layer>) -> Result<LayerwiseGradient> {
        let config = self.check()?;
        LayerwiseGradient::build("HyLo", layers, config.pace(), |index, facts| {
            Box::new(Hylo::new(config, index, facts))
        })
    }

    fn pace(&self) -> Pace {
        let steps = self.refresh_every_steps;
        Pace { statistics_every_steps: steps, refresh_every_steps: steps, kl_clip: self.kl_clip }
    }
}

/// The chosen samples of one layer.
#[derive(Debug)]
pub(crate) struct Hylo {
    config: HyloConfig,
    index: usize,
    shape: Shape,
    /// Rows a `[G, B, p]` and g `[G, B, d]` of each micro-batch of this step.
    news: Vec<[Tensor; 2]>,
    refreshes: u64,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// `[G, r, p]`
    inputs: Tensor,
    /// `[G, r, d]`; where samples are drawn, divided by √(B r p_j)
    outputs: Tensor,
    /// M, `[G, r, r]`
    inverse: Tensor,
}

impl Hylo {
    pub fn new(config: HyloConfig, index: usize, facts: &Facts) -> Self {
        Self { config, index, shape: Shape::of(facts), news: Vec::new(), refreshes: 0, kept: None }
    }

    /// r. At least 1 and at most all, as the ratio is in (0, 1].
    fn count(&self, samples: i64) -> usize {
        (self.config.ratio * samples as f64).ceil() as usize
    }

    /// KIS. `None` if there is nothing to choose by, or the Gram matrix cannot be inverted; else also whether float64 was needed.
    fn sampled(&self, inputs: &Tensor, outputs: &Tensor) -> Result<Option<(Kept, bool)>> {
        let Some([inputs, outputs]) = self.draw(inputs, outputs)? else { return Ok(None) };
        let gram = |rows: &Tensor| rows.f_bmm(&rows.f_transpose(1, 2)?);
        let damping = Tensor::f_eye(inputs.size()[1], (inputs.kind(), inputs.device()))?;
        let damped = gram(&inputs)?.f_mul(&gram(&outputs)?)?.f_add(&damping.f_mul_scalar(self.config.damping)?)?;
        let Some(made) = inverse(&damped)? else { return Ok(None) };
        let [inverse] = made.value;
        Ok(Some((Kept { inputs, outputs, inverse }, made.retried)))
    }

    /// KID, in float64 throughout. `None` if there is nothing to choose by.
    fn interpolated(&self, inputs: &Tensor, outputs: &Tensor) -> Result<Option<Kept>> {
        let samples = inputs.size()[1];
        let (mut chosen_inputs, mut chosen_outputs, mut cores) = (Vec::new(), Vec::new(), Vec::new());
        for group in 0..self.shape.groups {
            let (inputs, outputs) = (inputs.f_get(group)?, outputs.f_get(group)?);
            let gram = |rows: &Tensor| {
                let wide = rows.f_to_kind(Kind::Double)?;
                wide.f_matmul(&wide.f_transpose(0, 1)?)
            };
            let damping = samples as f64 * self.config.damping;
            let gram = gram(&inputs)?.f_mul(&gram(&outputs)?)?;
            let Some(skeleton) = skeleton(&gram, self.count(samples), damping)? else { return Ok(None) };
            let rows = Tensor::f_from_slice(&skeleton.rows)?.f_to_device(inputs.device())?;
            chosen_inputs.push(inputs.f_index_select(0, &rows)?);
            chosen_outputs.push(outputs.f_index_select(0, &rows)?);
            cores.push(skeleton.core.f_to_kind(self.shape.kind)?.f_to_device(self.shape.device)?);
        }
        let stack = |parts: &[Tensor]| Tensor::f_stack(parts, 0);
        let inverse = stack(&cores)?;
        if inverse.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Ok(None);
        }
        Ok(Some(Kept { inputs: stack(&chosen_inputs)?, outputs: stack(&chosen_outputs)?, inverse }))
    }

    /// Draws from all rows of a batch: the drawn inputs and the scaled outputs. `None` if there is nothing to draw by: all rows are
    /// zero, or not all are finite. Waits for the device.
    fn draw(&self, inputs: &Tensor, outputs: &Tensor) -> Result<Option<[Tensor; 2]>> {
        let norms =
            |rows: &Tensor| rows.f_to_kind(Kind::Double)?.f_square()?.f_sum_dim_intlist(2i64, false, Kind::Double);
        let sizes = norms(inputs)?.f_mul(&norms(outputs)?)?.f_sqrt()?.f_to_device(tch::Device::Cpu)?;
        let count = self.count(sizes.size()[1]);
        let (mut drawn_inputs, mut drawn_outputs) = (Vec::new(), Vec::new());
        for group in 0..self.shape.groups {
            let weights = Vec::<f64>::try_from(&sizes.f_get(group)?)?;
            let mut stream = Stream::new(self.config.seed, "hylo", &[self.index as u64, self.refreshes, group as u64]);
            let Some((chosen, scales)) = draw(&weights, count, &mut stream) else { return Ok(None) };
            let chosen = Tensor::f_from_slice(&chosen)?.f_to_device(inputs.device())?;
            let scales = Tensor::f_from_slice(&scales)?.f_to_kind(outputs.kind())?.f_to_device(outputs.device())?;
            drawn_inputs.push(inputs.f_get(group)?.f_index_select(0, &chosen)?);
            drawn_outputs.push(outputs.f_get(group)?.f_index_select(0, &chosen)?.f_mul(&scales.f_unsqueeze(1)?)?);
        }
        Ok(Some([Tensor::f_stack(&drawn_inputs, 0)?, Tensor::f_stack(&drawn_outputs, 0)?]))
    }
}

/// `count` indices drawn with replacement in proportion to `weights`, and 1/√(B r p) of each.
fn draw(weights: &[f64], count: usize, stream: &mut Stream) -> Option<(Vec<i64>, Vec<f64>)> {
    let mut ends = Vec::with_capacity(weights.len());
    let mut total = 0.0;
    for weight in weights {
        total += weight;
        ends.push(total);
    }
    if !(total > 0.0 && total.is_finite()) {
        return None;
    }
    let chosen: Vec<usize> = stream
        .uniform(count)
        .into_iter()
        // Rounding may lead past the end.
        .map(|share| ends.partition_point(|end| *end <= share * total).min(weights.len() - 1))
        .collect();
    let scale = |index: &usize| (total / (weights.len() as f64 * count as f64 * weights[*index])).sqrt();
    let scales = chosen.iter().map(scale).collect();
    Some((chosen.into_iter().map(|index| index as i64).collect(), scales))
}

impl Curvature for Hylo {
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
        let made = match self.config.rows {
            HyloRows::ImportanceSampling => self.sampled(&inputs, &outputs)?,
            HyloRows::Interpolative => self.interpolated(&inputs, &outputs)?.map(|kept| (kept, false)),
        };
        let Some((kept, retried)) = made else { return Ok(Update::Failed) };
        self.refreshes += 1;
        self.kept = Some(kept);
        Ok(Update::Made { retried })
    }

    fn precondition(&self, facts: &Facts, gradient: &Gradient) -> Result<Option<ParameterGrads>> {
        let Some(Kept { inputs, outputs, inverse }) = &self.kept else { return Ok(None) };
        let gradient = self.shape.matrix(gradient)?;
        // Ûᵀ∇: g_jᵀ ∇ a_j for each j.
        let along = outputs.f_bmm(&gradient)?.f_mul(inputs)?.f_sum_dim_intlist(2i64, true, inputs.kind())?;
        let coefficients = inverse.f_bmm(&along)?;
        let sum = outputs.f_mul(&coefficients)?.f_transpose(1, 2)?.f_bmm(inputs)?;
        let direction = gradient.f_sub(&sum)?.f_div_scalar(self.config.damping)?;
        self.shape.gradients(&direction, facts).map(Some)
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let Some(Kept { inputs, outputs, inverse }) = &self.kept else { return Ok(Vec::new()) };
        // OK because no run comes near 2^63 refreshes.
        let refreshes = Tensor::f_from_slice(&[i64::try_from(self.refreshes).unwrap()])?;
        let kept = [("inputs", inputs), ("outputs", outputs), ("inverse", inverse), ("refreshes", &refreshes)];
        Ok(kept.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).into())
    }

    fn load_state(&mut self, _facts: &Facts, state: &mut TensorMap) -> Result<()> {
        self.news.clear();
        (self.kept, self.refreshes) = (None, 0);
        let Some(size) = state.size("inputs") else { return Ok(()) };
        let Shape { groups, rows, columns, kind, device, .. } = self.shape;
        let [_, drawn, _] = size[..] else {
            return Err(Error::state(format!("tensor `inputs`: expected [{groups}, r, {columns}], found {size:?}")));
        };
        let mut take = |name: &str, size: [i64; 3]| take_like(state, name, &size, (kind, device));
        let kept = Kept {
            inputs: take("inputs", [groups, drawn, columns])?,
            outputs: take("outputs", [groups, drawn, rows])?,
            inverse: take("inverse", [groups, drawn, drawn])?,
        };
        let refreshes = state.take("refreshes", Kind::Int64, &[1])?.f_int64_value(&[0])?;
        self.refreshes = u64::try_from(refreshes)
            .map_err(|_| Error::state(format!("tensor `refreshes` counts from 0, found {refreshes}")))?;
        self.kept = Some(kept);
        Ok(())
    }

    fn state_bytes(&self, _facts: &Facts) -> u64 {
        // How large a batch is shows only when it comes.
        self.kept.as_ref().map_or(0, |Kept { inputs, outputs, inverse }| {
            self.shape.bytes((inputs.numel() + outputs.numel() + inverse.numel()) as i64) + 8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_in_proportion_and_their_scales_make_up_for_it() {
        let weights = [1.0, 0.0, 3.0, 4.0];
        let (mut counts, mut sums) = ([0.0; 4], [0.0; 4]);
        const DRAWS: u64 = 20_000;
        for refresh in 0..DRAWS {
            let (chosen, scales) = draw(&weights, 2, &mut Stream::new(1, "test", &[refresh])).unwrap();
            for (index, scale) in chosen.into_iter().zip(scales) {
                counts[index as usize] += 1.0 / (2 * DRAWS) as f64;
                sums[index as usize] += scale * scale / DRAWS as f64;
            }
        }
        for (index, weight) in weights.into_iter().enumerate() {
            assert!((counts[index] - weight / 8.0).abs() < 0.01, "{counts:?}");
            // On average every sample that can be drawn has the weight 1/B.
            let expected = if weight > 0.0 { 0.25 } else { 0.0 };
            assert!((sums[index] - expected).abs() < 0.01, "{sums:?}");
        }
        assert!(draw(&[0.0; 3], 1, &mut Stream::new(1, "test", &[])).is_none());
        assert!(draw(&[f64::NAN; 3], 1, &mut Stream::new(1, "test", &[])).is_none());
    }
}
