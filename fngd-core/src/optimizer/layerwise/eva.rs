//! Eva: KFAC with factors of rank one.

use super::curvature::{Curvature, Gradient, Observation, Update};
use super::matrix::Shape;
use super::rows::{self, with_one};
use super::running::Running;
use super::source::LayerwiseGradient;
use super::sums;
use super::{Form, Pace, check_damping, check_decay};
use crate::layer::BatchAxis;
use crate::preconditioner::Facts;
use crate::state::TensorMap;
use crate::tap::ParameterGrads;
use crate::weighting::Use;
use crate::{Layer, Result};
use tch::{Kind, Tensor};

/// Eva (Zhang, Shi and Li, arXiv 2308.02123): KFAC whose factors are āāᵀ and ḡḡᵀ, so that the inverse has a closed form.
///
/// With ā and ḡ the means over samples and positions of the layer's input rows (a 1 appended where there is a bias) and of the
/// output gradients of each sample's own loss, as running averages M ← εM + (1 − ε)M̂ with ε = min(1 − 1/k, `decay`):
///
/// V = (1/λ) [∇ − (ḡᵀ∇ā) / (λ + ‖ā‖²‖ḡ‖²) ḡāᵀ], which is (āāᵀ ⊗ ḡḡᵀ + λI)⁻¹ ∇;
///
/// then the KL clip of [`KfacConfig`](super::KfacConfig). Groups of a convolution have vectors of their own.
///
/// [`Form::Published`] is the authors' implementation: output gradients are those of the mean loss, only the first 16 samples of a
/// batch are looked at, running averages start from the first value, and `decay` is the weight of the *new* value.
///
/// Cost: one pass over activations (patches) and output gradients, and 4pd at every step; state p + d numbers a layer.
///
/// ```
/// use fngd_core::optimizer::EvaConfig;
/// let config = EvaConfig { damping: 0.0, ..Default::default() };
/// assert_eq!(config.check().unwrap_err().to_string(), "damping must be > 0 and finite, found 0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvaConfig {
    /// λ > 0.
    pub damping: f64,
    /// Largest ε, in [0, 1): weight of the past in running averages.
    pub decay: f64,
    /// Steps from one observation to the next, >= 1.
    pub statistics_every_steps: u64,
    /// κ > 0; `None` does not clip.
    pub kl_clip: Option<f64>,
    /// The paper, or its published implementation.
    pub form: Form,
}

impl Default for EvaConfig {
    /// The settings of its paper.
    fn default() -> Self {
        Self { damping: 0.03, decay: 0.95, statistics_every_steps: 1, kl_clip: Some(1e-3), form: Form::Textbook }
    }
}

impl EvaConfig {
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
        LayerwiseGradient::build("Eva", layers, config.pace(), |_, facts| Box::new(Eva::new(config, facts)))
    }

    fn pace(&self) -> Pace {
        let statistics_every_steps = self.statistics_every_steps;
        Pace { statistics_every_steps, refresh_every_steps: 1, kl_clip: self.kl_clip }
    }
}

/// Both vectors of one layer.
#[derive(Debug)]
pub(crate) struct Eva {
    config: EvaConfig,
    shape: Shape,
    /// ā `[G, p]` and ḡ `[G, d]`.
    means: Running<2>,
}

const MEANS: [&str; 2] = ["input_mean", "output_mean"];
/// How many samples the published implementation looks at.
const PUBLISHED_SAMPLES: i64 = 16;

impl Eva {
    pub fn new(config: EvaConfig, facts: &Facts) -> Self {
        let means = match config.form {
            Form::Textbook => Running::new(config.decay),
            Form::Published => Running::constant(1.0 - config.decay),
        };
        Self { config, shape: Shape::of(facts), means }
    }
}

impl Curvature for Eva {
    fn observe(&mut self, facts: &Facts, seen: &Observation<'_>) -> Result<()> {
        let samples = match self.config.form {
            Form::Textbook => seen.batch_size,
            Form::Published => PUBLISHED_SAMPLES.min(seen.batch_size),
        };
        let uses = seen.uses.iter().map(|used| first_samples(used, samples, seen.batch_size));
        let uses = uses.collect::<Result<Vec<_>>>()?;
        let first = Observation { uses: &uses, batch_size: samples, accumulation: seen.accumulation };
        let [inputs, outputs] = sums::over_batch(facts, &first)?;
        // The scale of the rows counts the samples looked at; the loss is a mean over all of them.
        let per_sample = match self.config.form {
            Form::Textbook => 1.0,
            Form::Published => 1.0 / samples as f64,
        };
        let count = (samples * rows::positions(facts, &first)) as f64;
        let scales = rows::scales(facts, &first);
        let factor = |scale: f64| if scale == 1.0 { 1.0 / count } else { scale * per_sample / count };
        let mut inputs = inputs.f_mul_scalar(factor(scales[0]))?;
        if self.shape.joint_bias {
            inputs = with_one(&inputs)?;
        }
        self.means.observe([inputs, outputs.f_mul_scalar(factor(scales[1]))?])
    }

    fn discard(&mut self) {
        self.means.discard();
    }

    fn update(&mut self, _refresh: bool) -> Result<Update> {
        // The closed form needs no factorisation: a new mean is a new factor.
        let news = self.means.has_news();
        self.means.absorb()?;
        Ok(if news { Update::Made { retried: false } } else { Update::Kept })
    }

    fn precondition(&self, facts: &Facts, gradient: &Gradient) -> Result<Option<ParameterGrads>> {
        let Some([inputs, outputs]) = self.means.value() else { return Ok(None) };
        let gradient = self.shape.matrix(gradient)?;
        let (row, column) = (inputs.f_unsqueeze(1)?, outputs.f_unsqueeze(2)?);
        // [G, 1, 1]
        let projection = column.f_transpose(1, 2)?.f_bmm(&gradient)?.f_bmm(&row.f_transpose(1, 2)?)?;
        let square = |vector: &Tensor| vector.f_square()?.f_sum_dim_intlist(&[1i64, 2][..], true, vector.kind());
        let curvature = square(&row)?.f_mul(&square(&column)?)?.f_add_scalar(self.config.damping)?;
        let along = column.f_mul(&projection.f_div(&curvature)?)?.f_bmm(&row)?;
        let direction = gradient.f_sub(&along)?.f_div_scalar(self.config.damping)?;
        self.shape.gradients(&direction, facts).map(Some)
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        self.means.state(MEANS)
    }

    fn load_state(&mut self, _facts: &Facts, state: &mut TensorMap) -> Result<()> {
        let Shape { groups, rows, columns, kind, device, .. } = self.shape;
        self.means.load(MEANS, [&[groups, columns], &[groups, rows]], (kind, device), state)
    }

    fn state_bytes(&self, _facts: &Facts) -> u64 {
        let Shape { groups, rows, columns, .. } = self.shape;
        self.shape.bytes(groups * (columns + rows)) + Kind::Int64.elt_size_in_bytes() as u64
    }
}

/// The first `count` samples of a use. Views.
fn first_samples(used: &Use, count: i64, batch_size: i64) -> Result<Use> {
    match used.axis {
        _ if count == batch_size => used.share(),
        BatchAxis::Axis(axis) => {
            let part = |tensor: &Tensor| tensor.f_narrow(axis as i64, 0, count);
            Ok(Use { activations: part(&used.activations)?, output_grads: part(&used.output_grads)?, axis: used.axis })
        }
        _ => used.samples(0, count, batch_size),
    }
}
