//! A preconditioned layer: a linear map or convolution whose parameters receive a weighted gradient.

use crate::listener::Listener;
use crate::tap;
use crate::timeline::{self, Phase};
use crate::{Error, Result};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tch::Tensor;

/// Where a layer's activations and outputs keep the samples of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchAxis {
    /// Axis 0, which holds a whole number of consecutive rows per sample: `[B, ...]`, or `[B·k, ...]` after a Reshape that
    /// merges positions or windows into the batch.
    Leading,
    /// Another axis, of size B: 1 for `[T, B, D]`.
    Axis(usize),
    /// Not known. Such a layer trains with w = 1.
    Unknown,
}

/// How a convolution runs over its input. All four vectors have one entry per spatial dimension (1 to 3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Step between patches, ≥ 1.
    pub stride: Vec<i64>,
    /// Zeros added on both sides.
    pub padding: Vec<i64>,
    /// Distance between the elements of a patch, ≥ 1.
    pub dilation: Vec<i64>,
    /// Extra size on one side of the output; only transposed convolutions may have it.
    pub output_padding: Vec<i64>,
    /// Blocks of channels that do not see each other; depthwise if equal to the input channels.
    pub groups: i64,
    /// A transposed convolution ("deconvolution"): weight `[in, out / groups, ...]` instead of `[out, in / groups, ...]`.
    pub transposed: bool,
}

impl Convolution {
    /// Stride 1, no padding, no dilation, one group, in `spatial_dims` dimensions.
    pub fn new(spatial_dims: usize) -> Self {
        Self {
            stride: vec![1; spatial_dims],
            padding: vec![0; spatial_dims],
            dilation: vec![1; spatial_dims],
            output_padding: vec![0; spatial_dims],
            groups: 1,
            transposed: false,
        }
    }
}

/// What a layer computes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Geometry {
    /// `y = x Wᵀ + b`, weight `[out, in]`, activations `[..., in]` of 2 to 4 dimensions.
    Linear,
    /// A convolution of 1 to 3 spatial dimensions.
    Convolution(Convolution),
}

impl Geometry {
    /// `linear`, `conv2d`, `conv_transpose1d` and so on, as the functions of `nn` are called.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Convolution(Convolution { stride, transposed, .. }) => match (stride.len(), transposed) {
                (1, false) => "conv1d",
                (2, false) => "conv2d",
                (_, false) => "conv3d",
                (1, true) => "conv_transpose1d",
                (2, true) => "conv_transpose2d",
                (_, true) => "conv_transpose3d",
            },
        }
    }

    /// The layer's output for any weight and bias of its size.
    pub(crate) fn apply(&self, activations: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        Ok(match self {
            // libtorch folds [.., T, in] into rows only if the weight requires a gradient, and the tap's does not. Folding here
            // makes both passes the same product, to the last bit.
            Self::Linear if activations.dim() > 2 => {
                let mut size = activations.size();
                let output = activations.f_flatten(0, -2)?.f_linear(weight, bias)?;
                size.truncate(size.len() - 1);
                size.push(weight.size()[0]);
                output.f_view(&size[..])?
            }
            Self::Linear => activations.f_linear(weight, bias)?,
            Self::Convolution(g) => activations.f_convolution(
                weight,
                bias,
                &g.stride[..],
                &g.padding[..],
                &g.dilation[..],
                g.transposed,
                &g.output_padding[..],
                g.groups,
            )?,
        })
    }
}

/// One preconditioned layer. Cloning it is cheap and shares everything.
///
/// Its forward pass is an ordinary differentiable call: [`f_forward`](Self::f_forward), or `forward` and `apply` of `tch`, which
/// panic where `f_forward` has an error. Once an [`Optimizer`](crate::optimizer::Optimizer) such as FNGD
/// has been built for the model, it also puts a tap on the output, through which backward delivers the weighted gradient.
/// A layer that the model calls several times per pass (tied weights) has one set of sample weights for all its uses.
///
/// ```
/// use fngd_core::Layer;
/// use tch::Tensor;
/// let weight = Tensor::from_slice(&[1f32, 2.0]).view([1, 2]).set_requires_grad(true);
/// let layer = Layer::linear("fc", weight, None)?;
/// let y = layer.f_forward(&Tensor::from_slice(&[3f32, 4.0]).view([1, 2]))?;
/// assert_eq!(f64::try_from(&y)?, 11.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Layer {
    weight: Tensor,
    bias: Option<Tensor>,
    identity: Identity,
    /// Other layers of the same tensors, which are to train as one with this.
    twins: Vec<Identity>,
}

/// What makes a layer this layer, besides its tensors. Clones are the same layer.
#[derive(Clone)]
pub(crate) struct Identity {
    name: Arc<str>,
    shared: Arc<Shared>,
}

struct Shared {
    geometry: Geometry,
    // A `Mutex`, not a `Cell`, because `tch::nn::Module` asks for `Send`.
    state: Mutex<State>,
}

struct State {
    batch_axis: BatchAxis,
    attachment: Option<Attachment>,
}

/// Whom a layer reports to, and the layer's index there.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    pub listener: Arc<dyn Listener>,
    pub index: usize,
}

impl Layer {
    /// A linear layer `y = x Wᵀ + b`.
    ///
    /// - `weight`: `[out, in]`, a leaf that requires a gradient
    /// - `bias`: `[out]`
    ///
    /// # Errors
    /// [`is_shape`](Error::is_shape) if the sizes do not fit.
    pub fn linear(name: impl Into<String>, weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let name = name.into();
        if weight.dim() != 2 {
            let message = format!("layer `{name}`: a linear weight has 2 dimensions, found {:?}", weight.size());
            return Err(Error::shape(message));
        }
        let out_features = weight.size()[0];
        Self::new(name, weight, bias, Geometry::Linear, out_features)
    }

    /// A convolution, transposed or not.
    ///
    /// - `weight`: `[out, in / groups, k...]`, or `[in, out / groups, k...]` if transposed; a leaf that requires a gradient
    /// - `bias`: `[out]`
    ///
    /// # Errors
    /// [`is_shape`](Error::is_shape) if the sizes do not fit.
    pub fn convolution(
        name: impl Into<String>,
        weight: Tensor,
        bias: Option<Tensor>,
        geometry: Convolution,
    ) -> Result<Self> {
        let name = name.into();
        let (size, spatial_dims) = (weight.size(), geometry.stride.len());
        let lengths = [&geometry.padding, &geometry.dilation, &geometry.output_padding].map(Vec::len);
        if size.len() != spatial_dims + 2 || lengths != [spatial_dims; 3] || !(1..=3).contains(&spatial_dims) {
            let message = format!("layer `{name}`: weight is {size:?}, but the geometry is {geometry:?}");
            return Err(Error::shape(message));
        }
        let out_features = if geometry.transposed { size[1] * geometry.groups } else { size[0] };
        if geometry.groups < 1 || size[0] % geometry.groups != 0 {
            let message = format!("layer `{name}`: {} groups do not divide {} channels", geometry.groups, size[0]);
            return Err(Error::shape(message));
        }
        Self::new(name, weight, bias, Geometry::Convolution(geometry), out_features)
    }

    fn new(name: String, weight: Tensor, bias: Option<Tensor>, geometry: Geometry, out_features: i64) -> Result<Self> {
        if let Some(bias) = &bias
            && bias.size() != [out_features]
        {
            let message = format!("layer `{name}`: bias is {:?}, expected [{out_features}]", bias.size());
            return Err(Error::shape(message));
        }
        Ok(Self::from_parts(weight, bias, Identity::new(name, geometry)))
    }

    pub(crate) fn from_parts(weight: Tensor, bias: Option<Tensor>, identity: Identity) -> Self {
        Self { weight, bias, identity, twins: Vec::new() }
    }

    pub(crate) fn into_parts(self) -> (Tensor, Option<Tensor>, Identity) {
        (self.weight, self.bias, self.identity)
    }

    /// The same layer under the name that the model gives it.
    pub(crate) fn named(&self, name: impl Into<Arc<str>>) -> Self {
        let mut layer = self.clone();
        layer.identity.name = name.into();
        layer
    }

    /// Whether one is a clone of the other.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.identity.shared, &other.identity.shared)
    }

    /// Whether both are the same map of the same tensors.
    pub(crate) fn is_twin_of(&self, other: &Self) -> bool {
        let tensors = |layer: &Self| (tap::identity(&layer.weight), layer.bias.as_ref().map(tap::identity));
        tensors(self) == tensors(other) && self.geometry() == other.geometry()
    }

    /// Makes uses of `twin` uses of this layer, once it is attached.
    pub(crate) fn add_twin(&mut self, twin: &Self) {
        self.twins.push(twin.identity.clone());
    }

    /// The layer's output, differentiable in `activations` and in the parameters.
    ///
    /// # Errors
    /// Whatever libtorch refuses, naming the layer.
    pub fn f_forward(&self, activations: &Tensor) -> Result<Tensor> {
        self.tapped_forward(activations).map_err(|error| error.at(format!("layer `{}`", self.name())))
    }

    fn tapped_forward(&self, activations: &Tensor) -> Result<Tensor> {
        let span = timeline::enter_layer(Phase::Forward, self.name());
        span.note_activations(activations);
        let Self { weight, bias, identity, .. } = self;
        let (attachment, batch_axis) = {
            let state = identity.state();
            (state.attachment.clone(), state.batch_axis)
        };
        // A matrix product folds rows of more than 2 dimensions only if they are contiguous; the tap keeps the same copy.
        let contiguous = matches!(self.geometry(), Geometry::Linear).then(|| activations.f_contiguous()).transpose()?;
        let activations = contiguous.as_ref().unwrap_or(activations);
        // An untracked pass (evaluation) has no backward to tap.
        let Some(attachment) = attachment.filter(|_| weight.requires_grad() && tap::grad_enabled()) else {
            return self.apply(activations, weight, bias.as_ref());
        };
        let output = self.apply(activations, &weight.detach(), bias.as_ref().map(Tensor::detach).as_ref())?;
        let callback = attachment.listener.expect_use(attachment.index, activations, batch_axis)?;
        tap::attach(&output, activations, weight, bias.as_ref(), timeline::watched(self.name(), callback))
    }

    fn apply(&self, activations: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        self.geometry().apply(activations, weight, bias)
    }

    /// Says where the samples are. [`BatchAxis::Leading`] until told otherwise.
    pub fn set_batch_axis(&self, axis: BatchAxis) {
        self.identity.state().batch_axis = axis;
    }

    /// Where the samples are.
    pub fn batch_axis(&self) -> BatchAxis {
        self.identity.state().batch_axis
    }

    /// Dotted name, without `.weight`.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// The weight itself, not a copy.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias itself, not a copy.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// What the layer computes.
    pub fn geometry(&self) -> &Geometry {
        &self.identity.shared.geometry
    }

    pub(crate) fn attach(&self, attachment: Option<Attachment>) {
        for identity in std::iter::once(&self.identity).chain(&self.twins) {
            identity.state().attachment = attachment.clone();
        }
    }

    /// Whether an optimizer listens.
    pub(crate) fn is_attached(&self) -> bool {
        self.identity.state().attachment.is_some()
    }
}

impl Identity {
    pub(crate) fn new(name: String, geometry: Geometry) -> Self {
        let state = Mutex::new(State { batch_axis: BatchAxis::Leading, attachment: None });
        Self { name: name.into(), shared: Arc::new(Shared { geometry, state }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves both fields whole.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shares the tensors.
impl Clone for Layer {
    fn clone(&self) -> Self {
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        let (identity, twins) = (self.identity.clone(), self.twins.clone());
        Self { weight: self.weight.shallow_clone(), bias, identity, twins }
    }
}

/// [`f_forward`](Layer::f_forward), as `tch` has it.
///
/// # Panics
/// Where `f_forward` has an error, with its message.
impl tch::nn::Module for Layer {
    fn forward(&self, activations: &Tensor) -> Tensor {
        self.f_forward(activations).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Without the preconditioner, which knows every layer of the model.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("name", &self.name())
            .field("weight", &self.weight)
            .field("bias", &self.bias)
            .field("geometry", self.geometry())
            .field("batch_axis", &self.batch_axis())
            .finish()
    }
}
