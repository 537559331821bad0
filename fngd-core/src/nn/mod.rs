//! Layers to build models from, as in `tch::nn`, with the difference that FNGD preconditions them.
//!
//! The constructors take the same arguments and make the same variables as those of `tch::nn`, and are imported the same way; only
//! `forward` returns a `Result`. Name the variable's path as the struct's field, and parameters have the same name in the
//! `VarStore`, in the optimizer's state and in messages. The layers of `tch::nn` itself can be fields too: they train, but with
//! the plain gradient.
//!
//! ```
//! use fngd_core::{FngdModule, Inventory, Result, nn};
//! use tch::{Device, Kind, Tensor, nn::VarStore};
//!
//! #[derive(FngdModule)]
//! struct Classifier {
//!     hidden: nn::Linear,
//!     output: nn::Linear,
//! }
//!
//! impl Classifier {
//!     fn forward(&self, images: &Tensor) -> Result<Tensor> {
//!         self.output.forward(&self.hidden.forward(images)?.relu())
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let variables = VarStore::new(Device::Cpu);
//! let root = variables.root();
//! let classifier = Classifier {
//!     hidden: nn::linear(&root / "hidden", 64, 32, Default::default())?,
//!     output: nn::linear(&root / "output", 32, 10, Default::default())?,
//! };
//! let logits = classifier.forward(&Tensor::zeros([5, 64], (Kind::Float, Device::Cpu)))?;
//! assert_eq!(logits.size(), [5, 10]);
//! assert_eq!(Inventory::of(&classifier).layers.len(), 2);
//! # Ok(())
//! # }
//! ```

mod batch_norm;
mod conv;
mod linear;

pub use batch_norm::{BatchNorm2d, batch_norm2d};
pub use conv::{Conv2d, conv2d};
pub use linear::{Linear, linear};
pub use tch::nn::{BatchNormConfig, ConvConfig, LinearConfig};

use tch::nn::Path;

/// The dotted name of the layer whose variables live at `path`.
fn layer_name(path: &Path<'_>) -> String {
    path.components().collect::<Vec<_>>().join(".")
}
