//! How Shampoo cuts a tensor: small neighbouring dimensions are merged, large ones split.

use crate::Result;
use tch::Tensor;

/// The blocks of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Sizes after merging.
    merged: Vec<i64>,
    /// Start and length of each block in each dimension.
    ranges: Vec<Vec<(i64, i64)>>,
}

impl Blocks {
    /// Neighbouring dimensions of `size` are merged while their product is at most `largest`; what is larger is split into
    /// pieces of `largest`. A tensor without numbers has no blocks.
    pub fn of(size: &[i64], largest: i64) -> Self {
        let merged = merge(size, largest);
        let mut ranges = vec![Vec::new()];
        for &length in &merged {
            let pieces: Vec<(i64, i64)> =
                (0..length).step_by(largest as usize).map(|start| (start, largest.min(length - start))).collect();
            ranges =
                ranges.iter().flat_map(|block| pieces.iter().map(|piece| [&block[..], &[*piece]].concat())).collect();
        }
        Self { merged, ranges }
    }

    /// Dimensions of each block.
    pub fn order(&self) -> usize {
        self.merged.len()
    }

    /// Sizes of the square matrices, block by block, and in each dimension by dimension.
    pub fn matrix_sizes(&self) -> Vec<i64> {
        self.ranges.iter().flatten().map(|(_, length)| *length).collect()
    }

    /// `tensor` in merged form, sharing memory if its layout allows.
    pub fn merged(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.f_reshape(&self.merged[..])?)
    }

    /// Views of the blocks of a tensor in merged form.
    pub fn views(&self, merged: &Tensor) -> Result<Vec<Tensor>> {
        let view = |block: &Vec<(i64, i64)>| -> Result<Tensor> {
            let mut view = merged.shallow_clone();
            for (dimension, &(start, length)) in block.iter().enumerate() {
                view = view.f_narrow(dimension as i64, start, length)?;
            }
            Ok(view)
        };
        self.ranges.iter().map(view).collect()
    }
}

fn merge(size: &[i64], largest: i64) -> Vec<i64> {
    let mut merged: Vec<i64> = vec![1];
    for &length in size {
        // OK because `merged` is never empty.
        let last = merged.last_mut().unwrap();
        if *last == 1 || last.saturating_mul(length) <= largest {
            *last *= length;
        } else if length > 1 {
            merged.push(length);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_dimensions_are_merged() {
        let merged = |size: &[i64]| Blocks::of(size, 128).merged;
        assert_eq!(merged(&[64, 32, 3, 3]), [64, 96, 3]);
        assert_eq!(merged(&[16, 3, 1, 1]), [48]);
        assert_eq!(merged(&[1, 512, 1, 7]), [512, 7]);
        assert_eq!(merged(&[]), [1]);
    }

    #[test]
    fn blocks_cover_every_number_once() -> Result<()> {
        for (size, count) in [(&[5i64, 7][..], 6), (&[3, 3, 4], 2), (&[0, 2], 0), (&[], 1)] {
            let blocks = Blocks::of(size, 3);
            let tensor = Tensor::zeros(size, tch::kind::INT64_CPU);
            let merged = blocks.merged(&tensor)?;
            let views = blocks.views(&merged)?;
            views.iter().for_each(|view| drop(view.shallow_clone().f_add_scalar_(1)));
            assert!(bool::try_from(tensor.eq(1).all())?, "{size:?}");
            assert_eq!(views.len(), count, "{size:?}");
            assert_eq!(blocks.matrix_sizes().len(), views.len() * blocks.order());
        }
        Ok(())
    }
}
