//! Factorisations that may fail: once in the matrix's own kind, once more in float64.

use crate::{Error, Result};
use tch::{Kind, Tensor};

/// A factorisation that worked out.
#[derive(Debug)]
pub(crate) struct Made<T> {
    pub value: T,
    /// Whether float64 was needed.
    pub retried: bool,
}

/// Eigenvalues `[G, n]`, none below 0, and eigenvectors `[G, n, n]`, by column, of symmetric positive semi-definite matrices.
/// `None` if libtorch cannot find them in float64 either.
///
/// Cost: about 9n³ multiply-adds each. Waits for the device.
pub(crate) fn eigh(matrices: &Tensor) -> Result<Option<Made<[Tensor; 2]>>> {
    in_own_kind_or_double(matrices, |matrices| {
        let (values, vectors) = matrices.f_linalg_eigh("L")?;
        // Rounding makes zeros slightly negative.
        Ok([values.f_clamp_min(0.0)?, vectors])
    })
}

/// Inverses of symmetric positive definite matrices, `[G, n, n]`, by Cholesky. `None` if one is not positive definite in float64
/// either.
///
/// Cost: n³ multiply-adds each. Waits for the device.
pub(crate) fn inverse(matrices: &Tensor) -> Result<Option<Made<[Tensor; 1]>>> {
    in_own_kind_or_double(matrices, |matrices| Ok([matrices.f_linalg_cholesky(false)?.f_cholesky_inverse(false)?]))
}

fn in_own_kind_or_double<const N: usize>(
    matrices: &Tensor,
    factorise: impl Fn(&Tensor) -> std::result::Result<[Tensor; N], tch::TchError>,
) -> Result<Option<Made<[Tensor; N]>>> {
    if let Some(value) = attempt(factorise(matrices))? {
        return Ok(Some(Made { value, retried: false }));
    }
    let Some(value) = attempt(factorise(&matrices.f_to_kind(Kind::Double)?))? else { return Ok(None) };
    let mut own = Vec::with_capacity(N);
    for tensor in value {
        own.push(tensor.f_to_kind(matrices.kind())?);
    }
    // OK because there are N of them.
    Ok(Some(Made { value: own.try_into().unwrap(), retried: true }))
}

/// `None` for a matrix that cannot be factorised. Lack of memory is another matter.
fn attempt<const N: usize>(outcome: std::result::Result<[Tensor; N], tch::TchError>) -> Result<Option<[Tensor; N]>> {
    match outcome.map_err(Error::from) {
        Ok(mut tensors) => {
            for tensor in &mut tensors {
                // As it will be when it was saved and loaded: a product over other strides rounds otherwise.
                *tensor = tensor.f_contiguous()?;
                if tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                    return Ok(None);
                }
            }
            Ok(Some(tensors))
        }
        Err(error) if error.is_out_of_memory() => Err(error),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn what_float32_cannot_factorise_is_done_in_float64() -> Result<()> {
        // B Bᵀ for integers B of determinant 1. Found by search: in float32 no order of the rows factorises.
        let numbers: [f64; 16] = [
            4330.0, 1191.0, -4523.0, 4877.0, 1191.0, 330.0, -1249.0, 1346.0, -4523.0, -1249.0, 4735.0, -5104.0, 4877.0,
            1346.0, -5104.0, 5502.0,
        ];
        let exact = Tensor::from_slice(&numbers).view([1, 4, 4]);
        let made = inverse(&exact.to_kind(Kind::Float))?.unwrap();
        assert!(made.retried);
        assert_eq!(made.value[0].kind(), Kind::Float);
        // The inverse holds integers too.
        let expected = exact.inverse().round();
        let difference = (&made.value[0] - &expected).abs().max().double_value(&[]);
        assert!(difference <= 1e-6 * expected.abs().max().double_value(&[]), "{difference}");
        assert!(!inverse(&exact)?.unwrap().retried);
        Ok(())
    }

    #[test]
    fn what_cannot_be_factorised_is_none() -> Result<()> {
        let nan = Tensor::full([1, 2, 2], f64::NAN, (Kind::Float, Device::Cpu));
        assert!(eigh(&nan)?.is_none() && inverse(&nan)?.is_none());
        let indefinite = Tensor::from_slice(&[1f32, 2.0, 2.0, 1.0]).view([1, 2, 2]);
        assert!(inverse(&indefinite)?.is_none());
        let values = eigh(&indefinite)?.unwrap().value[0].copy();
        assert_eq!(Vec::<f32>::try_from(values.view([-1]))?[0], 0.0);
        Ok(())
    }
}
