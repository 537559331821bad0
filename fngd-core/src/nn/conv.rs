use super::layer_name;
use crate::{Convolution, Error, FngdModule, Layer, Path, Result, Visitor};
use std::borrow::Borrow;
use tch::Tensor;
use tch::nn::{self, ConvConfig, PaddingMode};

/// A preconditioned 2-D convolution, made by [`conv2d`].
#[derive(Debug, Clone)]
pub struct Conv2d(Layer);

/// A convolution with a square kernel over `[B, in_channels, H, W]`, with variables `weight`,
/// `[out_channels, in_channels / groups, kernel_size, kernel_size]`, and `bias`, `[out_channels]`.
///
/// # Errors
/// [`is_config`](Error::is_config) for a padding mode other than zeros, or groups that do not divide the channels.
pub fn conv2d<'a>(
    path: impl Borrow<nn::Path<'a>>,
    in_channels: i64,
    out_channels: i64,
    kernel_size: i64,
    config: ConvConfig,
) -> Result<Conv2d> {
    let path = path.borrow();
    let name = layer_name(path);
    let groups = config.groups;
    if groups < 1 || in_channels % groups != 0 || out_channels % groups != 0 {
        let message =
            format!("layer `{name}`: {groups} groups do not divide {in_channels} and {out_channels} channels");
        return Err(Error::config(message));
    }
    if !matches!(config.padding_mode, PaddingMode::Zeros) {
        let message = format!(
            "layer `{name}`: padding mode must be Zeros, found {:?}; pad the input yourself and use padding 0",
            config.padding_mode
        );
        return Err(Error::config(message));
    }
    let bias = if config.bias { Some(path.f_var("bias", &[out_channels], config.bs_init)?) } else { None };
    let size = [out_channels, in_channels / groups, kernel_size, kernel_size];
    let weight = path.f_var("weight", &size, config.ws_init)?;
    let geometry = Convolution {
        stride: vec![config.stride; 2],
        padding: vec![config.padding; 2],
        dilation: vec![config.dilation; 2],
        groups,
        ..Convolution::new(2)
    };
    Ok(Conv2d(Layer::convolution(name, weight, bias, geometry)?))
}

impl Conv2d {
    /// The layer's output, `[B, out_channels, H', W']`.
    ///
    /// # Errors
    /// Whatever libtorch refuses, naming the layer.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.0.forward(input)
    }

    /// The layer underneath: its name, weight, geometry and batch axis.
    pub fn layer(&self) -> &Layer {
        &self.0
    }
}

impl FngdModule for Conv2d {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        self.0.visit(path, visitor);
    }
}
