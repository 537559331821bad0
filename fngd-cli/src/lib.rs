//! The launcher, and what it shares with the engine: data sets, settings and the protocol between the two.
//!
//! The engine, `fngd-engine`, is a crate of its own. This one must start where libtorch is missing, so no crate that it depends
//! on, directly or not, links libtorch; a test reads the ELF header of the program.

#![allow(missing_docs)] // The library serves the two programs and nobody else.

pub mod data;
mod launcher;
pub mod methods;
pub mod protocol;
pub mod settings;
pub mod state_memory;

pub use launcher::main;
