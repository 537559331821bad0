//! The settings of FNGD.

use crate::{Error, Result};

/// How FNGD weights samples. All fields have defaults; [`build`](Self::build) checks them.
///
/// ```
/// use fngd_core::{FngdConfig, Share};
/// let config = FngdConfig { damping: 0.1, share: Share::Sample, ..Default::default() }.build()?;
/// assert_eq!(config.damping, 0.1);
/// let error = FngdConfig { damping: 0.0, ..Default::default() }.build().unwrap_err();
/// assert_eq!(error.to_string(), "damping must be > 0, found 0");
/// # Ok::<(), fngd_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FngdConfig {
    /// γ > 0: damping relative to ‖K‖_F (Eq. 14). At γ = 10 the weights are within 10 % of SGD's; below 1e-4 float32 is not
    /// enough. Default 1, where the paper's tuning principle (weights that stay near 1) holds.
    pub damping: f64,
    /// What a stored weight belongs to.
    pub share: Share,
    /// When weights are solved for.
    pub refresh: Refresh,
    /// What to take out of the weights, to see what it does.
    pub ablate: Option<Ablation>,
    /// What becomes of the factor 1/λ of the natural gradient.
    pub step_scale: StepScale,
    /// Which Fisher matrix is approximated.
    pub fisher: Fisher,
    /// Most bytes of a block of per-sample contributions (it takes 32 MiB if it may), and of layers waiting for a batched solve.
    /// Default 512 MiB.
    pub gram_memory_bytes: u64,
    /// Seeds `Ablation::Permute`; nothing else is random.
    pub seed: u64,
}

/// What a stored weight belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The paper's coefficient sharing (section IV-B): a position in a batch of an iteration slot, whatever sample is there.
    Slot,
    /// A sample of the training set, wherever it is shuffled to.
    Sample,
    /// Nothing is stored: exact natural gradient descent, solved at every step.
    None,
}

/// When weights are solved for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// In the first epoch only (the paper).
    FirstEpoch,
    /// In epochs 0, k, 2k, ...; k ≥ 1.
    EveryEpochs(u64),
    /// Never: every weight is 1, as an ablation.
    Never,
}

/// What to take out of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ablation {
    /// Every weight of a layer and slot becomes their mean: only a multiplier per layer and slot is left.
    Mean,
    /// The weights of a layer and slot are shuffled: their distribution is left, not whose they are.
    Permute,
    /// Every weight is 1: plain SGD, at FNGD's cost.
    Uniform,
}

/// What becomes of the factor 1/λ of (F + λI)⁻¹.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepScale {
    /// It is dropped: the learning rate stands for it.
    Absorb,
    /// One frozen factor per layer: 1/λ averaged (geometrically) over the first epoch, with mean 1 over the layers that were
    /// solved. In the first epoch, where it is not known yet, the factor is 1.
    Layer,
    /// As in the formula: each layer and slot has its own 1/λ.
    Slot,
}

/// Which Fisher matrix is approximated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fisher {
    /// The empirical Fisher of the given labels (the paper): right side 1.
    Empirical,
    /// The improved empirical Fisher (Wu et al., arXiv 2406.06420, Eq. 8): right side s_i = ‖∂ℓ_i/∂logits_i‖², here divided by its
    /// mean, so that well-fitted samples do not dominate.
    ImprovedEmpirical,
}

impl Default for FngdConfig {
    fn default() -> Self {
        Self {
            damping: 1.0,
            share: Share::Slot,
            refresh: Refresh::FirstEpoch,
            ablate: None,
            step_scale: StepScale::Absorb,
            fisher: Fisher::Empirical,
            gram_memory_bytes: 512 << 20,
            seed: 0,
        }
    }
}

impl FngdConfig {
    /// The configuration, if every value is in its range.
    ///
    /// # Errors
    /// [`Error::is_config`], naming the field, its range and the value.
    pub fn build(self) -> Result<Self> {
        if !(self.damping > 0.0 && self.damping.is_finite()) {
            return Err(Error::config(format!("damping must be > 0, found {}", self.damping)));
        }
        if self.refresh == Refresh::EveryEpochs(0) {
            return Err(Error::config("refresh must be every 1 or more epochs, found 0"));
        }
        check_gram_memory(self.gram_memory_bytes)?;
        Ok(self)
    }

    /// Whether the weights of `epoch` are solved for.
    pub(crate) fn solves_in(&self, epoch: u64) -> bool {
        match (self.share, self.refresh) {
            (_, Refresh::Never) => false,
            (Share::None, _) => true,
            (_, Refresh::FirstEpoch) => epoch == 0,
            (_, Refresh::EveryEpochs(epochs)) => epoch.is_multiple_of(epochs),
        }
    }
}

/// Refuses blocks that could hold next to nothing.
pub(crate) fn check_gram_memory(bytes: u64) -> Result<()> {
    if bytes < 1 << 20 {
        return Err(Error::config(format!("gram memory must be at least 1 MiB, found {bytes} bytes")));
    }
    Ok(())
}
