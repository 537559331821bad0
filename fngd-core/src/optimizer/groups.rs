//! Parameter groups: how weight decay and learning rate differ between parameters.

use crate::module::{Parameter, Role};
use crate::{Error, Result};
use std::fmt;
use tch::Tensor;

/// A parameter and what its group says about it.
#[derive(Debug, Clone)]
pub struct GroupedParameter {
    /// The parameter.
    pub parameter: Parameter,
    /// Factor on the rule's weight decay; 0 is none.
    pub weight_decay_scale: f64,
    /// Factor on the schedule's learning rate.
    pub learning_rate_scale: f64,
}

impl GroupedParameter {
    /// The parameter's name.
    pub fn name(&self) -> &str {
        &self.parameter.name
    }

    /// The name of what the parameter belongs to: `conv1` of `conv1.weight`.
    pub(super) fn owner(&self) -> &str {
        self.name().rsplit_once('.').map_or(self.name(), |(owner, _)| owner)
    }

    /// The parameter's gradient; not `defined()` if it has none.
    pub(super) fn gradient(&self) -> Result<Tensor> {
        Ok(self.parameter.tensor.f_grad()?)
    }
}

impl fmt::Display for GroupedParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parameter `{}`", self.name())
    }
}

/// Rules that sort parameters into groups. A later rule wins over an earlier one, setting by setting.
///
/// By default weight decay spares biases and normalisation, and every learning rate is the schedule's.
///
/// ```
/// use fngd_core::{Role, optimizer::Groups};
/// let groups = Groups::default().learning_rate("head", 10.0).weight_decay(Role::Embedding, 0.0);
/// assert_eq!(
///     groups.to_string(),
///     "bias: weight decay x 0; normalisation: weight decay x 0; `head`: learning rate x 10; embedding: weight decay x 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    rules: Vec<GroupRule>,
}

/// Which parameters a group rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// Those of one role.
    Role(Role),
    /// The parameter of this name and all below it: `head` has `head.weight`, not `header`.
    Prefix(String),
}

#[derive(Debug, Clone, PartialEq)]
struct GroupRule {
    members: Members,
    setting: Setting,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Setting {
    WeightDecay(f64),
    LearningRate(f64),
}

impl Default for Groups {
    fn default() -> Self {
        Self::decay_all().weight_decay(Role::Bias, 0.0).weight_decay(Role::Normalisation, 0.0)
    }
}

impl Groups {
    /// One group: weight decay for every parameter.
    pub fn decay_all() -> Self {
        Self { rules: Vec::new() }
    }

    /// Multiplies the weight decay of `members` by `scale`, >= 0.
    #[must_use]
    pub fn weight_decay(self, members: impl Into<Members>, scale: f64) -> Self {
        self.with(members.into(), Setting::WeightDecay(scale))
    }

    /// Multiplies the learning rate of `members` by `scale`, >= 0.
    #[must_use]
    pub fn learning_rate(self, members: impl Into<Members>, scale: f64) -> Self {
        self.with(members.into(), Setting::LearningRate(scale))
    }

    /// Sorts `parameters`, keeping their order.
    ///
    /// # Errors
    /// `is_config()` if a scale is negative or not finite, or if a prefix has no parameter.
    pub fn assign(&self, parameters: &[Parameter]) -> Result<Vec<GroupedParameter>> {
        for rule in &self.rules {
            let (Setting::WeightDecay(scale) | Setting::LearningRate(scale)) = rule.setting;
            check_scale("scale", scale).map_err(|error| error.at(format!("group {}", rule.members)))?;
            // A role that a model lacks is no mistake; a name that it lacks is one.
            if matches!(rule.members, Members::Prefix(_)) && !parameters.iter().any(|one| rule.members.contain(one)) {
                return Err(Error::config(format!("group {}: the model has no parameter of this name", rule.members)));
            }
        }
        Ok(parameters.iter().map(|parameter| self.group(parameter)).collect())
    }

    fn group(&self, parameter: &Parameter) -> GroupedParameter {
        let mut grouped =
            GroupedParameter { parameter: parameter.clone(), weight_decay_scale: 1.0, learning_rate_scale: 1.0 };
        for rule in self.rules.iter().filter(|rule| rule.members.contain(parameter)) {
            match rule.setting {
                Setting::WeightDecay(scale) => grouped.weight_decay_scale = scale,
                Setting::LearningRate(scale) => grouped.learning_rate_scale = scale,
            }
        }
        grouped
    }

    fn with(mut self, members: Members, setting: Setting) -> Self {
        self.rules.push(GroupRule { members, setting });
        self
    }
}

impl Members {
    fn contain(&self, parameter: &Parameter) -> bool {
        match self {
            Self::Role(role) => parameter.role == *role,
            Self::Prefix(prefix) => parameter
                .name
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || prefix.is_empty()),
        }
    }
}

impl From<Role> for Members {
    fn from(role: Role) -> Self {
        Self::Role(role)
    }
}

impl From<&str> for Members {
    fn from(prefix: &str) -> Self {
        Self::Prefix(prefix.to_owned())
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rules.is_empty() {
            return f.write_str("one group");
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let (what, scale) = match rule.setting {
                Setting::WeightDecay(scale) => ("weight decay", scale),
                Setting::LearningRate(scale) => ("learning rate", scale),
            };
            write!(f, "{separator}{}: {what} x {scale}", rule.members)?;
        }
        Ok(())
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(Role::Weight) => f.write_str("weight"),
            Self::Role(Role::Bias) => f.write_str("bias"),
            Self::Role(Role::Normalisation) => f.write_str("normalisation"),
            Self::Role(Role::Embedding) => f.write_str("embedding"),
            Self::Role(Role::Other) => f.write_str("other"),
            Self::Prefix(prefix) => write!(f, "`{prefix}`"),
        }
    }
}

/// Refuses a factor that is negative or not finite.
pub(super) fn check_scale(name: &str, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::config(format!("{name} must be >= 0 and finite, found {value}")))
}
