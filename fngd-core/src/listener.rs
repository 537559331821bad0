//! Who hears of a layer's forward passes and answers its backward passes.

use crate::layer::BatchAxis;
use crate::{Result, tap};
use std::fmt;
use std::sync::Arc;
use tch::Tensor;

/// What taps the layers of a model: the preconditioner of FNGD, or the collector of the methods that keep a curvature.
pub(crate) trait Listener: fmt::Debug + Send + Sync {
    /// Called by the forward of layer `index`: one more use is on the tape. Returns what backward is to do there.
    fn expect_use(self: Arc<Self>, index: usize, activations: &Tensor, axis: BatchAxis) -> Result<tap::Callback>;
}
