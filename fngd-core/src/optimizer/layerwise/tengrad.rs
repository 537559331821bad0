//! TENGraD: exact natural gradients of a layer, with a Gram matrix that is kept for many steps.

use super::curvature::{Curvature, Gradient, Observation, Update};
use super::decompose::inverse;
use super::running::take_like;
use super::source::LayerwiseGradient;
use super::{Pace, check_damping};
use crate::factors::is_channels_last;
use crate::gram::at_least_float;
use crate::layer::{BatchAxis, Geometry};
use crate::preconditioner::{Facts, Pending};
use crate::state::TensorMap;
use crate::tap::ParameterGrads;
use crate::weighting::Use;
use crate::{Error, Layer, Result, samples};
use std::time::Duration;
use tch::{Kind, Tensor};

/// Time-efficient natural gradient descent (Soori et al., arXiv 2106.03947): FNGD's closest ancestor.
///
/// With the per-sample gradients of an earlier batch as the columns of U, their Gram matrix K = UᵀU, and the present gradient ∇:
///
/// V = (1/λ) [∇ − (1/B) U (K/B + λI)⁻¹ Uᵀ∇], which is (UUᵀ/B + λI)⁻¹ ∇ (Sherman, Morrison and Woodbury);
///
/// then the KL clip of [`KfacConfig`](super::KfacConfig). U is never formed: the layer's activations and output gradients of that
/// batch are kept, Uᵀ∇ is a forward pass of the layer with ∇ for its weight, and U c is its gradient with weighted samples. So any
/// layer is exact, convolutions too; the paper's implementation approximates those. With micro-batches, U is that of the last one.
///
/// Cost: the Gram matrix and B³ at a refresh; one more forward and one more weight gradient of the layer at every step; state: the
/// activations and output gradients of one batch, and B² numbers a layer.
///
/// ```
/// use fngd_core::optimizer::TengradConfig;
/// let config = TengradConfig { refresh_every_steps: 0, ..Default::default() };
/// assert_eq!(config.check().unwrap_err().to_string(), "refresh_every_steps must be >= 1, found 0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TengradConfig {
    /// λ > 0, added to the eigenvalues of the empirical Fisher matrix.
    pub damping: f64,
    /// Steps for which a Gram matrix is kept, >= 1.
    pub refresh_every_steps: u64,
    /// κ > 0; `None` does not clip.
    pub kl_clip: Option<f64>,
    /// Most bytes of a block of per-sample contributions.
    pub gram_memory_bytes: u64,
}

impl Default for TengradConfig {
    /// The refresh of the paper. It gives no single damping: this one is ours, not tuned.
    fn default() -> Self {
        Self { damping: 0.3, refresh_every_steps: 100, kl_clip: Some(1e-3), gram_memory_bytes: 512 << 20 }
    }
}

impl TengradConfig {
    /// The configuration, if every value is in its range.
    ///
    /// # Errors
    /// `is_config()` names the setting that is out of range.
    pub fn check(self) -> Result<Self> {
        check_damping(self.damping)?;
        self.pace().check()?;
        crate::config::check_gram_memory(self.gram_memory_bytes)?;
        Ok(self)
    }

    /// Taps `layers`.
    ///
    /// # Errors
    /// Those of [`check`](Self::check); `is_config()` without layers; `is_state()` if another optimizer has tapped them.
    pub fn build(self, layers: Vec<Layer>) -> Result<LayerwiseGradient> {
        let config = self.check()?;
        LayerwiseGradient::build("TENGraD", layers, config.pace(), |_, _| Box::new(Tengrad::new(config)))
    }

    fn pace(&self) -> Pace {
        let steps = self.refresh_every_steps;
        Pace { statistics_every_steps: steps, refresh_every_steps: steps, kl_clip: self.kl_clip }
    }
}

/// An earlier batch of one layer.
#[derive(Debug)]
pub(crate) struct Tengrad {
    config: TengradConfig,
    /// Of this step, with its Gram matrix K/B.
    news: Option<(Batch, Tensor)>,
    /// The batch that U stands for, and (K/B + λI)⁻¹, `[B, B]`.
    kept: Option<(Batch, Tensor)>,
}

/// What a layer saw of a batch. Output gradients are those of the mean loss.
#[derive(Debug)]
struct Batch {
    uses: Vec<Use>,
    size: i64,
}

impl Tengrad {
    pub fn new(config: TengradConfig) -> Self {
        Self { config, news: None, kept: None }
    }
}

impl Curvature for Tengrad {
    fn observe(&mut self, facts: &Facts, seen: &Observation<'_>) -> Result<()> {
        let size = seen.batch_size;
        let shared = || seen.uses.iter().map(Use::share).collect::<Result<Vec<_>>>();
        let mut uses = shared()?;
        for used in &mut uses {
            if seen.accumulation != 1.0 {
                used.output_grads = used.output_grads.f_mul_scalar(seen.accumulation)?;
            }
            used.activations = Layout::of(&used.activations).lay_out(&used.activations)?;
            used.output_grads = Layout::of(&used.output_grads).lay_out(&used.output_grads)?;
        }
        let gram = Pending::form(0, facts, shared()?, size, self.config.gram_memory_bytes)?.gram;
        // The Gram matrix is over contributions, U/B, and before the accumulation is put right.
        let gram = gram.f_mul_scalar(size as f64 * seen.accumulation * seen.accumulation)?;
        self.news = Some((Batch { uses, size }, gram));
        Ok(())
    }

    fn discard(&mut self) {
        self.news = None;
    }

    fn update(&mut self, _refresh: bool) -> Result<Update> {
        let Some((batch, gram)) = self.news.take() else { return Ok(Update::Kept) };
        let identity = Tensor::f_eye(batch.size, (gram.kind(), gram.device()))?;
        let damped = gram.f_add(&identity.f_mul_scalar(self.config.damping)?)?;
        let Some(made) = inverse(&damped.f_unsqueeze(0)?)? else { return Ok(Update::Failed) };
        let [inverse] = made.value;
        self.kept = Some((batch, inverse.f_squeeze_dim(0)?));
        Ok(Update::Made { retried: made.retried })
    }

    fn precondition(&self, facts: &Facts, gradient: &Gradient) -> Result<Option<ParameterGrads>> {
        let Some((batch, inverse)) = &self.kept else { return Ok(None) };
        let projections = batch.projections(facts, gradient)?;
        let coefficients = inverse.f_mv(&projections)?;
        // U c / B is the sum of the contributions weighted by c.
        let (weight, bias) = facts.gradient(&batch.uses, Some(&coefficients), &mut Duration::default())?;
        let turned = |gradient: &Tensor, along: Option<Tensor>| -> Result<Tensor> {
            let rest = along.map_or_else(|| Ok(gradient.shallow_clone()), |along| gradient.f_sub(&along))?;
            Ok(rest.f_div_scalar(self.config.damping)?)
        };
        let weight = turned(&gradient.weight, weight)?;
        let bias = gradient.bias.as_ref().map(|gradient| turned(gradient, bias)).transpose()?;
        Ok(Some((Some(weight), bias)))
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let Some((batch, inverse)) = &self.kept else { return Ok(Vec::new()) };
        let mut state = vec![("inverse".to_owned(), inverse.shallow_clone())];
        let layouts = batch.uses.iter().flat_map(|used| {
            let axis = match used.axis {
                BatchAxis::Axis(axis) => axis as i64,
                BatchAxis::Leading | BatchAxis::Unknown => LEADING,
            };
            [axis, Layout::of(&used.activations) as i64, Layout::of(&used.output_grads) as i64]
        });
        let layouts = Tensor::f_from_slice(&layouts.collect::<Vec<_>>())?;
        state.push(("layouts".to_owned(), layouts.f_view([-1, 3])?));
        for (index, used) in batch.uses.iter().enumerate() {
            state.push((format!("activations_{index}"), used.activations.f_detach()?));
            state.push((format!("output_grads_{index}"), used.output_grads.f_detach()?));
        }
        Ok(state)
    }

    fn load_state(&mut self, facts: &Facts, state: &mut TensorMap) -> Result<()> {
        (self.news, self.kept) = (None, None);
        let Some(size) = state.size("inverse") else { return Ok(()) };
        if size.len() != 2 || size[0] != size[1] || size[0] == 0 {
            return Err(Error::state(format!("tensor `inverse`: expected [B, B], found {size:?}")));
        }
        let (kind, device) = (facts.weight.kind(), facts.weight.device());
        let wide = if kind == Kind::Double { Kind::Double } else { Kind::Float };
        let inverse = take_like(state, "inverse", &size, (wide, device))?;
        let count = state.size("layouts").and_then(|size| size.first().copied()).unwrap_or(0);
        let layouts = Vec::<i64>::try_from(&state.take("layouts", Kind::Int64, &[count, 3])?.f_reshape([-1])?)?;
        let mut uses = Vec::new();
        for (index, layout) in layouts.chunks_exact(3).enumerate() {
            let mut tensor = |what: &str, layout: i64| -> Result<Tensor> {
                let name = format!("{what}_{index}");
                let size = state.size(&name).unwrap_or_default();
                let tensor = take_like(state, &name, &size, (kind, device))?;
                let channels_last = layout == Layout::ChannelsLast as i64 && size.len() == 4;
                if channels_last { Layout::ChannelsLast } else { Layout::Contiguous }.lay_out(&tensor)
            };
            let (activations, output_grads) = (tensor("activations", layout[1])?, tensor("output_grads", layout[2])?);
            let axis = match usize::try_from(layout[0]) {
                Ok(axis) => BatchAxis::Axis(axis),
                Err(_) => BatchAxis::Leading,
            };
            samples::check(&activations, axis, size[0], "saved activations")?;
            samples::check(&output_grads, axis, size[0], "saved output gradients")?;
            uses.push(Use { activations, output_grads, axis });
        }
        if uses.is_empty() {
            return Err(Error::state("tensor `layouts`: expected at least one use, found none"));
        }
        self.kept = Some((Batch { uses, size: size[0] }, inverse));
        Ok(())
    }

    fn state_bytes(&self, _facts: &Facts) -> u64 {
        // How large a batch is, and what a layer sees of it, shows only when it comes.
        let bytes = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        self.kept.as_ref().map_or(0, |(batch, inverse)| {
            let uses = batch.uses.iter().map(|used| bytes(&used.activations) + bytes(&used.output_grads) + 24);
            bytes(inverse) + uses.sum::<u64>()
        })
    }
}

/// How a leading batch axis is saved.
const LEADING: i64 = -1;

/// The order of a kept tensor's numbers in memory. A saved tensor is contiguous, and products over other strides round otherwise.
#[derive(Debug, Clone, Copy)]
enum Layout {
    Contiguous = 0,
    ChannelsLast = 1,
}

impl Layout {
    fn of(tensor: &Tensor) -> Self {
        if is_channels_last(tensor) { Self::ChannelsLast } else { Self::Contiguous }
    }

    fn lay_out(self, tensor: &Tensor) -> Result<Tensor> {
        match self {
            Self::Contiguous => Ok(tensor.f_contiguous()?),
            Self::ChannelsLast => Ok(tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?),
        }
    }
}

impl Batch {
    /// Uᵀ∇, `[B]`: how much of the gradient lies along each sample's own.
    ///
    /// ⟨U_i, ∇⟩ is the sum over i's outputs of output gradient times what the layer would answer with ∇ for its parameters.
    fn projections(&self, facts: &Facts, gradient: &Gradient) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for Use { activations, output_grads, axis } in &self.uses {
            let answers = facts.geometry.apply(activations, &gradient.weight, gradient.bias.as_ref())?;
            let products = at_least_float(&answers.f_mul(output_grads)?)?;
            let rows = match facts.geometry {
                Geometry::Linear => samples::rows_by_sample(&products, *axis, self.size)?.f_flatten(1, -1)?,
                Geometry::Convolution(_) => products.f_reshape([self.size, -1])?,
            };
            // U_i is B times the contribution of sample i.
            let row = rows.f_sum_dim_intlist(1i64, false, rows.kind())?.f_mul_scalar(self.size as f64)?;
            sum = Some(match sum {
                Some(sum) => sum.f_add(&row)?,
                None => row,
            });
        }
        sum.ok_or_else(|| Error::state("a batch without uses"))
    }
}
