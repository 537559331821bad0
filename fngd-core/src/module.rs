//! What a model shows to an optimizer: its parameters, and the layers whose gradients are preconditioned.

use crate::Layer;
use tch::Tensor;

/// A model that FNGD can train.
///
/// Implemented by `#[derive(FngdModule)]` for hand-written models and by the ONNX importer for files. It says what there is
/// to train and nothing about how the model computes.
///
/// `visit` must report the same things in the same order at every call. Names are dotted paths (`layer1.0.conv1.weight`) and
/// are unique; they key the optimizer's saved state.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a module that FNGD can train",
    label = "not a module",
    note = "if it holds nothing to train (a size, a setting, a closure), write `#[fngd(skip)]` before the field",
    note = "if it is a struct or enum of layers, derive `FngdModule` for it",
    note = "if it hides its layers (`Sequential`, `Box<dyn Module>`, `HashMap`), hold them in fields, a `Vec`, or a `BTreeMap<String, _>`"
)]
pub trait FngdModule {
    /// Shows every trainable parameter and every preconditioned layer below `path` to `visitor`.
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor);
}

/// A module with layers that FNGD preconditions: what `#[fngd(precondition)]` asks of a field.
///
/// Implemented for the layers, for collections of them, and by the derive for a type that marks a field itself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no layers that FNGD preconditions",
    label = "marked `#[fngd(precondition)]`, but would train with the plain gradient",
    note = "FNGD preconditions `Linear`, `Conv1D` to `Conv3D` and `ConvTranspose1D` to `ConvTranspose3D` of `fngd_core::nn`",
    note = "if it is a layer of `tch::nn`, write `use fngd_core::nn` in place of `use tch::nn`: the name stays",
    note = "if it is a type of your own, derive `FngdModule` and mark its layers with `#[fngd(precondition)]`",
    note = "if the plain gradient is what you want, leave out the mark"
)]
pub trait Preconditioned: FngdModule {}

/// Receives what [`FngdModule::visit`] finds.
pub trait Visitor {
    /// A trainable parameter. One that several modules share may be reported by each: [`Inventory`](crate::Inventory) keeps the
    /// first.
    fn parameter(&mut self, parameter: Parameter);

    /// A tensor that an optimizer does not update: frozen, or computed from a parameter, as the transpose of a tied weight is.
    fn untrained(&mut self, _tensor: Parameter) {}

    /// A layer whose weight (and bias) receive the preconditioned gradient. Its parameters are reported separately.
    fn layer(&mut self, layer: Layer);

    /// A layer that could be preconditioned but is not to be, and why. Its parameters are reported separately.
    fn plain_layer(&mut self, _layer: Layer, _because: &str) {}
}

/// A dotted name under construction.
///
/// ```
/// use fngd_core::Path;
/// assert_eq!(Path::root().child("layer1").child("0").child("weight").to_string(), "layer1.0.weight");
/// ```
///
/// A list whose elements are called otherwise ends in `{}`, or in the number of its first element: `#[fngd(rename = "block{1}")]`.
///
/// ```
/// # use fngd_core::Path;
/// let blocks = Path::root().child("layers.block{1}");
/// assert_eq!(blocks.child(0).child("weight").to_string(), "layers.block1.weight");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The empty path, where a model starts.
    pub fn root() -> Self {
        Self::default()
    }

    /// This path, one name longer.
    #[must_use]
    pub fn child(&self, name: impl std::fmt::Display) -> Self {
        if let Some((begin, start)) = self.0.strip_suffix('}').and_then(|path| path.rsplit_once('{')) {
            let start: u64 = start.parse().unwrap_or(0);
            let name = name.to_string();
            return match name.parse::<u64>() {
                Ok(index) => Self(format!("{begin}{}", index + start)),
                Err(_) => Self(format!("{begin}{name}")),
            };
        }
        if self.0.is_empty() { Self(name.to_string()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// This path with a longer last name: `attention.in_proj` becomes `attention.in_proj_weight`.
    pub(crate) fn suffixed(&self, suffix: &str) -> Self {
        Self(format!("{}_{suffix}", self.0))
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One trainable tensor. Cloning shares the tensor.
#[derive(Debug)]
pub struct Parameter {
    /// Unique dotted name.
    pub name: String,
    /// The leaf tensor itself: `requires_grad`, updated in place by the optimizer.
    pub tensor: Tensor,
    /// What the tensor does, which decides its parameter group.
    pub role: Role,
}

impl Clone for Parameter {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), tensor: self.tensor.shallow_clone(), role: self.role }
    }
}

/// What a parameter does in its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Weight of a linear or convolution layer.
    Weight,
    /// Something that is added: a layer's bias.
    Bias,
    /// Scale or shift of a normalisation layer.
    Normalisation,
    /// A table looked up by index.
    Embedding,
    /// Anything else: position tables, class tokens, layer scales, PReLU slopes.
    Other,
}
