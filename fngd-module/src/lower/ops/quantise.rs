//! QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.
//!
//! Rounding has no useful gradient. Where a quantised tensor is only read to be dequantised, as exporters of quantisation-aware
//! training write it, the rounded numbers stay floats and the gradient passes straight through, except where a number was cut to
//! the type's range.

use super::window::LARGEST;
use crate::lower::arguments::axis_of;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::lower::tensors::kind_of_number;
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// How scales and zero points belong to the elements: one for all, one per position on an axis, or one per block on that axis.
struct Granularity {
    axis: i64,
    block: i64,
}

impl Granularity {
    fn of(node: &Node) -> Result<Self> {
        let block = node.int("block_size", 0);
        if !(0..=LARGEST).contains(&block) {
            return Err(Error::malformed(format!("attribute `block_size` is {block}, expected 0 to {LARGEST}")));
        }
        Ok(Self { axis: node.int("axis", 1), block })
    }

    /// `parameter`, a scale or a zero point, in a size that broadcasts to `size`.
    fn spread(&self, parameter: &Tensor, size: &[i64]) -> Result<Tensor> {
        if parameter.numel() == 1 {
            return Ok(parameter.f_reshape([0i64; 0])?);
        }
        let axis = axis_of(self.axis, size.len())? as usize;
        let found = parameter.size();
        let refuse = || {
            let (axis, block) = (self.axis, self.block);
            Error::mismatch(format!("scale or zero point {found:?} for {size:?}, axis {axis}, blocks of {block}"))
        };
        if self.block == 0 {
            if found != [size[axis]] {
                return Err(refuse());
            }
            let mut shape = vec![1; size.len()];
            shape[axis] = size[axis];
            return Ok(parameter.f_reshape(&shape[..])?);
        }
        // A block that is longer than the axis ends with it.
        let block = self.block.min(size[axis].max(1));
        let mut blocks = size.to_vec();
        blocks[axis] = (size[axis] + block - 1) / block;
        if found != blocks {
            return Err(refuse());
        }
        let repeated = parameter.f_repeat_interleave_self_int(block, axis as i64, None::<i64>)?;
        Ok(repeated.f_slice(axis as i64, 0, size[axis], 1)?)
    }
}

/// `round(x / scale) + zero point`, cut to the range of an integer type.
struct QuantizeLinear {
    granularity: Granularity,
    /// The type, if an attribute gives it.
    kind: Option<Kind>,
    /// By the number that ONNX gives an element type: 4 is uint16, which has no kind of its own.
    declared: Option<i64>,
    keeps_gradient: bool,
}

pub(crate) fn quantize(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let declared = node.attributes.contains_key("output_dtype").then(|| node.int("output_dtype", 0));
    let declared = declared.filter(|&number| number != 0);
    let kind = declared.map(|number| integer_kind(number, context)).transpose()?;
    Ok(Box::new(QuantizeLinear {
        granularity: Granularity::of(node)?,
        kind,
        declared,
        keeps_gradient: context.is_only_dequantised(),
    }))
}

fn integer_kind(number: i64, context: &BuildContext) -> Result<Kind> {
    kind_of_number(number, context.float).filter(|kind| range(*kind).is_some()).ok_or_else(|| {
        context.unsupported(format!("attribute `output_dtype` is {number}, expected an integer type of 8 or 16 bits"))
    })
}

impl Operator for QuantizeLinear {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, scale, zero_point) = (inputs.get(0)?, inputs.get(1)?, inputs.optional(2));
        let kind = self.kind.or(zero_point.map(Tensor::kind)).unwrap_or(Kind::Uint8);
        let range = range(kind)
            .ok_or_else(|| Error::unsupported(format!("quantises to {kind:?} (ONNX type {:?})", self.declared)))?;
        let size = x.size();
        let scaled = x.f_to_kind(scale.kind())?.f_div(&self.granularity.spread(scale, &size)?)?;
        let zero_point = match zero_point {
            Some(tensor) => Some(self.granularity.spread(tensor, &size)?.f_to_kind(scale.kind())?),
            None => None,
        };
        let rounded = quantised(&scaled, zero_point.as_ref(), range)?;
        Ok(vec![if self.keeps_gradient { rounded } else { rounded.f_to_kind(kind)? }])
    }
}

/// `(x - zero point) · scale`.
struct DequantizeLinear {
    granularity: Granularity,
}

pub(crate) fn dequantize(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(DequantizeLinear { granularity: Granularity::of(node)? }))
}

impl Operator for DequantizeLinear {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, scale, zero_point) = (inputs.get(0)?, inputs.get(1)?, inputs.optional(2));
        let size = x.size();
        let mut result = x.f_to_kind(scale.kind())?;
        if let Some(zero_point) = zero_point {
            result = result.f_sub(&self.granularity.spread(zero_point, &size)?.f_to_kind(scale.kind())?)?;
        }
        Ok(vec![result.f_mul(&self.granularity.spread(scale, &size)?)?])
    }
}

/// QuantizeLinear to uint8 with the scale and zero point that the elements themselves need. They take part in no gradient.
struct DynamicQuantizeLinear {
    keeps_gradient: bool,
}

pub(crate) fn dynamic_quantize(_: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(DynamicQuantizeLinear { keeps_gradient: context.is_only_dequantised() }))
}

impl Operator for DynamicQuantizeLinear {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        if x.numel() == 0 {
            return Err(Error::mismatch(format!("input {:?} has no elements, so no range", x.size())));
        }
        let fixed = x.f_detach()?;
        let (low, high) = (fixed.f_min()?.f_clamp_max(0.0)?, fixed.f_max()?.f_clamp_min(0.0)?);
        let scale = high.f_sub(&low)?.f_div_scalar(255.0)?;
        let zero_point = low.f_div(&scale)?.f_neg()?.f_nan_to_num(0.0, None, None)?.f_round()?.f_clamp(0.0, 255.0)?;
        // Where all elements are 0, so is the scale, and 0 / 0 is no number.
        let scaled = x.f_div(&scale.f_masked_fill(&scale.f_eq(0)?, 1.0)?)?;
        let y = quantised(&scaled, Some(&zero_point), (0.0, 255.0))?;
        let y = if self.keeps_gradient { y } else { y.f_to_kind(Kind::Uint8)? };
        Ok(vec![y, scale, zero_point.f_to_kind(Kind::Uint8)?])
    }
}

/// `round(scaled) + zero_point`, cut to `range`; its gradient is that of `scaled + zero_point`, cut.
fn quantised(scaled: &Tensor, zero_point: Option<&Tensor>, (low, high): (f64, f64)) -> Result<Tensor> {
    // Further out than every range; infinity has no difference to what it is rounded to.
    const FAR: f64 = 1e6;
    let finite = scaled.f_clamp(-FAR, FAR)?;
    // The difference to the rounded number is exact in float32, and so is the sum.
    let rounded = finite.f_add(&finite.f_round()?.f_sub(&finite)?.f_detach()?)?;
    let shifted = match zero_point {
        Some(zero_point) => rounded.f_add(zero_point)?,
        None => rounded,
    };
    Ok(shifted.f_clamp(low, high)?)
}

/// The lowest and the highest number of an integer type. ONNX's uint16 is kept as libtorch's int32.
fn range(kind: Kind) -> Option<(f64, f64)> {
    match kind {
        Kind::Uint8 => Some((0.0, 255.0)),
        Kind::Int8 => Some((-128.0, 127.0)),
        Kind::Int16 => Some((-32768.0, 32767.0)),
        Kind::Int => Some((0.0, 65535.0)),
        _ => None,
    }
}
