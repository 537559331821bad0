//! What is a module besides derived types and collections: our layers, bare tensors, and the layers of `tch::nn`.

use crate::module::Preconditioned;
use crate::{FngdModule, Layer, Parameter, Path, Role, Visitor};
use tch::{Tensor, nn};

/// Shows `tensor`: as a parameter if it is a leaf that is not frozen.
pub(crate) fn visit_parameter(tensor: &Tensor, role: Role, path: &Path, visitor: &mut dyn Visitor) {
    let parameter = Parameter { name: path.to_string(), tensor: tensor.shallow_clone(), role };
    if tensor.requires_grad() && tensor.is_leaf() {
        visitor.parameter(parameter);
    } else {
        visitor.untrained(parameter);
    }
}

/// Shows the scale and shift of a normalisation.
pub(crate) fn visit_normalisation(
    scale: Option<&Tensor>,
    shift: Option<&Tensor>,
    path: &Path,
    visitor: &mut dyn Visitor,
) {
    visit_pair(scale, shift, [Role::Normalisation; 2], path, visitor);
}

/// Shows a layer and its parameters: `fc.weight`, or `fc_weight` if `underscored`.
///
/// One whose weight is frozen is not preconditioned, and its bias, if that still trains, gets the plain gradient.
pub(crate) fn visit_layer(layer: &Layer, path: &Path, underscored: bool, visitor: &mut dyn Visitor) {
    let name = |variable: &str| if underscored { path.suffixed(variable) } else { path.child(variable) };
    visit_parameter(layer.weight(), Role::Weight, &name("weight"), visitor);
    if let Some(bias) = layer.bias() {
        visit_parameter(bias, Role::Bias, &name("bias"), visitor);
    }
    if layer.weight().requires_grad() {
        visitor.layer(layer.named(path.to_string()));
    }
}

fn visit_pair(
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    roles: [Role; 2],
    path: &Path,
    visitor: &mut dyn Visitor,
) {
    for ((name, tensor), role) in [("weight", weight), ("bias", bias)].into_iter().zip(roles) {
        if let Some(tensor) = tensor {
            visit_parameter(tensor, role, &path.child(name), visitor);
        }
    }
}

/// A layer is called by the path to it.
impl FngdModule for Layer {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        visit_layer(self, path, false, visitor);
    }
}

impl Preconditioned for Layer {}

/// A tensor by itself: a position table, a class token, a scale.
impl FngdModule for Tensor {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        visit_parameter(self, Role::Other, path, visitor);
    }
}

impl FngdModule for nn::Linear {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        visit_pair(Some(&self.ws), self.bs.as_ref(), [Role::Weight, Role::Bias], path, visitor);
    }
}

impl<D> FngdModule for nn::Conv<D> {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        visit_pair(Some(&self.ws), self.bs.as_ref(), [Role::Weight, Role::Bias], path, visitor);
    }
}

impl<D> FngdModule for nn::ConvTransposeND<D> {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        visit_pair(Some(&self.ws), self.bs.as_ref(), [Role::Weight, Role::Bias], path, visitor);
    }
}

impl FngdModule for nn::BatchNorm {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        visit_normalisation(self.ws.as_ref(), self.bs.as_ref(), path, visitor);
    }
}

impl FngdModule for nn::LayerNorm {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        visit_normalisation(self.ws.as_ref(), self.bs.as_ref(), path, visitor);
    }
}

impl FngdModule for nn::GroupNorm {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        visit_normalisation(self.ws.as_ref(), self.bs.as_ref(), path, visitor);
    }
}

impl FngdModule for nn::Embedding {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        visit_parameter(&self.ws, Role::Embedding, &path.child("weight"), visitor);
    }
}

/// Nothing to train.
impl FngdModule for nn::Id {
    fn visit(&self, _path: &Path, _visitor: &mut dyn Visitor) {}
}
