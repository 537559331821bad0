//! What the inputs of a recurrent network must look like. libtorch's own networks read past the end of tensors that are too small.

use crate::lower::operator::Inputs;
use crate::{Error, Result};
use tch::Tensor;

/// The sizes that all inputs agree on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub steps: i64,
    pub batch: i64,
    pub directions: i64,
    pub hidden: i64,
}

impl Sizes {
    /// The sizes for `x`, `[steps, batch, features]`, and the weights among `inputs`.
    ///
    /// # Errors
    /// `is_mismatch()` naming the input whose size is another than the rest asks for.
    pub fn of(x: &Tensor, inputs: &Inputs, gates: i64, directions: i64, declared: Option<i64>) -> Result<Self> {
        let size = x.size();
        let [steps, batch, features] = size[..] else {
            return Err(Error::mismatch(format!("input `X` is {size:?}, expected three dimensions")));
        };
        let hidden = inputs.get(2)?.size().last().copied().unwrap_or(0);
        if let Some(declared) = declared.filter(|&declared| declared != hidden) {
            let message = format!("attribute `hidden_size` is {declared}, but `R` is {:?}", inputs.get(2)?.size());
            return Err(Error::mismatch(message));
        }
        // Sizes of real tensors times a small number.
        let rows = gates * hidden;
        let expected: [(usize, &str, &[i64]); 4] = [
            (1, "W", &[directions, rows, features]),
            (2, "R", &[directions, rows, hidden]),
            (3, "B", &[directions, 2 * rows]),
            (7, "P", &[directions, 3 * hidden]),
        ];
        for (position, name, expected) in expected {
            let found = inputs.optional(position).map(Tensor::size);
            if let Some(found) = found.filter(|found| found != expected) {
                return Err(Error::mismatch(format!("input `{name}` is {found:?}, expected {expected:?}")));
            }
        }
        inputs.get(1)?;
        Ok(Self { steps, batch, directions, hidden })
    }
}
