use super::layer_name;
use crate::{FngdModule, Layer, Path, Result, Visitor};
use std::borrow::Borrow;
use tch::Tensor;
use tch::nn::{self, Init, LinearConfig};

/// A preconditioned linear layer, made by [`linear`].
#[derive(Debug, Clone)]
pub struct Linear(Layer);

/// A linear layer `y = x Wᵀ + b` with variables `weight`, `[out_features, in_features]`, and `bias`, `[out_features]`.
///
/// # Errors
/// None with sizes that libtorch can allocate; see [`Layer::linear`].
pub fn linear<'a>(
    path: impl Borrow<nn::Path<'a>>,
    in_features: i64,
    out_features: i64,
    config: LinearConfig,
) -> Result<Linear> {
    let path = path.borrow();
    let bound = 1.0 / (in_features as f64).sqrt();
    let bias_init = config.bs_init.unwrap_or(Init::Uniform { lo: -bound, up: bound });
    // The bias comes first, as in tch: one seed gives both the same weights.
    let bias = if config.bias { Some(path.f_var("bias", &[out_features], bias_init)?) } else { None };
    let weight = path.f_var("weight", &[out_features, in_features], config.ws_init)?;
    Ok(Linear(Layer::linear(layer_name(path), weight, bias)?))
}

impl Linear {
    /// The layer's output, `[..., out_features]`.
    ///
    /// # Errors
    /// [`is_shape`](crate::Error::is_shape) or a libtorch error, naming the layer, if `input` is not `[..., in_features]`.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.0.forward(input)
    }

    /// The layer underneath: its name, weight and batch axis.
    pub fn layer(&self) -> &Layer {
        &self.0
    }
}

impl FngdModule for Linear {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        self.0.visit(path, visitor);
    }
}
