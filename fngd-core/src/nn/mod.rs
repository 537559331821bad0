//! A drop-in for `tch::nn`, with the difference that FNGD preconditions its layers.
//!
//! Everything that `tch::nn` has is here under the same name. Linear layers, convolutions and transposed convolutions are ours, because
//! FNGD has to see what flows through them; so are batch and layer normalisation, whose messages name the layer, and recurrent layers,
//! because those of `tch` hide their variables. Their constructors take the same arguments, make the same variables and draw the same
//! numbers; their `forward` is that of `tch::nn::Module`. So an existing model changes its `use tch::nn` to `use fngd_core::nn`, derives
//! [`FngdModule`](crate::FngdModule), and stays as it is.
//!
//! Name a variable's path as the struct's field, and parameters have the same name in the `VarStore`, in the optimizer's state and
//! in messages.
//!
//! As in `tch`, constructors and `forward` panic where libtorch has an error. `f_forward` (`f_forward_t` for batch normalisation) returns it.
//!
//! ```
//! use fngd_core::nn::{self, Module};
//! use fngd_core::{FngdModule, Inventory};
//! use tch::{Device, Kind, Tensor};
//!
//! #[derive(Debug, FngdModule)]
//! struct Classifier {
//!     hidden: nn::Linear,
//!     output: nn::Linear,
//! }
//!
//! impl Classifier {
//!     fn new(vs: &nn::Path) -> Self {
//!         Self {
//!             hidden: nn::linear(vs / "hidden", 64, 32, Default::default()),
//!             output: nn::linear(vs / "output", 32, 10, Default::default()),
//!         }
//!     }
//! }
//!
//! impl Module for Classifier {
//!     fn forward(&self, images: &Tensor) -> Tensor {
//!         images.apply(&self.hidden).relu().apply(&self.output)
//!     }
//! }
//!
//! let variables = nn::VarStore::new(Device::Cpu);
//! let classifier = Classifier::new(&variables.root());
//! let logits = Tensor::zeros([5, 64], (Kind::Float, Device::Cpu)).apply(&classifier);
//! assert_eq!(logits.size(), [5, 10]);
//! assert_eq!(Inventory::of(&classifier).layers.len(), 2);
//! ```

mod batch_norm;
mod conv;
mod conv_transpose;
mod dims;
mod layer_norm;
mod linear;
mod recurrent;

// Those named below hide the ones of the same name here.
pub use tch::nn::*;

pub use batch_norm::{BatchNorm, batch_norm1d, batch_norm2d, batch_norm3d};
pub use conv::{Conv, Conv1D, Conv2D, Conv3D, conv, conv1d, conv2d, conv3d};
pub use conv_transpose::{
    ConvTranspose1D, ConvTranspose2D, ConvTranspose3D, ConvTransposeND, conv_transpose1d, conv_transpose2d,
    conv_transpose3d,
};
pub use layer_norm::{LayerNorm, layer_norm};
pub use linear::{Linear, linear, underscored_linear};
pub use recurrent::{GRU, LSTM, gru, lstm};

/// The dotted name of the layer whose variables live at `path`.
fn layer_name(path: &Path<'_>) -> String {
    path.components().collect::<Vec<_>>().join(".")
}
