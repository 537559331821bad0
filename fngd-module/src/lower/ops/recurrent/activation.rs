//! The functions that a file may choose for the gates of a recurrent network.

use crate::{Error, Result};
use fngd_onnx::graph::{Attribute, Node};
use tch::Tensor;

/// One of them, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Activation {
    Sigmoid,
    Tanh,
    Relu,
    Softsign,
    Softplus,
    /// `alpha · x + beta`
    Affine {
        alpha: f64,
        beta: f64,
    },
    LeakyRelu {
        alpha: f64,
    },
    /// `x` above `alpha`, 0 elsewhere.
    ThresholdedRelu {
        alpha: f64,
    },
    /// `alpha · tanh(beta · x)`
    ScaledTanh {
        alpha: f64,
        beta: f64,
    },
    /// `clamp(alpha · x + beta, 0, 1)`
    HardSigmoid {
        alpha: f64,
        beta: f64,
    },
    Elu {
        alpha: f64,
    },
}

/// The functions of each direction: as many as `defaults` has, which serve where the file names none.
pub(super) fn read(node: &Node, defaults: &[Activation], directions: usize) -> Result<Vec<Vec<Activation>>> {
    let names: &[String] = match node.attributes.get("activations") {
        Some(Attribute::Strings(names)) => names,
        _ => return Ok(vec![defaults.to_vec(); directions]),
    };
    let expected = defaults.len() * directions;
    if names.len() != expected {
        let found = names.len();
        return Err(Error::malformed(format!("attribute `activations` has {found} names, expected {expected}")));
    }
    let (mut alphas, mut betas) = (numbers(node, "activation_alpha"), numbers(node, "activation_beta"));
    let functions = names.iter().map(|name| Activation::of(name, &mut alphas, &mut betas));
    let functions = functions.collect::<Result<Vec<_>>>()?;
    Ok(functions.chunks(defaults.len()).map(<[Activation]>::to_vec).collect())
}

/// Only functions that have such a number take one of the list, in order.
fn numbers<'a>(node: &'a Node, name: &str) -> impl Iterator<Item = f64> + use<'a> {
    let values: &[f32] = if let Some(Attribute::Floats(values)) = node.attributes.get(name) { values } else { &[] };
    values.iter().map(|&value| f64::from(value))
}

impl Activation {
    fn of(name: &str, alphas: &mut dyn Iterator<Item = f64>, betas: &mut dyn Iterator<Item = f64>) -> Result<Self> {
        let mut alpha = |default: f64| alphas.next().unwrap_or(default);
        let mut beta = |default: f64| betas.next().unwrap_or(default);
        Ok(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            "relu" => Self::Relu,
            "softsign" => Self::Softsign,
            "softplus" => Self::Softplus,
            "affine" => Self::Affine { alpha: alpha(1.0), beta: beta(0.0) },
            "leakyrelu" => Self::LeakyRelu { alpha: alpha(0.01) },
            "thresholdedrelu" => Self::ThresholdedRelu { alpha: alpha(1.0) },
            "scaledtanh" => Self::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
            "hardsigmoid" => Self::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
            "elu" => Self::Elu { alpha: alpha(1.0) },
            _ => {
                let message = format!("attribute `activations` names `{name}`, which is none of ONNX's functions");
                return Err(Error::malformed(message));
            }
        })
    }

    /// The function of every element.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match *self {
            Self::Sigmoid => x.f_sigmoid()?,
            Self::Tanh => x.f_tanh()?,
            Self::Relu => x.f_relu()?,
            Self::Softsign => x.f_div(&x.f_abs()?.f_add_scalar(1.0)?)?,
            Self::Softplus => x.f_softplus()?,
            Self::Affine { alpha, beta } => x.f_mul_scalar(alpha)?.f_add_scalar(beta)?,
            Self::LeakyRelu { alpha } => x.f_clamp_min(0.0)?.f_add(&x.f_clamp_max(0.0)?.f_mul_scalar(alpha)?)?,
            Self::ThresholdedRelu { alpha } => x.f_masked_fill(&x.f_le(alpha)?, 0.0)?,
            Self::ScaledTanh { alpha, beta } => x.f_mul_scalar(beta)?.f_tanh()?.f_mul_scalar(alpha)?,
            Self::HardSigmoid { alpha, beta } => x.f_mul_scalar(alpha)?.f_add_scalar(beta)?.f_clamp(0.0, 1.0)?,
            Self::Elu { alpha } => x.f_clamp_min(0.0)?.f_add(&x.f_clamp_max(0.0)?.f_expm1()?.f_mul_scalar(alpha)?)?,
        })
    }
}
