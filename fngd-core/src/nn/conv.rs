use super::dims::Dims;
use super::layer_name;
use crate::layer::Identity;
use crate::{Convolution, Error, FngdModule, Layer, Path, Preconditioned, Result, Visitor};
use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use tch::Tensor;
use tch::nn::{self, ConvConfig, ConvConfigND, PaddingMode};

/// A preconditioned convolution in `ND` dimensions.
pub struct Conv<ND> {
    /// The weight, `[out_channels, in_channels / groups, kernel...]`.
    pub ws: Tensor,
    /// The bias, `[out_channels]`.
    pub bs: Option<Tensor>,
    identity: Identity,
    /// Padding that is not zeros is added before the convolution, which then has none.
    padding: Option<(PaddingMode, Vec<i64>)>,
    dims: PhantomData<ND>,
}

/// A convolution over `[B, C, L]`.
pub type Conv1D = Conv<[i64; 1]>;
/// A convolution over `[B, C, H, W]`.
pub type Conv2D = Conv<[i64; 2]>;
/// A convolution over `[B, C, D, H, W]`.
pub type Conv3D = Conv<[i64; 3]>;

/// A convolution with a kernel of size `kernel_sizes`, with variables `weight`, `[out_channels, in_channels / groups, kernel...]`,
/// and `bias`, `[out_channels]`.
///
/// Padding other than zeros that differs between dimensions is PyTorch's. (`tch` 0.24 mixes up its dimensions.)
///
/// # Panics
/// If the groups do not divide the channels, the sizes have different numbers of dimensions, or libtorch cannot allocate the variables.
pub fn conv<'a, ND: AsRef<[i64]>>(
    vs: impl Borrow<nn::Path<'a>>,
    in_channels: i64,
    out_channels: i64,
    kernel_sizes: ND,
    config: ConvConfigND<ND>,
) -> Conv<ND> {
    let vs = vs.borrow();
    let name = layer_name(vs);
    check_groups(&name, config.groups, [in_channels, out_channels]).unwrap_or_else(|error| panic!("{error}"));
    // The bias comes first, as in tch: one seed gives both the same weights.
    let bs = config.bias.then(|| vs.var("bias", &[out_channels], config.bs_init));
    let size = [&[out_channels, in_channels / config.groups], kernel_sizes.as_ref()].concat();
    let ws = vs.var("weight", &size, config.ws_init);
    let padding = config.padding.as_ref();
    let pads_zeros = matches!(config.padding_mode, PaddingMode::Zeros);
    let geometry = Convolution {
        stride: config.stride.as_ref().to_vec(),
        padding: if pads_zeros { padding.to_vec() } else { vec![0; padding.len()] },
        dilation: config.dilation.as_ref().to_vec(),
        groups: config.groups,
        ..Convolution::new(kernel_sizes.as_ref().len())
    };
    // Last dimension first, both sides.
    let sides = || padding.iter().rev().flat_map(|&size| [size, size]).collect();
    let padding = (!pads_zeros).then(|| (config.padding_mode, sides()));
    let layer = Layer::convolution(name, ws, bs, geometry).unwrap_or_else(|error| panic!("{error}"));
    let (ws, bs, identity) = layer.into_parts();
    Conv { ws, bs, identity, padding, dims: PhantomData }
}

pub(super) fn check_groups(name: &str, groups: i64, [inputs, outputs]: [i64; 2]) -> Result<()> {
    if groups < 1 || inputs % groups != 0 || outputs % groups != 0 {
        let message = format!("layer `{name}`: {groups} groups do not divide {inputs} and {outputs} channels");
        return Err(Error::config(message));
    }
    Ok(())
}

fn conv_alike<'a, ND: Dims>(
    vs: impl Borrow<nn::Path<'a>>,
    in_channels: i64,
    out_channels: i64,
    kernel_size: i64,
    config: ConvConfig,
) -> Conv<ND> {
    let config = ConvConfigND {
        stride: ND::all(config.stride),
        padding: ND::all(config.padding),
        dilation: ND::all(config.dilation),
        groups: config.groups,
        bias: config.bias,
        ws_init: config.ws_init,
        bs_init: config.bs_init,
        padding_mode: config.padding_mode,
    };
    conv(vs, in_channels, out_channels, ND::all(kernel_size), config)
}

/// A convolution over `[B, in_channels, L]`; see [`conv`].
pub fn conv1d<'a>(vs: impl Borrow<nn::Path<'a>>, i: i64, o: i64, k: i64, c: ConvConfig) -> Conv1D {
    conv_alike(vs, i, o, k, c)
}

/// A convolution with a square kernel over `[B, in_channels, H, W]`; see [`conv`].
pub fn conv2d<'a>(vs: impl Borrow<nn::Path<'a>>, i: i64, o: i64, k: i64, c: ConvConfig) -> Conv2D {
    conv_alike(vs, i, o, k, c)
}

/// A convolution with a cubic kernel over `[B, in_channels, D, H, W]`; see [`conv`].
pub fn conv3d<'a>(vs: impl Borrow<nn::Path<'a>>, i: i64, o: i64, k: i64, c: ConvConfig) -> Conv3D {
    conv_alike(vs, i, o, k, c)
}

impl<ND> Conv<ND> {
    /// The layer's output, `[B, out_channels, ...]`.
    ///
    /// # Errors
    /// Whatever libtorch refuses, naming the layer.
    pub fn f_forward(&self, input: &Tensor) -> Result<Tensor> {
        let layer = self.layer();
        let Some((mode, sides)) = &self.padding else { return layer.f_forward(input) };
        let padded = mode.f_pad(input, sides);
        let padded = padded.map_err(|error| Error::from(error).at(format!("layer `{}`", layer.name())))?;
        layer.f_forward(&padded)
    }

    /// The layer underneath: its name, geometry and batch axis.
    pub fn layer(&self) -> Layer {
        Layer::from_parts(self.ws.shallow_clone(), self.bs.as_ref().map(Tensor::shallow_clone), self.identity.clone())
    }
}

/// [`f_forward`](Conv::f_forward), as `tch` has it.
///
/// # Panics
/// Where `f_forward` has an error, with its message.
impl<ND: Send> nn::Module for Conv<ND> {
    fn forward(&self, input: &Tensor) -> Tensor {
        self.f_forward(input).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl<ND> FngdModule for Conv<ND> {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        self.layer().visit(path, visitor);
    }
}

impl<ND> Preconditioned for Conv<ND> {}

impl<ND> fmt::Debug for Conv<ND> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = self.layer();
        let mut debug = f.debug_struct("Conv");
        debug.field("ws", &self.ws).field("bs", &self.bs).field("geometry", layer.geometry());
        debug.field("padding", &self.padding).finish()
    }
}
