//! Per-sample contributions to a layer's weight gradient, formed in blocks of output features.
//!
//! Two ways, chosen by what they must write. Unfolding copies every patch, B·T·p numbers, and multiplies. Grouped backward
//! reads activations and output gradients as they are and lets libtorch's convolution treat the batch as groups, one weight
//! gradient per group. The first wins where there are more output features than positions.

use crate::Result;
use crate::factors::{Factors, WeightLayout};
use crate::layer::{Convolution, Geometry};
use crate::tap;
use crate::weighting::Use;
use tch::Tensor;

/// The uses of one layer, ready to give contributions.
#[derive(Debug)]
pub(crate) enum Contributions<'a> {
    Unfolded(Vec<Factors>),
    Grouped { uses: &'a [Use], weight: &'a Tensor, geometry: &'a Convolution, batch_size: i64 },
}

impl<'a> Contributions<'a> {
    /// Chooses the way that costs less.
    pub fn new(geometry: &'a Geometry, weight: &'a Tensor, uses: &'a [Use], batch_size: i64) -> Result<Self> {
        if let Geometry::Convolution(geometry) = geometry
            && grouped_is_cheaper(geometry, uses, batch_size)
        {
            return Ok(Self::Grouped { uses, weight, geometry, batch_size });
        }
        Ok(Self::Unfolded(Factors::unfold(geometry, &weight.size(), uses, batch_size)?))
    }

    /// Contributions of output features `from .. from + count` of each group, summed over uses: `[B, G·count·p]`.
    pub fn block(&self, from: i64, count: i64) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        let mut add = |block: Tensor| -> Result<()> {
            sum = Some(match sum.take() {
                Some(mut sum) => sum.f_add_(&block)?,
                None => block,
            });
            Ok(())
        };
        match self {
            Self::Unfolded(factors) => {
                factors.iter().try_for_each(|factors| add(factors.contributions(from, count)?))?;
            }
            Self::Grouped { uses, weight, geometry, batch_size } => {
                uses.iter().try_for_each(|used| add(grouped(geometry, weight, used, *batch_size, from, count)?))?;
            }
        }
        // OK because a layer whose backward ran has at least one use.
        Ok(sum.unwrap())
    }

    /// How a flat sum over all output features becomes a weight.
    pub fn layout(&self) -> WeightLayout {
        match self {
            Self::Unfolded(factors) => factors[0].layout.clone(),
            Self::Grouped { weight, .. } => WeightLayout::contiguous(&weight.size()),
        }
    }
}

/// Fewer input channels than a vector register holds, and libtorch's grouped convolution is a slow one.
const SIMD_CHANNELS: i64 = 16;

/// Whether the batch can be seen as groups, and whether that beats copying patches.
///
/// Measured on 2 cores at B = 128, float32 (ms per layer, unfolded against grouped): 16 channels at 32×32 5.8 : 1.8, 32 at 16×16
/// 4.4 : 1.6, 64 at 8×8 4.0 : 6.6. The crossing lies where positions equal output features.
fn grouped_is_cheaper(geometry: &Convolution, uses: &[Use], batch_size: i64) -> bool {
    // A transposed convolution of grouped batches has its groups in another order.
    let single = !geometry.transposed && geometry.groups == 1;
    let worth_it = |used: &Use| {
        let (outputs, inputs) = (used.output_grads.size(), used.activations.size());
        let one_image_each = outputs[0] == batch_size && inputs[0] == batch_size;
        one_image_each && inputs[1] >= SIMD_CHANNELS && outputs[2..].iter().product::<i64>() > outputs[1]
    };
    single && uses.iter().all(worth_it)
}

/// The gradient of a convolution that has one group per sample: `[B, count·p]`.
fn grouped(
    geometry: &Convolution,
    weight: &Tensor,
    used: &Use,
    batch_size: i64,
    from: i64,
    count: i64,
) -> Result<Tensor> {
    let as_groups = |tensor: &Tensor| -> Result<Tensor> {
        let mut size = tensor.size();
        size[1] *= batch_size;
        size[0] = 1;
        Ok(tensor.f_contiguous()?.f_view(&size[..])?)
    };
    let output_grads = as_groups(&used.output_grads.f_narrow(1, from, count)?)?;
    let mut size = weight.size();
    size[0] = batch_size * count;
    // Only the size of this weight is looked at.
    let shape = Tensor::f_empty(&size[..], (weight.kind(), weight.device()))?;
    let geometry = Convolution { groups: batch_size, ..geometry.clone() };
    let (grads, _) =
        tap::convolution_backward(&output_grads, &as_groups(&used.activations)?, &shape, &geometry, false)?;
    Ok(grads.f_reshape([batch_size, -1])?)
}
