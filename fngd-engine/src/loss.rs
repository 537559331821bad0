//! The training loss, and how many answers are right.

use super::failure::{Failure, Result};
use tch::{Kind, Reduction, Tensor};

/// Logits `[rows, classes]` and labels `[rows]`: one row for each sample, or for each token of each sample.
#[derive(Debug)]
pub struct Rows {
    pub logits: Tensor,
    pub labels: Tensor,
}

impl Rows {
    /// Takes `[B, classes]` with labels `[B]`, and `[B, T, classes]` with labels `[B, T]`.
    ///
    /// # Errors
    /// Sizes that do not belong together.
    pub fn of(logits: &Tensor, labels: &Tensor) -> Result<Self> {
        let (size, label_size) = (logits.size(), labels.size());
        let fits = size.len() >= 2 && size[..size.len() - 1] == label_size[..];
        if !fits {
            let message = format!("the model answers with {size:?} for labels {label_size:?}");
            return Err(Failure::data(format!(
                "{message}; expected [batch, classes] for [batch], or one axis more in both"
            )));
        }
        // OK because the size has at least two entries.
        let classes = *size.last().unwrap();
        Ok(Self { logits: logits.f_reshape([-1, classes])?, labels: labels.f_reshape([-1])? })
    }

    /// Mean cross entropy. With label smoothing s in [0, 1) the target is (1 − s) for the label plus s / classes for every class.
    pub fn cross_entropy(&self, smoothing: f64) -> Result<Tensor> {
        const NONE_IGNORED: i64 = -100;
        let weight: Option<Tensor> = None;
        let logits = &self.logits;
        Ok(logits.f_cross_entropy_loss(&self.labels, weight, Reduction::Mean, NONE_IGNORED, smoothing)?)
    }

    /// How many rows have their largest logit at the label: a scalar, still on the device.
    pub fn correct(&self) -> Result<Tensor> {
        Ok(self.logits.f_detach()?.f_argmax(1, false)?.f_eq_tensor(&self.labels)?.f_sum(Kind::Int64)?)
    }

    /// Number of rows.
    pub fn count(&self) -> u64 {
        self.labels.numel() as u64
    }
}

/// Reads several scalars at once: this waits for the device, so once per step is enough.
pub fn read_scalars(scalars: &[Tensor]) -> Result<Vec<f64>> {
    let as_double = scalars.iter().map(|scalar| scalar.f_detach().and_then(|scalar| scalar.f_to_kind(Kind::Double)));
    let as_double = as_double.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Vec::try_from(&Tensor::f_stack(&as_double, 0)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 12] = [0.5, -1.0, 2.0, 0.0, 3.0, 1.0, -0.5, 0.25, -2.0, 1.5, 1.25, 0.75];
    const LABELS: [i64; 4] = [2, 1, 0, 1];

    /// Mean over rows of −Σ_c target_c · log softmax(z)_c, one number at a time.
    fn oracle(smoothing: f64) -> f64 {
        let rows = LOGITS.chunks(3).zip(LABELS).map(|(row, label)| {
            let total: f64 = row.iter().map(|&z| f64::from(z).exp()).sum();
            let term = |(class, &z): (usize, &f32)| {
                let target = smoothing / 3.0 + if class as i64 == label { 1.0 - smoothing } else { 0.0 };
                -target * (f64::from(z) - total.ln())
            };
            row.iter().enumerate().map(term).sum::<f64>()
        });
        rows.sum::<f64>() / 4.0
    }

    #[test]
    fn cross_entropy_equals_one_number_at_a_time() {
        let rows = Rows::of(&Tensor::from_slice(&LOGITS).view([4, 3]), &Tensor::from_slice(&LABELS)).unwrap();
        for smoothing in [0.0, 0.1, 0.9] {
            let loss = f64::try_from(&rows.cross_entropy(smoothing).unwrap()).unwrap();
            assert!((loss - oracle(smoothing)).abs() < 1e-6, "smoothing {smoothing}: {loss}, {}", oracle(smoothing));
        }
        assert_eq!(read_scalars(&[rows.correct().unwrap(), Tensor::from(7)]).unwrap(), [2.0, 7.0]);
    }

    #[test]
    fn a_sequence_is_as_many_rows() {
        let logits = Tensor::from_slice(&LOGITS);
        let flat = Rows::of(&logits.view([4, 3]), &Tensor::from_slice(&LABELS)).unwrap();
        let sequences = Rows::of(&logits.view([2, 2, 3]), &Tensor::from_slice(&LABELS).view([2, 2])).unwrap();
        assert_eq!(sequences.count(), 4);
        assert_eq!(sequences.cross_entropy(0.1).unwrap(), flat.cross_entropy(0.1).unwrap());
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let failure = Rows::of(&Tensor::from_slice(&LOGITS).view([4, 3]), &Tensor::from_slice(&[1i64])).unwrap_err();
        let expected = "the model answers with [4, 3] for labels [1]; \
                        expected [batch, classes] for [batch], or one axis more in both";
        assert_eq!(failure.to_string(), expected);
    }
}
