use super::layer_name;
use crate::layer::{Geometry, Identity};
use crate::{FngdModule, Layer, Path, Preconditioned, Result, Visitor};
use std::borrow::Borrow;
use std::fmt;
use tch::Tensor;
use tch::nn::{self, Init, LinearConfig};

/// A preconditioned linear layer, `y = x Wᵀ + b`, made by [`linear`].
pub struct Linear {
    /// The weight, `[out_features, in_features]`.
    pub ws: Tensor,
    /// The bias, `[out_features]`.
    pub bs: Option<Tensor>,
    identity: Identity,
}

/// A linear layer with variables `weight`, `[out_features, in_features]`, and `bias`, `[out_features]`.
///
/// # Panics
/// If libtorch cannot allocate the variables, as `tch::nn::linear`.
pub fn linear<'a>(vs: impl Borrow<nn::Path<'a>>, in_features: i64, out_features: i64, config: LinearConfig) -> Linear {
    let vs = vs.borrow();
    let bound = 1.0 / (in_features as f64).sqrt();
    let bias_init = config.bs_init.unwrap_or(Init::Uniform { lo: -bound, up: bound });
    // The bias comes first, as in tch: one seed gives both the same weights.
    let bs = config.bias.then(|| vs.var("bias", &[out_features], bias_init));
    let ws = vs.var("weight", &[out_features, in_features], config.ws_init);
    Linear { ws, bs, identity: Identity::new(layer_name(vs), Geometry::Linear) }
}

impl Linear {
    /// A linear layer whose weight belongs to something else: an embedding's table, `[vocabulary, features]`, used again as the
    /// classifier. Adds no variable. It trains with the plain gradient (see [`Inventory`](crate::Inventory)).
    ///
    /// # Panics
    /// If the bias does not fit the weight.
    ///
    /// ```
    /// use fngd_core::nn;
    /// use tch::{Device, Tensor};
    /// let vs = nn::VarStore::new(Device::Cpu);
    /// let embedding = nn::embedding(vs.root() / "embedding", 100, 16, Default::default());
    /// let head = nn::Linear::tied(vs.root() / "head", &embedding.ws, None);
    /// assert_eq!(Tensor::from_slice(&[7i64]).apply(&embedding).apply(&head).size(), [1, 100]);
    /// ```
    pub fn tied<'a>(vs: impl Borrow<nn::Path<'a>>, weight: &Tensor, bias: Option<Tensor>) -> Self {
        let layer = Layer::linear(layer_name(vs.borrow()), weight.shallow_clone(), bias);
        let (ws, bs, identity) = layer.unwrap_or_else(|error| panic!("{error}")).into_parts();
        Self { ws, bs, identity }
    }

    /// The same layer, for a model that uses it in two places: one set of parameters and of sample weights.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        let (ws, bs, identity) = self.layer().into_parts();
        Self { ws, bs, identity }
    }

    /// The layer's output, `[..., out_features]`.
    ///
    /// # Errors
    /// A libtorch error that names the layer, if `input` is not `[..., in_features]`.
    pub fn f_forward(&self, input: &Tensor) -> Result<Tensor> {
        self.layer().f_forward(input)
    }

    /// The layer underneath: its name, geometry and batch axis.
    pub fn layer(&self) -> Layer {
        Layer::from_parts(self.ws.shallow_clone(), self.bs.as_ref().map(Tensor::shallow_clone), self.identity.clone())
    }
}

/// [`f_forward`](Linear::f_forward), as `tch` has it.
///
/// # Panics
/// Where `f_forward` has an error, with its message.
impl nn::Module for Linear {
    fn forward(&self, input: &Tensor) -> Tensor {
        self.f_forward(input).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl FngdModule for Linear {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        self.layer().visit(path, visitor);
    }
}

impl Preconditioned for Linear {}

/// The same parameters, preconditioned.
impl From<nn::Linear> for Linear {
    fn from(linear: nn::Linear) -> Self {
        Self { ws: linear.ws, bs: linear.bs, identity: Identity::new("linear".to_owned(), Geometry::Linear) }
    }
}

impl fmt::Debug for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linear").field("ws", &self.ws).field("bs", &self.bs).finish()
    }
}
