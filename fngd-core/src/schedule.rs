//! The learning rate as a function of the step.

use crate::{Error, Result};
use std::f64::consts::PI;

/// Settings of a [`Schedule`].
///
/// ```
/// use fngd_core::{ScheduleConfig, ScheduleShape, WarmUp};
///
/// # fn main() -> fngd_core::Result<()> {
/// let config = ScheduleConfig {
///     learning_rate: 0.1,
///     shape: ScheduleShape::Cosine { final_scale: 0.0 },
///     warm_up: WarmUp::Steps(4),
///     total_steps: 104,
/// };
/// let schedule = config.build()?;
/// assert!((schedule.at(0) - 0.02).abs() < 1e-15); // one fifth
/// assert_eq!(schedule.at(4), 0.1); // the peak
/// assert!((schedule.at(54) - 0.05).abs() < 1e-15); // half of the way down
/// assert_eq!(schedule.at(104), 0.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleConfig {
    /// The peak, >= 0.
    pub learning_rate: f64,
    /// How it falls.
    pub shape: ScheduleShape,
    /// How it rises first.
    pub warm_up: WarmUp,
    /// Steps of the whole run, > 0.
    pub total_steps: u64,
}

/// How the learning rate falls, relative to its peak. u is the part of the run after warm-up that is over, in [0, 1].
#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleShape {
    /// Stays.
    Constant,
    /// f + (1 − f)(1 + cos πu)/2 with f = `final_scale` in [0, 1].
    Cosine {
        /// Where it ends.
        final_scale: f64,
    },
    /// 1 − (1 − f)u with f = `final_scale` in [0, 1].
    Linear {
        /// Where it ends.
        final_scale: f64,
    },
    /// Times `factor` at every multiple of `every_steps`, counted from the start of the run.
    Step {
        /// > 0.
        every_steps: u64,
        /// > 0.
        factor: f64,
    },
    /// Times `factor` at each of these steps, counted from the start of the run.
    MultiStep {
        /// Strictly increasing.
        at_steps: Vec<u64>,
        /// > 0.
        factor: f64,
    },
    /// From 1/`initial_divisor` up to 1 and down to 1/(`initial_divisor` · `final_divisor`), along cosines.
    ///
    /// Smith and Topin, arXiv 1708.07120, as `torch.optim.lr_scheduler.OneCycleLR` defines it.
    OneCycle {
        /// Part of the steps that rises, in (0, 1).
        rise: f64,
        /// >= 1.
        initial_divisor: f64,
        /// >= 1.
        final_divisor: f64,
    },
}

impl ScheduleShape {
    /// One-cycle with the divisors and the rise that torch takes if nothing is said.
    pub fn one_cycle() -> Self {
        Self::OneCycle { rise: 0.3, initial_divisor: 25.0, final_divisor: 1e4 }
    }
}

/// A linear rise before anything else: at step s of W, (s + 1)/(W + 1) of where the shape starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WarmUp {
    /// W. 0 is none.
    Steps(u64),
    /// W as a part of all steps, rounded, in [0, 1).
    Fraction(f64),
}

/// The learning rate as a function of the step. Nothing to save: ask for any step, in any order.
///
/// ```
/// use fngd_core::Schedule;
/// assert_eq!(Schedule::constant(0.1).at(1_000_000), 0.1);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    learning_rate: f64,
    shape: ScheduleShape,
    warm_up_steps: u64,
    total_steps: u64,
}

impl Schedule {
    /// The same value at every step.
    pub fn constant(learning_rate: f64) -> Self {
        Self { learning_rate, shape: ScheduleShape::Constant, warm_up_steps: 0, total_steps: u64::MAX }
    }

    /// The learning rate of step `step`, from 0. From the end of the run on it stays at its last value.
    pub fn at(&self, step: u64) -> f64 {
        let after = step.saturating_sub(self.warm_up_steps);
        let scale = self.shape.scale(step, after, self.total_steps - self.warm_up_steps);
        let rise = ((step as f64 + 1.0) / (self.warm_up_steps + 1) as f64).min(1.0);
        self.learning_rate * scale * rise
    }

    /// Steps of the rise.
    pub fn warm_up_steps(&self) -> u64 {
        self.warm_up_steps
    }
}

impl ScheduleConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// `is_config()` names the setting that is out of range.
    pub fn build(self) -> Result<Schedule> {
        let Self { learning_rate, shape, warm_up, total_steps } = self;
        if !(learning_rate >= 0.0 && learning_rate.is_finite()) {
            return Err(Error::config(format!("learning_rate must be >= 0 and finite, found {learning_rate}")));
        }
        if total_steps == 0 {
            return Err(Error::config("total_steps must be > 0, found 0"));
        }
        shape.check()?;
        let warm_up_steps = match warm_up {
            WarmUp::Steps(steps) => steps,
            WarmUp::Fraction(fraction) if (0.0..1.0).contains(&fraction) => {
                (fraction * total_steps as f64).round() as u64
            }
            WarmUp::Fraction(fraction) => {
                return Err(Error::config(format!("warm-up fraction must be in [0, 1), found {fraction}")));
            }
        };
        if warm_up_steps >= total_steps {
            return Err(Error::config(format!(
                "warm-up must be shorter than the run of {total_steps} steps, found {warm_up_steps}"
            )));
        }
        Ok(Schedule { learning_rate, shape, warm_up_steps, total_steps })
    }
}

impl ScheduleShape {
    /// Relative to the peak: at step `step` of the run, which is `after` steps of `length` into the shape.
    fn scale(&self, step: u64, after: u64, length: u64) -> f64 {
        let after = after.min(length);
        let progress = after as f64 / length as f64;
        match self {
            Self::Constant => 1.0,
            Self::Cosine { final_scale } => cosine(1.0, *final_scale, progress),
            Self::Linear { final_scale } => 1.0 - (1.0 - final_scale) * progress,
            Self::Step { every_steps, factor } => factor.powf((step / every_steps) as f64),
            Self::MultiStep { at_steps, factor } => {
                factor.powf(at_steps.iter().filter(|&&milestone| milestone <= step).count() as f64)
            }
            Self::OneCycle { rise, initial_divisor, final_divisor } => {
                // torch counts the rise in steps and starts from step 0, hence the two -1.
                let last = (length as f64 - 1.0).max(1.0);
                let peak = (rise * length as f64 - 1.0).clamp(0.0, last);
                let after = (after as f64).min(last);
                let initial = 1.0 / initial_divisor;
                if after <= peak && peak > 0.0 {
                    cosine(initial, 1.0, after / peak)
                } else {
                    cosine(1.0, initial / final_divisor, (after - peak) / (last - peak))
                }
            }
        }
    }

    fn check(&self) -> Result<()> {
        let require = |name: &str, range: &str, value: f64, holds: bool| {
            if holds { Ok(()) } else { Err(Error::config(format!("{name} must be {range}, found {value}"))) }
        };
        let factor_in_range =
            |factor: f64| require("factor", "> 0 and finite", factor, factor > 0.0 && factor.is_finite());
        match *self {
            Self::Constant => Ok(()),
            Self::Cosine { final_scale } | Self::Linear { final_scale } => {
                require("final_scale", "in [0, 1]", final_scale, (0.0..=1.0).contains(&final_scale))
            }
            Self::Step { every_steps, factor } => {
                require("every_steps", "> 0", every_steps as f64, every_steps > 0)?;
                factor_in_range(factor)
            }
            Self::MultiStep { ref at_steps, factor } => {
                if !at_steps.is_sorted_by(|earlier, later| earlier < later) {
                    return Err(Error::config(format!("at_steps must be strictly increasing, found {at_steps:?}")));
                }
                factor_in_range(factor)
            }
            Self::OneCycle { rise, initial_divisor, final_divisor } => {
                require("rise", "in (0, 1)", rise, rise > 0.0 && rise < 1.0)?;
                let divisor =
                    |name, value: f64| require(name, ">= 1 and finite", value, (1.0..f64::MAX).contains(&value));
                divisor("initial_divisor", initial_divisor)?;
                divisor("final_divisor", final_divisor)
            }
        }
    }
}

/// From `start` at 0 to `end` at 1 along half a cosine.
fn cosine(start: f64, end: f64, progress: f64) -> f64 {
    if progress >= 1.0 {
        // The exact end: cos π is not exact in floating point once scaled.
        return end;
    }
    end + (start - end) * (1.0 + (PI * progress).cos()) / 2.0
}
