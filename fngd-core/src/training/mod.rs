//! What a training loop holds: an optimizer that knows where in the run it is.

mod builder;
mod place;
mod report;
mod saved;

pub use builder::FngdBuilder;
pub use report::Report;

use crate::optimizer::{Batch, Optimizer, StepReport};
use crate::{Error, FngdConfig, FngdModule, Parameter, Result, Schedule};
use place::Place;
use std::fmt;
use tch::Tensor;

/// Inverse-free fast natural gradient descent for a hand-written model, with its bookkeeping.
///
/// FNGD solves for the weight of each sample in the first epoch, and keeps it by the batch's position in the epoch. So
/// the loop says where epochs begin; batches are counted by [`backward`](Self::backward), and their size is what the
/// first layer of the forward pass saw. **Cut every epoch into batches of the same sizes**: a batch of another size
/// than the one that was at its position in the first epoch trains with the plain gradient, and [`StepReport::unknown`]
/// counts its layers. A smaller last batch that is there in every epoch is fine.
///
/// [`builder`](Self::builder) has the other settings, and SGD and AdamW for comparison in the same loop.
///
/// ```
/// use fngd_core::{Fngd, FngdConfig, FngdModule, Result, nn};
/// use tch::{Device, Kind, Tensor};
///
/// #[derive(FngdModule)]
/// struct Net { fc: nn::Linear }
///
/// # fn main() -> Result<()> {
/// let vs = nn::VarStore::new(Device::Cpu);
/// let net = Net { fc: nn::linear(vs.root() / "fc", 4, 2, Default::default()) };
/// let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
/// for epoch in 0..2 {
///     optimizer.begin_epoch(epoch)?;
///     for _batch in 0..3 {
///         let labels = Tensor::zeros([8], (Kind::Int64, Device::Cpu));
///         let loss = Tensor::ones([8, 4], (Kind::Float, Device::Cpu)).apply(&net.fc).cross_entropy_for_logits(&labels);
///         optimizer.backward(&loss)?;
///         let step = optimizer.step()?;
///         assert_eq!((step.solved, step.recalled), if epoch == 0 { (1, 0) } else { (0, 1) });
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Fngd {
    /// What it trains: `save` writes these, by way of the `VarStore`.
    parameters: Vec<Parameter>,
    optimizer: Box<dyn Optimizer>,
    schedule: Schedule,
    place: Place,
    /// True between `begin_batch` and `backward`.
    announced: bool,
    /// Backward passes since the latest step.
    unapplied: usize,
    latest: StepReport,
    latest_rate: Option<f64>,
}

impl Fngd {
    /// FNGD with momentum 0.9, weight decay 5e-4 (not on biases and normalisation) and a constant learning rate of 0.1.
    ///
    /// Taps the layers of `module` until the value is dropped.
    ///
    /// # Errors
    /// [`is_config`](Error::is_config) if a setting is out of range, or the model has nothing to precondition;
    /// [`is_state`](Error::is_state) if another optimizer is at work on it.
    pub fn new(module: &dyn FngdModule, config: FngdConfig) -> Result<Self> {
        Self::builder(module).with_config(config).build()
    }

    /// Settings to be changed before the optimizer is built. Without changes it is that of [`new`](Self::new).
    pub fn builder(module: &dyn FngdModule) -> FngdBuilder<'_> {
        FngdBuilder::new(module)
    }

    /// Says that epoch `epoch` (from 0) begins: its batches are counted from 0 again.
    ///
    /// The first is epoch 0, the one in which FNGD solves for the weights: a loop `for epoch in 1..=epochs` begins
    /// `epoch - 1`.
    ///
    /// After [`load`](Self::load) the epoch that was saved may be begun once more: it goes on where it was, at batch
    /// [`slot`](Self::slot).
    ///
    /// # Errors
    /// [`is_state`](Error::is_state) if this epoch, or a later one, has been begun; or if it is the first of a run that
    /// was not loaded, and not epoch 0.
    pub fn begin_epoch(&mut self, epoch: u64) -> Result<()> {
        self.place.begin_epoch(epoch)
    }

    /// Says which samples (their indices in the training set, in batch order) the next forward pass sees.
    ///
    /// Only [`Share::Sample`](crate::Share::Sample) needs the indices. Otherwise this is a way to say the size of the
    /// batch where the first layer does not show it.
    ///
    /// # Errors
    /// [`is_config`](Error::is_config) if there are none; [`is_state`](Error::is_state) before the first
    /// [`begin_epoch`](Self::begin_epoch).
    pub fn begin_batch(&mut self, samples: &[i64]) -> Result<()> {
        let (epoch, slot) = self.place.running()?;
        self.optimizer.begin(&Batch { epoch, slot, samples: samples.to_vec() })?;
        self.announced = true;
        Ok(())
    }

    /// The same values, watched: only the improved empirical Fisher needs it. Compute the loss from what comes back.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn logits(&mut self, logits: Tensor) -> Result<Tensor> {
        self.optimizer.logits(logits)
    }

    /// Backpropagates `loss`, the **mean** over the batch, and leaves the weighted gradients in the parameters.
    ///
    /// # Errors
    /// [`is_state`](Error::is_state) before the first [`begin_epoch`](Self::begin_epoch); [`is_shape`](Error::is_shape)
    /// if `loss` is not one number; or the layer that does not see the batch where it is expected. After an error the step
    /// has to be made anew, with a forward pass of its own: gradients of earlier parts of its batch are cleared.
    pub fn backward(&mut self, loss: &Tensor) -> Result<()> {
        self.backward_one_of(loss, 1)
    }

    /// The same for one of `count` batches that make a step together: it contributes `1 / count` of its gradient.
    ///
    /// # Errors
    /// Those of [`backward`](Self::backward).
    pub fn backward_one_of(&mut self, loss: &Tensor, count: usize) -> Result<()> {
        let (epoch, slot) = self.place.running()?;
        if loss.numel() != 1 {
            // The forward pass is still good: a mean over this may follow.
            let message = format!("the loss must be one number, the mean over the batch; found {:?}", loss.size());
            return Err(Error::shape(message));
        }
        let announced = std::mem::take(&mut self.announced);
        let begun = if announced { Ok(()) } else { self.optimizer.begin_seen(epoch, slot) };
        let done = begun.and_then(|()| self.optimizer.backward(loss, count));
        self.unapplied = if done.is_ok() { self.unapplied + 1 } else { 0 };
        self.place.slot += u64::from(done.is_ok());
        done
    }

    /// Updates the parameters with the schedule's learning rate and clears their gradients.
    ///
    /// A gradient that is not finite changes nothing: [`StepReport::skipped`] says so.
    ///
    /// # Errors
    /// [`is_state`](Error::is_state) without a [`backward`](Self::backward) before it.
    pub fn step(&mut self) -> Result<StepReport> {
        if self.unapplied == 0 {
            return Err(Error::state("`step` without `backward`: there is no gradient to apply"));
        }
        self.latest_rate = Some(self.learning_rate());
        self.latest = self.optimizer.step(self.learning_rate())?;
        self.unapplied = 0;
        self.place.steps += 1;
        Ok(self.latest.clone())
    }

    /// [`backward`](Self::backward) and [`step`](Self::step), named as in tch.
    ///
    /// # Errors
    /// Those of either.
    pub fn backward_step(&mut self, loss: &Tensor) -> Result<StepReport> {
        self.backward(loss)?;
        self.step()
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.schedule.at(self.place.steps)
    }

    /// Replaces the schedule: `Schedule::constant(0.01)` for a loop that chooses the learning rate itself.
    pub fn set_schedule(&mut self, schedule: Schedule) {
        self.schedule = schedule;
    }

    /// The epoch that was begun last, 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.place.epoch
    }

    /// Batches of this epoch that are done: the position of the next one.
    pub fn slot(&self) -> u64 {
        self.place.slot
    }

    /// Steps of the whole run that are done.
    pub fn steps(&self) -> u64 {
        self.place.steps
    }

    /// The latest step in numbers, to be printed or looked at. Waits for the device.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn report(&self) -> Result<Report> {
        Ok(Report {
            epoch: self.place.epoch,
            slot: self.place.slot,
            steps: self.place.steps,
            learning_rate: self.latest_rate.unwrap_or_else(|| self.learning_rate()),
            step: self.latest.clone(),
            layers: self.optimizer.layers()?,
        })
    }

    /// The weights w of the latest batch: the name of each layer, and one number per sample, in batch order.
    ///
    /// w = λ(K + λI)⁻¹1: a sample with a large gradient, or one that many others share, has less weight; one whose
    /// gradient opposes the others' has more, also above 1. Layers that trained with the plain gradient, w = 1, are
    /// left out.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn sample_weights(&self) -> Result<Vec<(String, Tensor)>> {
        self.optimizer.sample_weights()
    }
}

/// Where it is; not what it holds.
impl fmt::Debug for Fngd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fngd").field("schedule", &self.schedule).field("place", &self.place).finish_non_exhaustive()
    }
}
