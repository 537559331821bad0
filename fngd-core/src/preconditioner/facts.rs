//! What the preconditioner knows of a layer. The layer itself stays on the thread that runs forward.

use crate::Result;
use crate::layer::{Geometry, Layer};
use crate::tap::{self, ParameterGrads};
use crate::weighting::{Use, plain_gradient, weighted_gradient};
use std::time::Duration;
use tch::Tensor;

/// The layer's name, what it computes, and its parameters (shared, not copied).
#[derive(Debug)]
pub(crate) struct Facts {
    pub name: String,
    pub geometry: Geometry,
    pub weight: Tensor,
    /// `None` if it was frozen when the optimizer was built.
    pub bias: Option<Tensor>,
}

impl Facts {
    pub fn of(layer: &Layer) -> Self {
        Self {
            name: layer.name().to_owned(),
            geometry: layer.geometry().clone(),
            weight: layer.weight().shallow_clone(),
            bias: layer.bias().filter(|bias| bias.requires_grad()).map(Tensor::shallow_clone),
        }
    }

    /// The bias, unless it is frozen: then it has no gradient to weight, and no part in the Gram matrix.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref().filter(|bias| bias.requires_grad())
    }

    /// Sum over uses of the weighted gradient; plain without coefficients. Adds the time of the weighting to `spent`.
    pub fn gradient(
        &self,
        uses: &[Use],
        coefficients: Option<&Tensor>,
        spent: &mut Duration,
    ) -> Result<ParameterGrads> {
        let (Self { geometry, weight, .. }, bias) = (self, self.bias());
        let mut total: ParameterGrads = (None, None);
        for used in uses {
            let (weight_grad, bias_grad) = match coefficients {
                Some(coefficients) => weighted_gradient(geometry, weight, bias.is_some(), used, coefficients, spent)?,
                None => plain_gradient(geometry, weight, bias.is_some(), used)?,
            };
            total = (added(total.0, weight_grad)?, added(total.1, bias_grad)?);
        }
        Ok(total)
    }

    /// Adds to the parameters' gradients what did not go through the tape.
    pub fn add_gradient(&self, (weight_grad, bias_grad): ParameterGrads) -> Result<()> {
        // A weight may have been frozen between forward and backward.
        if let Some(weight_grad) = weight_grad.filter(|_| self.weight.requires_grad()) {
            tap::accumulate_grad(&self.weight, &weight_grad)?;
        }
        if let (Some(bias), Some(bias_grad)) = (self.bias(), bias_grad) {
            tap::accumulate_grad(bias, &bias_grad)?;
        }
        Ok(())
    }
}

fn added(sum: Option<Tensor>, more: Option<Tensor>) -> Result<Option<Tensor>> {
    match (sum, more) {
        (Some(mut sum), Some(more)) => Ok(Some(sum.f_add_(&more)?)),
        (sum, more) => Ok(sum.or(more)),
    }
}
