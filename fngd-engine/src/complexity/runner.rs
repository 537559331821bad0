//! One method at work on a chain, recorded.

use super::chain::Chain;
use super::{REFRESH_STEPS, ROUNDS, SLOTS};
use crate::failure::{Failure, Result};
use crate::loss::Rows;
use crate::method;
use crate::profile::recorded::{self, RecordedStep};
use crate::profile::shares;
use fngd_cli::methods::has_inner;
use fngd_cli::protocol::{ChainKind, ChainSize, StepKind};
use fngd_cli::settings::OptimizerSettings;
use fngd_core::Share;
use fngd_core::optimizer::{self, Batch, Method, Optimizer, StepOptions};
use fngd_core::timeline::{Phase, Timeline, enter};
use tch::Device;

/// Small, so that many steps on the same samples stay finite; the time of a step does not depend on it.
const LEARNING_RATE: f64 = 1e-4;

/// Steps that nobody counts.
const WARM_UP: usize = 2;

/// A method with a chain of its own.
pub struct Runner {
    pub name: String,
    chain: Chain,
    optimizer: Box<dyn Optimizer>,
    timeline: Timeline,
    has_first_epoch: bool,
    uneven: bool,
    recorded: Vec<RecordedStep>,
}

/// What one kind of step takes, in milliseconds, and what the method keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub method: String,
    pub kind: StepKind,
    pub step: f64,
    /// Gram, solve, precondition.
    pub preconditioning: f64,
    /// `None` where the update is SGD's own.
    pub update: Option<f64>,
    pub state_bytes: u64,
}

impl Runner {
    pub fn build(name: &str, chain: (ChainKind, ChainSize), device: Device) -> Result<Self> {
        let settings = OptimizerSettings { name: name.to_owned(), ..OptimizerSettings::default() };
        let mut method = method::method(&settings, 0)?;
        if crate::profile::period(&method) > REFRESH_STEPS {
            // As often as the others: else a measurement would take hundreds of steps.
            let settings = OptimizerSettings { refresh_every_steps: Some(REFRESH_STEPS as u64), ..settings.clone() };
            method = method::method(&settings, 0)?;
        }
        let chain = Chain::build(chain.0, chain.1, device)?;
        let optimizer = optimizer::build(&chain, &method, &method::groups(&settings), &StepOptions::default())?;
        Ok(Self {
            name: name.to_owned(),
            chain,
            optimizer,
            timeline: Timeline::new(device),
            has_first_epoch: matches!(&method, Method::Fngd { config, .. } if config.share != Share::None),
            uneven: crate::profile::period(&method) > 1,
            recorded: Vec::new(),
        })
    }

    /// Steps that are forgotten; they fill the bank of FNGD.
    pub fn warm_up(&mut self) -> Result<()> {
        if self.has_first_epoch {
            self.block(0, SLOTS)?;
        }
        self.block(1, WARM_UP)?;
        self.timeline.take();
        Ok(())
    }

    /// A refresh period of steps of each kind.
    pub fn round(&mut self) -> Result<()> {
        let kind = if self.has_first_epoch { StepKind::LaterEpochs } else { StepKind::Every };
        self.block(1, SLOTS)?;
        self.recorded.extend(recorded::steps(self.timeline.take(), kind));
        if self.has_first_epoch {
            self.block(0, SLOTS)?;
            self.recorded.extend(recorded::steps(self.timeline.take(), StepKind::FirstEpoch));
        }
        Ok(())
    }

    /// After all rounds.
    pub fn measured(mut self) -> Result<Vec<Measured>> {
        if !self.has_first_epoch {
            recorded::tell_refreshes_apart(&mut self.recorded);
        }
        debug_assert!(self.recorded.len() >= ROUNDS * SLOTS);
        let state = self.optimizer.state()?;
        let state_bytes =
            state.iter().map(|(_, tensor)| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum();
        let measured = |(kind, times): (StepKind, shares::StepTimes)| Measured {
            method: self.name.clone(),
            kind,
            step: times.whole,
            preconditioning: [Phase::Gram, Phase::Solve, Phase::Precondition]
                .map(|phase| times.phase(phase))
                .iter()
                .sum(),
            update: (!has_inner(&self.name)).then(|| times.phase(Phase::Update)),
            state_bytes,
        };
        Ok(shares::whole_periods(&self.recorded, self.uneven).into_iter().map(measured).collect())
    }

    fn block(&mut self, epoch: u64, steps: usize) -> Result<()> {
        (0..steps as u64).try_for_each(|slot| self.step(epoch, slot))
    }

    fn step(&mut self, epoch: u64, slot: u64) -> Result<()> {
        let _recording = self.timeline.install();
        let _step = enter(Phase::Step);
        let size = self.chain.inputs.size()[0];
        let first = slot as i64 * size;
        self.optimizer.begin(&Batch { epoch, slot, samples: (first..first + size).collect() })?;
        let loss = {
            let _forward = enter(Phase::Forward);
            let logits = self.optimizer.logits(self.chain.logits()?)?;
            Rows::of(&logits, &self.chain.labels)?.cross_entropy(0.0)?
        };
        {
            let _backward = enter(Phase::Backward);
            self.optimizer.backward(&loss, 1)?;
        }
        let loss = f64::try_from(&loss)?;
        let _update = enter(Phase::Update);
        let report = self.optimizer.step(LEARNING_RATE)?;
        if report.skipped || !loss.is_finite() {
            return Err(Failure::diverged(format!("bench complexity: `{}` met a loss of {loss}", self.name)));
        }
        Ok(())
    }
}
