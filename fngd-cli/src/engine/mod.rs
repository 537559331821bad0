//! The engine's half of the program: everything that needs libtorch.

pub mod augment;
pub mod batches;
