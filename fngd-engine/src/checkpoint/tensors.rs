//! Tensors as bytes of a checkpoint, finite in both directions.

use crate::failure::{Failure, Result};
use fngd_core::state;
use tch::{Kind, Tensor};

/// Named tensors.
pub type Tensors = Vec<(String, Tensor)>;

/// A copy of `tensors` in safetensors form: whatever happens to them afterwards, these bytes stay.
///
/// # Errors
/// A tensor that is not finite, by name: such a checkpoint must not exist.
pub fn to_bytes(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    require_finite(tensors)?;
    Ok(state::to_bytes(tensors)?)
}

/// The tensors in `bytes`, on the processor, in the order of their names.
///
/// # Errors
/// Bytes that are not safetensors, and tensors that are not finite.
pub fn from_bytes(bytes: &[u8]) -> Result<Tensors> {
    let tensors = state::from_bytes(bytes).map_err(|error| Failure::data(error.to_string()))?;
    require_finite(&tensors)?;
    Ok(tensors)
}

/// True if every element is finite. Integers always are.
pub fn is_finite(tensor: &Tensor) -> Result<bool> {
    if !matches!(tensor.f_kind()?, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
        return Ok(true);
    }
    Ok(bool::try_from(tensor.f_isfinite()?.f_all()?)?)
}

fn require_finite(tensors: &[(String, Tensor)]) -> Result<()> {
    for (name, tensor) in tensors {
        if !is_finite(tensor)? {
            return Err(Failure::diverged(format!("tensor `{name}` holds NaN or infinity")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back_equal() {
        let transposed = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([2, 3]).transpose(0, 1);
        let read = from_bytes(&to_bytes(&[("x".to_owned(), transposed.shallow_clone())]).unwrap()).unwrap();
        assert_eq!((read.len(), read[0].0.as_str()), (1, "x"));
        assert_eq!(read[0].1, transposed);
    }

    #[test]
    fn what_is_not_finite_is_neither_written_nor_read() {
        let tensors = [("fc.weight".to_owned(), Tensor::from_slice(&[1f32, f32::NAN]))];
        let failure = to_bytes(&tensors).unwrap_err();
        assert_eq!(failure.to_string(), "tensor `fc.weight` holds NaN or infinity");
        assert_eq!(failure.cause().code(), 6);
        let bytes = state::to_bytes(&tensors).unwrap();
        assert_eq!(from_bytes(&bytes).unwrap_err().to_string(), "tensor `fc.weight` holds NaN or infinity");
    }
}
