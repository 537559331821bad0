//! ONNX files read, checked, understood and patched, in pure Rust: nothing here needs libtorch.

pub mod analysis;
pub mod author;
mod census;
mod error;
mod export;
mod external;
mod fused;
pub mod graph;
mod library;
mod model;
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
mod wire;

pub use census::{Census, Limits};
pub use error::{Error, Result, printable};
pub use export::WriteReport;
pub use model::{ImportOptions, OnnxModel, ParameterRow};
pub use repair::rebatch::{Observed, Place, Rebatch};
pub use repair::{Repair, Repaired, Repairs, RestoredNormalisation};
pub use report::{EXPORT_AGAIN, ImportReport};
