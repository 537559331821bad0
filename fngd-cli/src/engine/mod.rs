//! The engine: does one job with libtorch and reports what happens.

pub mod checkpoint;
pub mod device;
pub mod events;
pub mod failure;
pub mod memory;
pub mod signals;
