//! One step of any method: gradient source, then guard and clipping, then the inner rule.

use super::as_built::AsBuilt;
use super::{
    Batch, GradientSource, GroupedParameter, LayerReport, Optimizer, PhaseTime, StepOptions, StepReport, UpdateRule,
};
use crate::state::TensorMap;
use crate::timeline::{self, Phase};
use crate::{Error, Parameter, Result, tap};
use std::collections::HashSet;
use std::ops::AddAssign;
use std::time::{Duration, Instant};
use tch::Tensor;

/// An optimizer made of a [`GradientSource`] and an [`UpdateRule`].
pub struct Composed {
    parameters: Vec<GroupedParameter>,
    as_built: AsBuilt,
    source: Box<dyn GradientSource>,
    rule: Box<dyn UpdateRule>,
    options: StepOptions,
    /// What the backward passes since the last step did.
    pending: StepReport,
}

/// Prefixes that keep the names of the two parts' states apart.
const SOURCE: &str = "gradient";
const RULE: &str = "rule";

impl Composed {
    /// Puts the parts together.
    ///
    /// # Errors
    /// `is_config()` if an option is out of range, if there is nothing to train, or if two parameters have the same name.
    pub fn build(
        parameters: Vec<GroupedParameter>,
        source: Box<dyn GradientSource>,
        rule: Box<dyn UpdateRule>,
        options: StepOptions,
    ) -> Result<Self> {
        options.check()?;
        if parameters.is_empty() {
            return Err(Error::config("the model has no trainable parameter"));
        }
        let mut names = HashSet::new();
        if let Some(twice) = parameters.iter().find(|parameter| !names.insert(parameter.name())) {
            return Err(Error::config(format!("two parameters are named `{}`", twice.name())));
        }
        let as_built = AsBuilt::of(&parameters)?;
        Ok(Self { parameters, as_built, source, rule, options, pending: StepReport::default() })
    }

    /// The parameters and what their groups say.
    pub fn parameters(&self) -> &[GroupedParameter] {
        &self.parameters
    }

    /// Lets `frozen`, tensors of the model that do not train, be watched: one that is unfrozen is an error of backward.
    #[must_use]
    pub(crate) fn watching(mut self, frozen: Vec<Parameter>) -> Self {
        self.as_built.watch(frozen);
        self
    }

    /// A part of the gradients may be there. The next step must not apply it.
    fn abandon(&mut self, error: Error) -> Result<()> {
        self.pending = StepReport::default();
        self.source.discard()?;
        self.clear_gradients()?;
        Err(error)
    }

    /// Lets the gradients go rather than zeroing them: the next backward then adopts its results instead of adding to zeros.
    fn clear_gradients(&self) -> Result<()> {
        self.parameters.iter().try_for_each(|parameter| tap::clear_grad(&parameter.parameter.tensor))
    }
}

impl Optimizer for Composed {
    fn begin(&mut self, batch: &Batch) -> Result<()> {
        self.source.begin(batch)
    }

    fn begin_seen(&mut self, epoch: u64, slot: u64) -> Result<()> {
        self.source.begin_seen(epoch, slot).or_else(|error| self.abandon(error))
    }

    fn logits(&mut self, logits: Tensor) -> Result<Tensor> {
        self.source.logits(logits)
    }

    fn backward(&mut self, loss: &Tensor, accumulation: usize) -> Result<()> {
        let done = match self.as_built.check().and_then(|()| self.source.backward(loss, accumulation)) {
            Ok(done) => done,
            Err(error) => return self.abandon(error),
        };
        self.pending.solved += done.solved;
        self.pending.recalled += done.recalled;
        self.pending.unknown += done.unknown;
        self.pending.fallbacks += done.fallbacks;
        self.pending.time += done.time;
        Ok(())
    }

    fn step(&mut self, learning_rate: f64) -> Result<StepReport> {
        let start = Instant::now();
        let mut report = std::mem::take(&mut self.pending);
        let verdict = self.options.apply(&self.parameters)?;
        let mut finishing = Duration::ZERO;
        if verdict.skip {
            self.source.discard()?;
        } else {
            let start = Instant::now();
            let span = timeline::enter(Phase::Precondition);
            if let Err(error) = self.source.finish(learning_rate, &mut report) {
                self.clear_gradients()?;
                return Err(error);
            }
            drop(span);
            finishing = start.elapsed();
            self.rule.update(&self.parameters, learning_rate)?;
            let failures = self.rule.failures();
            report.retried += failures.retried;
            report.fallbacks += failures.kept;
        }
        self.clear_gradients()?;
        report.gradient_norm = verdict.norm;
        report.skipped = verdict.skip;
        // What the source does here belongs to making the gradient.
        report.time.backward += finishing;
        report.time.update = start.elapsed().saturating_sub(finishing);
        Ok(report)
    }

    fn layers(&self) -> Result<Vec<LayerReport>> {
        self.source.layers()
    }

    fn sample_weights(&self) -> Result<Vec<(String, Tensor)>> {
        self.source.sample_weights()
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let source = prefixed(SOURCE, self.source.state()?);
        let rule = prefixed(RULE, self.rule.state(&self.parameters)?);
        Ok(source.chain(rule).collect())
    }

    fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let mut state = TensorMap::new(state)?;
        let mut source = state.split(SOURCE);
        let mut rule = state.split(RULE);
        self.rule
            .load_state(&self.parameters, &mut rule)
            .and_then(|()| rule.finish())
            .map_err(|error| error.at(RULE))?;
        self.source.load_state(&mut source).and_then(|()| source.finish()).map_err(|error| error.at(SOURCE))?;
        state.finish()
    }

    fn state_bytes(&self) -> u64 {
        self.source.state_bytes() + self.rule.state_bytes(&self.parameters)
    }
}

impl AddAssign for PhaseTime {
    fn add_assign(&mut self, other: Self) {
        self.backward += other.backward;
        self.gram += other.gram;
        self.solve += other.solve;
        self.precondition += other.precondition;
        self.update += other.update;
    }
}

fn prefixed(prefix: &str, state: Vec<(String, Tensor)>) -> impl Iterator<Item = (String, Tensor)> {
    state.into_iter().map(move |(name, tensor)| (format!("{prefix}.{name}"), tensor))
}
