//! The methods a user can ask for, and how each is put together.

use super::preconditioned::refuse_attached;
use super::{
    AdamwConfig, Composed, GradientSource, Groups, Optimizer, PlainGradient, PreconditionedGradient, SgdConfig,
    StepOptions, UpdateRule,
};
use crate::{FngdConfig, Result};
use crate::{FngdModule, Inventory};

/// A method of training and its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Stochastic gradient descent, with momentum by default.
    Sgd(SgdConfig),
    /// Adam with decoupled weight decay.
    Adamw(AdamwConfig),
    /// Inverse-free fast natural gradient descent: the weighted gradient, applied by an inner rule.
    Fngd {
        /// How samples are weighted.
        config: FngdConfig,
        /// What applies the gradient.
        inner: Inner,
    },
}

/// The rule that applies a preconditioned gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Inner {
    /// Stochastic gradient descent.
    Sgd(SgdConfig),
    /// Adam with decoupled weight decay.
    Adamw(AdamwConfig),
}

impl Default for Inner {
    /// The paper's: SGD with momentum 0.9.
    fn default() -> Self {
        Self::Sgd(SgdConfig::default())
    }
}

/// The optimizer that trains `module` by `method`.
///
/// # Errors
/// `is_config()` if a setting is out of range, or a group names no parameter; `is_state()` if an FNGD optimizer is at work
/// on the module.
pub fn build(
    module: &dyn FngdModule,
    method: &Method,
    groups: &Groups,
    options: &StepOptions,
) -> Result<Box<dyn Optimizer>> {
    let inventory = Inventory::of(module);
    refuse_attached(&inventory.layers)?;
    let (source, inner): (Box<dyn GradientSource>, Inner) = match method {
        Method::Sgd(config) => (Box::new(PlainGradient), Inner::Sgd(*config)),
        Method::Adamw(config) => (Box::new(PlainGradient), Inner::Adamw(*config)),
        Method::Fngd { config, inner } => {
            (Box::new(PreconditionedGradient::build(inventory.layers, config.clone())?), *inner)
        }
    };
    let parameters = groups.assign(&inventory.parameters)?;
    Ok(Box::new(Composed::build(parameters, source, inner.build()?, *options)?.watching(inventory.frozen)))
}

impl Inner {
    /// Checks the settings and makes the rule.
    ///
    /// # Errors
    /// `is_config()` if a setting is out of range.
    pub fn build(self) -> Result<Box<dyn UpdateRule>> {
        Ok(match self {
            Self::Sgd(config) => Box::new(config.build()?),
            Self::Adamw(config) => Box::new(config.build()?),
        })
    }
}
