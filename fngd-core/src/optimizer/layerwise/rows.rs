//! What a layer saw, as the rows that Kronecker factors are made of.

use super::curvature::Observation;
use super::matrix::Shape;
use super::sums;
use crate::factors::Factors;
use crate::gram::at_least_float;
use crate::layer::{BatchAxis, Convolution, Geometry};
use crate::preconditioner::Facts;
use crate::weighting::Use;
use crate::{Error, Result, tap};
use tch::Tensor;

/// The two factors of each position's part of the gradient: Σ over samples and positions of `outputs ⊗ inputs`.
///
/// The positions of several uses (tied weights) follow one another.
#[derive(Debug)]
pub(crate) struct Rows {
    /// `[B, G, T, p]`; float32 or better, any strides. Inputs of a patch may be in another order than in the weight.
    pub inputs: Tensor,
    /// `[B, G, T, d]`
    pub outputs: Tensor,
    /// Where the inputs are, in the weight's order; `None` if that is their order.
    order: Option<Tensor>,
    /// Factors that make per-sample gradients of either side: those of the sample's own loss, not of the mean.
    pub input_scale: f64,
    pub output_scale: f64,
}

/// Patches of so many samples are unfolded at a time, so that memory is left to the model.
const PATCH_BYTES: u64 = 64 << 20;

impl Rows {
    /// Unfolds everything that was seen.
    ///
    /// Cost for a convolution: a copy of the activations, each element once per kernel position.
    pub fn of(facts: &Facts, seen: &Observation<'_>) -> Result<Self> {
        let Observation { uses, batch_size, .. } = seen;
        let factors = Factors::unfold(&facts.geometry, &facts.weight.size(), uses, *batch_size)?;
        let order = factors[0].layout.input_order(facts.weight.device())?;
        let [input_scale, output_scale] = scales(facts, seen);
        Ok(Self {
            inputs: at_least_float(&concatenated(factors.iter().map(|factors| &factors.inputs))?)?,
            outputs: at_least_float(&concatenated(factors.iter().map(|factors| &factors.outputs))?)?,
            order,
            input_scale,
            output_scale,
        })
    }

    /// The rows of a few samples at a time, for sums over samples: no more than 64 MiB of patches where that can be had.
    ///
    /// Scales are those of the whole batch.
    pub fn in_parts(facts: &Facts, seen: &Observation<'_>, mut each: impl FnMut(Self) -> Result<()>) -> Result<()> {
        let batch_size = seen.batch_size;
        let samples = samples_at_a_time(facts, seen);
        for first in (0..batch_size).step_by(samples as usize) {
            let samples = samples.min(batch_size - first);
            let parts = seen.uses.iter().map(|used| match used.axis {
                BatchAxis::Leading if samples < batch_size => used.samples(first, samples, batch_size),
                _ => used.share(),
            });
            let parts: Vec<Use> = parts.collect::<Result<_>>()?;
            // B times the accumulation of the part is that of the whole.
            let accumulation = seen.accumulation * batch_size as f64 / samples as f64;
            each(Self::of(facts, &Observation { uses: &parts, batch_size: samples, accumulation })?)?;
        }
        Ok(())
    }

    /// One row for each sample: [`sums::by_sample`].
    pub fn summed(facts: &Facts, seen: &Observation<'_>, shape: &Shape) -> Result<[Tensor; 2]> {
        sums::by_sample(facts, seen, shape)
    }

    /// Positions of a sample, T.
    pub fn positions(&self) -> i64 {
        self.inputs.size()[2]
    }

    /// `vectors`, whose last axis runs over inputs as `inputs` has them, in the weight's order.
    pub fn ordered(&self, vectors: Tensor) -> Result<Tensor> {
        match &self.order {
            Some(order) => Ok(vectors.f_index_select(-1, order)?),
            None => Ok(vectors),
        }
    }

    /// Σ over samples and positions of aaᵀ, `[G, p, p]`, or with a 1 appended to each a, `[G, p + 1, p + 1]`.
    pub fn input_moment(&self, shape: &Shape) -> Result<Tensor> {
        let rows = all_rows(&self.inputs)?;
        let mut moment = rows.f_transpose(1, 2)?.f_bmm(&rows)?;
        if self.order.is_some() {
            moment = self.ordered(self.ordered(moment)?.f_transpose(1, 2)?)?;
        }
        if !shape.joint_bias {
            return Ok(moment);
        }
        let sums = self.ordered(rows.f_sum_dim_intlist(1i64, true, rows.kind())?)?;
        let count = Tensor::f_full([shape.groups, 1, 1], rows.size()[1] as f64, (rows.kind(), rows.device()))?;
        let top = Tensor::f_cat(&[moment, sums.f_transpose(1, 2)?], 2)?;
        Ok(Tensor::f_cat(&[top, Tensor::f_cat(&[sums, count], 2)?], 1)?)
    }
}

/// Whether input and output have changed places, and gradients are what is cut into patches.
pub(crate) fn is_transposed(facts: &Facts) -> bool {
    matches!(&facts.geometry, Geometry::Convolution(convolution) if convolution.transposed)
}

/// Factors of inputs and outputs that make gradients of the mean loss those of each sample's own loss.
pub(crate) fn scales(facts: &Facts, seen: &Observation<'_>) -> [f64; 2] {
    let scale = seen.batch_size as f64 * seen.accumulation;
    if is_transposed(facts) { [scale, 1.0] } else { [1.0, scale] }
}

/// Positions of a sample, T, in all uses.
pub(crate) fn positions(facts: &Facts, seen: &Observation<'_>) -> i64 {
    let of_use = |used: &Use| {
        let rows = if is_transposed(facts) { &used.activations } else { &used.output_grads };
        let size = rows.size();
        let features = if matches!(facts.geometry, Geometry::Linear) { size.last() } else { size.get(1) };
        rows.numel() as i64 / features.copied().unwrap_or(1).max(1) / seen.batch_size
    };
    seen.uses.iter().map(of_use).sum()
}

/// Σ over samples and positions of ggᵀ, `[G, d, d]`, as they were seen.
pub(crate) fn output_moment(facts: &Facts, seen: &Observation<'_>) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for used in seen.uses {
        let moment = match &facts.geometry {
            Geometry::Linear => {
                let size = used.output_grads.size();
                let features = size.last().copied().unwrap_or(1);
                let rows = at_least_float(&used.output_grads)?.f_reshape([-1, features])?;
                rows.f_transpose(0, 1)?.f_mm(&rows)?.f_unsqueeze(0)?
            }
            Geometry::Convolution(geometry) => {
                let rows = if geometry.transposed { &used.activations } else { &used.output_grads };
                pixel_moment(&at_least_float(rows)?, geometry.groups)?
            }
        };
        sum = Some(match sum {
            Some(sum) => sum.f_add(&moment)?,
            None => moment,
        });
    }
    sum.ok_or_else(|| Error::state("nothing was seen of a layer"))
}

/// Σ over images and pixels of ggᵀ for images `[N, G·d, ...]`, by group.
fn pixel_moment(images: &Tensor, groups: i64) -> Result<Tensor> {
    let size = images.size();
    let rank = size.len() - 2;
    if groups == 1 && rank == 2 {
        // The weight gradient of a convolution of one pixel: libtorch has nothing faster for so high and narrow a matrix.
        let weight = images.f_new_empty([size[1], size[1], 1, 1], (images.kind(), images.device()))?;
        let (moment, _) = tap::convolution_backward(images, images, &weight, &Convolution::new(rank), false)?;
        return Ok(moment.f_reshape([1, size[1], size[1]])?);
    }
    // [N, G, d, T] → [G, N·T, d]
    let features = size[1] / groups;
    let split = images.f_reshape([size[0], groups, features, -1])?;
    let rows = split.f_permute([1, 0, 3, 2])?.f_reshape([groups, -1, features])?;
    Ok(rows.f_transpose(1, 2)?.f_bmm(&rows)?)
}

/// `vectors`, `[..., p]`, with a 1 appended: `[..., p + 1]`.
pub(crate) fn with_one(vectors: &Tensor) -> Result<Tensor> {
    let mut size = vectors.size();
    if let Some(last) = size.last_mut() {
        *last = 1;
    }
    let one = Tensor::f_ones(&size[..], (vectors.kind(), vectors.device()))?;
    Ok(Tensor::f_cat(&[vectors.shallow_clone(), one], -1)?)
}

/// `[B, G, T, f]` → `[G, B·T, f]`.
fn all_rows(tensor: &Tensor) -> Result<Tensor> {
    let size = tensor.size();
    Ok(tensor.f_transpose(0, 1)?.f_reshape([size[1], size[0] * size[2], size[3]])?)
}

fn concatenated<'a>(uses: impl Iterator<Item = &'a Tensor>) -> Result<Tensor> {
    let uses: Vec<&Tensor> = uses.collect();
    if let [only] = uses[..] { Ok(only.shallow_clone()) } else { Ok(Tensor::f_cat(&uses, 2)?) }
}

fn samples_at_a_time(facts: &Facts, seen: &Observation<'_>) -> i64 {
    let Geometry::Convolution(convolution) = &facts.geometry else { return seen.batch_size };
    if seen.uses.iter().any(|used| used.axis != BatchAxis::Leading) {
        return seen.batch_size;
    }
    let rows = |used: &Use| if convolution.transposed { used.activations.size() } else { used.output_grads.size() };
    let positions = |used: &Use| rows(used)[0] * rows(used)[2..].iter().product::<i64>() / seen.batch_size;
    let patch = facts.weight.size()[1..].iter().product::<i64>() * convolution.groups;
    let numbers: i64 = seen.uses.iter().map(|used| positions(used) * patch).sum();
    let bytes = numbers as u64 * facts.weight.kind().elt_size_in_bytes() as u64;
    // OK because a batch has far fewer than 2^63 samples.
    (PATCH_BYTES / bytes.max(1)).clamp(1, seen.batch_size as u64) as i64
}
