//! Per-sample contributions to a layer's weight gradient, formed in blocks of output features.
//!
//! Two ways, chosen by what they must write. Unfolding copies every patch, B·T·p numbers, and multiplies. Grouped backward
//! reads activations and output gradients as they are and lets libtorch's convolution treat the batch as groups, one weight
//! gradient per group. The first wins where there are more output features than positions.

use crate::Result;
use crate::factors::{Factors, WeightLayout};
use crate::layer::{Convolution, Geometry};
use crate::tap;
use crate::weighting::Use;
use tch::Tensor;

/// The uses of one layer, ready to give contributions.
#[derive(Debug)]
pub(crate) struct Contributions<'a> {
    pub way: Way,
    pub geometry: &'a Geometry,
    pub weight: &'a Tensor,
    pub uses: &'a [Use],
    pub batch_size: i64,
    /// Most bytes of patches unfolded at a time.
    pub patch_bytes: i64,
}

/// How contributions are formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Unfolded,
    Grouped,
}

/// Contributions of some output features, `[B, G·count·p]`, and how a weighted sum over all of them becomes a weight.
#[derive(Debug)]
pub(crate) struct Block {
    pub rows: Tensor,
    pub layout: WeightLayout,
}

/// Patches of so many samples are unfolded at a time: they then stay in the processor's cache, and memory is left to the model.
const PATCH_BYTES: i64 = 2 << 20;

impl<'a> Contributions<'a> {
    /// Chooses the way that costs less.
    pub fn new(geometry: &'a Geometry, weight: &'a Tensor, uses: &'a [Use], batch_size: i64) -> Self {
        let way = match geometry {
            Geometry::Convolution(convolution) if grouped_is_cheaper(convolution, uses, batch_size) => Way::Grouped,
            _ => Way::Unfolded,
        };
        Self { way, geometry, weight, uses, batch_size, patch_bytes: PATCH_BYTES }
    }

    /// Contributions of output features `from .. from + count` of each group, summed over uses.
    pub fn block(&self, from: i64, count: i64) -> Result<Block> {
        match (self.way, self.geometry) {
            (Way::Grouped, Geometry::Convolution(geometry)) => self.grouped(geometry, from, count),
            _ => self.unfolded(from, count),
        }
    }

    fn unfolded(&self, from: i64, count: i64) -> Result<Block> {
        let size = self.weight.size();
        let (groups, samples) = match self.geometry {
            // A linear layer's factors are views: nothing is gained by taking fewer samples.
            Geometry::Linear => (1, self.batch_size),
            Geometry::Convolution(geometry) => (geometry.groups, self.samples_at_a_time(geometry)),
        };
        let in_features: i64 = size[1..].iter().product();
        let options = (self.weight.kind(), self.weight.device());
        let rows = Tensor::f_empty([self.batch_size, groups * count * in_features], options)?;
        let mut layout = WeightLayout::contiguous(&size);
        for first in (0..self.batch_size).step_by(samples as usize) {
            let samples = samples.min(self.batch_size - first);
            let part = rows.f_narrow(0, first, samples)?;
            let whole = samples == self.batch_size;
            let uses = self
                .uses
                .iter()
                .map(|used| if whole { used.share() } else { used.samples(first, samples, self.batch_size) });
            let factors = Factors::unfold(self.geometry, &size, &uses.collect::<Result<Vec<_>>>()?, samples)?;
            for (index, factors) in factors.iter().enumerate() {
                factors.contribute(from, count, &part, index > 0)?;
            }
            layout = factors[0].layout.clone();
        }
        Ok(Block { rows, layout })
    }

    fn samples_at_a_time(&self, geometry: &Convolution) -> i64 {
        let used = &self.uses[0];
        let rows = if geometry.transposed { &used.activations } else { &used.output_grads };
        let positions = rows.numel() as i64 / (rows.size()[1] * self.batch_size);
        let patch: i64 = self.weight.size()[1..].iter().product::<i64>() * geometry.groups;
        let bytes = positions * patch * self.weight.kind().elt_size_in_bytes() as i64;
        (self.patch_bytes / bytes.max(1)).clamp(1, self.batch_size)
    }

    fn grouped(&self, geometry: &Convolution, from: i64, count: i64) -> Result<Block> {
        let mut sum: Option<Tensor> = None;
        for used in self.uses {
            let rows = grouped(geometry, self.weight, used, self.batch_size, from, count)?;
            sum = Some(if let Some(mut sum) = sum { sum.f_add_(&rows)? } else { rows });
        }
        // OK because a layer whose backward ran has at least one use.
        Ok(Block { rows: sum.unwrap(), layout: WeightLayout::contiguous(&self.weight.size()) })
    }
}

/// Fewer input channels than a vector register holds, and libtorch's grouped convolution is a slow one.
const SIMD_CHANNELS: i64 = 16;

/// Whether the batch can be seen as groups, and whether that beats copying patches.
///
/// Measured on 2 cores at B = 128, float32 (ms per layer, unfolded against grouped): 16 channels at 32×32 5.8 : 1.8, 32 at 16×16
/// 4.4 : 1.6, 64 at 8×8 4.0 : 6.6. The crossing lies where positions equal output features.
fn grouped_is_cheaper(geometry: &Convolution, uses: &[Use], batch_size: i64) -> bool {
    // A transposed convolution of grouped batches has its groups in another order.
    let single = !geometry.transposed && geometry.groups == 1;
    let worth_it = |used: &Use| {
        let (outputs, inputs) = (used.output_grads.size(), used.activations.size());
        let one_image_each = outputs[0] == batch_size && inputs[0] == batch_size;
        one_image_each && inputs[1] >= SIMD_CHANNELS && outputs[2..].iter().product::<i64>() > outputs[1]
    };
    single && uses.iter().all(worth_it)
}

/// The gradient of a convolution that has one group per sample: `[B, count·p]`.
fn grouped(
    geometry: &Convolution,
    weight: &Tensor,
    used: &Use,
    batch_size: i64,
    from: i64,
    count: i64,
) -> Result<Tensor> {
    let as_groups = |tensor: &Tensor| -> Result<Tensor> {
        let mut size = tensor.size();
        size[1] *= batch_size;
        size[0] = 1;
        Ok(tensor.f_contiguous()?.f_view(&size[..])?)
    };
    let output_grads = as_groups(&used.output_grads.f_narrow(1, from, count)?)?;
    let mut size = weight.size();
    size[0] = batch_size * count;
    // Only the size of this weight is looked at.
    let shape = Tensor::f_empty(&size[..], (weight.kind(), weight.device()))?;
    let geometry = Convolution { groups: batch_size, ..geometry.clone() };
    let (grads, _) =
        tap::convolution_backward(&output_grads, &as_groups(&used.activations)?, &shape, &geometry, false)?;
    Ok(grads.f_reshape([batch_size, -1])?)
}
