//! Lowering: the graph as a list of steps that call libtorch.

mod arguments;
pub(crate) mod batch_axis;
pub(crate) mod builder;
mod drafts;
mod drop_path;
pub(crate) mod example;
mod folding;
pub(crate) mod form;
mod guarded;
pub(crate) mod layers;
pub(crate) mod operator;
mod ops;
pub(crate) mod parameters;
pub(crate) mod plan;
pub(crate) mod program;
mod scalars;
mod table;
pub(crate) mod tensors;
