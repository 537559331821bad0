//! SENG: natural gradients from samples' gradients of low rank, with a sketched least-squares problem.

use super::curvature::{Curvature, Gradient, Observation, Update};
use super::decompose::inverse;
use super::matrix::Shape;
use super::rows::{Rows, with_one};
use super::running::take_like;
use super::source::LayerwiseGradient;
use super::{Pace, check_damping};
use crate::preconditioner::Facts;
use crate::random::Stream;
use crate::state::TensorMap;
use crate::tap::ParameterGrads;
use crate::{Error, Layer, Result};
use tch::{Kind, Tensor};

/// Sketchy empirical natural gradient (Yang, Xu, Wen, Chen and Xu, arXiv 2006.05924).
///
/// With the gradients u_i of the samples' own losses as the columns of U/√B, the direction (UUᵀ/B + λI)⁻¹∇ is
/// (1/λ) [∇ − U b/√B] for the b that minimises ‖U b/√B − ∇‖² + λ‖b‖². Two things are made smaller:
///
/// - Low rank: u_i is a matrix, Σ_t g_t ⊗ a_t over the T positions of the sample (a 1 appended to a where there is a bias). Where T
///   is more than `rank` it is replaced by Û_i = QQᵀu_i, with Q an orthonormal basis of r = min(`rank`, T, d, p) columns of the range
///   of u_i, found from a random p × r matrix and one power iteration. u_i itself is never formed.
/// - Sketch: Ω takes min(`sketch_size`, d) of the d output features times min(`sketch_size`, p) of the p inputs, without replacement
///   and the same for all groups, and multiplies by √(all / taken). b minimises ‖Ω(Û b/√B − ∇)‖² + λ‖b‖²:
///   b = (ÛᵀΩᵀΩÛ/B + λI)⁻¹ ÛᵀΩᵀΩ∇/√B.
///
/// V = (1/λ) [∇ − Û b/√B]; then, if it is asked for, the KL clip of [`KfacConfig`](super::KfacConfig). Without rank and sketch to
/// take away (`rank` >= T, `sketch_size` >= d and p) this is TENGraD's exact direction.
///
/// Written from the paper's formulas. Simpler than the paper: one rule for all layers where it tells large from small ones; a
/// batch stands until the next refresh, without averages over batches. The micro-batches of a step are one batch. The random numbers
/// depend on `seed`, the layer and the refresh only.
///
/// Cost: about 6BTr(p + d) + B²q + B³ at a refresh, q the numbers of a sketch; 2Br(q/d + p)d at every step; state Br(p + d) + B²
/// numbers a layer.
///
/// ```
/// use fngd_core::optimizer::SengConfig;
/// let config = SengConfig { rank: 0, ..Default::default() };
/// assert_eq!(config.check().unwrap_err().to_string(), "rank must be >= 1, found 0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SengConfig {
    /// λ > 0, added to the eigenvalues of the empirical Fisher matrix.
    pub damping: f64,
    /// Largest rank of a sample's gradient, >= 1.
    pub rank: i64,
    /// Most output features, and most inputs, that the sketch takes, >= 1.
    pub sketch_size: i64,
    /// Steps for which a batch stands, >= 1.
    pub refresh_every_steps: u64,
    /// κ > 0; `None` does not clip.
    pub kl_clip: Option<f64>,
    /// Seeds rank reduction and sketch.
    pub seed: u64,
}

impl Default for SengConfig {
    /// Damping and refresh of the paper for CIFAR. Rank and sketch are ours, not tuned.
    fn default() -> Self {
        Self { damping: 2.0, rank: 4, sketch_size: 256, refresh_every_steps: 200, kl_clip: None, seed: 0 }
    }
}

impl SengConfig {
    /// The configuration, if every value is in its range.
    ///
    /// # Errors
    /// `is_config()` names the setting that is out of range.
    pub fn check(self) -> Result<Self> {
        check_damping(self.damping)?;
        for (name, value) in [("rank", self.rank), ("sketch_size", self.sketch_size)] {
            if value < 1 {
                return Err(Error::config(format!("{name} must be >= 1, found {value}")));
            }
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
        LayerwiseGradient::build("SENG", layers, config.pace(), |index, facts| {
            Box::new(Seng::new(config, index, facts))
        })
    }

    fn pace(&self) -> Pace {
        let steps = self.refresh_every_steps;
        Pace { statistics_every_steps: steps, refresh_every_steps: steps, kl_clip: self.kl_clip }
    }
}

/// An earlier batch of one layer.
#[derive(Debug)]
pub(crate) struct Seng {
    config: SengConfig,
    index: usize,
    shape: Shape,
    /// â and ĝ of each micro-batch of this step.
    news: Vec<[Tensor; 2]>,
    refreshes: u64,
    kept: Option<Kept>,
}

/// Û_i = Σ_r ĝ_ir ⊗ â_ir, and its sketched problem.
#[derive(Debug)]
struct Kept {
    /// â `[G, B, r, p]`
    inputs: Tensor,
    /// ĝ `[G, B, r, d]`, those of the sample's own loss
    outputs: Tensor,
    sketch: Sketch,
    /// (ÛᵀΩᵀΩÛ/B + λI)⁻¹, `[B, B]`
    inverse: Tensor,
}

/// What Ω takes.
#[derive(Debug)]
struct Sketch {
    /// Of the inputs, in order.
    inputs: Tensor,
    /// Of the output features, in order.
    outputs: Tensor,
}

/// Most bytes of sketched gradients formed at a time.
const SKETCH_BYTES: u64 = 64 << 20;

impl Seng {
    pub fn new(config: SengConfig, index: usize, facts: &Facts) -> Self {
        Self { config, index, shape: Shape::of(facts), news: Vec::new(), refreshes: 0, kept: None }
    }

    fn stream(&self, purpose: &str) -> Stream {
        Stream::new(self.config.seed, purpose, &[self.index as u64, self.refreshes])
    }

    /// â and ĝ of some samples, `[G, B, r, p]` and `[G, B, r, d]`.
    fn low_rank(&self, rows: &Rows) -> Result<[Tensor; 2]> {
        let Shape { groups, rows: features, columns, joint_bias, kind, device } = self.shape;
        let (samples, positions) = (rows.inputs.size()[0], rows.positions());
        let flat = |tensor: &Tensor, scale: f64| -> Result<Tensor> {
            Ok(tensor.f_mul_scalar(scale)?.f_reshape([samples * groups, positions, -1])?)
        };
        let mut inputs = flat(&rows.inputs, rows.input_scale)?;
        let mut outputs = flat(&rows.outputs, rows.output_scale)?;
        if joint_bias {
            inputs = with_one(&inputs)?;
        }
        if positions > self.config.rank {
            let rank = self.config.rank.min(features).min(columns);
            let start = self.stream("seng rank").uniform((columns * rank) as usize);
            let start = (Tensor::f_from_slice(&start)?.f_sub_scalar(0.5)?).f_view([columns, rank])?;
            let start = start.f_to_kind(kind)?.f_to_device(device)?;
            // uᵀ is [p, d] = AᵀG: products with u and uᵀ go through positions.
            let left = |right: &Tensor| outputs.f_transpose(1, 2)?.f_bmm(&inputs.f_matmul(right)?);
            let right = |left: &Tensor| inputs.f_transpose(1, 2)?.f_bmm(&outputs.f_bmm(left)?);
            let basis = |range: &Tensor| Ok::<_, tch::TchError>(Tensor::f_linalg_qr(range, "reduced")?.0);
            let range = basis(&left(&start)?)?;
            let range = basis(&left(&basis(&right(&range)?)?)?)?;
            inputs = outputs.f_bmm(&range)?.f_transpose(1, 2)?.f_bmm(&inputs)?;
            outputs = range.f_transpose(1, 2)?.f_contiguous()?;
        }
        let inputs = if joint_bias {
            let patch = rows.ordered(inputs.f_narrow(2, 0, columns - 1)?)?;
            Tensor::f_cat(&[patch, inputs.f_narrow(2, columns - 1, 1)?], 2)?
        } else {
            rows.ordered(inputs)?
        };
        let by_group = |tensor: &Tensor, features: i64| -> Result<Tensor> {
            Ok(tensor.f_reshape([samples, groups, -1, features])?.f_transpose(0, 1)?)
        };
        Ok([by_group(&inputs, columns)?, by_group(&outputs, features)?])
    }

    fn sketch(&self) -> Result<Sketch> {
        let take = |purpose: &str, all: i64| -> Result<Tensor> {
            // OK because a layer's sizes are positive.
            let mut taken = self.stream(purpose).permutation(all as usize);
            taken.truncate(self.config.sketch_size as usize);
            taken.sort_unstable();
            Ok(Tensor::f_from_slice(&taken)?.f_to_device(self.shape.device)?)
        };
        Ok(Sketch { inputs: take("seng inputs", self.shape.columns)?, outputs: take("seng outputs", self.shape.rows)? })
    }

    /// The square of what Ω multiplies by: all numbers of a group over those taken.
    fn enlargement(&self, sketch: &Sketch) -> f64 {
        let taken = sketch.inputs.numel() * sketch.outputs.numel();
        (self.shape.rows * self.shape.columns) as f64 / taken as f64
    }

    /// ÛᵀΩᵀΩÛ/B, `[B, B]`.
    fn gram(&self, inputs: &Tensor, outputs: &Tensor, sketch: &Sketch) -> Result<Tensor> {
        let inputs = taken(inputs, -1, &sketch.inputs)?;
        let outputs = taken(outputs, -1, &sketch.outputs)?.f_transpose(2, 3)?;
        let (size, features) = (inputs.size(), outputs.size()[2]);
        let (groups, samples, columns) = (size[0], size[1], size[3]);
        let feature_bytes = self.shape.bytes(groups * samples * columns).max(1);
        // OK because a layer has far fewer than 2^63 features.
        let at_a_time = (SKETCH_BYTES / feature_bytes).clamp(1, features as u64) as i64;
        let mut sum = Tensor::f_zeros([samples, samples], (inputs.kind(), inputs.device()))?;
        for from in (0..features).step_by(at_a_time as usize) {
            let part = outputs.f_narrow(2, from, at_a_time.min(features - from))?.f_matmul(&inputs)?;
            let rows = part.f_transpose(0, 1)?.f_reshape([samples, -1])?;
            sum = sum.f_add_(&rows.f_matmul(&rows.f_transpose(0, 1)?)?)?;
        }
        Ok(sum.f_mul_scalar(self.enlargement(sketch) / samples as f64)?)
    }
}

/// What `rows` take of `tensor` along an axis. A view if that is everything.
fn taken(tensor: &Tensor, axis: i64, rows: &Tensor) -> Result<Tensor> {
    let axis = if axis < 0 { axis + tensor.dim() as i64 } else { axis };
    if rows.size()[0] == tensor.size()[axis as usize] {
        return Ok(tensor.shallow_clone());
    }
    Ok(tensor.f_index_select(axis, rows)?)
}

impl Curvature for Seng {
    fn observe(&mut self, facts: &Facts, seen: &Observation<'_>) -> Result<()> {
        let mut parts = Vec::new();
        Rows::in_parts(facts, seen, |rows| {
            parts.push(self.low_rank(&rows)?);
            Ok(())
        })?;
        let side = |side: usize| Tensor::f_cat(&parts.iter().map(|part| &part[side]).collect::<Vec<_>>(), 1);
        self.news.push([side(0)?, side(1)?]);
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
        let (inputs, outputs, sketch) = (side(0)?, side(1)?, self.sketch()?);
        let gram = self.gram(&inputs, &outputs, &sketch)?;
        let identity = Tensor::f_eye(gram.size()[0], (gram.kind(), gram.device()))?;
        let damped = gram.f_add(&identity.f_mul_scalar(self.config.damping)?)?;
        let Some(made) = inverse(&damped.f_unsqueeze(0)?)? else { return Ok(Update::Failed) };
        let [inverse] = made.value;
        self.refreshes += 1;
        self.kept = Some(Kept { inputs, outputs, sketch, inverse: inverse.f_squeeze_dim(0)? });
        Ok(Update::Made { retried: made.retried })
    }

    fn precondition(&self, facts: &Facts, gradient: &Gradient) -> Result<Option<ParameterGrads>> {
        let Some(Kept { inputs, outputs, sketch, inverse }) = &self.kept else { return Ok(None) };
        let gradient = self.shape.matrix(gradient)?;
        let (groups, samples) = (inputs.size()[0], inputs.size()[1]);
        let root = (samples as f64).sqrt();
        let flat = |tensor: &Tensor| tensor.f_flatten(1, 2);
        // Û_i Ωᵀ Ω∇ = Σ_r ĝ_irᵀ ∇ â_ir over what the sketch takes.
        let sketched = taken(&taken(&gradient, 1, &sketch.outputs)?, 2, &sketch.inputs)?;
        let right = flat(&taken(outputs, -1, &sketch.outputs)?)?.f_bmm(&sketched)?;
        let products = right.f_mul(&flat(&taken(inputs, -1, &sketch.inputs)?)?)?;
        let along =
            products.f_reshape([groups, samples, -1])?.f_sum_dim_intlist(&[0i64, 2][..], false, products.kind())?;
        let coefficients = inverse.f_mv(&along.f_mul_scalar(self.enlargement(sketch) / root)?)?;
        let weights = coefficients.f_mul_scalar(1.0 / root)?.f_view([1, samples, 1, 1])?;
        let sum = flat(&outputs.f_mul(&weights)?)?.f_transpose(1, 2)?.f_bmm(&flat(inputs)?)?;
        let direction = gradient.f_sub(&sum)?.f_div_scalar(self.config.damping)?;
        self.shape.gradients(&direction, facts).map(Some)
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let Some(Kept { inputs, outputs, sketch, inverse }) = &self.kept else { return Ok(Vec::new()) };
        // OK because no run comes near 2^63 refreshes.
        let refreshes = Tensor::f_from_slice(&[i64::try_from(self.refreshes).unwrap()])?;
        let kept = [
            ("inputs", inputs),
            ("outputs", outputs),
            ("sketched_inputs", &sketch.inputs),
            ("sketched_outputs", &sketch.outputs),
            ("inverse", inverse),
            ("refreshes", &refreshes),
        ];
        Ok(kept.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).into())
    }

    fn load_state(&mut self, _facts: &Facts, state: &mut TensorMap) -> Result<()> {
        self.news.clear();
        (self.kept, self.refreshes) = (None, 0);
        let Some(size) = state.size("inputs") else { return Ok(()) };
        let Shape { groups, rows, columns, kind, device, .. } = self.shape;
        let [_, samples, rank, _] = size[..] else {
            let message = format!("tensor `inputs`: expected [{groups}, B, r, {columns}], found {size:?}");
            return Err(Error::state(message));
        };
        let refreshes = state.take("refreshes", Kind::Int64, &[1])?.f_int64_value(&[0])?;
        self.refreshes = u64::try_from(refreshes)
            .map_err(|_| Error::state(format!("tensor `refreshes` counts from 0, found {refreshes}")))?;
        let mut sketched = |name: &str, all: i64| -> Result<Tensor> {
            let size = [self.config.sketch_size.min(all)];
            let taken = state.take(name, Kind::Int64, &size)?;
            let inside = taken.f_ge(0)?.f_logical_and(&taken.f_lt(all)?)?.f_all()?;
            if inside.f_int64_value(&[])? == 0 {
                return Err(Error::state(format!("tensor `{name}` must hold numbers from 0 to {}", all - 1)));
            }
            Ok(taken.f_to_device(device)?)
        };
        let sketch =
            Sketch { inputs: sketched("sketched_inputs", columns)?, outputs: sketched("sketched_outputs", rows)? };
        let mut take = |name: &str, size: &[i64]| take_like(state, name, size, (kind, device));
        self.kept = Some(Kept {
            inputs: take("inputs", &[groups, samples, rank, columns])?,
            outputs: take("outputs", &[groups, samples, rank, rows])?,
            sketch,
            inverse: take("inverse", &[samples, samples])?,
        });
        Ok(())
    }

    fn state_bytes(&self, _facts: &Facts) -> u64 {
        // How large a batch is shows only when it comes.
        self.kept.as_ref().map_or(0, |Kept { inputs, outputs, sketch, inverse }| {
            let indices = sketch.inputs.numel() + sketch.outputs.numel() + 1;
            self.shape.bytes((inputs.numel() + outputs.numel() + inverse.numel()) as i64) + 8 * indices as u64
        })
    }
}
