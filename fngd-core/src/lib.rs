//! Inverse-free fast natural gradient descent (FNGD) for `tch` models.
//!
//! Ou, Zhu, Huang, Liu: *Inverse-Free Fast Natural Gradient Descent Method for Deep Learning*, arXiv 2403.03473.

mod error;
mod fngd;
mod gram;
mod layer;
mod module;
pub mod optimizer;
pub mod random;
mod schedule;
pub mod state;
mod tap;

pub use error::{Error, Result};
pub use gram::GramMethod;
pub use layer::{BatchAxis, Convolution, Geometry, Layer};
pub use module::{FngdModule, Inventory, Parameter, Path, Role, Visitor};
pub use schedule::{Schedule, ScheduleConfig, Shape, WarmUp};
