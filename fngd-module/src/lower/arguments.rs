//! Numbers that a node reads from an attribute, a constant input or a computed input.

use crate::lower::operator::{BuildContext, Inputs};
use crate::{Error, Result};
use fngd_onnx::graph::{Attribute, Node};
use std::borrow::Cow;
use tch::{Device, Kind, Tensor};

/// A list of integers, known when the program is built wherever possible.
pub(crate) enum Integers {
    /// Known.
    Fixed(Vec<i64>),
    /// Computed by the graph.
    Input(usize),
    /// Left out.
    Absent,
}

impl Integers {
    /// Attribute `name`, as older operator sets have it, or input `position`, as newer ones do.
    pub fn attribute_or_input(node: &Node, context: &BuildContext, name: &str, position: usize) -> Result<Self> {
        match node.ints(name) {
            Some(values) => Ok(Self::Fixed(values.to_vec())),
            None => Self::input(node, context, position),
        }
    }

    /// Input `position`.
    pub fn input(node: &Node, context: &BuildContext, position: usize) -> Result<Self> {
        Ok(match (context.constant(position), node.input(position)) {
            (Some(tensor), _) => Self::Fixed(integers(tensor)?),
            (None, Some(_)) => Self::Input(position),
            (None, None) => Self::Absent,
        })
    }

    /// The integers, if there are any.
    pub fn read<'a>(&'a self, inputs: &Inputs) -> Result<Option<Cow<'a, [i64]>>> {
        Ok(match self {
            Self::Fixed(values) => Some(Cow::Borrowed(values)),
            Self::Input(position) => Some(Cow::Owned(integers(inputs.get(*position)?)?)),
            Self::Absent => None,
        })
    }

    /// The integers, or an error naming `what`.
    pub fn require<'a>(&'a self, inputs: &Inputs, what: &str) -> Result<Cow<'a, [i64]>> {
        self.read(inputs)?.ok_or_else(|| Error::malformed(format!("neither attribute nor input gives `{what}`")))
    }
}

/// A list of numbers, known when the program is built wherever possible.
pub(crate) enum Numbers {
    /// Known.
    Fixed(Vec<f64>),
    /// Computed by the graph.
    Input(usize),
    /// Left out.
    Absent,
}

impl Numbers {
    /// Attribute `name`, as older operator sets have it, or input `position`, as newer ones do.
    pub fn attribute_or_input(node: &Node, context: &BuildContext, name: &str, position: usize) -> Result<Self> {
        match node.attributes.get(name) {
            Some(Attribute::Floats(values)) => Ok(Self::Fixed(values.iter().copied().map(f64::from).collect())),
            _ => Self::input(node, context, position),
        }
    }

    /// Input `position`.
    pub fn input(node: &Node, context: &BuildContext, position: usize) -> Result<Self> {
        Ok(match (context.constant(position), node.input(position)) {
            (Some(tensor), _) => Self::Fixed(floats(tensor)?),
            (None, Some(_)) => Self::Input(position),
            (None, None) => Self::Absent,
        })
    }

    /// The numbers, if there are any.
    pub fn read<'a>(&'a self, inputs: &Inputs) -> Result<Option<Cow<'a, [f64]>>> {
        Ok(match self {
            Self::Fixed(values) => Some(Cow::Borrowed(values)),
            Self::Input(position) => Some(Cow::Owned(floats(inputs.get(*position)?)?)),
            Self::Absent => None,
        })
    }
}

/// A number, known when the program is built wherever possible.
pub(crate) enum Number {
    /// Known, or the default of what is left out.
    Fixed(f64),
    /// Computed by the graph.
    Input(usize),
}

impl Number {
    /// Attribute `name`, or input `position`, or `default`.
    pub fn attribute_or_input(
        node: &Node,
        context: &BuildContext,
        name: &str,
        position: usize,
        default: f64,
    ) -> Result<Self> {
        if node.attributes.contains_key(name) {
            return Ok(Self::Fixed(f64::from(node.float(name, default as f32))));
        }
        Ok(match (context.constant(position), node.input(position)) {
            (Some(tensor), _) => Self::Fixed(number(tensor)?),
            (None, Some(_)) => Self::Input(position),
            (None, None) => Self::Fixed(default),
        })
    }

    /// The number.
    pub fn read(&self, inputs: &Inputs) -> Result<f64> {
        match self {
            Self::Fixed(value) => Ok(*value),
            Self::Input(position) => number(inputs.get(*position)?),
        }
    }
}

/// A tensor's elements as integers. Waits for the device if the tensor is not on the host.
pub(crate) fn integers(tensor: &Tensor) -> Result<Vec<i64>> {
    Ok(Vec::<i64>::try_from(&tensor.f_reshape([-1])?.f_to_kind(Kind::Int64)?)?)
}

/// The only element of a tensor. Waits for the device if the tensor is not on the host.
pub(crate) fn number(tensor: &Tensor) -> Result<f64> {
    match floats(tensor)?[..] {
        [value] => Ok(value),
        _ => Err(Error::mismatch(format!("expected one number, found a tensor of size {:?}", tensor.size()))),
    }
}

/// A tensor's elements as floats. Waits for the device if the tensor is not on the host.
pub(crate) fn floats(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::<f64>::try_from(&tensor.f_reshape([-1])?.f_to_kind(Kind::Double)?)?)
}

/// `axis`, counted from the front. Valid for a tensor of `rank` dimensions.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Result<i64> {
    let signed_rank = rank as i64;
    if axis < -signed_rank || axis >= signed_rank {
        return Err(Error::mismatch(format!("axis {axis} is outside a tensor of {rank} dimensions")));
    }
    Ok(if axis < 0 { axis + signed_rank } else { axis })
}

/// [`axis_of`] for several, which must differ.
pub(crate) fn axes_of(axes: &[i64], rank: usize) -> Result<Vec<i64>> {
    let mut found = Vec::with_capacity(axes.len());
    for &axis in axes {
        let axis = axis_of(axis, rank)?;
        if found.contains(&axis) {
            return Err(Error::mismatch(format!("axis {axis} is named twice in {axes:?}")));
        }
        found.push(axis);
    }
    Ok(found)
}

/// The product of dimensions.
pub(crate) fn product(dims: &[i64]) -> i64 {
    dims.iter().product()
}

/// Elements of the largest result that training has use for.
pub(crate) const MOST_ELEMENTS: i64 = 1 << 34;

/// Longest list of positions along one axis that is made on the host. A list that memory does not hold would end the process.
pub(crate) const MOST_POSITIONS: i64 = 1 << 24;

/// Refuses a result of more than `most` elements: a broken file must not take all memory.
pub(crate) fn affordable(size: &[i64], most: i64) -> Result<()> {
    if let Some(negative) = size.iter().find(|dim| **dim < 0) {
        return Err(Error::mismatch(format!("a result would have a dimension of {negative}")));
    }
    let elements = size.iter().try_fold(1i64, |product, &dim| product.checked_mul(dim)).unwrap_or(i64::MAX);
    if elements > most {
        return Err(Error::limit(format!("a result of size {size:?} is too large")));
    }
    Ok(())
}

/// The size of two tensors of these sizes after broadcasting them against each other.
pub(crate) fn broadcast_size(left: &[i64], right: &[i64]) -> Result<Vec<i64>> {
    let (longer, shorter) = if left.len() >= right.len() { (left, right) } else { (right, left) };
    let mut size = longer.to_vec();
    let unpaired = longer.len() - shorter.len();
    for (dim, &other) in size[unpaired..].iter_mut().zip(shorter) {
        match (*dim, other) {
            (own, other) if own == other || other == 1 => (),
            (1, other) => *dim = other,
            _ => return Err(Error::mismatch(format!("{left:?} and {right:?} cannot be broadcast together"))),
        }
    }
    Ok(size)
}

/// A one-dimensional integer tensor on the host.
pub(crate) fn shape_tensor(values: &[i64]) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?)
}

/// One-dimensional integers on `device`.
pub(crate) fn indices(values: &[i64], device: Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_to_device(device)?)
}

#[cfg(test)]
mod tests {
    use super::affordable;

    #[test]
    fn two_dimensions_below_zero_do_not_make_a_size() {
        let error = affordable(&[-1, -2], 100).unwrap_err();
        assert_eq!(error.to_string(), "a result would have a dimension of -1");
        assert!(affordable(&[i64::MAX, i64::MAX], 100).unwrap_err().is_limit());
        affordable(&[10, 10], 100).unwrap();
    }
}
