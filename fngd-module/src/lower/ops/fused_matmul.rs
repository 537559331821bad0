//! FusedMatMul of com.microsoft where it is no layer.

use crate::Result;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// `alpha · A B`, each operand with its last two dimensions swapped on request, and its first one moved behind the others before.
struct FusedMatMul {
    left: Order,
    right: Order,
    alpha: f64,
}

struct Order {
    swaps: bool,
    moves_first: bool,
}

pub(crate) fn fused_matmul(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let order =
        |swaps: &str, moves: &str| Order { swaps: node.int(swaps, 0) != 0, moves_first: node.int(moves, 0) != 0 };
    Ok(Box::new(FusedMatMul {
        left: order("transA", "transBatchA"),
        right: order("transB", "transBatchB"),
        alpha: f64::from(node.float("alpha", 1.0)),
    }))
}

impl Operator for FusedMatMul {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let product = self.left.apply(inputs.get(0)?)?.f_matmul(&self.right.apply(inputs.get(1)?)?)?;
        Ok(vec![if self.alpha == 1.0 { product } else { product.f_mul_scalar(self.alpha)? }])
    }
}

impl Order {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let rank = x.dim() as i64;
        let mut x = x.shallow_clone();
        if rank < 2 {
            return Ok(x);
        }
        if self.moves_first {
            let order: Vec<i64> = (1..rank - 1).chain([0, rank - 1]).collect();
            x = x.f_permute(order)?;
        }
        Ok(if self.swaps { x.f_transpose(-2, -1)? } else { x })
    }
}
