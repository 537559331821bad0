//! Windows of convolutions and pools: what goes in, what comes out.

use super::sizes::Expression;
use crate::{Error, Result};
use fngd_onnx::graph::Node;

/// A window that moves over spatial dimensions.
pub(super) struct Window {
    pub kernel: Vec<i64>,
    pub stride: Vec<i64>,
    pub dilation: Vec<i64>,
    pub ceil: bool,
    padding: Padding,
}

enum Padding {
    /// Before every dimension, then behind every dimension.
    Explicit(Vec<i64>),
    /// `SAME_UPPER` or `SAME_LOWER`: whether the odd element comes first.
    Same { lower: bool },
}

impl Window {
    pub fn read(node: &Node, kernel: &[i64]) -> Result<Self> {
        let count = kernel.len();
        let list = |name: &str, default: i64, length: usize| -> Result<Vec<i64>> {
            let values = node.ints(name).map_or_else(|| vec![default; length], <[i64]>::to_vec);
            let expected = format!("attribute `{name}` has {} entries, expected {length}", values.len());
            if values.len() == length { Ok(values) } else { Err(Error::unsupported(expected)) }
        };
        let padding = match node.string("auto_pad", "NOTSET") {
            "NOTSET" => Padding::Explicit(list("pads", 0, 2 * count)?),
            "VALID" => Padding::Explicit(vec![0; 2 * count]),
            other => Padding::Same { lower: other == "SAME_LOWER" },
        };
        let (stride, dilation) = (list("strides", 1, count)?, list("dilations", 1, count)?);
        if stride.iter().chain(&dilation).chain(kernel).any(|size| *size < 1) {
            return Err(Error::unsupported("a kernel, stride or dilation is below 1"));
        }
        Ok(Self { kernel: kernel.to_vec(), stride, dilation, ceil: node.int("ceil_mode", 0) != 0, padding })
    }

    /// Zeros before and behind each dimension.
    pub fn pads(&self, spatial: &[Expression]) -> Result<Vec<(i64, i64)>> {
        let count = self.kernel.len();
        match &self.padding {
            Padding::Explicit(pads) => {
                let (before, behind) = pads.split_at(count);
                Ok(before.iter().copied().zip(behind.iter().copied()).collect())
            }
            Padding::Same { lower } => (0..count).map(|axis| self.same(axis, spatial.get(axis), *lower)).collect(),
        }
    }

    /// The padding, if it is the same on both sides.
    pub fn symmetric(&self, spatial: &[Expression]) -> Result<Option<Vec<i64>>> {
        let pads = self.pads(spatial)?;
        Ok(pads.iter().map(|(before, behind)| (before == behind).then_some(*before)).collect())
    }

    /// Sizes that come out.
    pub fn output(&self, spatial: &[Expression]) -> Result<Vec<Expression>> {
        let of = |(axis, (size, (before, behind))): (usize, (&Expression, (i64, i64)))| {
            let rest = size.plus(&(before.saturating_add(behind).saturating_sub(self.span(axis))).into());
            let stride = self.stride[axis].into();
            let up = if self.ceil { rest.plus(&(self.stride[axis] - 1).into()) } else { rest };
            up.over(&stride).plus(&1.into())
        };
        Ok(spatial.iter().zip(self.pads(spatial)?).enumerate().map(of).collect())
    }

    /// Sizes that come out of a transposed convolution.
    pub fn transposed_output(&self, spatial: &[Expression], extra: &[i64]) -> Result<Vec<Expression>> {
        let of = |(axis, (size, (before, behind))): (usize, (&Expression, (i64, i64)))| {
            let steps = size.minus(&1.into()).times(&self.stride[axis].into());
            steps.plus(
                &(self
                    .span(axis)
                    .saturating_add(extra.get(axis).copied().unwrap_or(0))
                    .saturating_sub(before.saturating_add(behind)))
                .into(),
            )
        };
        Ok(spatial.iter().zip(self.pads(spatial)?).enumerate().map(of).collect())
    }

    fn span(&self, axis: usize) -> i64 {
        (self.kernel[axis] - 1).saturating_mul(self.dilation[axis]).saturating_add(1)
    }

    fn same(&self, axis: usize, size: Option<&Expression>, lower: bool) -> Result<(i64, i64)> {
        let advice = "attribute `auto_pad` with sizes known only when the model runs; export with `pads`";
        let size = match (size.and_then(Expression::known), self.stride[axis]) {
            (Some(size), _) => size,
            // With stride 1, the size does not matter.
            (None, 1) => 1,
            (None, _) => return Err(Error::unsupported(advice)),
        };
        let stride = self.stride[axis];
        let steps = size.saturating_add(stride - 1) / stride;
        let total = (steps - 1).saturating_mul(stride).saturating_add(self.span(axis)).saturating_sub(size).max(0);
        let small = total / 2;
        Ok(if lower { (total - small, small) } else { (small, total - small) })
    }
}
