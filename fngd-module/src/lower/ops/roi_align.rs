//! RoiAlign.

use super::window::LARGEST;
use crate::lower::arguments::{floats, indices, integers};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use std::ops::Range;
use tch::{Kind, Tensor};

/// Every region of interest as an image of one size: each of its elements is made of samples between the input's elements.
///
/// The regions are read as numbers: no gradient goes to them.
struct RoiAlign {
    output: [i64; 2],
    /// Samples per element and axis; 0: as many as the region has elements of the input.
    samples: i64,
    scale: f64,
    /// Coordinates name the middle of an element, not its corner.
    half_pixel: bool,
    takes_maximum: bool,
}

pub(crate) fn roi_align(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let unknown = |name: &str, value: &str| context.unsupported(format!("attribute `{name}` is `{value}`"));
    let size = |name: &str, default: i64, least: i64| match node.int(name, default) {
        value if (least..=LARGEST).contains(&value) => Ok(value),
        value => Err(Error::malformed(format!("attribute `{name}` is {value}, expected {least} to {LARGEST}"))),
    };
    // Operator set 10 has no such attribute.
    let default = if node.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    Ok(Box::new(RoiAlign {
        output: [size("output_height", 1, 1)?, size("output_width", 1, 1)?],
        samples: size("sampling_ratio", 0, 0)?,
        scale: f64::from(node.float("spatial_scale", 1.0)),
        half_pixel: match node.string("coordinate_transformation_mode", default) {
            "half_pixel" => true,
            "output_half_pixel" => false,
            other => return Err(unknown("coordinate_transformation_mode", other)),
        },
        takes_maximum: match node.string("mode", "avg") {
            "avg" => false,
            "max" => true,
            other => return Err(unknown("mode", other)),
        },
    }))
}

impl Operator for RoiAlign {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (x, regions, images) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        let [_, channels, height, width] = x.size()[..] else {
            return Err(Error::mismatch(format!("input is {:?}, expected 4 dimensions", x.size())));
        };
        let count = images.numel() as i64;
        if regions.size() != [count, 4] || height < 1 || width < 1 {
            let message = format!("input is {:?}, `rois` is {:?} for {count} images", x.size(), regions.size());
            return Err(Error::mismatch(message));
        }
        let [rows, columns] = self.output;
        run.affordable(&[count, channels, rows, columns])?;
        let (regions, images) = (floats(regions)?, integers(images)?);
        let mut results = Vec::with_capacity(images.len());
        for (region, &image) in regions.chunks_exact(4).zip(&images) {
            let down = self.axis(region[1], region[3], rows, height)?;
            let across = self.axis(region[0], region[2], columns, width)?;
            results.push(self.one(&x.f_select(0, image)?, &down, &across, run)?);
        }
        if results.is_empty() {
            return Ok(vec![x.f_new_zeros([0, channels, rows, columns], (x.kind(), x.device()))?]);
        }
        Ok(vec![Tensor::f_stack(&results, 0)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1, 2]
    }
}

/// Where the samples along one axis are: two neighbours of each, and their weights.
struct Samples {
    per_output: i64,
    outputs: i64,
    positions: Vec<i64>,
    weights: Vec<f32>,
}

impl RoiAlign {
    fn axis(&self, start: f64, end: f64, outputs: i64, length: i64) -> Result<Samples> {
        let shift = if self.half_pixel { 0.5 } else { 0.0 };
        let (start, end) = (start * self.scale - shift, end * self.scale - shift);
        // Regions of no extent have one element, where that was the rule.
        let extent = if self.half_pixel { end - start } else { (end - start).max(1.0) };
        let step = extent / outputs as f64;
        let per_output = if self.samples > 0 { self.samples } else { step.ceil().max(0.0) as i64 };
        if !step.is_finite() || per_output.checked_mul(outputs).is_none_or(|samples| samples > LARGEST) {
            return Err(Error::limit(format!("a region from {start} to {end} needs too many samples")));
        }
        let mut samples = Samples { per_output, outputs, positions: Vec::new(), weights: Vec::new() };
        let all: Range<i64> = 0..outputs * per_output;
        for sample in all {
            let place = (sample % per_output) as f64 + 0.5;
            let position = start + (sample / per_output) as f64 * step + place * step / per_output as f64;
            let is_inside = (-1.0..=length as f64).contains(&position);
            let position = position.clamp(0.0, (length - 1) as f64);
            let (low, share) = (position.floor(), position.fract());
            samples.positions.extend([low as i64, (low as i64 + 1).min(length - 1)]);
            samples.weights.extend([1.0 - share, share].map(|weight| if is_inside { weight as f32 } else { 0.0 }));
        }
        Ok(samples)
    }

    /// One region of one image `[C, H, W]`.
    fn one(&self, image: &Tensor, down: &Samples, across: &Samples, run: &Run) -> Result<Tensor> {
        let (channels, kind) = (image.size()[0], image.kind());
        let (tall, wide) = (down.positions.len() as i64, across.positions.len() as i64);
        if tall == 0 || wide == 0 {
            return Ok(Tensor::f_zeros([channels, down.outputs, across.outputs], (kind, image.device()))?);
        }
        run.affordable(&[channels, tall, wide])?;
        let weights = |samples: &Samples| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(&samples.weights)?.f_to_device(image.device())?)
        };
        let neighbours = image
            .f_index_select(1, &indices(&down.positions, image.device())?)?
            .f_index_select(2, &indices(&across.positions, image.device())?)?
            .f_mul(&weights(down)?.f_unsqueeze(1)?.f_mul(&weights(across)?)?)?
            .f_reshape([channels, down.outputs, 2 * down.per_output, across.outputs, 2 * across.per_output])?;
        if self.takes_maximum {
            // Of the weighted neighbours, not of their sums: so the specification has it.
            return Ok(neighbours.f_amax([2, 4], false)?);
        }
        let count = (down.per_output * across.per_output) as f64;
        Ok(neighbours.f_sum_dim_intlist(&[2i64, 4][..], false, None::<Kind>)?.f_div_scalar(count)?)
    }
}
