//! ONNX files as trainable libtorch modules, and trained weights back into the same file.

pub mod analysis;
pub mod graph;
