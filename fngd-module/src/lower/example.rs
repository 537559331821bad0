//! Inputs made up for a model: for probing it, for timing it and for checking an export.

use super::arguments::product;
use super::program::GraphInput;
use crate::{Error, Result};
use fngd_onnx::graph::Dim;
use tch::{Kind, Tensor};

/// Size of a dimension that has a name, where the caller does not say: long enough for a convolution, short for a sequence.
const OPEN_IMAGE_DIM: i64 = 64;
const OPEN_OTHER_DIM: i64 = 8;

/// Random inputs: normal floats, integers and booleans of 0 and 1.
///
/// Integers stay that small because they may be tokens of a vocabulary of any size, segment numbers or masks.
///
/// - `most_elements`: of one input
pub(crate) fn inputs(
    inputs: &[GraphInput],
    batch: i64,
    dims: &[(String, i64)],
    seed: u64,
    most_elements: i64,
) -> Result<Vec<Tensor>> {
    let mut numbers = SplitMix(seed);
    let sizes =
        inputs.iter().map(|input| size(inputs, input, batch, dims, most_elements)).collect::<Result<Vec<_>>>()?;
    inputs.iter().zip(sizes).map(|(input, size)| tensor(input, &size, &mut numbers)).collect()
}

/// Which axis of `input` holds the samples: the one with the batch's name, or the first.
pub(crate) fn batch_axis(inputs: &[GraphInput], input: &GraphInput) -> Option<usize> {
    let dims = input.dims.as_deref()?;
    match batch_symbol(inputs) {
        Some(symbol) => dims.iter().position(|dim| matches!(dim, Dim::Symbol(name) if name == symbol)),
        None => (!dims.is_empty()).then_some(0),
    }
}

/// How many samples these inputs hold.
pub(crate) fn batch_size(inputs: &[GraphInput], tensors: &[Tensor]) -> Option<i64> {
    inputs.iter().zip(tensors).find_map(|(input, tensor)| tensor.size().get(batch_axis(inputs, input)?).copied())
}

/// The batch size that the file insists on, if it does.
pub(crate) fn fixed_batch(inputs: &[GraphInput]) -> Option<i64> {
    let sizes = inputs.iter().filter_map(|input| match input.dims.as_deref()?.get(batch_axis(inputs, input)?)? {
        Dim::Known(size) => i64::try_from(*size).ok(),
        _ => None,
    });
    sizes.min()
}

/// Whether the first dimension of `input` is the batch that the file fixes.
pub(crate) fn has_samples(input: &GraphInput, batch: u64) -> bool {
    input.dims.as_ref().is_some_and(|dims| dims.first() == Some(&Dim::Known(batch)))
}

/// A tensor of normal floats, equal for equal `seed`.
pub(crate) fn normal(size: &[i64], seed: u64) -> Result<Tensor> {
    let mut numbers = SplitMix(seed);
    let values: Vec<f32> = (0..size.iter().product()).map(|_| numbers.normal()).collect();
    Ok(Tensor::f_from_slice(&values)?.f_reshape(size)?)
}

fn batch_symbol(inputs: &[GraphInput]) -> Option<&str> {
    let symbols = || {
        inputs.iter().flat_map(|input| input.dims.iter().flatten()).filter_map(|dim| match dim {
            Dim::Symbol(name) => Some(name.as_str()),
            _ => None,
        })
    };
    let named =
        symbols().find(|name| name.to_lowercase().contains("batch")).or_else(|| symbols().find(|&name| name == "N"));
    named.or_else(|| match inputs.first()?.dims.as_deref()?.first()? {
        Dim::Symbol(name) => Some(name),
        _ => None,
    })
}

fn size(
    inputs: &[GraphInput],
    input: &GraphInput,
    batch: i64,
    dims: &[(String, i64)],
    most_elements: i64,
) -> Result<Vec<i64>> {
    let declared = input.dims.as_deref().ok_or_else(|| {
        Error::unsupported(format!("input `{}` declares no dimensions, so no example can be made for it", input.name))
    })?;
    let kind = input.kind.unwrap_or(Kind::Float);
    let batch_axis = batch_axis(inputs, input);
    let open = if kind == Kind::Float && declared.len() >= 4 { OPEN_IMAGE_DIM } else { OPEN_OTHER_DIM };
    let size: Vec<i64> = declared
        .iter()
        .enumerate()
        .map(|(axis, dim)| match dim {
            Dim::Known(size) => *size as i64,
            Dim::Symbol(name) if dims.iter().any(|(given, _)| given == name) => {
                dims.iter().find(|(given, _)| given == name).map_or(open, |(_, size)| *size)
            }
            _ if batch_axis == Some(axis) => batch,
            _ => open,
        })
        .collect();
    let elements = size.iter().try_fold(1i64, |product, &dim| product.checked_mul(dim)).unwrap_or(i64::MAX);
    if !(0..=most_elements).contains(&elements) {
        return Err(Error::limit(format!("input `{}` would have {elements} elements at size {size:?}", input.name)));
    }
    Ok(size)
}

fn tensor(input: &GraphInput, size: &[i64], numbers: &mut SplitMix) -> Result<Tensor> {
    let kind = input.kind.unwrap_or(Kind::Float);
    let elements = usize::try_from(product(size)).unwrap_or(0);
    let mut values: Vec<f32> = Vec::new();
    values.try_reserve_exact(elements).map_err(|error| {
        Error::limit(format!("input `{}` would have {elements} elements at size {size:?}: {error}", input.name))
    })?;
    values.extend((0..elements).map(|_| if kind == Kind::Float { numbers.normal() } else { numbers.bit() }));
    Ok(Tensor::f_from_slice(&values)?.f_reshape(size)?.f_to_kind(kind)?)
}

/// 4 GiB of float32.
pub(crate) const MOST_ELEMENTS: i64 = 1 << 30;

/// Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014. Equal on every machine, and libtorch's own generator
/// is left alone.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f32 {
        // Box and Muller.
        let (radius, angle) = ((-2.0 * self.uniform().ln()).sqrt(), std::f64::consts::TAU * self.uniform());
        (radius * angle.cos()) as f32
    }

    fn bit(&mut self) -> f32 {
        (self.next() >> 63) as f32
    }
}
