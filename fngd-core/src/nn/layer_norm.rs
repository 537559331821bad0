use super::layer_name;
use crate::module_impls::visit_normalisation;
use crate::{Error, FngdModule, Path, Result, Visitor};
use std::borrow::Borrow;
use std::sync::Arc;
use tch::Tensor;
use tch::nn::{self, LayerNormConfig};

/// Layer normalisation, made by [`layer_norm`]. It trains with the plain gradient.
#[derive(Debug)]
pub struct LayerNorm {
    name: Arc<str>,
    /// What it was made with.
    pub config: LayerNormConfig,
    /// The scale, of the size `normalized_shape`; none if not affine.
    pub ws: Option<Tensor>,
    /// The shift, of the size `normalized_shape`; none if not affine.
    pub bs: Option<Tensor>,
    /// The last dimensions of the input, over which mean and variance are taken.
    pub normalized_shape: Vec<i64>,
}

/// Layer normalisation over the last dimensions, which are `normalized_shape`, with variables `weight` and `bias` of that size (if
/// `config.elementwise_affine`).
///
/// # Panics
/// If libtorch cannot allocate the variables.
pub fn layer_norm<'a>(vs: impl Borrow<nn::Path<'a>>, normalized_shape: Vec<i64>, config: LayerNormConfig) -> LayerNorm {
    let vs = vs.borrow();
    // Of ours, only the name, for messages, and the configuration, which others can see.
    let nn::LayerNorm { ws, bs, normalized_shape, .. } = nn::layer_norm(vs, normalized_shape, config);
    LayerNorm { name: layer_name(vs).into(), config, ws, bs, normalized_shape }
}

impl LayerNorm {
    /// The normalised input, of the same size.
    ///
    /// # Errors
    /// A libtorch error that names the layer, if the input does not end in `normalized_shape`.
    pub fn f_forward(&self, input: &Tensor) -> Result<Tensor> {
        let LayerNormConfig { eps, cudnn_enabled, .. } = self.config;
        input
            .f_layer_norm(&self.normalized_shape[..], self.ws.as_ref(), self.bs.as_ref(), eps, cudnn_enabled)
            .map_err(|error| Error::from(error).at(format!("layer `{}`", self.name)))
    }
}

/// [`f_forward`](LayerNorm::f_forward), as `tch` has it.
///
/// # Panics
/// Where `f_forward` has an error, with its message.
impl nn::Module for LayerNorm {
    fn forward(&self, input: &Tensor) -> Tensor {
        self.f_forward(input).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl FngdModule for LayerNorm {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        visit_normalisation(self.ws.as_ref(), self.bs.as_ref(), path, visitor);
    }
}

#[cfg(test)]
mod tests {
    use super::layer_norm;
    use tch::nn::{self, LayerNormConfig, Module};
    use tch::{Device, Kind, Tensor};

    #[test]
    fn it_is_tchs() {
        let vs = nn::VarStore::new(Device::Cpu);
        let config = LayerNormConfig { eps: 0.5, ..Default::default() };
        let ours = layer_norm(vs.root() / "norm", vec![4], config);
        let theirs = nn::layer_norm(vs.root() / "other", vec![4], config);
        let input = Tensor::randn([3, 4], (Kind::Float, Device::Cpu));
        assert_eq!(ours.forward(&input), theirs.forward(&input));
        assert_eq!(vs.variables().keys().filter(|name| name.starts_with("norm.")).count(), 2);
        let error = ours.f_forward(&input.tr()).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "layer `norm`: Internal torch error: Given normalized_shape=[4], expected input with shape [*, 4]"
            ),
            "{error}"
        );
    }
}
