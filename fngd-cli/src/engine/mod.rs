//! The engine: does one job with libtorch and reports what happens.

pub mod augment;
pub mod batches;
pub mod checkpoint;
pub mod device;
pub mod evaluate;
pub mod events;
pub mod failure;
pub mod guard;
pub mod loss;
pub mod memory;
pub mod method;
pub mod network;
pub mod progress;
pub mod saver;
pub mod signals;
pub mod stop;
pub mod timing;
pub mod train;
