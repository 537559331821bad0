//! Operators that rearrange dimensions: Reshape, Flatten, Transpose, Squeeze, Unsqueeze, Expand, Tile, Shape, Size.

use crate::lower::arguments::{Integers, axes_of, axis_of, product, shape_tensor};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

struct Reshape {
    shape: Integers,
    zero_means_empty: bool,
}

pub(crate) fn reshape(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let shape = Integers::attribute_or_input(node, context, "shape", 1)?;
    Ok(Box::new(Reshape { shape, zero_means_empty: node.int("allowzero", 0) != 0 }))
}

impl Operator for Reshape {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let mut shape = self.shape.require(inputs, "shape")?.into_owned();
        let x = inputs.get(0)?;
        if !self.zero_means_empty && shape.contains(&0) {
            let size = x.size();
            for (index, dim) in shape.iter_mut().enumerate().filter(|(_, dim)| **dim == 0) {
                *dim = *size.get(index).ok_or_else(|| {
                    Error::mismatch(format!("`shape` copies dimension {index}, but the input is {size:?}"))
                })?;
            }
        }
        Ok(vec![x.f_reshape(&shape[..])?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}

struct Flatten {
    axis: i64,
}

pub(crate) fn flatten(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Flatten { axis: node.int("axis", 1) }))
}

impl Operator for Flatten {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let size = x.size();
        // An axis equal to the rank puts everything into the first dimension.
        let axis = if self.axis == size.len() as i64 { self.axis } else { axis_of(self.axis, size.len())? };
        let (rows, columns) = size.split_at(axis as usize);
        Ok(vec![x.f_reshape([product(rows), product(columns)])?])
    }
}

struct Transpose {
    order: Option<Vec<i64>>,
}

pub(crate) fn transpose(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Transpose { order: node.ints("perm").map(<[i64]>::to_vec) }))
}

impl Operator for Transpose {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        Ok(vec![match &self.order {
            Some(order) => x.f_permute(&order[..])?,
            None => x.f_permute((0..x.dim() as i64).rev().collect::<Vec<_>>())?,
        }])
    }
}

struct Squeeze {
    axes: Integers,
}

pub(crate) fn squeeze(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Squeeze { axes: Integers::attribute_or_input(node, context, "axes", 1)? }))
}

impl Operator for Squeeze {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let axes = self.axes.read(inputs)?;
        let x = inputs.get(0)?;
        Ok(vec![match axes {
            Some(axes) => {
                let (axes, size) = (axes_of(&axes, x.dim())?, x.size());
                if let Some(axis) = axes.iter().find(|&&axis| size[axis as usize] != 1) {
                    return Err(Error::mismatch(format!("axis {axis} of {size:?} is not 1")));
                }
                x.f_squeeze_dims(&axes[..])?
            }
            None => x.f_squeeze()?,
        }])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}

struct Unsqueeze {
    axes: Integers,
}

pub(crate) fn unsqueeze(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Unsqueeze { axes: Integers::attribute_or_input(node, context, "axes", 1)? }))
}

impl Operator for Unsqueeze {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let axes = self.axes.require(inputs, "axes")?;
        let x = inputs.get(0)?;
        // The axes are positions in the result.
        let mut axes = axes_of(&axes, x.dim() + axes.len())?;
        axes.sort_unstable();
        let mut result = x.shallow_clone();
        for axis in axes {
            result = result.f_unsqueeze(axis)?;
        }
        Ok(vec![result])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}

struct Expand {
    shape: Integers,
}

pub(crate) fn expand(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Expand { shape: Integers::input(node, context, 1)? }))
}

impl Operator for Expand {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let shape = self.shape.require(inputs, "shape")?;
        let x = inputs.get(0)?;
        let size = x.size();
        // Broadcast both ways: where `shape` says 1, or says nothing, the input's dimension stays.
        let rank = size.len().max(shape.len());
        let padded = |dims: &[i64]| [vec![1; rank - dims.len()], dims.to_vec()].concat();
        let target: Vec<i64> = padded(&size)
            .iter()
            .zip(padded(&shape))
            .map(|(&own, wanted)| if wanted == 1 { own } else { wanted })
            .collect();
        run.affordable(&target)?;
        Ok(vec![run.place(x.f_expand(&target[..], false)?)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}

struct Tile {
    repeats: Integers,
    /// Operator set 1 repeats along this one axis only.
    axis: Option<Integers>,
}

pub(crate) fn tile(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let axis = (node.opset < 6).then(|| Integers::input(node, context, 2)).transpose()?;
    Ok(Box::new(Tile { repeats: Integers::input(node, context, 1)?, axis }))
}

impl Operator for Tile {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let mut repeats = self.repeats.require(inputs, "repeats")?.into_owned();
        let x = inputs.get(0)?;
        if let Some(axis) = &self.axis {
            let (count, axis) = (repeats.first().copied(), axis.require(inputs, "axis")?.first().copied());
            let axis = axis_of(axis.unwrap_or(0), x.dim())?;
            repeats = vec![1; x.dim()];
            repeats[axis as usize] = count.unwrap_or(1);
        }
        run.affordable(&repeats.iter().copied().chain([x.numel() as i64]).collect::<Vec<_>>())?;
        if repeats.len() != x.dim() || repeats.iter().any(|&count| count < 0) {
            return Err(Error::mismatch(format!("`repeats` is {repeats:?} for a tensor of size {:?}", x.size())));
        }
        Ok(vec![run.place(x.f_tile(&repeats[..])?)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1, 2]
    }
}

struct Shape {
    start: i64,
    end: i64,
}

pub(crate) fn shape(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Shape { start: node.int("start", 0), end: node.int("end", i64::MAX) }))
}

impl Operator for Shape {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let size = inputs.get(0)?.size();
        let rank = size.len() as i64;
        let clamped = |bound: i64| (if bound < 0 { bound + rank } else { bound }).clamp(0, rank) as usize;
        let (start, end) = (clamped(self.start), clamped(self.end));
        Ok(vec![shape_tensor(&size[start..end.max(start)])?])
    }

    fn metadata_inputs(&self) -> &'static [usize] {
        &[0]
    }
}

struct Size;

pub(crate) fn size(_: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Size))
}

impl Operator for Size {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        Ok(vec![shape_tensor(&[inputs.get(0)?.numel() as i64])?.f_squeeze()?])
    }

    fn metadata_inputs(&self) -> &'static [usize] {
        &[0]
    }
}
