//! Where windows lie: what convolutions and poolings share.

use crate::lower::arguments::{MOST_ELEMENTS, affordable};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// Stride, dilation and padding as the file gives them.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub kernel: Vec<i64>,
    pub stride: Vec<i64>,
    pub dilation: Vec<i64>,
    pub padding: Padding,
    pub ceil: bool,
}

/// How many elements are added in front and behind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Padding {
    Explicit {
        before: Vec<i64>,
        after: Vec<i64>,
    },
    /// The output has `ceil(input / stride)` elements; an odd one is added behind (or in front).
    Same {
        odd_behind: bool,
    },
}

/// Larger attributes make libtorch overflow or hang instead of failing.
pub(crate) const LARGEST: i64 = 1 << 20;

impl Window {
    /// Reads a node whose kernel is `kernel`.
    pub fn read(node: &Node, kernel: &[i64]) -> Result<Self> {
        let spatial_dims = kernel.len();
        if !(1..=3).contains(&spatial_dims) {
            return Err(Error::unsupported(format!("{spatial_dims} spatial dimensions, supported are 1 to 3")));
        }
        let list = |name: &str, length: usize, default: i64, least: i64| -> Result<Vec<i64>> {
            let values = node.ints(name).map_or_else(|| vec![default; length], <[i64]>::to_vec);
            if values.len() != length || values.iter().any(|value| !(least..=LARGEST).contains(value)) {
                let range = format!("{length} numbers from {least} to {LARGEST}");
                return Err(Error::malformed(format!("attribute `{name}` is {values:?}, expected {range}")));
            }
            Ok(values)
        };
        if kernel.iter().any(|size| !(1..=LARGEST).contains(size)) {
            return Err(Error::malformed(format!("the kernel is {kernel:?}, expected sizes from 1 to {LARGEST}")));
        }
        let padding = match node.string("auto_pad", "NOTSET") {
            "NOTSET" => {
                let pads = list("pads", 2 * spatial_dims, 0, 0)?;
                let (before, after) = pads.split_at(spatial_dims);
                Padding::Explicit { before: before.to_vec(), after: after.to_vec() }
            }
            "VALID" => Padding::Explicit { before: vec![0; spatial_dims], after: vec![0; spatial_dims] },
            "SAME_UPPER" => Padding::Same { odd_behind: true },
            "SAME_LOWER" => Padding::Same { odd_behind: false },
            other => return Err(Error::malformed(format!("attribute `auto_pad` is `{other}`"))),
        };
        Ok(Self {
            kernel: kernel.to_vec(),
            stride: list("strides", spatial_dims, 1, 1)?,
            dilation: list("dilations", spatial_dims, 1, 1)?,
            padding,
            ceil: node.int("ceil_mode", 0) != 0,
        })
    }

    /// The padding, if it is the same in front and behind, whatever the input.
    pub fn symmetric(&self) -> Option<&[i64]> {
        match &self.padding {
            Padding::Explicit { before, after } if before == after => Some(before),
            _ => None,
        }
    }

    /// Elements that a window spans along spatial dimension `index`.
    pub fn span(&self, index: usize) -> i64 {
        self.dilation[index] * (self.kernel[index] - 1) + 1
    }

    /// Elements added in front and behind for an input of these spatial sizes.
    pub fn pads(&self, spatial: &[i64]) -> (Vec<i64>, Vec<i64>) {
        match &self.padding {
            Padding::Explicit { before, after } => (before.clone(), after.clone()),
            Padding::Same { odd_behind } => (0..self.kernel.len())
                .map(|index| {
                    let outputs = (spatial[index] + self.stride[index] - 1) / self.stride[index];
                    let total = ((outputs - 1) * self.stride[index] + self.span(index) - spatial[index]).max(0);
                    if *odd_behind { (total / 2, total - total / 2) } else { (total - total / 2, total / 2) }
                })
                .unzip(),
        }
    }

    /// Elements to add in front and behind so that exactly the windows that count fit.
    ///
    /// Rounding up may add a window that starts inside the input or in front of it, never one that starts in the padding behind.
    pub fn exact_pads(&self, spatial: &[i64]) -> (Vec<i64>, Vec<i64>) {
        let (before, mut after) = self.pads(spatial);
        if self.ceil {
            for index in 0..spatial.len() {
                let (stride, padded) = (self.stride[index], spatial[index] + before[index] + after[index]);
                let mut outputs = (padded - self.span(index) + stride - 1).div_euclid(stride) + 1;
                if (outputs - 1) * stride >= spatial[index] + before[index] {
                    outputs -= 1;
                }
                after[index] = (outputs - 1) * stride + self.span(index) - spatial[index] - before[index];
            }
        }
        (before, after)
    }
}

/// `x` with elements added around its last dimensions; negative numbers cut elements off.
pub(crate) fn pad(x: &Tensor, before: &[i64], after: &[i64], value: f64) -> Result<Tensor> {
    // libtorch wants the last dimension first.
    let amounts: Vec<i64> = before.iter().zip(after).rev().flat_map(|(&before, &after)| [before, after]).collect();
    if amounts.iter().all(|&amount| amount == 0) {
        return Ok(x.shallow_clone());
    }
    let (mut size, unpadded) = (x.size(), x.dim().saturating_sub(before.len()));
    for (dim, (&before, &after)) in size.iter_mut().skip(unpadded).zip(before.iter().zip(after)) {
        *dim = dim.saturating_add(before).saturating_add(after).max(0);
    }
    affordable(&size, MOST_ELEMENTS)?;
    Ok(x.f_pad(&amounts[..], "constant", value)?)
}

/// The sizes of an `[N, C, ...]` tensor after the first two, checked against the number of spatial dimensions.
pub(crate) fn spatial_sizes(x: &Tensor, spatial_dims: usize) -> Result<Vec<i64>> {
    let size = x.size();
    if size.len() != spatial_dims + 2 {
        return Err(Error::mismatch(format!("input is {size:?}, expected {} dimensions", spatial_dims + 2)));
    }
    Ok(size[2..].to_vec())
}
