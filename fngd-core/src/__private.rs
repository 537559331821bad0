//! What `#[derive(FngdModule)]` refers to. Not for use by hand; it changes with the macro.

pub use crate::module::{FngdModule, Path, Preconditioned, Visitor};
use crate::{Layer, Parameter};

/// A field without a mark.
pub fn visit<T: FngdModule + ?Sized>(module: &T, path: &Path, visitor: &mut dyn Visitor) {
    module.visit(path, visitor);
}

/// A field marked `#[fngd(precondition)]`. The bound is the whole point.
pub fn visit_preconditioned<T: Preconditioned + ?Sized>(module: &T, path: &Path, visitor: &mut dyn Visitor) {
    module.visit(path, visitor);
}

/// A field marked `#[fngd(plain)]`.
pub fn visit_plain<T: FngdModule + ?Sized>(module: &T, path: &Path, visitor: &mut dyn Visitor) {
    module.visit(path, &mut Plain(visitor));
}

/// Calls every layer plain.
struct Plain<'a>(&'a mut dyn Visitor);

impl Visitor for Plain<'_> {
    fn parameter(&mut self, parameter: Parameter) {
        self.0.parameter(parameter);
    }

    fn untrained(&mut self, tensor: Parameter) {
        self.0.untrained(tensor);
    }

    fn layer(&mut self, layer: Layer) {
        self.0.plain_layer(layer, "`#[fngd(plain)]`");
    }

    fn plain_layer(&mut self, layer: Layer, because: &str) {
        self.0.plain_layer(layer, because);
    }
}
