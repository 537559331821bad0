use super::layer_name;
use crate::{Error, FngdModule, Path, Result, Visitor};
use std::borrow::Borrow;
use std::sync::Arc;
use tch::Tensor;
use tch::nn::{self, BatchNormConfig};

/// Batch normalisation, made by [`batch_norm1d`], [`batch_norm2d`] or [`batch_norm3d`]. It trains with the plain gradient.
#[derive(Debug)]
pub struct BatchNorm {
    name: Arc<str>,
    /// What it was made with.
    pub config: BatchNormConfig,
    /// Mean of the training batches, `[features]`.
    pub running_mean: Tensor,
    /// Variance of the training batches, `[features]`.
    pub running_var: Tensor,
    /// The scale, `[features]`; none if not affine.
    pub ws: Option<Tensor>,
    /// The shift, `[features]`; none if not affine.
    pub bs: Option<Tensor>,
    /// Spatial dimensions of the input.
    pub nd: usize,
}

/// Batch normalisation over `[B, C]` or `[B, C, L]`, with variables `weight` and `bias` (if `config.affine`), `running_mean` and
/// `running_var`, all `[features]`.
///
/// `tch` draws the initial scale from [0, 1); PyTorch starts from 1. To have PyTorch's, set `ws_init: Init::Const(1.0)`.
///
/// # Panics
/// If libtorch cannot allocate the variables.
pub fn batch_norm1d<'a>(vs: impl Borrow<nn::Path<'a>>, features: i64, config: BatchNormConfig) -> BatchNorm {
    batch_norm(vs.borrow(), 1, features, config)
}

/// Batch normalisation over `[B, C, H, W]`; see [`batch_norm1d`].
pub fn batch_norm2d<'a>(vs: impl Borrow<nn::Path<'a>>, features: i64, config: BatchNormConfig) -> BatchNorm {
    batch_norm(vs.borrow(), 2, features, config)
}

/// Batch normalisation over `[B, C, D, H, W]`; see [`batch_norm1d`].
pub fn batch_norm3d<'a>(vs: impl Borrow<nn::Path<'a>>, features: i64, config: BatchNormConfig) -> BatchNorm {
    batch_norm(vs.borrow(), 3, features, config)
}

fn batch_norm(vs: &nn::Path<'_>, nd: usize, features: i64, config: BatchNormConfig) -> BatchNorm {
    // Of ours, only the name: for messages.
    let nn::BatchNorm { running_mean, running_var, ws, bs, .. } = match nd {
        1 => nn::batch_norm1d(vs, features, config),
        2 => nn::batch_norm2d(vs, features, config),
        _ => nn::batch_norm3d(vs, features, config),
    };
    BatchNorm { name: layer_name(vs).into(), config, running_mean, running_var, ws, bs, nd }
}

impl BatchNorm {
    /// Normalises with the batch's statistics, and updates the running ones, if `train`; else with the running statistics.
    ///
    /// # Errors
    /// [`is_shape`](Error::is_shape) if the number of dimensions is wrong, or in training with a single value per channel, whose
    /// variance libtorch takes to be NaN without a word; otherwise whatever libtorch refuses. Each names the layer.
    pub fn f_forward_t(&self, input: &Tensor, train: bool) -> Result<Tensor> {
        self.normalise(input, train).map_err(|error| error.at(format!("layer `{}`", self.name)))
    }

    fn normalise(&self, input: &Tensor, train: bool) -> Result<Tensor> {
        let size = input.size();
        let has_rank = size.len() == self.nd + 2 || (self.nd == 1 && size.len() == 2);
        if !has_rank {
            let expected = if self.nd == 1 { "2 or 3".to_owned() } else { (self.nd + 2).to_string() };
            return Err(Error::shape(format!("expected an input of {expected} dimensions, found {size:?}")));
        }
        if train && size.iter().product::<i64>() == size[1] {
            return Err(Error::shape(format!("one value per channel has no variance, found {size:?}")));
        }
        Ok(Tensor::f_batch_norm(
            input,
            self.ws.as_ref(),
            self.bs.as_ref(),
            Some(&self.running_mean),
            Some(&self.running_var),
            train,
            self.config.momentum,
            self.config.eps,
            self.config.cudnn_enabled,
        )?)
    }
}

/// [`f_forward_t`](BatchNorm::f_forward_t), as `tch` has it.
///
/// # Panics
/// Where `f_forward_t` has an error, with its message.
impl nn::ModuleT for BatchNorm {
    fn forward_t(&self, input: &Tensor, train: bool) -> Tensor {
        self.f_forward_t(input, train).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl FngdModule for BatchNorm {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        crate::module_impls::visit_normalisation(self.ws.as_ref(), self.bs.as_ref(), path, visitor);
    }
}
