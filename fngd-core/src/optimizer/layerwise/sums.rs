//! Sums over the positions of what a layer saw. No patch is unfolded for them.

use super::curvature::Observation;
use super::matrix::Shape;
use super::rows::{self, with_one};
use crate::factors::is_channels_last;
use crate::gram::at_least_float;
use crate::layer::{Convolution, Geometry};
use crate::preconditioner::Facts;
use crate::weighting::Use;
use crate::{Error, Result, samples};
use tch::Tensor;

/// One row for each sample, as if its gradient were one outer product: inputs `[G, B, p (+ 1)]` and outputs `[G, B, d]`, of the
/// sample's own loss.
///
/// The side of the activations is averaged over positions and that of the gradients summed: exact if either is the same at all
/// positions.
pub(crate) fn by_sample(facts: &Facts, seen: &Observation<'_>, shape: &Shape) -> Result<[Tensor; 2]> {
    let batch_size = seen.batch_size;
    let mean = 1.0 / rows::positions(facts, seen) as f64;
    let (input_mean, output_mean) = if rows::is_transposed(facts) { (1.0, mean) } else { (mean, 1.0) };
    let [inputs, outputs] = added(seen.uses, |used| match &facts.geometry {
        Geometry::Linear => both([&used.activations, &used.output_grads], |tensor| {
            let rows = at_least_float(&samples::rows_by_sample(tensor, used.axis, batch_size)?)?;
            Ok(rows.f_sum_dim_intlist(1i64, false, rows.kind())?.f_unsqueeze(0)?)
        }),
        Geometry::Convolution(geometry) => {
            let (patched, rows) = sides(geometry, used);
            let sums = [patch_sums(geometry, facts, patched, rows)?, pixel_sums(geometry, rows)?];
            // [N, G, f] → [G, B, f]: a sample may have several images.
            both(sums.each_ref(), |sum| {
                let size = sum.size();
                let split = sum.f_view([batch_size, size[0] / batch_size, size[1], size[2]])?;
                Ok(split.f_sum_dim_intlist(1i64, false, sum.kind())?.f_transpose(0, 1)?)
            })
        }
    })?;
    let [input_scale, output_scale] = rows::scales(facts, seen);
    let inputs = inputs.f_mul_scalar(input_scale * input_mean)?;
    let outputs = outputs.f_mul_scalar(output_scale * output_mean)?;
    Ok([if shape.joint_bias { with_one(&inputs)? } else { inputs }, outputs])
}

/// Sums over all samples and positions: inputs `[G, p]` and outputs `[G, d]`, as they were seen.
///
/// Cost: one pass over activations and output gradients.
pub(crate) fn over_batch(facts: &Facts, seen: &Observation<'_>) -> Result<[Tensor; 2]> {
    added(seen.uses, |used| match &facts.geometry {
        Geometry::Linear => both([&used.activations, &used.output_grads], |tensor| {
            let tensor = at_least_float(tensor)?;
            let others: Vec<i64> = (0..tensor.dim() as i64 - 1).collect();
            Ok(tensor.f_sum_dim_intlist(&others[..], false, tensor.kind())?.f_unsqueeze(0)?)
        }),
        Geometry::Convolution(geometry) => {
            let (patched, rows) = sides(geometry, used);
            // A patch is linear in its image: the patches of the sum are the sums of the patches.
            let (patched, rows) = (image_sum(patched)?, image_sum(rows)?);
            let sums = [patch_sums(geometry, facts, &patched, &rows)?, pixel_sums(geometry, &rows)?];
            both(sums.each_ref(), |sum| Ok(sum.f_squeeze_dim(0)?))
        }
    })
}

/// Σ over images `[N, C, ...]`: `[1, C, ...]`.
fn image_sum(images: &Tensor) -> Result<Tensor> {
    let images = at_least_float(images)?;
    if !is_channels_last(&images) {
        return Ok(images.f_sum_dim_intlist(0i64, true, images.kind())?);
    }
    // As the rows of one matrix: several times faster than over the strides of an image.
    let size = images.size();
    let rows = images.f_permute([0, 2, 3, 1])?.f_reshape([size[0], -1])?;
    let sum = rows.f_sum_dim_intlist(0i64, true, images.kind())?;
    Ok(sum.f_view([1, size[2], size[3], size[1]])?.f_permute([0, 3, 1, 2])?)
}

/// What is cut into patches, and what has one row for each patch.
fn sides<'a>(geometry: &Convolution, used: &'a Use) -> (&'a Tensor, &'a Tensor) {
    if geometry.transposed { (&used.output_grads, &used.activations) } else { (&used.activations, &used.output_grads) }
}

/// Σ over the patches of each image, `[N, G, p]`, with p in the weight's order.
fn patch_sums(geometry: &Convolution, facts: &Facts, patched: &Tensor, rows: &Tensor) -> Result<Tensor> {
    let (kernel, positions) = (&facts.weight.size()[2..], &rows.size()[2..]);
    let mut sums = at_least_float(patched)?;
    for axis in 0..kernel.len() {
        // Each step turns the first of the remaining spatial axes into the last of the kernel's.
        let counts = visits(geometry, axis, sums.size()[2], kernel[axis], positions[axis])?;
        let counts = counts.f_to_kind(sums.kind())?.f_to_device(sums.device())?;
        sums = sums.f_tensordot(&counts, &[2i64][..], &[0i64][..])?;
    }
    Ok(sums.f_reshape([patched.size()[0], geometry.groups, -1])?)
}

/// `[pixels, kernel]`: how often each place of the kernel meets each pixel along one axis.
fn visits(geometry: &Convolution, axis: usize, pixels: i64, kernel: i64, positions: i64) -> Result<Tensor> {
    let mut counts = vec![0f32; (pixels * kernel) as usize];
    for place in 0..kernel {
        for position in 0..positions {
            let pixel = position * geometry.stride[axis] + place * geometry.dilation[axis] - geometry.padding[axis];
            if (0..pixels).contains(&pixel) {
                counts[(pixel * kernel + place) as usize] += 1.0;
            }
        }
    }
    Ok(Tensor::f_from_slice(&counts)?.f_view([pixels, kernel])?)
}

/// Σ over the pixels of each image, `[N, G, d]`.
fn pixel_sums(geometry: &Convolution, images: &Tensor) -> Result<Tensor> {
    let images = at_least_float(images)?;
    let size = images.size();
    let spatial: Vec<i64> = (2..size.len() as i64).collect();
    let sums = images.f_sum_dim_intlist(&spatial[..], false, images.kind())?;
    Ok(sums.f_reshape([size[0], geometry.groups, size[1] / geometry.groups])?)
}

fn both(sides: [&Tensor; 2], each: impl Fn(&Tensor) -> Result<Tensor>) -> Result<[Tensor; 2]> {
    Ok([each(sides[0])?, each(sides[1])?])
}

/// Σ over `uses`, of each side.
fn added(uses: &[Use], sums: impl Fn(&Use) -> Result<[Tensor; 2]>) -> Result<[Tensor; 2]> {
    let mut total: Option<[Tensor; 2]> = None;
    for used in uses {
        let more = sums(used)?;
        total = Some(match total {
            None => more,
            Some([inputs, outputs]) => [inputs.f_add(&more[0])?, outputs.f_add(&more[1])?],
        });
    }
    total.ok_or_else(|| Error::state("nothing was seen of a layer"))
}
