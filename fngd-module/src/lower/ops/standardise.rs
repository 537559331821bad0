//! Normalisations without parameters: MeanVarianceNormalization and LpNormalization.

use crate::lower::arguments::{axes_of, axis_of};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// Mean 0 and variance 1 over some axes.
struct MeanVarianceNormalization {
    axes: Vec<i64>,
}

pub(crate) fn mean_variance(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(MeanVarianceNormalization { axes: node.ints("axes").unwrap_or(&[0, 2, 3]).to_vec() }))
}

impl Operator for MeanVarianceNormalization {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        // The specification adds this to the standard deviation, not to the variance.
        const EPSILON: f64 = 1e-9;
        let x = inputs.get(0)?;
        let axes = axes_of(&self.axes, x.dim())?;
        let centred = x.f_sub(&x.f_mean_dim(&axes[..], true, None::<Kind>)?)?;
        // By way of the norm, whose gradient at 0 is 0; that of a square root is infinite.
        let size = x.size();
        let count: i64 = axes.iter().map(|&axis| size[axis as usize]).product();
        let norm = centred.f_norm_scalaropt_dim(2, &axes[..], true)?;
        let deviation = norm.f_div_scalar((count as f64).sqrt())?.f_add_scalar(EPSILON)?;
        Ok(vec![centred.f_div(&deviation)?])
    }
}

/// `x` divided by the sum of its absolute values, or by the root of the sum of its squares, along one axis.
struct LpNormalization {
    axis: i64,
    p: i64,
}

pub(crate) fn lp(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let p = node.int("p", 2);
    if !(1..=2).contains(&p) {
        return Err(Error::malformed(format!("attribute `p` is {p}, expected 1 or 2")));
    }
    Ok(Box::new(LpNormalization { axis: node.int("axis", -1), p }))
}

impl Operator for LpNormalization {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let axis = axis_of(self.axis, x.dim())?;
        let norm = x.f_norm_scalaropt_dim(self.p, [axis], true)?;
        // Where the norm is 0, so is the result, and its gradient.
        Ok(vec![x.f_div(&norm.f_masked_fill(&norm.f_eq(0)?, f64::INFINITY)?)?])
    }
}
