//! Where the samples are inside a tensor: moving between a layer's layout and `[B, ...]`.

use crate::layer::BatchAxis;
use crate::{Error, Result};
use tch::Tensor;

/// `tensor` as `[B, T, features]`, for a layer whose features are its last axis. A view where strides allow it.
pub(crate) fn rows_by_sample(tensor: &Tensor, axis: BatchAxis, batch_size: i64) -> Result<Tensor> {
    let features = *tensor.size().last().unwrap_or(&1);
    let moved = match axis {
        BatchAxis::Axis(axis) => tensor.f_movedim_int(axis as i64, 0)?,
        BatchAxis::Leading | BatchAxis::Unknown => tensor.shallow_clone(),
    };
    Ok(moved.f_reshape([batch_size, -1, features])?)
}

/// `tensor` with sample i multiplied by `weights[i]`, in the same layout and memory format.
///
/// Cost: one pass over `tensor`.
pub(crate) fn scale(tensor: &Tensor, weights: &Tensor, axis: BatchAxis) -> Result<Tensor> {
    let size = tensor.size();
    let batch_size = weights.size()[0];
    let position = if let BatchAxis::Axis(axis) = axis { axis } else { 0 };
    let mut broadcast = vec![1; size.len()];
    broadcast[position] = batch_size;
    let weights =
        if weights.kind() == tensor.kind() { weights.shallow_clone() } else { weights.f_to_kind(tensor.kind())? };
    if size[position] == batch_size {
        return Ok(tensor.f_mul(&weights.f_view(&broadcast[..])?)?);
    }
    // Several consecutive rows per sample: [B·k, ...] seen as [B, k, ...].
    broadcast.insert(1, 1);
    let mut split = vec![batch_size, size[0] / batch_size];
    split.extend(&size[1..]);
    Ok(tensor.f_reshape(&split[..])?.f_mul(&weights.f_view(&broadcast[..])?)?.f_view(&size[..])?)
}

/// How many samples `tensor` shows along `axis`, if each has one row there.
pub(crate) fn rows(tensor: &Tensor, axis: BatchAxis) -> Option<i64> {
    let position = match axis {
        BatchAxis::Leading => 0,
        BatchAxis::Axis(axis) => axis,
        BatchAxis::Unknown => return None,
    };
    tensor.size().get(position).copied()
}

/// Checks that `tensor` holds `batch_size` samples where `axis` says.
///
/// # Errors
/// [`Error::is_shape`] with both sizes.
pub(crate) fn check(tensor: &Tensor, axis: BatchAxis, batch_size: i64, what: &str) -> Result<()> {
    let size = tensor.size();
    let fits = match axis {
        BatchAxis::Leading => size.first().is_some_and(|rows| *rows > 0 && rows % batch_size == 0),
        BatchAxis::Axis(axis) => size.get(axis) == Some(&batch_size),
        BatchAxis::Unknown => true,
    };
    if fits {
        return Ok(());
    }
    Err(Error::shape(format!("{what} are {size:?}, but the batch was announced with {batch_size} samples ({axis:?})")))
}
