//! Operators that pick elements by index: Gather, GatherElements, GatherND.

use crate::lower::arguments::{axis_of, integers};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::lower::tensors::is_float;
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Device, Kind, Tensor};

struct Gather {
    axis: i64,
    /// The constant index, if it is one number.
    single: Option<i64>,
    /// Constant indices without negative ones.
    plain: bool,
}

pub(crate) fn gather(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let (mut single, mut plain) = (None, false);
    if let Some(tensor) = context.constant(1) {
        let values = integers(tensor)?;
        plain = values.iter().all(|&index| index >= 0);
        single = (tensor.dim() == 0).then(|| values[0]);
    }
    Ok(Box::new(Gather { axis: node.int("axis", 0), single, plain }))
}

impl Operator for Gather {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (data, indices) = (inputs.get(0)?, inputs.get(1)?);
        let axis = axis_of(self.axis, data.dim())?;
        if let Some(index) = self.single {
            return Ok(vec![data.f_select(axis, index)?]);
        }
        let (size, picked) = (data.size(), indices.size());
        let (before, after) = (&size[..axis as usize], &size[axis as usize + 1..]);
        let result = [before, &picked[..], after].concat();
        run.affordable(&result)?;
        let length = size[axis as usize];
        let indices = if self.plain { indices.shallow_clone() } else { from_front(indices, length)? };
        if axis == 0 && data.dim() == 2 && is_float(data.kind()) {
            // A table of vectors: its backward adds rows without building a copy of the table per call.
            return Ok(vec![Tensor::f_embedding(data, &indices, -1, false, false)?]);
        }
        let flat = data.f_index_select(axis, &indices.f_reshape([-1])?)?;
        if picked.len() == 1 {
            return Ok(vec![flat]);
        }
        Ok(vec![flat.f_reshape(&result[..])?])
    }
}

struct GatherElements {
    axis: i64,
}

pub(crate) fn gather_elements(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(GatherElements { axis: node.int("axis", 0) }))
}

impl Operator for GatherElements {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (data, indices) = (inputs.get(0)?, inputs.get(1)?);
        let axis = axis_of(self.axis, data.dim())?;
        let indices = from_front(&indices.f_to_kind(Kind::Int64)?, data.size()[axis as usize])?;
        Ok(vec![data.f_gather(axis, &indices, false)?])
    }
}

struct GatherNd {
    batch_dims: i64,
}

pub(crate) fn gather_nd(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(GatherNd { batch_dims: node.int("batch_dims", 0) }))
}

impl Operator for GatherNd {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (data, indices) = (inputs.get(0)?, inputs.get(1)?);
        // Each row of indices picks at most what lies behind the dimensions that it names.
        if let ([rows @ .., width], size) = (&indices.size()[..], data.size()) {
            let behind = usize::try_from(width.saturating_add(self.batch_dims)).unwrap_or(usize::MAX);
            run.affordable(&[rows, size.get(behind..).unwrap_or_default()].concat())?;
        }
        let batch_dims = usize::try_from(self.batch_dims).unwrap_or(usize::MAX);
        if batch_dims >= data.dim().min(indices.dim()) {
            let message =
                format!("`batch_dims` is {}, data {:?}, indices {:?}", self.batch_dims, data.size(), indices.size());
            return Err(Error::mismatch(message));
        }
        // The batch dimensions index themselves.
        let (size, rank) = (data.size(), indices.dim() - 1);
        let mut index = Vec::new();
        for axis in 0..batch_dims {
            let mut dims = vec![1; rank];
            dims[axis] = size[axis];
            index.push(Some(Tensor::f_arange(size[axis], (Kind::Int64, indices.device()))?.f_reshape(&dims[..])?));
        }
        index.extend(columns(indices, &size[batch_dims..])?.into_iter().map(Some));
        Ok(vec![data.f_index(&index)?])
    }
}

/// The index tensor's last dimension taken apart: one tensor of positions per indexed dimension.
pub(super) fn columns(indices: &Tensor, size: &[i64]) -> Result<Vec<Tensor>> {
    let width = *indices.size().last().ok_or_else(|| Error::mismatch("`indices` has no dimensions"))?;
    if width < 1 || width as usize > size.len() {
        return Err(Error::mismatch(format!("`indices` has {width} columns for {} dimensions", size.len())));
    }
    let indices = indices.f_to_kind(Kind::Int64)?;
    (0..width).map(|column| from_front(&indices.f_select(-1, column)?, size[column as usize])).collect()
}

/// Negative indices count from the end. An index outside stays outside, for libtorch to refuse.
pub(super) fn from_front(indices: &Tensor, length: i64) -> Result<Tensor> {
    if indices.device() == Device::Cpu && indices.numel() <= 16 && integers(indices)?.iter().all(|&index| index >= 0) {
        return Ok(indices.shallow_clone());
    }
    Ok(indices.f_add_scalar(length)?.f_where_self(&indices.f_lt(0)?, indices)?)
}
