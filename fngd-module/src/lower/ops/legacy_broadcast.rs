//! How two tensors meet before operator set 7: only the second is broadcast, only if `broadcast` says so, and from `axis` on.

use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// What attributes `broadcast` and `axis` say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LegacyBroadcast {
    /// Where the second tensor's dimensions begin; by default, the last dimensions meet, as they do today.
    axis: Option<i64>,
}

impl LegacyBroadcast {
    /// `None` from operator set 7 on, where tensors are broadcast against each other.
    pub fn of(node: &Node) -> Option<Self> {
        let has_axis = node.int("broadcast", 0) != 0 && node.attributes.contains_key("axis");
        (node.opset < 7).then(|| Self { axis: has_axis.then(|| node.int("axis", 0)) })
    }

    /// `right` with its dimensions where those of a left tensor of `rank` dimensions are.
    ///
    /// Without the attributes, files before operator set 7 may only combine equal sizes. Nothing is lost by taking others.
    pub fn spread(&self, right: &Tensor, rank: usize) -> Result<Tensor> {
        let (Some(axis), size) = (self.axis, right.size()) else { return Ok(right.shallow_clone()) };
        let front = usize::try_from(if axis < 0 { axis.saturating_add(rank as i64) } else { axis });
        let behind = front.ok().and_then(|front| rank.checked_sub(front.checked_add(size.len())?));
        let behind = behind
            .ok_or_else(|| Error::mismatch(format!("{size:?} at axis {axis} does not fit into {rank} dimensions")))?;
        Ok(right.f_reshape([size, vec![1; behind]].concat())?)
    }
}
