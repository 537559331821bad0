//! How many samples a forward pass saw, for whoever does not say it beforehand.

use crate::{Error, Result};

/// The sizes that the first preconditioned layer of the forward pass was called with.
///
/// The first layer sees the batch as it comes from the data. Later ones may see several rows per sample, which backward
/// checks against this number.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Index of the layer, and samples in its latest call.
    first: Option<(usize, i64)>,
    /// Samples in an earlier call, if another number.
    other: Option<i64>,
}

impl Seen {
    /// Layer `index` was called with `rows` samples; `None` where its batch axis is not known.
    pub fn note(&mut self, index: usize, rows: Option<i64>) {
        let Some(rows) = rows else { return };
        match &mut self.first {
            None => self.first = Some((index, rows)),
            Some((first, latest)) if *first == index && *latest != rows => {
                self.other = Some(*latest);
                *latest = rows;
            }
            Some(_) => {}
        }
    }

    /// The number of samples. 1 if no layer has a batch axis: then there are no weights that it could be wrong for.
    ///
    /// # Errors
    /// `is_state()` if there are two answers.
    pub fn rows<'a>(&self, name: impl Fn(usize) -> &'a str) -> Result<i64> {
        match (self.first, self.other) {
            (None, _) => Ok(1),
            (Some((_, rows)), None) => Ok(rows),
            (Some((index, rows)), Some(other)) => Err(Error::state(format!(
                "layer `{}` saw {other} samples and then {rows} before one backward: evaluate the model under `tch::no_grad`",
                name(index)
            ))),
        }
    }
}
