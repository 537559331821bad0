//! What the training loop needs of a model. It does not know where the model comes from.

use super::failure::Result;
use fngd_core::FngdModule;
use tch::Tensor;

/// A model that can be trained, saved and evaluated.
pub trait Network: FngdModule {
    /// Switches between training (batch statistics, dropout) and evaluation.
    fn set_training(&mut self, training: bool);

    /// What the loss reads: unnormalised scores, `[B, classes]` or `[B, T, classes]`.
    fn logits(&self, input: &Tensor) -> Result<Tensor>;

    /// Every parameter and running statistic by name: what a checkpoint keeps.
    fn tensors(&self) -> Vec<(String, Tensor)>;

    /// Takes back what [`tensors`](Self::tensors) gave. Names, kinds and sizes must be equal.
    fn load_tensors(&mut self, tensors: &[(String, Tensor)]) -> Result<()>;

    /// The tensors that the forward pass itself changes, sharing their memory.
    fn running_statistics(&self) -> Vec<Tensor>;

    /// Where a forward pass first meets a value that is not finite: `layer `conv1``. `None` if nowhere.
    fn first_non_finite(&self, input: &Tensor) -> Result<Option<String>>;
}
