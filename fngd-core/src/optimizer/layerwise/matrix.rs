//! A layer's gradient as one matrix per group: output features down, inputs across.

use super::curvature::Gradient;
use crate::Result;
use crate::gram::at_least_float;
use crate::layer::Geometry;
use crate::preconditioner::Facts;
use crate::tap::ParameterGrads;
use tch::{Device, Kind, Tensor};

/// The sizes of a layer's gradient as matrices `[G, d, p]`, or `[G, d, p + 1]` with the bias as the last column.
///
/// A transposed convolution is the convolution whose input and output have changed places: there d runs over its input
/// channels and p over patches of its output, and the bias belongs to neither; it trains with the plain gradient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub groups: i64,
    /// d
    pub rows: i64,
    /// p, or p + 1
    pub columns: i64,
    /// Whether the last column is the bias.
    pub joint_bias: bool,
    /// Float32, or float64 for a float64 layer.
    pub kind: Kind,
    pub device: Device,
}

impl Shape {
    pub fn of(facts: &Facts) -> Self {
        let size = facts.weight.size();
        let (groups, transposed) = match &facts.geometry {
            Geometry::Linear => (1, false),
            Geometry::Convolution(convolution) => (convolution.groups, convolution.transposed),
        };
        let joint_bias = facts.bias.is_some() && !transposed;
        let kind = if facts.weight.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let columns = size[1..].iter().product::<i64>() + i64::from(joint_bias);
        Self { groups, rows: size[0] / groups, columns, joint_bias, kind, device: facts.weight.device() }
    }

    /// `[G, d, p (+ 1)]`.
    pub fn matrix(&self, gradient: &Gradient) -> Result<Tensor> {
        let weight = at_least_float(&gradient.weight)?.f_reshape([self.groups, self.rows, -1])?;
        match &gradient.bias {
            Some(bias) if self.joint_bias => {
                let bias = at_least_float(bias)?.f_reshape([self.groups, self.rows, 1])?;
                Ok(Tensor::f_cat(&[weight, bias], 2)?)
            }
            _ => Ok(weight),
        }
    }

    /// The way back: weight and, if it is joint, bias.
    pub fn gradients(&self, matrix: &Tensor, facts: &Facts) -> Result<ParameterGrads> {
        let size = facts.weight.size();
        if !self.joint_bias {
            return Ok((Some(matrix.f_reshape(&size[..])?), None));
        }
        let weight = matrix.f_narrow(2, 0, self.columns - 1)?.f_reshape(&size[..])?;
        Ok((Some(weight), Some(matrix.f_select(2, self.columns - 1)?.f_reshape([-1])?)))
    }

    /// Bytes of `numbers` of this kind.
    pub fn bytes(&self, numbers: i64) -> u64 {
        numbers as u64 * self.kind.elt_size_in_bytes() as u64
    }
}
