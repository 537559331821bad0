use super::layer_name;
use crate::module_impls::visit_parameter;
use crate::{Error, FngdModule, Path, Result, Role, Visitor};
use std::borrow::Borrow;
use tch::Tensor;
use tch::nn::{self, BatchNormConfig};

/// Batch normalisation over `[B, C, H, W]`, made by [`batch_norm2d`]. It trains with the plain gradient.
#[derive(Debug)]
pub struct BatchNorm2d {
    name: String,
    scale_and_shift: Option<(Tensor, Tensor)>,
    running_mean: Tensor,
    running_var: Tensor,
    config: BatchNormConfig,
}

/// Batch normalisation with variables `weight` and `bias` (if `config.affine`), `running_mean` and `running_var`, all `[features]`.
///
/// `tch` draws the initial scale from [0, 1); PyTorch starts from 1. To have PyTorch's, set `ws_init: Init::Const(1.0)`.
///
/// # Errors
/// None with sizes that libtorch can allocate.
pub fn batch_norm2d<'a>(
    path: impl Borrow<nn::Path<'a>>,
    features: i64,
    config: BatchNormConfig,
) -> Result<BatchNorm2d> {
    let path = path.borrow();
    let scale_and_shift = if config.affine {
        let scale = path.f_var("weight", &[features], config.ws_init)?;
        Some((scale, path.f_var("bias", &[features], config.bs_init)?))
    } else {
        None
    };
    Ok(BatchNorm2d {
        name: layer_name(path),
        scale_and_shift,
        running_mean: path.f_zeros_no_train("running_mean", &[features])?,
        running_var: path.f_ones_no_train("running_var", &[features])?,
        config,
    })
}

impl BatchNorm2d {
    /// Normalises with the batch's statistics, and updates the running ones, if `training`; else with the running statistics.
    ///
    /// # Errors
    /// [`is_shape`](Error::is_shape) in training with a single value per channel, whose variance libtorch takes to be NaN without a
    /// word; otherwise whatever libtorch refuses. Each names the layer.
    pub fn forward(&self, input: &Tensor, training: bool) -> Result<Tensor> {
        let size = input.size();
        if training && size.iter().product::<i64>() == size.get(1).copied().unwrap_or(0) {
            let message = format!("layer `{}`: one value per channel has no variance, found {size:?}", self.name);
            return Err(Error::shape(message));
        }
        let (scale, shift) = self.scale_and_shift.as_ref().map(|(scale, shift)| (scale, shift)).unzip();
        Tensor::f_batch_norm(
            input,
            scale,
            shift,
            Some(&self.running_mean),
            Some(&self.running_var),
            training,
            self.config.momentum,
            self.config.eps,
            self.config.cudnn_enabled,
        )
        .map_err(|error| Error::from(error).at(format!("layer `{}`", self.name)))
    }
}

impl FngdModule for BatchNorm2d {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        for (name, tensor) in
            self.scale_and_shift.iter().flat_map(|(scale, shift)| [("weight", scale), ("bias", shift)])
        {
            visit_parameter(tensor, Role::Normalisation, &path.child(name), visitor);
        }
    }
}
