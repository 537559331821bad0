//! Resize and its older form Upsample: nearest, linear and cubic interpolation along any axes.

use super::interpolate::{Axis, Coordinates, Interpolation, Mode, Rounding};
use crate::lower::arguments::{Integers, MOST_POSITIONS, Numbers, affordable, axes_of};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::lower::tensors::{as_float, is_float};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

struct Resize {
    interpolation: Interpolation,
    axes: Option<Vec<i64>>,
    sizes: Integers,
    policy: Policy,
    scales: Numbers,
    /// Start and end of the part to resize, for each axis; only read with the coordinates that want it.
    regions: Numbers,
    /// What is put where the position is outside the input, with those coordinates.
    outside: f64,
}

/// What sizes mean.
#[derive(Clone, Copy, PartialEq)]
enum Policy {
    Stretch,
    /// One scale for all axes, so that none gets longer than its size.
    NotLarger,
    /// One scale for all axes, so that none gets shorter than its size.
    NotSmaller,
}

pub(crate) fn resize(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let policy = match node.string("keep_aspect_ratio_policy", "stretch") {
        "stretch" => Policy::Stretch,
        "not_larger" => Policy::NotLarger,
        "not_smaller" => Policy::NotSmaller,
        other => return Err(context.unsupported(format!("attribute `keep_aspect_ratio_policy` is `{other}`"))),
    };
    let coordinates = Coordinates::of(node)?;
    // Operator set 10 has the scales as input 1, 11 put the region there.
    let is_first = node.opset < 11;
    let crops = coordinates == Coordinates::CropAndResize;
    Ok(Box::new(Resize {
        interpolation: Interpolation {
            mode: Mode::of(node)?,
            coordinates,
            rounding: Rounding::of(node)?,
            cubic: f64::from(node.float("cubic_coeff_a", -0.75)),
            excludes_outside: node.int("exclude_outside", 0) != 0,
            antialiases: node.int("antialias", 0) != 0,
        },
        axes: node.ints("axes").map(<[i64]>::to_vec),
        sizes: if is_first { Integers::Absent } else { Integers::input(node, context, 3)? },
        policy,
        scales: Numbers::input(node, context, if is_first { 1 } else { 2 })?,
        regions: if crops { Numbers::input(node, context, 1)? } else { Numbers::Absent },
        outside: f64::from(node.float("extrapolation_value", 0.0)),
    }))
}

/// Builds Upsample: two scales as attributes in operator set 1, all of them as one in 7, as an input in 9.
pub(crate) fn upsample(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let scales = if node.opset < 7 {
        let scale = |name| f64::from(node.float(name, 1.0));
        Numbers::Fixed(vec![1.0, 1.0, scale("height_scale"), scale("width_scale")])
    } else {
        Numbers::attribute_or_input(node, context, "scales", 1)?
    };
    Ok(Box::new(Resize {
        interpolation: Interpolation {
            mode: Mode::of(node)?,
            coordinates: Coordinates::Asymmetric,
            rounding: Rounding::Floor,
            cubic: -0.75,
            excludes_outside: false,
            antialiases: false,
        },
        axes: None,
        sizes: Integers::Absent,
        policy: Policy::Stretch,
        scales,
        regions: Numbers::Absent,
        outside: 0.0,
    }))
}

impl Operator for Resize {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let resized = self.axes_to_resize(inputs)?;
        let x = inputs.get(0)?;
        let mut size = x.size();
        for axis in &resized {
            // Steps on the way may keep the length along some axes.
            size[axis.axis as usize] = axis.outputs.max(axis.length);
        }
        run.affordable(&size)?;
        for axis in &resized {
            affordable(&[axis.outputs], MOST_POSITIONS)?;
        }
        if let Some(result) = self.fused(x, &resized)? {
            return Ok(vec![result]);
        }
        let kind = x.kind();
        let mut result = if self.interpolation.mode == Mode::Nearest { x.shallow_clone() } else { as_float(x)? };
        for axis in &resized {
            if axis.outputs != axis.length || axis.scale != 1.0 || axis.region != (0.0, 1.0) {
                result = self.interpolation.along(&result, axis)?;
            }
        }
        if self.interpolation.coordinates == Coordinates::CropAndResize {
            result = self.with_outside(result, &resized)?;
        }
        Ok(vec![result.f_to_kind(kind)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1, 2, 3]
    }
}

impl Resize {
    fn axes_to_resize(&self, inputs: &Inputs) -> Result<Vec<Axis>> {
        let size = inputs.get(0)?.size();
        let axes = match &self.axes {
            Some(axes) => axes_of(axes, size.len())?,
            None => (0..size.len() as i64).collect(),
        };
        // An input of no elements is exporters' other way of leaving one out.
        let sizes = self.sizes.read(inputs)?.filter(|sizes| !sizes.is_empty());
        let scales = self.scales.read(inputs)?.filter(|scales| !scales.is_empty());
        let given = sizes.as_ref().map(|sizes| sizes.len()).or(scales.as_ref().map(|scales| scales.len()));
        if given != Some(axes.len()) {
            return Err(Error::mismatch(format!("{} sizes or scales for {} axes", given.unwrap_or(0), axes.len())));
        }
        let regions = self.regions.read(inputs)?.unwrap_or_default();
        if self.interpolation.coordinates == Coordinates::CropAndResize && regions.len() != 2 * axes.len() {
            return Err(Error::mismatch(format!("`roi` has {} numbers for {} axes", regions.len(), axes.len())));
        }
        let lengths: Vec<i64> = axes.iter().map(|&axis| size[axis as usize]).collect();
        let common = sizes.as_ref().and_then(|sizes| self.common_scale(sizes, &lengths));
        let mut resized = Vec::new();
        for (index, (&axis, &length)) in axes.iter().zip(&lengths).enumerate() {
            let region = (regions.get(index), regions.get(index + axes.len()));
            let region = (region.0.copied().unwrap_or(0.0), region.1.copied().unwrap_or(1.0));
            let exact = length as f64;
            let (outputs, scale) = match (&sizes, &scales, common) {
                (Some(_), _, Some(scale)) => ((scale * exact + 0.5).floor() as i64, scale),
                (Some(sizes), _, None) => (sizes[index], sizes[index] as f64 / exact),
                (None, Some(scales), _) => {
                    ((exact * (region.1 - region.0) * scales[index]).floor() as i64, scales[index])
                }
                (None, None, _) => (length, 1.0),
            };
            let is_sound = length >= 1 && outputs >= 1 && scale > 0.0 && scale.is_finite();
            if !(is_sound && region.0.abs() <= 1e6 && region.1.abs() <= 1e6) {
                return Err(Error::mismatch(format!(
                    "axis {axis} of {size:?} cannot be resized by {scale} to {outputs}"
                )));
            }
            resized.push(Axis { axis, length, outputs, scale, region });
        }
        Ok(resized)
    }

    fn common_scale(&self, sizes: &[i64], lengths: &[i64]) -> Option<f64> {
        let scales = sizes.iter().zip(lengths).map(|(&size, &length)| size as f64 / length as f64);
        match self.policy {
            Policy::Stretch => None,
            Policy::NotLarger => scales.reduce(f64::min),
            Policy::NotSmaller => scales.reduce(f64::max),
        }
    }

    /// libtorch's own interpolation, where it computes the same thing.
    fn fused(&self, x: &Tensor, axes: &[Axis]) -> Result<Option<Tensor>> {
        let Interpolation { mode, coordinates, rounding, cubic, .. } = self.interpolation;
        let spatial: Vec<&Axis> = axes.iter().filter(|axis| axis.axis >= 2).collect();
        let others_stay = axes.iter().filter(|axis| axis.axis < 2).all(|axis| axis.outputs == axis.length);
        let is_plain = !self.interpolation.excludes_outside && !self.interpolation.antialiases;
        let [height, width] = spatial[..] else { return Ok(None) };
        if x.dim() != 4 || (height.axis, width.axis) != (2, 3) || !others_stay || !is_plain || !is_float(x.kind()) {
            return Ok(None);
        }
        let (outputs, scales) = ([height.outputs, width.outputs], [height.scale, width.scale]);
        let corners = coordinates == Coordinates::AlignCorners;
        // With one output pytorch_half_pixel differs from half_pixel.
        let half_pixel = coordinates == Coordinates::HalfPixel
            || (coordinates == Coordinates::PytorchHalfPixel && outputs.iter().all(|&outputs| outputs > 1));
        Ok(match mode {
            Mode::Nearest if coordinates == Coordinates::Asymmetric && rounding == Rounding::Floor => {
                Some(x.f_upsample_nearest2d(outputs, scales[0], scales[1])?)
            }
            Mode::Linear if corners || half_pixel => {
                Some(x.f_upsample_bilinear2d(outputs, corners, scales[0], scales[1])?)
            }
            Mode::Cubic if cubic == -0.75 && (corners || half_pixel) => {
                Some(x.f_upsample_bicubic2d(outputs, corners, scales[0], scales[1])?)
            }
            _ => None,
        })
    }

    /// `result` with the value for what lies outside the input.
    fn with_outside(&self, result: Tensor, axes: &[Axis]) -> Result<Tensor> {
        let mut result = result;
        for axis in axes {
            let last = (axis.length - 1) as f64;
            let positions = axis.positions(self.interpolation.coordinates);
            let outside: Vec<bool> = positions.iter().map(|position| !(0.0..=last).contains(position)).collect();
            if outside.contains(&true) {
                let mut shape = vec![1; result.dim()];
                shape[axis.axis as usize] = axis.outputs;
                let mask = Tensor::f_from_slice(&outside)?.f_to_device(result.device())?.f_reshape(&shape[..])?;
                result = result.f_masked_fill(&mask, self.outside)?;
            }
        }
        Ok(result)
    }
}
