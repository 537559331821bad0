//! Readable Rust from an ONNX graph: what a person would have written who had the paper and `tch`.
//!
//! ```text
//! graph → operations → module tree → module types → Rust
//!         lift         tree          unify          emit
//! ```
//!
//! Pure Rust: nothing here needs libtorch. The text that comes out needs `tch` and `fngd_core`.

mod display;
mod emit;
mod error;
mod generate;
mod lift;
mod name;
pub mod operation;
mod parts;
pub mod project;
mod scope;
pub mod stamp;
#[cfg(test)]
mod tests;
mod tree;
mod unify;
pub mod weights;

pub use error::{Error, Result};
pub use generate::{Generated, Options, Variable, generate};
pub use lift::lift;
