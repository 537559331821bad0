//! ONNX files as trainable libtorch modules, and trained weights back into the same file.

pub mod analysis;
mod census;
mod error;
mod export;
mod external;
pub mod graph;
#[cfg(feature = "torch")]
mod lower;
mod model;
#[cfg(feature = "torch")]
mod module;
mod names;
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod proto_generated;
mod read;
mod repair;
mod report;
mod schema;
mod spans;
pub mod supported;
mod tensor;
#[cfg(feature = "torch")]
mod torch_error;
mod wire;

pub use census::{Census, Limits};
pub use error::{Error, Result};
pub use export::WriteReport;
#[cfg(feature = "torch")]
pub use lower::batch_axis::LayerBatchAxis;
pub use model::{ImportOptions, OnnxModel, ParameterRow};
#[cfg(feature = "torch")]
pub use module::{BuildOptions, TrainableModule};
pub use report::{EXPORT_AGAIN, ImportReport};
