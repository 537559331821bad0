//! Methods that keep a curvature of each layer and change the finished gradient by it: KFAC, Eva and their relatives.
//!
//! They see the layers through the same taps as FNGD. A method is one file here: its formula, its settings, and what it keeps
//! of one layer ([`Curvature`]). Everything that they have in common is in `source`.

mod collector;
mod curvature;
pub(super) mod decompose;
mod eva;
mod hylo;
mod interpolative;
mod kfac;
mod matrix;
mod mbf;
mod rows;
mod running;
mod seng;
mod shifts;
mod skfac;
mod source;
mod sums;
mod tengrad;
#[cfg(test)]
mod tests;

pub use eva::EvaConfig;
pub use hylo::{HyloConfig, HyloRows};
pub use kfac::{KfacConfig, KfacInverse};
pub use mbf::MbfConfig;
pub use seng::SengConfig;
pub use skfac::SkfacConfig;
pub use source::LayerwiseGradient;
pub use tengrad::TengradConfig;

use crate::{Error, Result};

/// Which of two definitions of a method is meant, where its paper and its published implementation differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As the paper derives it.
    Textbook,
    /// As the published implementation computes it. Each method says what differs.
    Published,
}

/// How often a method does what, and how long a step it may make. Common to all methods of this module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    /// Steps from one observation of activations and output gradients to the next.
    pub statistics_every_steps: u64,
    /// Steps from one factorisation to the next.
    pub refresh_every_steps: u64,
    /// κ of the KL clip.
    pub kl_clip: Option<f64>,
}

impl Pace {
    fn check(self) -> Result<Self> {
        for (name, steps) in
            [("refresh_every_steps", self.refresh_every_steps), ("statistics_every_steps", self.statistics_every_steps)]
        {
            if steps == 0 {
                return Err(Error::config(format!("{name} must be >= 1, found 0")));
            }
        }
        match self.kl_clip {
            Some(kappa) if !(kappa > 0.0 && kappa.is_finite()) => {
                Err(Error::config(format!("kl_clip must be > 0 and finite, found {kappa}")))
            }
            _ => Ok(self),
        }
    }
}

fn check_damping(damping: f64) -> Result<()> {
    if damping > 0.0 && damping.is_finite() {
        return Ok(());
    }
    Err(Error::config(format!("damping must be > 0 and finite, found {damping}")))
}

fn check_decay(decay: f64) -> Result<()> {
    if (0.0..1.0).contains(&decay) {
        return Ok(());
    }
    Err(Error::config(format!("decay must be in [0, 1), found {decay}")))
}
