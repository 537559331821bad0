//! A layer whose Gram matrix is formed and whose weights are not solved for yet.

use super::Facts;
use crate::Result;
use crate::factors::{WeightLayout, bias_contributions};
use crate::gram::{self, GramMethod};
use crate::layer::Geometry;
use crate::tap::ParameterGrads;
use crate::timeline::{self, Phase};
use crate::weighting::Use;
use std::time::{Duration, Instant};
use tch::Tensor;

/// Everything that the layer's gradient needs once its weights are known.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The layer's index.
    pub index: usize,
    /// `[B, B]`, weight and bias jointly.
    pub gram: Tensor,
    /// How the weight's part was formed.
    pub method: GramMethod,
    kept: Kept,
    bias: Option<Tensor>,
}

/// What the weight's gradient will be made from.
#[derive(Debug)]
enum Kept {
    /// The contributions themselves `[B, n]`: the gradient is one product, and the convolution's backward is saved.
    Contributions {
        flat: Tensor,
        layout: WeightLayout,
    },
    Uses(Vec<Use>),
}

impl Pending {
    /// Forms the Gram matrix over all `uses` of a layer. Bias joint with the weight: a 1 appended to the input, so that the
    /// matrix gains (Σ_t g)(Σ_t g)ᵀ.
    pub fn form(index: usize, facts: &Facts, uses: Vec<Use>, batch_size: i64, memory: u64) -> Result<Self> {
        let Facts { geometry, weight, .. } = facts;
        let gram = gram::of_weight(geometry, weight, &uses, batch_size, memory)?;
        let mut matrix = gram.matrix;
        let mut bias = None;
        if facts.bias().is_some() {
            let sums = summed_bias(geometry, &uses, batch_size)?;
            matrix = matrix.f_add_(&gram::of_contributions(&sums)?)?;
            bias = Some(sums);
        }
        let kept = match gram.contributions {
            Some((flat, layout)) => Kept::Contributions { flat, layout },
            None => Kept::Uses(uses),
        };
        Ok(Self { index, gram: matrix, method: gram.method, kept, bias })
    }

    /// Bytes held while waiting.
    pub fn bytes(&self) -> u64 {
        let size = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        size(&self.gram)
            + match &self.kept {
                Kept::Contributions { flat, .. } => size(flat),
                Kept::Uses(uses) => uses.iter().map(|used| size(&used.activations) + size(&used.output_grads)).sum(),
            }
    }

    /// The weighted gradient. Adds the time of the weighting to `spent`.
    pub fn gradient(self, facts: &Facts, coefficients: &Tensor, spent: &mut Duration) -> Result<ParameterGrads> {
        match self.kept {
            Kept::Contributions { flat, layout } => {
                let start = Instant::now();
                let _span = timeline::enter(Phase::Precondition);
                let sum = flat.f_transpose(0, 1)?.f_mv(&coefficients.f_to_kind(flat.kind())?)?;
                // The parameter's own memory format, so that the update reads both alike.
                let mut weight_grad = facts.weight.f_detach()?.f_empty_like()?;
                weight_grad.f_copy_(&layout.weight(&sum)?)?;
                let bias = self.bias.map(|sums| -> Result<Tensor> {
                    Ok(sums.f_transpose(0, 1)?.f_mv(&coefficients.f_to_kind(sums.kind())?)?)
                });
                *spent += start.elapsed();
                Ok((Some(weight_grad), bias.transpose()?))
            }
            Kept::Uses(uses) => facts.gradient(&uses, Some(coefficients), spent),
        }
    }
}

/// Bias contributions of all uses together.
fn summed_bias(geometry: &Geometry, uses: &[Use], batch_size: i64) -> Result<Tensor> {
    let mut sum = bias_contributions(geometry, &uses[0].output_grads, uses[0].axis, batch_size)?;
    for used in &uses[1..] {
        sum = sum.f_add(&bias_contributions(geometry, &used.output_grads, used.axis, batch_size)?)?;
    }
    Ok(sum)
}
