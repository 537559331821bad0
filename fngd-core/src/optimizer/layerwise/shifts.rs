//! Σ aaᵀ over the patches of images, without patches: the images against shifted copies of themselves.
//!
//! Two places of a kernel, d and d′, meet the pixels u and u + δ with δ = d′ − d. So the block of Σ aaᵀ that belongs to them is
//! Σ_u x(u) x(u + δ)ᵀ: it depends on δ only, but for the pixels at the edges that one of the places never meets. For a 3×3
//! kernel that leaves 25 shifts, half of them transposes of the others, in place of 81 blocks.

use crate::gram::at_least_float;
use crate::layer::{Convolution, Geometry};
use crate::preconditioner::Facts;
use crate::{Result, tap};
use tch::{Device, Kind, Tensor};

/// Products of pixels that a moment is put together from, each `[C, C]`; their sum over batches is that of the moments.
///
/// All pixels, shifted by 0, 1, 2 down and −2 .. 2 to the right; the first and the last row, −2 .. 2 to the right; the first and
/// the last column, −2 .. 2 down; the corners, not shifted.
pub(crate) const PRODUCTS: i64 = 15 + 10 + 10 + 4;

/// Side of the kernel, and how far one of its places can be from another.
const KERNEL: usize = 3;
const REACH: i64 = 2;

/// Whether a layer's moment can be had so: a 3×3 convolution that keeps the size of the image, as most are, without a bias.
pub(crate) fn apply_to(facts: &Facts) -> bool {
    let Geometry::Convolution(geometry) = &facts.geometry else { return false };
    let same = Convolution { padding: vec![1, 1], ..Convolution::new(2) };
    *geometry == same && facts.bias.is_none() && facts.weight.size()[2..] == [3, 3]
}

/// The products of `images`, `[N, C, h, w]`: `[39, C, C]`, float32 or better.
///
/// Cost: a quarter of the multiply-adds of the moment over patches, and no patches.
pub(crate) fn products(images: &Tensor) -> Result<Tensor> {
    let images = at_least_float(images)?;
    let [height, width] = [images.size()[2], images.size()[3]];
    let below = images.f_constant_pad_nd([0, 0, 0, REACH])?;
    let row = |at: i64| images.f_narrow(2, at, 1);
    let column = |at: i64| images.f_narrow(3, at, 1);
    let mut products = vec![correlation(&images, &below, [1 + REACH, 1 + 2 * REACH], [0, REACH])?];
    // Columns lie down: libtorch is twice as fast along rows.
    for edge in [row(0)?, row(height - 1)?, column(0)?.f_transpose(2, 3)?, column(width - 1)?.f_transpose(2, 3)?] {
        products.push(correlation(&edge, &edge, [1, 1 + 2 * REACH], [0, REACH])?);
    }
    let mut corners = Vec::new();
    for row in [row(0)?, row(height - 1)?] {
        corners.extend([row.f_select(3, 0)?.f_squeeze_dim(2)?, row.f_select(3, width - 1)?.f_squeeze_dim(2)?]);
    }
    // [4, N, C]
    let corners = Tensor::f_stack(&corners, 0)?;
    products.push(corners.f_transpose(1, 2)?.f_bmm(&corners)?);
    Ok(Tensor::f_cat(&products, 0)?)
}

/// The products whose [`moment`] is the identity.
pub(crate) fn identity(channels: i64, options: (Kind, Device)) -> Result<Tensor> {
    let products = Tensor::f_zeros([PRODUCTS, channels, channels], options)?;
    // All pixels, not shifted.
    let _ = products.f_get(REACH)?.f_diagonal(0, 0, 1)?.f_fill_(1.0)?;
    Ok(products)
}

/// Σ_u x(u) y(u + δ)ᵀ for every shift δ that `kernel` has room for: `[shifts, C, C]`. That is the weight gradient of a convolution.
fn correlation(x: &Tensor, y: &Tensor, kernel: [i64; 2], padding: [i64; 2]) -> Result<Tensor> {
    let channels = x.size()[1];
    let geometry = Convolution { padding: padding.to_vec(), ..Convolution::new(2) };
    // Read for its size only.
    let weight = x.f_new_empty([channels, channels, kernel[0], kernel[1]], (x.kind(), x.device()))?;
    let (shifts, _) = tap::convolution_backward(x, y, &weight, &geometry, false)?;
    Ok(shifts.f_permute([2, 3, 0, 1])?.f_reshape([-1, channels, channels])?)
}

/// Σ aaᵀ, `[1, 9C, 9C]` in the weight's order, from [`products`].
pub(crate) fn moment(products: &Tensor) -> Result<Tensor> {
    let channels = products.size()[1];
    let parts = products.f_split_with_sizes([15, 5, 5, 5, 5, 4], 0)?;
    let [all, first_row, last_row, first_column, last_column, corners] = &parts[..] else {
        unreachable!("there are as many parts as sizes")
    };
    let rows = [Some(last_row), None, Some(first_row)];
    let columns = [Some(last_column), None, Some(first_column)];
    // The place (i, j) of the kernel never meets row `rows[i]` nor column `columns[j]`, and a pair that is shifted along an axis
    // meets all that there is of it along that axis.
    let block = |from: [usize; 2], to: [usize; 2]| -> Result<Tensor> {
        let down = to[0] as i64 - from[0] as i64;
        let right = to[1] as i64 - from[1] as i64;
        let mut block = all.f_get(down * 5 + right + REACH)?;
        let row = rows[from[0]].filter(|_| down == 0);
        let column = columns[from[1]].filter(|_| right == 0);
        if let Some(row) = row {
            block = block.f_sub(&row.f_get(right + REACH)?)?;
        }
        if let Some(column) = column {
            block = block.f_sub(&column.f_get(down + REACH)?)?;
        }
        if row.is_some() && column.is_some() {
            // Taken away twice. Corners come as first row, last row; in each, first column, last column.
            let (last_row, last_column) = (i64::from(from[0] == 0), i64::from(from[1] == 0));
            block = block.f_add(&corners.f_get(2 * last_row + last_column)?)?;
        }
        Ok(block)
    };
    let places = (0..KERNEL).flat_map(|row| (0..KERNEL).map(move |column| [row, column]));
    let mut blocks = Vec::new();
    for from in places.clone() {
        for to in places.clone() {
            let forward = to[0] >= from[0];
            blocks.push(if forward { block(from, to)? } else { block(to, from)?.f_transpose(0, 1)? });
        }
    }
    // [9, 9, C, C] → [C, 9, C, 9]
    let blocks = Tensor::f_stack(&blocks, 0)?.f_view([9, 9, channels, channels])?;
    Ok(blocks.f_permute([2, 0, 3, 1])?.f_reshape([1, 9 * channels, 9 * channels])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::reference::{assert_close, noise};

    #[test]
    fn a_moment_from_shifts_is_that_of_the_patches() -> Result<()> {
        for size in [[2, 3, 5, 4], [3, 2, 1, 1], [1, 1, 2, 7], [2, 4, 3, 3]] {
            let images = noise(3, "images", &size, Kind::Double);
            // [N, 9C, positions]
            let patches = images.f_im2col([3, 3], [1, 1], [1, 1], [1, 1])?;
            let rows = patches.f_transpose(1, 2)?.f_reshape([-1, 9 * size[1]])?;
            let expected = rows.f_transpose(0, 1)?.f_mm(&rows)?.f_unsqueeze(0)?;
            let found = products(&images)?;
            assert_eq!(found.size(), [PRODUCTS, size[1], size[1]]);
            assert_close(&moment(&found)?, &expected, 1e-12, &format!("{size:?}"));
        }
        let options = (Kind::Double, Device::Cpu);
        assert_close(&moment(&identity(2, options)?)?, &Tensor::eye(18, options).unsqueeze(0), 0.0, "identity");
        Ok(())
    }
}
