//! ONNX files as trainable libtorch modules, and trained weights back into the same file.

pub mod analysis;
mod census;
mod error;
mod external;
pub mod graph;
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod proto_generated;
mod read;
mod schema;
mod spans;
mod tensor;
mod wire;

pub use census::{Census, Limits};
pub use error::{Error, Result};
