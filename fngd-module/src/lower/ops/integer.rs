//! Division and remainder, which libtorch's integer kernels do not survive for all numbers.

use crate::lower::tensors::is_float;
use tch::{Kind, TchError, Tensor};

type Outcome = std::result::Result<Tensor, TchError>;

/// Division; integers are cut towards zero, as ONNX wants it.
pub(crate) fn divide(left: &Tensor, right: &Tensor) -> Outcome {
    match left.kind() {
        kind if is_float(kind) => left.f_div(right),
        Kind::Uint8 => left.f_div_tensor_mode(right, "trunc"),
        _ => {
            // The smallest integer divided by -1 ends the process inside libtorch; negation wraps instead.
            let negative_one = right.f_eq(-1)?;
            let quotient = left.f_div_tensor_mode(&right.f_masked_fill(&negative_one, 1)?, "trunc")?;
            quotient.f_neg()?.f_where_self(&negative_one, &quotient)
        }
    }
}

/// The remainder with the divisor's sign.
pub(crate) fn remainder(left: &Tensor, right: &Tensor) -> Outcome {
    left.f_remainder_tensor(&divisor(right)?)
}

/// The remainder with the dividend's sign.
pub(crate) fn truncated_remainder(left: &Tensor, right: &Tensor) -> Outcome {
    left.f_fmod_tensor(&divisor(right)?)
}

/// The smallest integer modulo -1 ends the process too; the remainder by 1 is the same 0.
fn divisor(right: &Tensor) -> Outcome {
    if is_float(right.kind()) || right.kind() == Kind::Uint8 {
        return Ok(right.shallow_clone());
    }
    right.f_masked_fill(&right.f_eq(-1)?, 1)
}
