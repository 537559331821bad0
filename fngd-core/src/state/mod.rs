//! Named tensors in files: safetensors, strict and bounded.
//!
//! ```
//! use fngd_core::state;
//! use tch::Tensor;
//!
//! # fn main() -> fngd_core::Result<()> {
//! let bytes = state::to_bytes(&[("momentum".to_owned(), Tensor::from_slice(&[1.0f32, 2.0]))])?;
//! let loaded = state::from_bytes(&bytes)?;
//! assert_eq!(loaded[0].0, "momentum");
//! assert_eq!(Vec::<f32>::try_from(&loaded[0].1)?, [1.0, 2.0]);
//! # Ok(())
//! # }
//! ```

mod file;
mod format;
mod map;

pub use file::{load, save};
pub use format::{from_bytes, to_bytes};
pub use map::TensorMap;
