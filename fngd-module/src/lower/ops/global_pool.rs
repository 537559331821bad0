//! GlobalAveragePool, GlobalMaxPool and GlobalLpPool: reductions over everything behind the channels.

use super::reduce::{self, Reduction};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

enum GlobalPool {
    Reduction(Reduction),
    /// The root of order `p` of the sum of powers of order `p`.
    Norm {
        p: f64,
    },
}

pub(crate) fn global_pool(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(match node.op_type.as_str() {
        "GlobalAveragePool" => GlobalPool::Reduction(Reduction::Mean),
        "GlobalMaxPool" => GlobalPool::Reduction(Reduction::Max),
        "GlobalLpPool" => GlobalPool::Norm { p: norm_order(node)? },
        other => return Err(Error::unsupported(format!("no global pooling `{other}`"))),
    }))
}

/// Attribute `p`: a float in operator set 1, an integer later.
pub(super) fn norm_order(node: &Node) -> Result<f64> {
    let p = if node.opset < 2 { f64::from(node.float("p", 2.0)) } else { node.int("p", 2) as f64 };
    if !(1.0..=1e6).contains(&p) {
        return Err(Error::malformed(format!("attribute `p` is {p}, expected at least 1")));
    }
    Ok(p)
}

impl Operator for GlobalPool {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let axes: Vec<i64> = (2..x.dim() as i64).collect();
        if axes.is_empty() {
            return Err(Error::mismatch(format!("input is {:?}, expected at least 3 dimensions", x.size())));
        }
        Ok(vec![match self {
            Self::Reduction(reduction) => reduce::apply(*reduction, x, &axes, true)?,
            Self::Norm { p } => x.f_norm_scalaropt_dim(*p, &axes[..], true)?,
        }])
    }
}
