//! The form that a module keeps its tensors in.

use tch::{Device, Kind};

/// Where tensors are, and how their elements are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// Where the parameters live and the work is done.
    pub device: Device,
    /// Images and convolution weights in channels-last order.
    pub channels_last: bool,
    /// The kind of all floating-point numbers.
    pub float: Kind,
}
