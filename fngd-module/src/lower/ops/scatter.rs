//! Operators that replace elements by index: ScatterND, ScatterElements and its older form Scatter.

use super::index::{columns, from_front};
use crate::lower::arguments::{axis_of, product};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// What happens where several updates, and the element that was there, meet.
#[derive(Clone, Copy, PartialEq)]
enum Reduction {
    /// An update replaces the element.
    None,
    Add,
    /// By libtorch's name: `prod`, `amin` or `amax`.
    Other(&'static str),
}

impl Reduction {
    fn of(node: &Node, context: &BuildContext) -> Result<Self> {
        Ok(match node.string("reduction", "none") {
            "none" => Self::None,
            "add" => Self::Add,
            "mul" => Self::Other("prod"),
            "min" => Self::Other("amin"),
            "max" => Self::Other("amax"),
            other => {
                let message = format!("attribute `reduction` is `{other}`, expected none, add, mul, min or max");
                return Err(context.unsupported(message));
            }
        })
    }
}

struct ScatterElements {
    axis: i64,
    reduction: Reduction,
}

pub(crate) fn scatter_elements(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(ScatterElements { axis: node.int("axis", 0), reduction: Reduction::of(node, context)? }))
}

impl Operator for ScatterElements {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (data, indices, updates) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        if indices.size() != updates.size() {
            let message = format!("`indices` is {:?}, `updates` is {:?}", indices.size(), updates.size());
            return Err(Error::mismatch(message));
        }
        let axis = axis_of(self.axis, data.dim())?;
        let index = from_front(&indices.f_to_kind(Kind::Int64)?, data.size()[axis as usize])?;
        Ok(vec![match self.reduction {
            Reduction::None => data.f_scatter(axis, &index, updates)?,
            Reduction::Add => data.f_scatter_add(axis, &index, updates)?,
            Reduction::Other(name) => {
                let rows = flat_positions(&index, axis, &data.size())?.f_reshape([-1])?;
                let flat = data.f_reshape([-1])?.f_index_reduce(0, &rows, &updates.f_reshape([-1])?, name, true)?;
                flat.f_reshape(data.size())?
            }
        }])
    }
}

/// The number of each indexed element in a flat tensor of what has `size`: `index` along `axis`, its own place along the others.
fn flat_positions(index: &Tensor, axis: i64, size: &[i64]) -> Result<Tensor> {
    let extent = index.size();
    if extent.len() != size.len() || extent.iter().zip(size).enumerate().any(|(d, (e, s))| d as i64 != axis && e > s) {
        return Err(Error::mismatch(format!("`indices` is {extent:?} for data {size:?}")));
    }
    let mut positions = Tensor::f_zeros([0i64; 0], (Kind::Int64, index.device()))?;
    for (dim, &length) in size.iter().enumerate() {
        let along = if dim as i64 == axis {
            inside(index, length)?
        } else {
            let mut shape = vec![1; size.len()];
            shape[dim] = extent[dim];
            Tensor::f_arange(extent[dim], (Kind::Int64, index.device()))?.f_reshape(&shape[..])?
        };
        positions = positions.f_mul_scalar(length)?.f_add(&along)?;
    }
    Ok(positions)
}

/// `index`, if all of it is below `length`.
fn inside(index: &Tensor, length: i64) -> Result<Tensor> {
    let outside = index.f_lt(0)?.f_logical_or(&index.f_ge(length)?)?.f_any()?;
    if outside.f_int64_value(&[])? != 0 {
        return Err(Error::mismatch(format!("`indices` names an element outside a dimension of {length}")));
    }
    Ok(index.shallow_clone())
}

struct ScatterNd {
    reduction: Reduction,
}

pub(crate) fn scatter_nd(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(ScatterNd { reduction: Reduction::of(node, context)? }))
}

impl Operator for ScatterNd {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (data, indices, updates) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        let columns = columns(indices, &data.size())?;
        let Reduction::Other(name) = self.reduction else {
            let index: Vec<_> = columns.into_iter().map(Some).collect();
            return Ok(vec![data.f_index_put(&index, updates, self.reduction == Reduction::Add)?]);
        };
        // One row per slice that an index can name, and the row's number for every index.
        let size = data.size();
        let (named, behind) = size.split_at(columns.len());
        let mut rows = columns[0].f_zeros_like()?;
        for (column, &length) in columns.iter().zip(named) {
            rows = rows.f_mul_scalar(length)?.f_add(&inside(column, length)?)?;
        }
        let (count, width) = (rows.numel() as i64, product(behind));
        let (table, updates) = (data.f_reshape([product(named), width])?, updates.f_reshape([count, width])?);
        Ok(vec![table.f_index_reduce(0, &rows.f_reshape([-1])?, &updates, name, true)?.f_reshape(&size[..])?])
    }
}
