//! Interpolative decomposition of a Gram matrix: a few of its rows stand for all.

use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Rows S of K, `[B, B]`, and what puts them in the place of all: U ≈ P U_S for the matrix U that K = UUᵀ is made of.
#[derive(Debug)]
pub(super) struct Skeleton {
    /// S: the rows, in the order in which they were chosen. As many as were asked for; what came after the rank was reached
    /// adds nothing.
    pub rows: Vec<i64>,
    /// Pᵀ (P K_SS Pᵀ + δI)⁻¹ P, `[r, r]`, float64, on the CPU.
    pub core: Tensor,
}

/// A remaining diagonal this small, relative to the largest of K, is round-off of float32 activations.
const ROUND_OFF: f64 = 1e-7;

/// Chooses `count` rows by Cholesky factorisation with diagonal pivoting: each step takes the row that the chosen ones explain
/// worst, the first of equals. `None` if K is zero or not finite.
///
/// With K ≈ LLᵀ, L `[B, r]`, and P = L L_S⁻¹, P K_SS Pᵀ = LLᵀ, and by the push-through identity
/// Pᵀ(LLᵀ + δI)⁻¹P = L_S⁻ᵀ N (N + δI)⁻¹ L_S⁻¹ with N = LᵀL: nothing larger than r × r is inverted.
///
/// Cost: Br² + r³ on the CPU; waits for the device.
pub(super) fn skeleton(gram: &Tensor, count: usize, damping: f64) -> Result<Option<Skeleton>> {
    let size = gram.size()[0] as usize;
    let flat = Vec::<f64>::try_from(&gram.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_reshape([-1])?)?;
    let mut rest: Vec<f64> = (0..size).map(|row| flat[row * size + row]).collect();
    let largest = rest.iter().copied().fold(0.0, f64::max);
    if !(largest > 0.0 && flat.iter().all(|number| number.is_finite())) {
        return Ok(None);
    }
    // Row-major, [B, r].
    let mut factor = vec![0.0; size * count];
    let mut chosen: Vec<usize> = Vec::with_capacity(count);
    for step in 0..count {
        let free = (0..size).filter(|row| !chosen.contains(row));
        let Some(pivot) = free.reduce(|best, row| if rest[row] > rest[best] { row } else { best }) else {
            return Err(Error::state(format!("{count} rows asked of a Gram matrix of {size}")));
        };
        chosen.push(pivot);
        if rest[pivot] <= ROUND_OFF * largest {
            continue;
        }
        let root = rest[pivot].sqrt();
        let pivot_row = factor[pivot * count..pivot * count + step].to_vec();
        for row in 0..size {
            let own = &mut factor[row * count..row * count + step + 1];
            let explained: f64 = own[..step].iter().zip(&pivot_row).map(|(left, right)| left * right).sum();
            // A chosen row is explained already; its 0 keeps L_S triangular.
            let done = chosen[..step].contains(&row);
            own[step] = if done { 0.0 } else { (flat[row * size + pivot] - explained) / root };
            rest[row] -= own[step] * own[step];
        }
    }
    let rows: Vec<i64> = chosen.iter().map(|row| *row as i64).collect();
    let factor = Tensor::f_from_slice(&factor)?.f_view([size as i64, count as i64])?;
    Ok(Some(Skeleton { core: core(&factor, &rows, damping)?, rows }))
}

/// L_S⁻ᵀ N (N + δI)⁻¹ L_S⁻¹.
fn core(factor: &Tensor, rows: &[i64], damping: f64) -> Result<Tensor> {
    let chosen = factor.f_index_select(0, &Tensor::f_from_slice(rows)?)?;
    // Beyond the rank a column of L is zero: any pivot there leaves a zero.
    let missing = chosen.f_diagonal(0, 0, 1)?.f_eq(0.0)?.f_to_kind(Kind::Double)?;
    let triangle = chosen.f_tril(0)?.f_add(&Tensor::f_diag(&missing, 0)?)?;
    let identity = Tensor::f_eye(factor.size()[1], (Kind::Double, Device::Cpu))?;
    let inverse = Tensor::f_linalg_solve_triangular(&triangle, &identity, false, true, false)?;
    let square = factor.f_transpose(0, 1)?.f_matmul(factor)?;
    let damped = square.f_add(&identity.f_mul_scalar(damping)?)?;
    let shrunk = Tensor::f_linalg_solve(&damped, &square, true)?;
    let core = inverse.f_transpose(0, 1)?.f_matmul(&shrunk)?.f_matmul(&inverse)?;
    Ok(core.f_add(&core.f_transpose(0, 1)?)?.f_mul_scalar(0.5)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::reference::{assert_close, noise};

    /// Pᵀ(P K_SS Pᵀ + δI)⁻¹P with P = K_:S K_SS⁻¹, by general inverses.
    fn dense(gram: &Tensor, rows: &[i64], damping: f64) -> Tensor {
        let index = Tensor::from_slice(rows);
        let columns = gram.index_select(1, &index);
        let inner = columns.index_select(0, &index);
        let interpolation = columns.matmul(&inner.inverse());
        let all = interpolation.matmul(&inner).matmul(&interpolation.tr());
        let damped = all + Tensor::eye(gram.size()[0], (Kind::Double, Device::Cpu)) * damping;
        interpolation.tr().matmul(&damped.inverse()).matmul(&interpolation)
    }

    #[test]
    fn a_skeleton_is_its_dense_formula() -> Result<()> {
        for (size, count) in [(1, 1), (6, 1), (6, 3), (6, 6)] {
            let half = noise(3, "half", &[size, size + 2], Kind::Double);
            let gram = half.matmul(&half.tr());
            let found = skeleton(&gram, count, 0.3)?.unwrap();
            assert_eq!(found.rows.len(), count);
            assert_close(&found.core, &dense(&gram, &found.rows, 0.3), 1e-10, "core");
        }
        Ok(())
    }

    #[test]
    fn the_worst_explained_row_comes_next() -> Result<()> {
        // Rows 0 and 1 are alike, 2 is the largest, 3 is small and new.
        let half = Tensor::from_slice(&[2f64, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 1.0]).view([4, 3]);
        let gram = half.matmul(&half.tr());
        assert_eq!(skeleton(&gram, 3, 0.1)?.unwrap().rows, [2, 0, 3]);
        // The rank is 3: the fourth row adds nothing.
        let (three, four) = (skeleton(&gram, 3, 0.1)?.unwrap(), skeleton(&gram, 4, 0.1)?.unwrap());
        assert_eq!(four.rows, [2, 0, 3, 1]);
        assert_close(&four.core.narrow(0, 0, 3).narrow(1, 0, 3), &three.core, 1e-12, "core");
        assert_eq!(four.core.get(3).abs().max().double_value(&[]), 0.0);
        Ok(())
    }

    #[test]
    fn nothing_to_choose_from_is_none() -> Result<()> {
        let zeros = Tensor::zeros([3, 3], (Kind::Float, Device::Cpu));
        assert!(skeleton(&zeros, 2, 0.1)?.is_none());
        assert!(skeleton(&(zeros + f64::NAN), 2, 0.1)?.is_none());
        Ok(())
    }
}
