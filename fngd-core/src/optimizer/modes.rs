//! Tensors along one of their dimensions (modes): what Shampoo and SOAP gather, and how they apply it.

use crate::Result;
use tch::Tensor;

/// G₍ᵢ₎G₍ᵢ₎ᵀ: with the tensor unfolded along `mode` to a matrix of that many rows. Symmetric, `[n, n]`.
pub(super) fn gram(tensor: &Tensor, mode: usize) -> Result<Tensor> {
    let others: Vec<i64> = (0..tensor.dim()).filter(|&other| other != mode).map(|other| other as i64).collect();
    Ok(tensor.f_tensordot(tensor, &others[..], &others[..])?)
}

/// Which index of a matrix meets the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Its rows: multiplies by Qᵀ.
    Rows,
    /// Its columns: multiplies by Q.
    Columns,
}

/// The tensor multiplied along each mode by its matrix; `None` leaves a mode as it is.
pub(super) fn multiply(tensor: &Tensor, matrices: &[Option<&Tensor>], side: Side) -> Result<Tensor> {
    let index = match side {
        Side::Rows => [0i64],
        Side::Columns => [1i64],
    };
    let mut product = tensor.shallow_clone();
    for matrix in matrices {
        // The mode in front goes to the end: after all of them, each is where it was.
        product = match matrix {
            Some(matrix) => product.f_tensordot(matrix, &[0i64][..], &index[..])?,
            None => product.f_movedim_int(0, -1)?,
        };
    }
    Ok(product)
}
