//! Inverse-free fast natural gradient descent (FNGD) for `tch` models.
//!
//! Ou, Zhu, Huang, Liu: *Inverse-Free Fast Natural Gradient Descent Method for Deep Learning*, arXiv 2403.03473.

// `#[derive(FngdModule)]` writes `::fngd_core`, which must mean this crate here as well.
extern crate self as fngd_core;

#[doc(hidden)]
pub mod __private;
mod bank;
mod config;
mod contributions;
mod error;
mod factors;
mod gram;
mod inventory;
mod layer;
mod listener;
mod module;
mod module_collections;
mod module_impls;
pub mod nn;
pub mod optimizer;
mod preconditioner;
pub mod random;
mod samples;
mod schedule;
mod solve;
pub mod state;
mod tap;
pub mod timeline;
mod training;
mod weighting;

#[cfg(test)]
mod tests;

pub use config::{Ablation, Fisher, FngdConfig, Refresh, Share, StepScale};
pub use error::{Error, Result};
#[doc = include_str!("derive.md")]
pub use fngd_derive::FngdModule;
pub use gram::GramMethod;
pub use inventory::{Inventory, PlainLayer};
pub use layer::{BatchAxis, Convolution, Geometry, Layer};
pub use module::{FngdModule, Parameter, Path, Preconditioned, Role, Visitor};
pub use schedule::{Schedule, ScheduleConfig, ScheduleShape, WarmUp};
pub use solve::{Solution, solve};
/// The `tch` that models for this crate are written with.
pub use tch;
pub use training::{Fngd, FngdBuilder, Report};

/// The README's code, run by the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The code of the page for those who come from tch.
#[cfg(doctest)]
#[doc = include_str!("../../docs/five-minutes.md")]
struct FiveMinutes;
