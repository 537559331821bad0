use super::conv::check_groups;
use super::dims::Dims;
use super::layer_name;
use crate::layer::{Geometry, Identity};
use crate::{Convolution, FngdModule, Layer, Path, Preconditioned, Result, Visitor};
use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use tch::Tensor;
use tch::nn::{self, ConvTransposeConfig};

/// A preconditioned transposed convolution in `ND` dimensions.
pub struct ConvTransposeND<ND> {
    /// The weight, `[in_channels, out_channels / groups, kernel...]`.
    pub ws: Tensor,
    /// The bias, `[out_channels]`.
    pub bs: Option<Tensor>,
    identity: Identity,
    dims: PhantomData<ND>,
}

/// A transposed convolution over `[B, C, L]`.
pub type ConvTranspose1D = ConvTransposeND<[i64; 1]>;
/// A transposed convolution over `[B, C, H, W]`.
pub type ConvTranspose2D = ConvTransposeND<[i64; 2]>;
/// A transposed convolution over `[B, C, D, H, W]`.
pub type ConvTranspose3D = ConvTransposeND<[i64; 3]>;

fn conv_transpose<'a, ND: Dims>(
    vs: impl Borrow<nn::Path<'a>>,
    in_channels: i64,
    out_channels: i64,
    kernel_size: i64,
    config: ConvTransposeConfig,
) -> ConvTransposeND<ND> {
    let vs = vs.borrow();
    let name = layer_name(vs);
    check_groups(&name, config.groups, [in_channels, out_channels]).unwrap_or_else(|error| panic!("{error}"));
    let all = |size| ND::all(size).as_ref().to_vec();
    // The bias comes first, as in tch: one seed gives both the same weights.
    let bs = config.bias.then(|| vs.var("bias", &[out_channels], config.bs_init));
    let size = [vec![in_channels, out_channels / config.groups], all(kernel_size)].concat();
    let ws = vs.var("weight", &size, config.ws_init);
    let geometry = Convolution {
        stride: all(config.stride),
        padding: all(config.padding),
        dilation: all(config.dilation),
        output_padding: all(config.output_padding),
        groups: config.groups,
        transposed: true,
    };
    ConvTransposeND { ws, bs, identity: Identity::new(name, Geometry::Convolution(geometry)), dims: PhantomData }
}

/// A transposed convolution over `[B, in_channels, L]`, with variables `weight`, `[in_channels, out_channels / groups, kernel]`, and
/// `bias`, `[out_channels]`.
///
/// # Panics
/// If the groups do not divide the channels, or libtorch cannot allocate the variables.
pub fn conv_transpose1d<'a>(
    vs: impl Borrow<nn::Path<'a>>,
    i: i64,
    o: i64,
    k: i64,
    c: ConvTransposeConfig,
) -> ConvTranspose1D {
    conv_transpose(vs, i, o, k, c)
}

/// A transposed convolution with a square kernel over `[B, in_channels, H, W]`; see [`conv_transpose1d`].
pub fn conv_transpose2d<'a>(
    vs: impl Borrow<nn::Path<'a>>,
    i: i64,
    o: i64,
    k: i64,
    c: ConvTransposeConfig,
) -> ConvTranspose2D {
    conv_transpose(vs, i, o, k, c)
}

/// A transposed convolution with a cubic kernel over `[B, in_channels, D, H, W]`; see [`conv_transpose1d`].
pub fn conv_transpose3d<'a>(
    vs: impl Borrow<nn::Path<'a>>,
    i: i64,
    o: i64,
    k: i64,
    c: ConvTransposeConfig,
) -> ConvTranspose3D {
    conv_transpose(vs, i, o, k, c)
}

impl<ND> ConvTransposeND<ND> {
    /// The layer's output, `[B, out_channels, ...]`.
    ///
    /// # Errors
    /// Whatever libtorch refuses, naming the layer.
    pub fn f_forward(&self, input: &Tensor) -> Result<Tensor> {
        self.layer().f_forward(input)
    }

    /// The layer underneath: its name, geometry and batch axis.
    pub fn layer(&self) -> Layer {
        Layer::from_parts(self.ws.shallow_clone(), self.bs.as_ref().map(Tensor::shallow_clone), self.identity.clone())
    }
}

/// [`f_forward`](ConvTransposeND::f_forward), as `tch` has it.
///
/// # Panics
/// Where `f_forward` has an error, with its message.
impl<ND: Send> nn::Module for ConvTransposeND<ND> {
    fn forward(&self, input: &Tensor) -> Tensor {
        self.f_forward(input).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl<ND> FngdModule for ConvTransposeND<ND> {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        self.layer().visit(path, visitor);
    }
}

impl<ND> Preconditioned for ConvTransposeND<ND> {}

impl<ND> fmt::Debug for ConvTransposeND<ND> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = self.layer();
        let mut debug = f.debug_struct("ConvTranspose");
        debug.field("ws", &self.ws).field("bs", &self.bs).field("geometry", layer.geometry()).finish()
    }
}
