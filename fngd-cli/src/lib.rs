//! The two programs of FNGD's command line: the launcher (`fngd-cli`, no libtorch) and the engine (`fngd-engine`).

#![allow(missing_docs)] // The library serves the two programs of this package and nobody else.

pub mod data;
pub mod engine;
pub mod launcher;
pub mod protocol;
pub mod settings;
