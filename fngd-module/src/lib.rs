//! ONNX models as libtorch modules that can be trained.
//!
//! `fngd-onnx` reads the file and says what it means; this crate runs it. They are two crates so that a program can read, check
//! and patch ONNX files without libtorch.

pub mod author;
mod calibrate;
mod error;
mod lower;
mod module;
mod rebatch;
pub mod running;
mod torch_error;
mod trace;

pub use error::{Error, Result};
pub use lower::batch_axis::LayerBatchAxis;
pub use lower::tensors::from_data as tensor;
pub use module::{BuildOptions, Precision, TrainableModule};
pub use rebatch::{Rebatched, rebatch};
pub use trace::Trace;
