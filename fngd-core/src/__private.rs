//! What `#[derive(FngdModule)]` refers to. Not for use by hand; it changes with the macro.

pub use crate::module::{FngdModule, Path, Visitor};
