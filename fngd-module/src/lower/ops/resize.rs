//! Resize: nearest, linear and cubic interpolation along any axes.

use crate::lower::arguments::{Integers, axes_of, floats, indices};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// How a position in the result becomes a position in the input.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rounding {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

struct Resize {
    mode: Mode,
    coordinates: Coordinates,
    rounding: Rounding,
    cubic: f64,
    excludes_outside: bool,
    axes: Option<Vec<i64>>,
    sizes: Integers,
    /// Position of the input with the scales: 1 in operator set 10, 2 from 11 on.
    scales_at: usize,
    scales: Option<Vec<f64>>,
}

pub(crate) fn resize(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    if node.int("antialias", 0) != 0 {
        return Err(context.unsupported("attribute `antialias` is 1"));
    }
    if node.string("keep_aspect_ratio_policy", "stretch") != "stretch" {
        return Err(context.unsupported("attribute `keep_aspect_ratio_policy` is not `stretch`"));
    }
    let is_first = node.opset < 11;
    let default_coordinates = if is_first { "asymmetric" } else { "half_pixel" };
    let scales_at = if is_first { 1 } else { 2 };
    // An input of no elements is exporters' other way of leaving one out.
    let scales = context.constant(scales_at).map(floats).transpose()?.filter(|scales| !scales.is_empty());
    Ok(Box::new(Resize {
        mode: match node.string("mode", "nearest") {
            "nearest" => Mode::Nearest,
            "linear" | "bilinear" => Mode::Linear,
            "cubic" => Mode::Cubic,
            other => return Err(context.unsupported(format!("attribute `mode` is `{other}`"))),
        },
        coordinates: match node.string("coordinate_transformation_mode", default_coordinates) {
            "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            other => {
                return Err(context.unsupported(format!("attribute `coordinate_transformation_mode` is `{other}`")));
            }
        },
        rounding: match node.string("nearest_mode", if is_first { "floor" } else { "round_prefer_floor" }) {
            "round_prefer_floor" => Rounding::RoundPreferFloor,
            "round_prefer_ceil" => Rounding::RoundPreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            other => return Err(context.unsupported(format!("attribute `nearest_mode` is `{other}`"))),
        },
        cubic: f64::from(node.float("cubic_coeff_a", -0.75)),
        excludes_outside: node.int("exclude_outside", 0) != 0,
        axes: node.ints("axes").map(<[i64]>::to_vec),
        sizes: Integers::input(node, context, 3)?,
        scales_at,
        scales,
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
        if let Some(result) = self.fused(x, &resized)? {
            return Ok(vec![result]);
        }
        let mut result = x.shallow_clone();
        for Axis { axis, length, outputs, scale } in resized {
            if outputs != length || scale != 1.0 {
                result = self.along(&result, axis, length, outputs, scale)?;
            }
        }
        Ok(vec![result])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1, 2, 3]
    }
}

/// One axis that changes: its length before and after, and the ratio that positions use.
struct Axis {
    axis: i64,
    length: i64,
    outputs: i64,
    scale: f64,
}

impl Resize {
    fn axes_to_resize(&self, inputs: &Inputs) -> Result<Vec<Axis>> {
        let size = inputs.get(0)?.size();
        let axes = match &self.axes {
            Some(axes) => axes_of(axes, size.len())?,
            None => (0..size.len() as i64).collect(),
        };
        let sizes = self.sizes.read(inputs)?.filter(|sizes| !sizes.is_empty());
        let scales = match (&self.scales, inputs.optional(self.scales_at)) {
            (Some(scales), _) => Some(scales.clone()),
            (None, Some(tensor)) => Some(floats(tensor)?).filter(|scales| !scales.is_empty()),
            (None, None) => None,
        };
        let given = sizes.as_ref().map(|sizes| sizes.len()).or(scales.as_ref().map(Vec::len)).unwrap_or(0);
        if given != axes.len() {
            return Err(Error::mismatch(format!("{given} sizes or scales for {} axes", axes.len())));
        }
        let resized = axes.iter().enumerate().map(|(index, &axis)| {
            let length = size[axis as usize];
            let (outputs, scale) = match (&sizes, &scales) {
                (Some(sizes), _) => (sizes[index], sizes[index] as f64 / length as f64),
                (None, Some(scales)) => ((length as f64 * scales[index]).floor() as i64, scales[index]),
                (None, None) => (length, 1.0),
            };
            Axis { axis, length, outputs, scale }
        });
        Ok(resized.collect())
    }

    /// libtorch's own interpolation, where it computes the same thing.
    fn fused(&self, x: &Tensor, axes: &[Axis]) -> Result<Option<Tensor>> {
        let spatial: Vec<&Axis> = axes.iter().filter(|axis| axis.axis >= 2).collect();
        let others_stay = axes.iter().filter(|axis| axis.axis < 2).all(|axis| axis.outputs == axis.length);
        if x.dim() != 4 || spatial.len() != 2 || !others_stay || self.excludes_outside || x.kind() != Kind::Float {
            return Ok(None);
        }
        let outputs = [spatial[0].outputs, spatial[1].outputs];
        let scales = [spatial[0].scale, spatial[1].scale];
        let corners = self.coordinates == Coordinates::AlignCorners;
        // With one output pytorch_half_pixel differs from half_pixel.
        let half_pixel = self.coordinates == Coordinates::HalfPixel
            || (self.coordinates == Coordinates::PytorchHalfPixel && outputs.iter().all(|&outputs| outputs > 1));
        Ok(match self.mode {
            Mode::Nearest if self.coordinates == Coordinates::Asymmetric && self.rounding == Rounding::Floor => {
                Some(x.f_upsample_nearest2d(outputs, scales[0], scales[1])?)
            }
            Mode::Linear if corners || half_pixel => {
                Some(x.f_upsample_bilinear2d(outputs, corners, scales[0], scales[1])?)
            }
            Mode::Cubic if self.cubic == -0.75 && (corners || half_pixel) => {
                Some(x.f_upsample_bicubic2d(outputs, corners, scales[0], scales[1])?)
            }
            _ => None,
        })
    }

    /// One axis, as a weighted sum of gathered slices.
    fn along(&self, x: &Tensor, axis: i64, length: i64, outputs: i64, scale: f64) -> Result<Tensor> {
        let positions: Vec<f64> =
            (0..outputs).map(|output| self.position(output as f64, length, outputs, scale)).collect();
        let gathered = |offsets: &dyn Fn(f64) -> i64| -> Result<Tensor> {
            let picked: Vec<i64> = positions.iter().map(|&p| offsets(p).clamp(0, length - 1)).collect();
            Ok(x.f_index_select(axis, &indices(&picked, x.device())?)?)
        };
        if self.mode == Mode::Nearest {
            return gathered(&|position| match self.rounding {
                Rounding::RoundPreferFloor => (position - 0.5).ceil() as i64,
                Rounding::RoundPreferCeil => (position + 0.5).floor() as i64,
                Rounding::Floor => position.floor() as i64,
                Rounding::Ceil => position.ceil() as i64,
            });
        }
        let taps: std::ops::RangeInclusive<i64> = if self.mode == Mode::Linear { 0..=1 } else { -1..=2 };
        let mut shape = vec![1; x.dim()];
        shape[axis as usize] = outputs;
        let weights: Vec<Vec<f64>> =
            positions.iter().map(|&position| self.weights(position, length, taps.clone())).collect();
        let mut sum: Option<Tensor> = None;
        for (index, tap) in taps.enumerate() {
            let column: Vec<f32> = weights.iter().map(|weights| weights[index] as f32).collect();
            let column = Tensor::f_from_slice(&column)?.f_to_device(x.device())?.f_reshape(&shape[..])?;
            let term = gathered(&|position| position.floor() as i64 + tap)?.f_mul(&column)?;
            sum = Some(match sum {
                Some(sum) => sum.f_add(&term)?,
                None => term,
            });
        }
        // OK because there are at least two taps.
        Ok(sum.unwrap())
    }

    fn position(&self, output: f64, length: i64, outputs: i64, scale: f64) -> f64 {
        let (length, outputs) = (length as f64, outputs as f64);
        match self.coordinates {
            Coordinates::HalfPixel => (output + 0.5) / scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = outputs / (scale * length);
                length / 2.0 * (1.0 - adjustment) + (output + 0.5) / scale - 0.5
            }
            Coordinates::PytorchHalfPixel if outputs > 1.0 => (output + 0.5) / scale - 0.5,
            Coordinates::PytorchHalfPixel => 0.0,
            Coordinates::AlignCorners if outputs > 1.0 => output * (length - 1.0) / (outputs - 1.0),
            Coordinates::AlignCorners => 0.0,
            Coordinates::Asymmetric => output / scale,
        }
    }

    /// The weight of each tap around `position`; a tap outside the input counts as the edge, or not at all.
    fn weights(&self, position: f64, length: i64, taps: std::ops::RangeInclusive<i64>) -> Vec<f64> {
        let (floor, a) = (position.floor(), self.cubic);
        let mut weights: Vec<f64> = taps
            .clone()
            .map(|tap| {
                let distance = (position - floor - tap as f64).abs();
                match (self.mode, distance) {
                    (Mode::Linear, distance) => 1.0 - distance,
                    (_, d) if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
                    (_, d) => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
                }
            })
            .collect();
        if self.excludes_outside {
            for (weight, tap) in weights.iter_mut().zip(taps) {
                if !(0..length).contains(&(floor as i64 + tap)) {
                    *weight = 0.0;
                }
            }
            let total: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= total);
        }
        weights
    }
}
