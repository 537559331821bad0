//! The batch size that an exporter wrote into the file is never a literal in generated code.
//!
//! Without dynamic shapes, PyTorch's exporters write the example's batch size into the input's dimensions and into the shapes of
//! Reshape and Expand. Here the first dimension of the inputs counts as unknown, and where a shape says that number, it is read as the
//! batch, if only then the elements fit.

use super::rearrangement::Rearrangement;
use super::sizes::Expression;

/// A batch size that the file insists on, and what stands for it.
#[derive(Debug, Clone)]
pub(super) struct FreeBatch {
    pub written: i64,
    pub size: Expression,
}

impl FreeBatch {
    /// `wanted` as a shape for a tensor of `dims` at every batch size; -1 may stand for what is left.
    pub fn reshape(&self, dims: &[Expression], wanted: &[Expression]) -> Option<Vec<Expression>> {
        let place = dims.iter().position(|dim| dim.known().is_none())?;
        // The batch is the first or the last factor of its axis: as many elements lie before it.
        let before = Expression::product(&dims[..place]).known()?;
        let others = dims[place].exactly_over(&self.size)?.known()?;
        let all = Expression::product(dims);
        let wanted: Vec<i64> = wanted.iter().map(Expression::known).collect::<Option<_>>()?;
        let open = wanted.iter().position(|size| *size == -1);
        let mut axes: Vec<(u8, usize)> =
            (0..wanted.len()).filter_map(|axis| Some((self.rank(&wanted, axis, before, others)?, axis))).collect();
        axes.sort_unstable();
        axes.into_iter().find_map(|(_, axis)| {
            let mut target: Vec<Expression> = wanted.iter().map(|size| (*size).into()).collect();
            if wanted[axis] != -1 {
                target[axis] = self.size.times(&(wanted[axis] / self.written).into());
            }
            if let Some(open) = open {
                let others = target.iter().enumerate().filter(|(axis, _)| *axis != open).map(|(_, size)| size);
                target[open] = all.exactly_over(&Expression::product(others))?;
            }
            Rearrangement::reshape(dims, &target).map(|_| target)
        })
    }

    /// How likely the batch is in this axis of a shape, 0 being the most; `None` if it is not.
    fn rank(&self, wanted: &[i64], axis: usize, before: i64, others: i64) -> Option<u8> {
        let lies_before = |count: i64| count == before || count == before.saturating_mul(others);
        let product = |sizes: &[i64]| {
            sizes.iter().try_fold(1i64, |product, size| (*size > 0).then(|| product.saturating_mul(*size)))
        };
        let (starts, ends) = (product(&wanted[..axis]), product(&wanted[..=axis]));
        let leads = starts.is_some_and(lies_before);
        let is_last = axis + 1 == wanted.len();
        match wanted[axis] {
            size if size == self.written && leads => Some(0),
            -1 => Some(if leads { 1 } else { 4 }),
            size if size <= 0 || size % self.written != 0 => None,
            // Merged with the heads behind it, or with the positions before it; features are hardly ever divided by the batch.
            _ if leads && !is_last => Some(2),
            _ if ends.is_some_and(|ends| lies_before(ends / self.written)) => Some(3),
            _ if leads => Some(5),
            _ => None,
        }
    }

    /// Whether `size` is the number that the file says where it means the batch.
    pub fn is_written(&self, size: &Expression) -> bool {
        size.is(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fngd_onnx::graph::ValueId;

    fn free(written: i64) -> FreeBatch {
        FreeBatch { written, size: Expression::of(ValueId(0), 0) }
    }

    /// 0 stands for the batch.
    fn dims(sizes: &[i64]) -> Vec<Expression> {
        sizes.iter().map(|size| if *size == 0 { Expression::of(ValueId(0), 0) } else { (*size).into() }).collect()
    }

    #[test]
    fn a_written_batch_is_found_in_shapes() {
        for (written, from, wanted, expected) in [
            (1, &[0, 512, 1, 1][..], &[1, 512][..], &[0, 512][..]),
            (1, &[0, 64, 7, 7], &[1, -1], &[0, 64 * 49]),
            (2, &[0, 64, 7, 7], &[-1, 64 * 49], &[0, 64 * 49]),
            (1, &[17, 0, 192], &[17, 1, 3, 64], &[17, 0, 3, 64]),
            (2, &[0, 17, 64], &[2, 17, 4, 16], &[0, 17, 4, 16]),
        ] {
            assert_eq!(free(written).reshape(&dims(from), &dims(wanted)), Some(dims(expected)), "{wanted:?}");
        }
        let merged = free(2).reshape(&dims(&[17, 0, 64]), &dims(&[17, 8, 16])).unwrap();
        assert_eq!(merged[1], Expression::of(ValueId(0), 0).times(&4.into()));
        // Positions and batch as the rows of a linear layer, and back.
        let rows = free(1).reshape(&dims(&[17, 0, 64]), &dims(&[17, 64])).unwrap();
        assert_eq!(rows, [Expression::of(ValueId(0), 0).times(&17.into()), 64.into()]);
        assert_eq!(free(1).reshape(&rows, &dims(&[17, 1, 64])), Some(dims(&[17, 0, 64])));
        // Batch and heads, and back.
        let heads = free(1).reshape(&dims(&[17, 0, 64]), &dims(&[17, 4, 16])).unwrap();
        assert_eq!(heads, [17.into(), Expression::of(ValueId(0), 0).times(&4.into()), 16.into()]);
        let turned = [heads[1].clone(), 17.into(), 16.into()];
        assert_eq!(free(1).reshape(&turned, &dims(&[1, 4, 17, 16])), Some(dims(&[0, 4, 17, 16])));
        assert_eq!(free(2).reshape(&dims(&[4, 4]), &dims(&[2, 8])), None, "no batch is in it");
        assert_eq!(free(2).reshape(&dims(&[0, 4]), &dims(&[3, 3])), None, "nothing fits");
    }
}
