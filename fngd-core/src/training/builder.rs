//! The settings of an [`Fngd`].

use super::{Fngd, Place};
use crate::optimizer::{self, Graft, Groups, Inner, Method, StepOptions, StepReport};
use crate::{FngdConfig, FngdModule, Inventory, Result, Schedule, ScheduleConfig, ScheduleShape, WarmUp};

/// Settings of an [`Fngd`]. `with_...` only sets; [`build`](Self::build) checks everything.
///
/// ```
/// use fngd_core::optimizer::{AdamwConfig, Groups, Inner};
/// use fngd_core::{Fngd, FngdModule, nn};
/// # use tch::{Device, nn::VarStore};
/// # #[derive(FngdModule)]
/// # struct Net { head: nn::Linear }
/// # fn main() -> fngd_core::Result<()> {
/// # let variables = VarStore::new(Device::Cpu);
/// # let net = Net { head: nn::linear(variables.root() / "head", 4, 2, Default::default()) };
/// let optimizer = Fngd::builder(&net)
///     .with_inner(Inner::Adamw(AdamwConfig::default()))
///     .with_groups(Groups::default().learning_rate("head", 10.0))
///     .build()?;
/// assert_eq!(optimizer.learning_rate(), 1e-3);
/// # Ok(())
/// # }
/// ```
pub struct FngdBuilder<'m> {
    module: &'m dyn FngdModule,
    method: Method,
    groups: Groups,
    options: StepOptions,
    rate: Rate,
}

enum Rate {
    /// What suits the inner rule.
    Default,
    Constant(f64),
    Schedule(Schedule),
}

impl<'m> FngdBuilder<'m> {
    pub(super) fn new(module: &'m dyn FngdModule) -> Self {
        Self {
            module,
            method: Method::Fngd { config: FngdConfig::default(), inner: Inner::default() },
            groups: Groups::default(),
            options: StepOptions::default(),
            rate: Rate::Default,
        }
    }

    /// How samples are weighted.
    #[must_use]
    pub fn with_config(self, config: FngdConfig) -> Self {
        let inner = self.method.inner();
        Self { method: Method::Fngd { config, inner }, ..self }
    }

    /// What applies the gradient: SGD with momentum (default), AdamW, Muon, ...
    #[must_use]
    pub fn with_inner(self, inner: Inner) -> Self {
        Self { method: self.method.with_inner(inner), ..self }
    }

    /// Weighting and inner rule at once. The other methods run in the same loop, for comparison.
    #[must_use]
    pub fn with_method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// Which parameters have a weight decay or a learning rate of their own.
    #[must_use]
    pub fn with_groups(self, groups: Groups) -> Self {
        Self { groups, ..self }
    }

    /// Clipping, and the guard against gradients that are not finite.
    #[must_use]
    pub fn with_options(self, options: StepOptions) -> Self {
        Self { options, ..self }
    }

    /// The same learning rate at every step, >= 0. Default: what suits the rule, 0.1 for SGD, 1e-3 for AdamW.
    #[must_use]
    pub fn with_learning_rate(self, learning_rate: f64) -> Self {
        Self { rate: Rate::Constant(learning_rate), ..self }
    }

    /// The learning rate as a function of the step.
    #[must_use]
    pub fn with_schedule(self, schedule: Schedule) -> Self {
        Self { rate: Rate::Schedule(schedule), ..self }
    }

    /// The optimizer. The layers of the model are tapped until it is dropped.
    ///
    /// # Errors
    /// [`is_config`](crate::Error::is_config) if a setting is out of range, a group names no parameter, or there is
    /// nothing to train; [`is_state`](crate::Error::is_state) if an FNGD optimizer is at work on the model.
    pub fn build(self) -> Result<Fngd> {
        let schedule = match self.rate {
            Rate::Schedule(schedule) => schedule,
            Rate::Constant(learning_rate) => constant(learning_rate)?,
            Rate::Default => constant(default_rate(self.method.inner()))?,
        };
        Ok(Fngd {
            parameters: Inventory::of(self.module).parameters,
            optimizer: optimizer::build(self.module, &self.method, &self.groups, &self.options)?,
            schedule,
            place: Place::default(),
            announced: false,
            unapplied: 0,
            latest: StepReport::default(),
            latest_rate: None,
        })
    }
}

/// What the command line takes if nothing is said.
fn default_rate(inner: Inner) -> f64 {
    match inner {
        Inner::Sgd(_) => 0.1,
        Inner::Adamw(_) => 1e-3,
        Inner::Muon(_) => 0.02,
        Inner::Shampoo(config) => {
            if matches!(config.graft, Graft::Adam { .. }) {
                1e-4
            } else {
                0.1
            }
        }
        Inner::Soap(_) => 3e-3,
    }
}

/// Checked, unlike [`Schedule::constant`].
fn constant(learning_rate: f64) -> Result<Schedule> {
    let (shape, warm_up) = (ScheduleShape::Constant, WarmUp::Steps(0));
    ScheduleConfig { learning_rate, shape, warm_up, total_steps: u64::MAX }.build()
}
