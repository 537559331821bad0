//! BitShift.

use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::{Kind, TchError, Tensor};

type Outcome = std::result::Result<Tensor, TchError>;

/// The function of a BitShift node.
pub(crate) fn shift(node: &Node) -> Result<fn(&Tensor, &Tensor) -> Outcome> {
    match node.string("direction", "") {
        "LEFT" => Ok(left),
        "RIGHT" => Ok(right),
        other => Err(Error::malformed(format!("attribute `direction` is `{other}`, expected `LEFT` or `RIGHT`"))),
    }
}

fn left(x: &Tensor, amount: &Tensor) -> Outcome {
    let (inside, amount) = within_type(x, amount)?;
    let result = x.f_bitwise_left_shift(&amount)?;
    result.f_where_self(&inside, &result.f_zeros_like()?)
}

fn right(x: &Tensor, amount: &Tensor) -> Outcome {
    let (inside, amount) = within_type(x, amount)?;
    let result = x.f_bitwise_right_shift(&amount)?;
    // What is left of a negative number is its sign.
    let sign = if x.kind() == Kind::Uint8 { x.f_zeros_like()? } else { x.f_lt(0)?.f_to_kind(x.kind())?.f_neg()? };
    result.f_where_self(&inside, &sign)
}

/// Which amounts are below the number of bits, and the amounts with 0 in place of the others: for those, the processor would do
/// something of its own.
fn within_type(x: &Tensor, amount: &Tensor) -> std::result::Result<(Tensor, Tensor), TchError> {
    let bits = 8 * x.kind().elt_size_in_bytes() as i64;
    let inside = amount.f_ge(0)?.f_logical_and(&amount.f_lt(bits)?)?;
    let amount = amount.f_where_self(&inside, &amount.f_zeros_like()?)?;
    Ok((inside, amount))
}
