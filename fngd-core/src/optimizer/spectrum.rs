//! Eigenvectors and roots of the square matrices that a rule gathers, and what happens where they cannot be had.

use super::layerwise::decompose::eigh;
use crate::Result;
use tch::{Kind, Tensor};

/// Factorisations that did not go well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    /// Failed in the matrix's own kind, and succeeded in float64.
    pub retried: usize,
    /// Failed in float64 too: what was there before was kept.
    pub kept: usize,
}

/// Eigenvalues in rising order, none below 0, and eigenvectors as columns, in the kind of `matrix`; `None` if neither its own kind nor float64
/// gives finite ones.
///
/// - `matrix`: `[n, n]`, symmetric, float32 or float64
///
/// Cost: about 9n³ multiply-adds; waits for the device.
pub(super) fn eigen(matrix: &Tensor, failures: &mut Failures) -> Result<Option<[Tensor; 2]>> {
    let Some(made) = eigh(&matrix.f_unsqueeze(0)?)? else {
        failures.kept += 1;
        return Ok(None);
    };
    failures.retried += usize::from(made.retried);
    let [values, vectors] = made.value;
    Ok(Some([values.f_squeeze_dim(0)?, vectors.f_squeeze_dim(0)?]))
}

/// S^(−1/`root`) of a symmetric positive semi-definite S; `None` as [`eigen`].
///
/// Eigenvalues below n·u·λ_max, with u the unit round-off, cannot be told from 0: they are raised to it, for their inverse roots would multiply
/// what is round-off in a gradient.
pub(super) fn inverse_root(matrix: &Tensor, root: f64, failures: &mut Failures) -> Result<Option<Tensor>> {
    let Some([values, vectors]) = eigen(matrix, failures)? else { return Ok(None) };
    let round_off = if matrix.f_kind()? == Kind::Double { f64::EPSILON } else { f64::from(f32::EPSILON) };
    let largest = values.f_max()?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
    let least = largest.f_mul_scalar(matrix.size()[0] as f64 * round_off)?;
    let scales = values.f_clamp_min_tensor(&least)?.f_pow_tensor_scalar(-1.0 / root)?;
    Ok(Some(vectors.f_mul(&scales)?.f_matmul(&vectors.f_transpose(0, 1)?)?))
}

/// One step of orthogonal iteration: the Q of the QR decomposition of `matrix`·`basis`; `None` if it is not finite.
pub(super) fn refined(matrix: &Tensor, basis: &Tensor, failures: &mut Failures) -> Result<Option<Tensor>> {
    let (orthonormal, _) = Tensor::f_linalg_qr(&matrix.f_matmul(basis)?, "reduced")?;
    if is_finite(&orthonormal)? {
        return Ok(Some(orthonormal));
    }
    failures.kept += 1;
    Ok(None)
}

/// Waits for the device.
fn is_finite(tensor: &Tensor) -> Result<bool> {
    Ok(bool::try_from(tensor.f_isfinite()?.f_all()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn a_root_of_a_diagonal_is_taken_number_by_number() -> Result<()> {
        let mut failures = Failures::default();
        let matrix = Tensor::from_slice(&[16.0f64, 81.0]).diag(0);
        let root = inverse_root(&matrix, 4.0, &mut failures)?.unwrap();
        assert!(bool::try_from((root - Tensor::from_slice(&[0.5, 1.0 / 3.0]).diag(0)).abs().lt(1e-15).all())?);
        assert_eq!(failures, Failures::default());
        Ok(())
    }

    #[test]
    fn what_is_not_finite_has_no_root_and_is_counted() -> Result<()> {
        for kind in [Kind::Float, Kind::Double] {
            let mut failures = Failures::default();
            let matrix = Tensor::full([3, 3], f64::NAN, (kind, Device::Cpu));
            assert!(inverse_root(&matrix, 2.0, &mut failures)?.is_none());
            assert!(refined(&matrix, &Tensor::eye(3, (kind, Device::Cpu)), &mut failures)?.is_none());
            assert_eq!(failures, Failures { retried: 0, kept: 2 });
        }
        Ok(())
    }
}
