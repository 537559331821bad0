//! What a layer saw, as the rows that Kronecker factors are made of.

use super::curvature::Observation;
use super::matrix::Shape;
use crate::Result;
use crate::factors::Factors;
use crate::gram::at_least_float;
use crate::layer::{BatchAxis, Geometry};
use crate::preconditioner::Facts;
use crate::weighting::Use;
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
        let Observation { uses, batch_size, accumulation } = seen;
        let factors = Factors::unfold(&facts.geometry, &facts.weight.size(), uses, *batch_size)?;
        let order = factors[0].layout.input_order(facts.weight.device())?;
        let transposed = matches!(&facts.geometry, Geometry::Convolution(convolution) if convolution.transposed);
        let scale = *batch_size as f64 * accumulation;
        Ok(Self {
            inputs: at_least_float(&concatenated(factors.iter().map(|factors| &factors.inputs))?)?,
            outputs: at_least_float(&concatenated(factors.iter().map(|factors| &factors.outputs))?)?,
            order,
            input_scale: if transposed { scale } else { 1.0 },
            output_scale: if transposed { 1.0 } else { scale },
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

    /// One row for each sample, as if its gradient were one outer product: inputs `[G, B, p (+ 1)]` and outputs `[G, B, d]`.
    ///
    /// The side of the activations is averaged over positions and that of the gradients summed: exact if either is the same at
    /// all positions.
    pub fn summed(facts: &Facts, seen: &Observation<'_>, shape: &Shape) -> Result<[Tensor; 2]> {
        let transposed = matches!(&facts.geometry, Geometry::Convolution(convolution) if convolution.transposed);
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        Self::in_parts(facts, seen, |rows| {
            // [B, G, T, f] → [G, B, f]
            let sum = |tensor: &Tensor| tensor.f_sum_dim_intlist(2i64, false, tensor.kind())?.f_transpose(0, 1);
            let mean = 1.0 / rows.positions() as f64;
            let (input_mean, output_mean) = if transposed { (1.0, mean) } else { (mean, 1.0) };
            let input = rows.ordered(sum(&rows.inputs)?.f_mul_scalar(rows.input_scale * input_mean)?)?;
            inputs.push(if shape.joint_bias { with_one(&input)? } else { input });
            outputs.push(sum(&rows.outputs)?.f_mul_scalar(rows.output_scale * output_mean)?);
            Ok(())
        })?;
        Ok([Tensor::f_cat(&inputs, 1)?, Tensor::f_cat(&outputs, 1)?])
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

    /// Σ over samples and positions of ggᵀ, `[G, d, d]`.
    pub fn output_moment(&self) -> Result<Tensor> {
        let rows = all_rows(&self.outputs)?;
        Ok(rows.f_transpose(1, 2)?.f_bmm(&rows)?)
    }
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
