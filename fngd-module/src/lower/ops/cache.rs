//! TensorScatter: new entries of a cache of keys or values.

use crate::lower::arguments::axis_of;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, Tensor};

/// The cache with `update` in place of its entries from each sample's position on.
struct TensorScatter {
    axis: i64,
    /// What does not fit behind goes in front.
    is_circular: bool,
}

pub(crate) fn tensor_scatter(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let is_circular = match node.string("mode", "linear") {
        "linear" => false,
        "circular" => true,
        other => {
            return Err(Error::malformed(format!("attribute `mode` is `{other}`, expected `linear` or `circular`")));
        }
    };
    Ok(Box::new(TensorScatter { axis: node.int("axis", -2), is_circular }))
}

impl Operator for TensorScatter {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (cache, update) = (inputs.get(0)?, inputs.get(1)?);
        let (size, new) = (cache.size(), update.size());
        let axis = axis_of(self.axis, size.len())? as usize;
        let fits = axis > 0
            && new.len() == size.len()
            && (0..size.len())
                .all(|other| if other == axis { new[other] <= size[other] } else { new[other] == size[other] });
        if !fits {
            return Err(Error::mismatch(format!("an update of size {new:?} does not fit a cache of size {size:?}")));
        }
        let start = match inputs.optional(2) {
            Some(start) => start.f_to_kind(Kind::Int64)?,
            None => Tensor::f_zeros([size[0]], (Kind::Int64, cache.device()))?,
        };
        if start.size() != [size[0]] {
            return Err(Error::mismatch(format!("`write_indices` is {:?}, expected [{}]", start.size(), size[0])));
        }
        let steps = Tensor::f_arange(new[axis], (Kind::Int64, cache.device()))?;
        let mut places = start.f_unsqueeze(1)?.f_add(&steps)?;
        if self.is_circular && size[axis] > 0 {
            places = places.f_remainder(size[axis])?;
        }
        let is_inside = places.f_ge(0)?.f_logical_and(&places.f_lt(size[axis])?)?;
        if is_inside.f_all()?.f_int64_value(&[])? == 0 {
            return Err(Error::mismatch(format!("an update reaches beyond the {} entries of the cache", size[axis])));
        }
        let mut shape = vec![1; size.len()];
        (shape[0], shape[axis]) = (size[0], new[axis]);
        let places = places.f_reshape(&shape[..])?.f_expand(&new[..], false)?;
        Ok(vec![cache.f_scatter(axis as i64, &places, update)?])
    }
}
