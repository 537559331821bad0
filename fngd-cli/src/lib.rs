//! What the engine (`fngd-engine`) is made of. The launcher (`fngd-cli`) shares `data`, `protocol` and `settings`, but not this library: see
//! `src/bin/fngd-cli.rs`.

#![allow(missing_docs)] // The library serves the two programs of this package and nobody else.

pub mod data;
pub mod engine;
pub mod protocol;
pub mod settings;
