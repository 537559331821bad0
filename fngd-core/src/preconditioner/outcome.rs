//! What became of one layer in the latest micro-batch.

use crate::optimizer::{LayerReport, WeightSource};
use crate::{GramMethod, Result};
use tch::{Kind, Tensor};

/// A layer's weights and how they came about.
#[derive(Debug)]
pub(super) struct Outcome {
    pub source: WeightSource,
    /// w.
    pub coefficients: Option<Tensor>,
    /// What the bank keeps: w, or w/λ where the step scale is per slot.
    pub stored: Option<Tensor>,
    pub damping: Option<Tensor>,
    pub method: Option<GramMethod>,
}

impl Outcome {
    /// w = 1, because nothing is known.
    pub fn unknown() -> Self {
        Self { source: WeightSource::Unknown, coefficients: None, stored: None, damping: None, method: None }
    }

    /// w from the bank.
    pub fn recalled(coefficients: Tensor) -> Self {
        Self { source: WeightSource::Recalled, coefficients: Some(coefficients), ..Self::unknown() }
    }

    /// The numbers of [`LayerReport`]. Waits for the device.
    pub fn report(&self, name: &str) -> Result<LayerReport> {
        let (mean, std, min) = match &self.coefficients {
            None => (1.0, 0.0, 1.0),
            Some(w) => {
                let w = w.f_to_kind(Kind::Double)?;
                let std = w.f_std(false)?;
                (
                    w.f_mean(Kind::Double)?.f_double_value(&[])?,
                    std.f_double_value(&[])?,
                    w.f_min()?.f_double_value(&[])?,
                )
            }
        };
        let damping = self.damping.as_ref().map(|damping| damping.f_double_value(&[])).transpose()?;
        Ok(LayerReport {
            name: name.to_owned(),
            mean,
            std,
            min,
            damping,
            gram_method: self.method,
            source: self.source,
        })
    }
}
