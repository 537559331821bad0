//! OneHot and EyeLike.

use crate::lower::arguments::{axis_of, number};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::lower::tensors::kind_of_number;
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// A new axis of `depth` elements: the second of `values` at each index, the first elsewhere.
struct OneHot {
    axis: i64,
}

pub(crate) fn one_hot(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(OneHot { axis: node.int("axis", -1) }))
}

impl Operator for OneHot {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (indices, depth, values) = (inputs.get(0)?, number(inputs.get(1)?)? as i64, inputs.get(2)?);
        if values.size() != [2] {
            return Err(Error::mismatch(format!("`values` is {:?}, expected 2 numbers", values.size())));
        }
        let mut size = indices.size();
        let axis = axis_of(self.axis, size.len() + 1)? as usize;
        size.insert(axis, depth);
        run.affordable(&size)?;
        let mut classes_size = vec![1; size.len()];
        classes_size[axis] = depth;
        let classes = Tensor::f_arange(depth, (Kind::Int64, indices.device()))?.f_reshape(&classes_size[..])?;
        let indices = indices.f_to_kind(Kind::Int64)?;
        // Negative indices count from the end; those that are still outside name no class.
        let indices = indices.f_add_scalar(depth)?.f_where_self(&indices.f_lt(0)?, &indices)?;
        let is_on = indices.f_unsqueeze(axis as i64)?.f_eq_tensor(&classes)?;
        Ok(vec![values.f_select(0, 1)?.f_where_self(&is_on, &values.f_select(0, 0)?)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}

/// A matrix of the input's size with ones on a diagonal.
struct EyeLike {
    diagonal: i64,
    kind: Option<Kind>,
}

pub(crate) fn eye_like(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let kind = match node.attributes.contains_key("dtype").then(|| node.int("dtype", 0)) {
        Some(number) => Some(kind_of_number(number, context.float).ok_or_else(|| {
            context.unsupported(format!("attribute `dtype` is {number}, which is not a supported element type"))
        })?),
        None => None,
    };
    Ok(Box::new(EyeLike { diagonal: node.int("k", 0), kind }))
}

impl Operator for EyeLike {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let like = inputs.get(0)?;
        let [rows, columns] = like.size()[..] else {
            return Err(Error::mismatch(format!("input is {:?}, expected a matrix", like.size())));
        };
        run.affordable(&[rows, columns])?;
        let kind = self.kind.unwrap_or(like.kind());
        // A diagonal outside the matrix is empty.
        let diagonal = self.diagonal.clamp(-rows, columns);
        let range = |length| Tensor::f_arange(length, (Kind::Int64, run.device));
        let eye = range(rows)?.f_add_scalar(diagonal)?.f_unsqueeze(1)?.f_eq_tensor(&range(columns)?)?;
        Ok(vec![eye.f_to_kind(kind)?])
    }

    fn metadata_inputs(&self) -> &'static [usize] {
        &[0]
    }
}
