use super::layer_name;
use crate::layer::{Geometry, Identity};
use crate::module_impls::visit_layer;
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
    /// Whether the variables are called `in_proj_weight` rather than `in_proj.weight`.
    underscored: bool,
}

/// A linear layer with variables `weight`, `[out_features, in_features]`, and `bias`, `[out_features]`.
///
/// # Panics
/// If libtorch cannot allocate the variables, as `tch::nn::linear`.
pub fn linear<'a>(vs: impl Borrow<nn::Path<'a>>, in_features: i64, out_features: i64, config: LinearConfig) -> Linear {
    let vs = vs.borrow();
    let [ws, bs] = ["weight", "bias"].map(str::to_owned);
    Linear::with_variables(vs, [ws, bs], layer_name(vs), [in_features, out_features], config)
}

/// A linear layer whose variables lie in `vs` itself, under names that begin with `name`: as `in_proj`, whose weight PyTorch's
/// `nn.MultiheadAttention` calls `in_proj_weight`. Hold it in a field called `name`.
///
/// # Panics
/// If libtorch cannot allocate the variables.
///
/// ```
/// use fngd_core::{FngdModule, Inventory, nn};
///
/// #[derive(FngdModule)]
/// struct Attention { in_proj: nn::Linear }
///
/// let vs = nn::VarStore::new(tch::Device::Cpu);
/// let in_proj = nn::underscored_linear(vs.root(), "in_proj", 16, 48, Default::default());
/// let attention = Attention { in_proj };
/// assert_eq!(vs.variables()["in_proj_weight"].size(), [48, 16]);
/// Inventory::of(&attention).check(&vs)?;
/// # Ok::<(), fngd_core::Error>(())
/// ```
pub fn underscored_linear<'a>(
    vs: impl Borrow<nn::Path<'a>>,
    name: &str,
    in_features: i64,
    out_features: i64,
    config: LinearConfig,
) -> Linear {
    let vs = vs.borrow();
    let variables = ["weight", "bias"].map(|variable| format!("{name}_{variable}"));
    let sizes = [in_features, out_features];
    Linear { underscored: true, ..Linear::with_variables(vs, variables, layer_name(&(vs / name)), sizes, config) }
}

impl Linear {
    fn with_variables(
        vs: &nn::Path<'_>,
        [weight, bias]: [String; 2],
        layer: String,
        [in_features, out_features]: [i64; 2],
        config: LinearConfig,
    ) -> Self {
        let bound = 1.0 / (in_features as f64).sqrt();
        let bias_init = config.bs_init.unwrap_or(Init::Uniform { lo: -bound, up: bound });
        // The bias comes first, as in tch: one seed gives both the same weights.
        let bs = config.bias.then(|| vs.var(&bias, &[out_features], bias_init));
        let ws = vs.var(&weight, &[out_features, in_features], config.ws_init);
        Self { ws, bs, identity: Identity::new(layer, Geometry::Linear), underscored: false }
    }

    /// A linear layer whose weight belongs to something else: an embedding's table, `[vocabulary, features]`, used again as the
    /// classifier. Adds no variable. `weight` may also be computed from a parameter, as `&encoder.ws.tr()` is for an
    /// autoencoder: then the gradient goes on to that parameter.
    ///
    /// Both users of the weight train with the plain gradient (see [`Inventory`](crate::Inventory)), so the one that `weight`
    /// belongs to has to be in the model too.
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
        Self { ws, bs, identity, underscored: false }
    }

    /// The same layer, for a model that uses it in two places: one set of parameters and of sample weights.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        let (ws, bs, identity) = self.layer().into_parts();
        Self { ws, bs, identity, underscored: self.underscored }
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
        visit_layer(&self.layer(), path, self.underscored, visitor);
    }
}

impl Preconditioned for Linear {}

/// The same parameters, preconditioned.
impl From<nn::Linear> for Linear {
    fn from(linear: nn::Linear) -> Self {
        let identity = Identity::new("linear".to_owned(), Geometry::Linear);
        Self { ws: linear.ws, bs: linear.bs, identity, underscored: false }
    }
}

impl fmt::Debug for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linear").field("ws", &self.ws).field("bs", &self.bs).finish()
    }
}
