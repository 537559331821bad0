//! From Gram matrices to sample weights: one batched Cholesky factorisation.

use crate::{Error, Result};
use tch::{Kind, Tensor};

/// Sample weights of several layers, and how the solves went. Everything stays on the device.
#[derive(Debug)]
pub struct Solution {
    /// w, `[L, B]`. Rows that could not be solved are 1.
    pub coefficients: Tensor,
    /// λ = γ‖K‖_F in the units of the Gram matrices given, `[L]`.
    pub damping: Tensor,
    /// Whether each row was solved, `[L]`, boolean. False for a zero or non-finite Gram matrix, and where Cholesky failed.
    pub solved: Tensor,
}

/// Sample weights w = λ(K + λI)⁻¹ r of L layers at once, with λ = γ‖K‖_F (Eq. 14).
///
/// With r = 1 this is B·c of Eq. 9. The paper writes c = 1/B − (K + λI)⁻¹K1/B, which is equal on paper but subtracts nearly equal
/// numbers: at λ = 1e-7 it loses four digits that the direct form keeps. The layer's gradient is Σ w_i U_i / B, so w ≡ 1 is the
/// plain mean gradient.
///
/// - `grams`: K, `[L, B, B]`, symmetric positive semi-definite, float32 or float64
/// - `damping`: γ > 0, dimensionless. cond(K + λI) ≤ 1 + 1/γ, so float32 is safe down to γ = 1e-4
/// - `right_side`: r, `[B]`; `None` is all ones
///
/// w does not change when K is multiplied by a number: K is brought to unit scale before anything is squared, so neither a
/// large nor a tiny loss overflows.
///
/// # Errors
/// [`Error::is_shape`] if `grams` is not `[L, B, B]`; [`Error::is_config`] if `damping` is not a positive number.
///
/// Cost: L·B³/3 multiply-adds, no host synchronisation.
///
/// ```
/// use tch::Tensor;
/// // One sample: ‖K‖_F = K, so w = γ / (1 + γ) whatever K is.
/// let gram = Tensor::from_slice(&[3f64]).view([1, 1, 1]);
/// let solution = fngd_core::solve(&gram, 0.25, None)?;
/// assert!((solution.coefficients.double_value(&[0, 0]) - 0.2).abs() < 1e-15);
/// assert_eq!(solution.damping.double_value(&[0]), 0.75);
/// # Ok::<(), fngd_core::Error>(())
/// ```
pub fn solve(grams: &Tensor, damping: f64, right_side: Option<&Tensor>) -> Result<Solution> {
    let size = grams.size();
    if size.len() != 3 || size[1] != size[2] {
        return Err(Error::shape(format!("Gram matrices have size [L, B, B], found {size:?}")));
    }
    if !(damping > 0.0 && damping.is_finite()) {
        return Err(Error::config(format!("damping must be > 0, found {damping}")));
    }
    let (layers, batch_size) = (size[0], size[1]);
    let largest = grams.f_abs()?.f_amax(&[1i64, 2][..], true)?;
    let usable = largest.f_isfinite()?.f_logical_and(&largest.f_gt(0.0)?)?;
    let identity = Tensor::f_eye(batch_size, (grams.kind(), grams.device()))?;
    // A matrix that cannot be used is replaced by I, so that the batch as a whole factorises.
    let scaled = grams.f_div(&largest)?.f_where_self(&usable, &identity)?;
    let norm = scaled.f_linalg_norm_ord_str("fro", &[1i64, 2][..], true, grams.kind())?;
    let unit = scaled.f_div(&norm)?;
    let (factor, info) = unit.f_add(&identity.f_mul_scalar(damping)?)?.f_linalg_cholesky_ex(false, false)?;
    let right_side = match right_side {
        Some(right_side) => right_side.f_to_kind(grams.kind())?.f_view([1, batch_size, 1])?,
        None => Tensor::f_ones([1, batch_size, 1], (grams.kind(), grams.device()))?,
    };
    let right_side = right_side.f_expand([layers, batch_size, 1], false)?;
    let solution = right_side.f_cholesky_solve(&factor, false)?.f_mul_scalar(damping)?.f_squeeze_dim(2)?;
    let finite = solution.f_isfinite()?.f_all_dim(1, false)?;
    let solved = usable.f_view([layers])?.f_logical_and(&info.f_eq(0)?)?.f_logical_and(&finite)?;
    let ones = Tensor::f_ones([1], (grams.kind(), grams.device()))?;
    let coefficients = solution.f_where_self(&solved.f_unsqueeze(1)?, &ones)?;
    let damping = largest.f_mul(&norm)?.f_view([layers])?.f_mul_scalar(damping)?;
    Ok(Solution { coefficients, damping, solved })
}

/// Whether every row of a solution was solved. Waits for the device.
pub(crate) fn unsolved(solution: &Solution) -> Result<Vec<bool>> {
    Ok(Vec::<bool>::try_from(solution.solved.f_logical_not()?.f_to_kind(Kind::Bool)?)?)
}
