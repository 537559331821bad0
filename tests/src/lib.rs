//! Shared by the tests that cross crates.

#![allow(missing_docs)] // The library serves this package's programs and tests, and nobody else.

pub mod fixture;
pub mod hostile;
pub mod outside;
pub mod parity;
pub mod programs;
pub mod reference;

use fngd_onnx::{ImportOptions, OnnxModel};
use std::path::Path;

/// A file of `models/`, opened.
///
/// # Panics
/// With the import's message, if it cannot be opened: that fails the test.
pub fn open_model(name: &str) -> OnnxModel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name);
    OnnxModel::open(&path, &ImportOptions::default()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
