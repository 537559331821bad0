//! The methods a user can ask for, and how each is put together.

use super::preconditioned::refuse_attached;
use super::{
    AdamwConfig, Composed, EvaConfig, GradientSource, Groups, HyloConfig, KfacConfig, MbfConfig, MuonConfig, Optimizer,
    PlainGradient, PreconditionedGradient, SengConfig, SgdConfig, ShampooConfig, SkfacConfig, SoapConfig, StepOptions,
    TengradConfig, UpdateRule,
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
    /// Momentum, orthogonalised; AdamW for what is no matrix.
    Muon(MuonConfig),
    /// A preconditioner for each dimension of a tensor.
    Shampoo(ShampooConfig),
    /// Adam in the eigenbasis of Shampoo's statistics.
    Soap(SoapConfig),
    /// Inverse-free fast natural gradient descent: the weighted gradient, applied by an inner rule.
    Fngd {
        /// How samples are weighted.
        config: FngdConfig,
        /// What applies the gradient.
        inner: Inner,
    },
    /// Kronecker-factored approximate curvature.
    Kfac {
        /// How factors are kept and inverted.
        config: KfacConfig,
        /// What applies the direction.
        inner: Inner,
    },
    /// KFAC with factors of rank one.
    Eva {
        /// How vectors are kept.
        config: EvaConfig,
        /// What applies the direction.
        inner: Inner,
    },
    /// KFAC with factors of one batch.
    Skfac {
        /// How long a batch stands.
        config: SkfacConfig,
        /// What applies the direction.
        inner: Inner,
    },
    /// Natural gradients from a few samples of one batch.
    Hylo {
        /// How many are drawn, and how long they stand.
        config: HyloConfig,
        /// What applies the direction.
        inner: Inner,
    },
    /// The empirical Fisher matrix in small blocks.
    Mbf {
        /// How blocks are kept.
        config: MbfConfig,
        /// What applies the direction.
        inner: Inner,
    },
    /// Natural gradients from samples' gradients of low rank, sketched.
    Seng {
        /// How much is left out, and how long a batch stands.
        config: SengConfig,
        /// What applies the direction.
        inner: Inner,
    },
    /// Exact natural gradients with a Gram matrix that is kept.
    Tengrad {
        /// How long a Gram matrix is kept.
        config: TengradConfig,
        /// What applies the direction.
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
    /// Momentum, orthogonalised; AdamW for what is no matrix.
    Muon(MuonConfig),
    /// A preconditioner for each dimension of a tensor.
    Shampoo(ShampooConfig),
    /// Adam in the eigenbasis of Shampoo's statistics.
    Soap(SoapConfig),
}

impl Default for Inner {
    /// The paper's: SGD with momentum 0.9.
    fn default() -> Self {
        Self::Sgd(SgdConfig::default())
    }
}

impl Method {
    /// The rule that applies the gradient or direction.
    pub fn inner(&self) -> Inner {
        match self {
            Self::Sgd(config) => Inner::Sgd(*config),
            Self::Adamw(config) => Inner::Adamw(*config),
            Self::Muon(config) => Inner::Muon(*config),
            Self::Shampoo(config) => Inner::Shampoo(*config),
            Self::Soap(config) => Inner::Soap(*config),
            Self::Fngd { inner, .. }
            | Self::Kfac { inner, .. }
            | Self::Eva { inner, .. }
            | Self::Skfac { inner, .. }
            | Self::Hylo { inner, .. }
            | Self::Mbf { inner, .. }
            | Self::Seng { inner, .. }
            | Self::Tengrad { inner, .. } => *inner,
        }
    }

    /// The same method with another rule. For a method that is a rule, that rule.
    #[must_use]
    pub fn with_inner(self, inner: Inner) -> Self {
        match self {
            Self::Sgd(_) | Self::Adamw(_) | Self::Muon(_) | Self::Shampoo(_) | Self::Soap(_) => match inner {
                Inner::Sgd(config) => Self::Sgd(config),
                Inner::Adamw(config) => Self::Adamw(config),
                Inner::Muon(config) => Self::Muon(config),
                Inner::Shampoo(config) => Self::Shampoo(config),
                Inner::Soap(config) => Self::Soap(config),
            },
            Self::Fngd { config, .. } => Self::Fngd { config, inner },
            Self::Kfac { config, .. } => Self::Kfac { config, inner },
            Self::Eva { config, .. } => Self::Eva { config, inner },
            Self::Skfac { config, .. } => Self::Skfac { config, inner },
            Self::Hylo { config, .. } => Self::Hylo { config, inner },
            Self::Mbf { config, .. } => Self::Mbf { config, inner },
            Self::Seng { config, .. } => Self::Seng { config, inner },
            Self::Tengrad { config, .. } => Self::Tengrad { config, inner },
        }
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
        Method::Muon(config) => (Box::new(PlainGradient), Inner::Muon(*config)),
        Method::Shampoo(config) => (Box::new(PlainGradient), Inner::Shampoo(*config)),
        Method::Soap(config) => (Box::new(PlainGradient), Inner::Soap(*config)),
        Method::Fngd { config, inner } => {
            (Box::new(PreconditionedGradient::build(inventory.layers, config.clone())?), *inner)
        }
        Method::Kfac { config, inner } => (Box::new(config.build(inventory.layers)?), *inner),
        Method::Eva { config, inner } => (Box::new(config.build(inventory.layers)?), *inner),
        Method::Skfac { config, inner } => (Box::new(config.build(inventory.layers)?), *inner),
        Method::Hylo { config, inner } => (Box::new(config.build(inventory.layers)?), *inner),
        Method::Mbf { config, inner } => (Box::new(config.build(inventory.layers)?), *inner),
        Method::Seng { config, inner } => (Box::new(config.build(inventory.layers)?), *inner),
        Method::Tengrad { config, inner } => (Box::new(config.build(inventory.layers)?), *inner),
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
            Self::Muon(config) => Box::new(config.build()?),
            Self::Shampoo(config) => Box::new(config.build()?),
            Self::Soap(config) => Box::new(config.build()?),
        })
    }
}
