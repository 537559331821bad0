//! Interpolation along one axis: which elements of the input make an element of the result, with which weights.

use crate::lower::arguments::{affordable, indices};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// What Resize does between the elements of its input.
#[derive(Debug, Clone)]
pub(super) struct Interpolation {
    pub mode: Mode,
    pub coordinates: Coordinates,
    pub rounding: Rounding,
    pub cubic: f64,
    pub excludes_outside: bool,
    pub antialiases: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// How a position in the result becomes a position in the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    CropAndResize,
    /// Operator set 11 only.
    TfHalfPixelForNearest,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rounding {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// One axis that changes.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub axis: i64,
    /// Its length before.
    pub length: i64,
    /// Its length after.
    pub outputs: i64,
    /// The ratio that positions use.
    pub scale: f64,
    /// The part of the input that is resized, from 0 to 1, if the coordinates ask for one.
    pub region: (f64, f64),
}

impl Mode {
    pub fn of(node: &Node) -> Result<Self> {
        match node.string("mode", "nearest") {
            "nearest" => Ok(Self::Nearest),
            "linear" | "bilinear" => Ok(Self::Linear),
            "cubic" => Ok(Self::Cubic),
            other => Err(unknown("mode", other)),
        }
    }
}

impl Coordinates {
    pub fn of(node: &Node) -> Result<Self> {
        let default = if node.opset < 11 { "asymmetric" } else { "half_pixel" };
        match node.string("coordinate_transformation_mode", default) {
            "half_pixel" => Ok(Self::HalfPixel),
            "half_pixel_symmetric" => Ok(Self::HalfPixelSymmetric),
            "pytorch_half_pixel" => Ok(Self::PytorchHalfPixel),
            "align_corners" => Ok(Self::AlignCorners),
            "asymmetric" => Ok(Self::Asymmetric),
            "tf_crop_and_resize" => Ok(Self::CropAndResize),
            "tf_half_pixel_for_nn" => Ok(Self::TfHalfPixelForNearest),
            other => Err(unknown("coordinate_transformation_mode", other)),
        }
    }
}

impl Rounding {
    pub fn of(node: &Node) -> Result<Self> {
        match node.string("nearest_mode", if node.opset < 11 { "floor" } else { "round_prefer_floor" }) {
            "round_prefer_floor" => Ok(Self::RoundPreferFloor),
            "round_prefer_ceil" => Ok(Self::RoundPreferCeil),
            "floor" => Ok(Self::Floor),
            "ceil" => Ok(Self::Ceil),
            other => Err(unknown("nearest_mode", other)),
        }
    }

    fn round(self, position: f64) -> i64 {
        (match self {
            Self::RoundPreferFloor => (position - 0.5).ceil(),
            Self::RoundPreferCeil => (position + 0.5).floor(),
            Self::Floor => position.floor(),
            Self::Ceil => position.ceil(),
        }) as i64
    }
}

fn unknown(name: &str, value: &str) -> Error {
    Error::unsupported(format!("attribute `{name}` is `{value}`"))
}

impl Axis {
    /// Where in the input each element of the result is.
    pub fn positions(&self, coordinates: Coordinates) -> Vec<f64> {
        let (length, outputs, scale) = (self.length as f64, self.outputs as f64, self.scale);
        let (start, end) = self.region;
        let position = |output: f64| match coordinates {
            Coordinates::HalfPixel => (output + 0.5) / scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = outputs / (scale * length);
                length / 2.0 * (1.0 - adjustment) + (output + 0.5) / scale - 0.5
            }
            Coordinates::PytorchHalfPixel if outputs > 1.0 => (output + 0.5) / scale - 0.5,
            Coordinates::AlignCorners if outputs > 1.0 => output * (length - 1.0) / (outputs - 1.0),
            Coordinates::PytorchHalfPixel | Coordinates::AlignCorners => 0.0,
            Coordinates::Asymmetric => output / scale,
            Coordinates::TfHalfPixelForNearest => (output + 0.5) / scale,
            Coordinates::CropAndResize if outputs > 1.0 => {
                (start + output * (end - start) / (outputs - 1.0)) * (length - 1.0)
            }
            Coordinates::CropAndResize => 0.5 * (start + end) * (length - 1.0),
        };
        (0..self.outputs).map(|output| position(output as f64)).collect()
    }
}

impl Interpolation {
    /// `x` resized along `axis`.
    pub fn along(&self, x: &Tensor, axis: &Axis) -> Result<Tensor> {
        let positions = axis.positions(self.coordinates);
        let last = axis.length - 1;
        if self.mode == Mode::Nearest {
            let picked: Vec<i64> = positions.iter().map(|&p| self.rounding.round(p).clamp(0, last)).collect();
            return Ok(x.f_index_select(axis.axis, &indices(&picked, x.device())?)?);
        }
        if self.antialiases && axis.scale < 1.0 {
            return self.by_matrix(x, axis, &positions);
        }
        // A weighted sum of gathered slices.
        let taps = self.taps(1.0);
        let mut shape = vec![1; x.dim()];
        shape[axis.axis as usize] = axis.outputs;
        let weights: Vec<Vec<f64>> = positions.iter().map(|&p| self.weights(p, axis.length, 1.0)).collect();
        let mut sum: Option<Tensor> = None;
        for (index, tap) in taps.enumerate() {
            let picked: Vec<i64> = positions.iter().map(|p| (p.floor() as i64 + tap).clamp(0, last)).collect();
            let column: Vec<f32> = weights.iter().map(|weights| weights[index] as f32).collect();
            let column = Tensor::f_from_slice(&column)?.f_to_device(x.device())?.f_reshape(&shape[..])?;
            let term = x.f_index_select(axis.axis, &indices(&picked, x.device())?)?.f_mul(&column)?;
            sum = Some(match sum {
                Some(sum) => sum.f_add(&term)?,
                None => term,
            });
        }
        // OK because there are at least two taps.
        Ok(sum.unwrap())
    }

    /// A matrix product: with antialiasing, an element of the result may depend on many.
    fn by_matrix(&self, x: &Tensor, axis: &Axis, positions: &[f64]) -> Result<Tensor> {
        const MOST: i64 = 1 << 26;
        affordable(&[axis.outputs, axis.length], MOST)?;
        let columns = axis.length as usize;
        let mut matrix = vec![0f32; positions.len() * columns];
        for (row, &position) in matrix.chunks_exact_mut(columns).zip(positions) {
            let weights = self.weights(position, axis.length, axis.scale);
            for (tap, weight) in self.taps(axis.scale).zip(weights) {
                let column = (position.floor() as i64 + tap).clamp(0, axis.length - 1);
                row[column as usize] += weight as f32;
            }
        }
        let matrix = Tensor::f_from_slice(&matrix)?.f_reshape([axis.outputs, axis.length])?.f_to_device(x.device())?;
        let product = x.f_transpose(axis.axis, -1)?.f_matmul(&matrix.f_transpose(0, 1)?)?;
        Ok(product.f_transpose(axis.axis, -1)?)
    }

    /// The elements that count, from the one at or in front of the position. `stretch` < 1 widens the kernel.
    fn taps(&self, stretch: f64) -> std::ops::Range<i64> {
        let radius = if self.mode == Mode::Linear { 1.0 } else { 2.0 };
        let first = (-radius / stretch).floor() as i64 + 1;
        first..2 - first
    }

    /// The weight of each tap around `position`; a tap outside the input counts as the edge, or not at all.
    fn weights(&self, position: f64, length: i64, stretch: f64) -> Vec<f64> {
        let floor = position.floor();
        let mut weights: Vec<f64> = self
            .taps(stretch)
            .map(|tap| match self.kernel((position - floor - tap as f64).abs() * stretch) {
                _ if self.excludes_outside && !(0..length).contains(&(floor as i64 + tap)) => 0.0,
                weight => weight,
            })
            .collect();
        if self.excludes_outside || stretch < 1.0 {
            let total: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= total);
        }
        weights
    }

    fn kernel(&self, distance: f64) -> f64 {
        let (a, d) = (self.cubic, distance);
        match self.mode {
            Mode::Cubic if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
            Mode::Cubic if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
            Mode::Cubic => 0.0,
            Mode::Nearest | Mode::Linear => (1.0 - d).max(0.0),
        }
    }
}
