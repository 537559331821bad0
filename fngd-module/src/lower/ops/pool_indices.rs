//! MaxPool that also tells where each largest element was.

use super::window::{Window, pad, spatial_sizes};
use crate::Result;
use crate::lower::arguments::product;
use crate::lower::operator::{Inputs, Operator, Run};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// The largest element of each window, and its place in the whole input, counted as if that had one dimension.
struct MaxPoolWithIndices {
    window: Window,
    /// The first spatial dimension is counted fastest (`storage_order`), not the last.
    first_is_fastest: bool,
}

pub(super) fn build(node: &Node, window: Window) -> Result<Box<dyn Operator>> {
    Ok(Box::new(MaxPoolWithIndices { window, first_is_fastest: node.int("storage_order", 0) != 0 }))
}

impl Operator for MaxPoolWithIndices {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let spatial = spatial_sizes(x, self.window.kernel.len())?;
        let (before, after) = self.window.exact_pads(&spatial);
        let padded = pad(x, &before, &after, f64::NEG_INFINITY)?;
        let Window { kernel, stride, dilation, .. } = &self.window;
        let zeros = vec![0; kernel.len()];
        let (values, places) = match kernel.len() {
            1 => padded.f_max_pool1d_with_indices(&kernel[..], &stride[..], &zeros[..], &dilation[..], false)?,
            2 => padded.f_max_pool2d_with_indices(&kernel[..], &stride[..], &zeros[..], &dilation[..], false)?,
            _ => padded.f_max_pool3d_with_indices(&kernel[..], &stride[..], &zeros[..], &dilation[..], false)?,
        };
        let places = self.in_input(&places, &before, &padded.size()[2..], &x.size())?;
        Ok(vec![values, places])
    }
}

impl MaxPoolWithIndices {
    /// libtorch's places are inside one padded plane.
    fn in_input(&self, places: &Tensor, before: &[i64], padded: &[i64], size: &[i64]) -> Result<Tensor> {
        let spatial = &size[2..];
        let mut rest = places.shallow_clone();
        let mut place = Tensor::f_zeros([0i64; 0], (Kind::Int64, places.device()))?;
        for axis in (0..spatial.len()).rev() {
            let coordinate = rest.f_remainder(padded[axis])?.f_sub_scalar(before[axis])?;
            // A window of nothing but padding has no place.
            let coordinate = coordinate.f_clamp(0, (spatial[axis] - 1).max(0))?;
            rest = rest.f_floor_divide_scalar(padded[axis])?;
            let slower = if self.first_is_fastest { &spatial[..axis] } else { &spatial[axis + 1..] };
            place = place.f_add(&coordinate.f_mul_scalar(product(slower))?)?;
        }
        let planes = Tensor::f_arange(size[0] * size[1], (Kind::Int64, places.device()))?;
        let planes = planes.f_mul_scalar(product(spatial))?;
        let ones = vec![1; spatial.len()];
        Ok(place.f_add(&planes.f_reshape([&size[..2], &ones].concat())?)?)
    }
}
