//! One method at work with a network of its own, recorded.

use super::recorded::{self, RecordedStep};
use crate::batches::{Batches, channels_last};
use crate::events::Events;
use crate::failure::{Failure, Result};
use crate::jobs::Context;
use crate::loss::Rows;
use crate::network::Network;
use crate::onnx_network::OnnxNetwork;
use crate::session::Session;
use crate::{bench, method};
use fngd_cli::protocol::{Profile, StepKind};
use fngd_cli::settings::{OptimizerSettings, Settings};
use fngd_core::optimizer::{self, Batch, Method, Optimizer, StepOptions};
use fngd_core::timeline::{Phase, Timeline, enter};
use fngd_core::{Layer, Share};
use fngd_module::BuildOptions;
use std::rc::Rc;
use tch::Tensor;

/// Small, so that many steps on the same few batches stay finite; the time of a step does not depend on it.
const LEARNING_RATE: f64 = 1e-3;

/// One method of the comparison.
pub struct Subject {
    /// `fngd`, or `fngd over muon`.
    pub name: String,
    pub layers: Vec<Layer>,
    pub recorded: Vec<RecordedStep>,
    /// Whether some steps do more than others.
    pub uneven: bool,
    network: OnnxNetwork,
    optimizer: Box<dyn Optimizer>,
    samples: Samples,
    timeline: Timeline,
    /// Whether steps of the first epoch are other steps than later ones.
    has_first_epoch: bool,
    /// Steps of each kind.
    steps: usize,
}

/// Where batches come from.
enum Samples {
    MadeUp {
        inputs: Vec<Tensor>,
        labels: Tensor,
    },
    /// A data set, cut, shuffled and augmented as for training.
    Loaded(Rc<Batches>),
}

impl Subject {
    /// `tells`: whether what is to be said of model and data is said.
    pub fn build(
        context: &Context,
        job: &Profile,
        optimizer: &OptimizerSettings,
        timeline: &Timeline,
        tells: bool,
    ) -> Result<Self> {
        let settings = Settings { optimizer: optimizer.clone(), ..job.settings.clone() };
        let method = method::method(optimizer, settings.train.seed)?;
        let (network, optimizer, samples) = match &job.data {
            Some(source) => {
                let events = if tells { context.events.clone() } else { Events::to(std::io::sink()) };
                let parts = Session::build(&settings, source, context.device, &events)?.parts;
                (parts.network, parts.optimizer, Samples::Loaded(parts.train))
            }
            None => made_up(context, job, &settings, &method)?,
        };
        let mut network = network;
        network.set_training(true);
        let period = period(&method);
        Ok(Self {
            name: name(&settings.optimizer),
            layers: fngd_core::Inventory::of(&network).layers,
            recorded: Vec::new(),
            uneven: period > 1,
            network,
            optimizer,
            samples,
            timeline: timeline.clone(),
            has_first_epoch: matches!(&method, Method::Fngd { config, .. } if config.share != Share::None),
            steps: job.steps.div_ceil(period) * period,
        })
    }

    /// Steps that are forgotten. They fill the bank of FNGD for those that are not.
    pub fn warm_up(&mut self, steps: usize) -> Result<()> {
        if self.has_first_epoch {
            let slots = self.steps.min(self.samples.full_slots());
            self.block(0, 0..slots)?;
        }
        self.block(1, 0..steps)?;
        self.timeline.take();
        Ok(())
    }

    /// One of `rounds` blocks of steps of each kind.
    pub fn round(&mut self, round: usize, rounds: usize) -> Result<()> {
        let block = self.steps * round / rounds..self.steps * (round + 1) / rounds;
        let kind = if self.has_first_epoch { StepKind::LaterEpochs } else { StepKind::Every };
        self.block(1, block.clone())?;
        self.recorded.extend(recorded::steps(self.timeline.take(), kind));
        if self.has_first_epoch {
            self.block(0, block)?;
            self.recorded.extend(recorded::steps(self.timeline.take(), StepKind::FirstEpoch));
        } else if round + 1 == rounds {
            recorded::tell_refreshes_apart(&mut self.recorded);
        }
        Ok(())
    }

    fn block(&mut self, epoch: u64, steps: std::ops::Range<usize>) -> Result<()> {
        let slots = self.samples.full_slots();
        steps.map(|step| step % slots).try_for_each(|slot| self.step(epoch, slot))
    }

    fn step(&mut self, epoch: u64, slot: usize) -> Result<()> {
        let _recording = self.timeline.install();
        let _step = enter(Phase::Step);
        let (inputs, labels, samples) = {
            let _data = enter(Phase::Data);
            self.samples.batch(epoch, slot)?
        };
        self.optimizer.begin(&Batch { epoch, slot: slot as u64, samples })?;
        let loss = {
            let _forward = enter(Phase::Forward);
            let logits = self.optimizer.logits(self.network.module.logits(&inputs)?)?;
            Rows::of(&logits, &labels)?.cross_entropy(0.0)?
        };
        {
            let _backward = enter(Phase::Backward);
            self.optimizer.backward(&loss, 1)?;
        }
        let loss = f64::try_from(&loss)?;
        let report = {
            let _update = enter(Phase::Update);
            self.optimizer.step(LEARNING_RATE)?
        };
        if report.skipped || !loss.is_finite() {
            return Err(Failure::diverged(format!("profile: `{}` met a loss of {loss}", self.name)));
        }
        Ok(())
    }
}

impl Samples {
    /// Batches of the full size: what a smaller last one costs is nobody's question.
    fn full_slots(&self) -> usize {
        match self {
            Self::MadeUp { .. } => usize::MAX,
            Self::Loaded(batches) => {
                let slots = batches.slots();
                let last_is_full = batches.size_of(slots - 1) == batches.size_of(0);
                if last_is_full { slots } else { (slots - 1).max(1) }
            }
        }
    }

    fn batch(&self, epoch: u64, slot: usize) -> Result<(Vec<Tensor>, Tensor, Vec<i64>)> {
        match self {
            Self::MadeUp { inputs, labels } => {
                let size = inputs[0].size()[0];
                let first = slot as i64 * size;
                let inputs = inputs.iter().map(Tensor::shallow_clone).collect();
                Ok((inputs, labels.shallow_clone(), (first..first + size).collect()))
            }
            Self::Loaded(batches) => {
                let batch = batches.epoch(epoch).batch(slot)?;
                Ok((vec![batch.images], batch.labels, batch.indices))
            }
        }
    }
}

fn made_up(
    context: &Context,
    job: &Profile,
    settings: &Settings,
    method: &Method,
) -> Result<(OnnxNetwork, Box<dyn Optimizer>, Samples)> {
    let channels_last_wanted = settings.train.channels_last;
    let options = BuildOptions {
        device: context.device,
        channels_last: channels_last_wanted,
        dims: job.dims.clone(),
        ..BuildOptions::default()
    };
    let model = OnnxNetwork::open(&settings.model, &settings.import, settings.train.freeze.as_deref())?;
    let mut network = OnnxNetwork::build(model, &options)?;
    network.set_training(true);
    let batch = i64::try_from(settings.train.batch).map_err(|_| Failure::usage("profile: batch is too large"))?;
    let inputs = network.module.example_inputs(batch, &job.dims, 0)?;
    // As training gets them, so that no step pays for it.
    let lay_out = |input: &Tensor| if channels_last_wanted { channels_last(input) } else { Ok(input.shallow_clone()) };
    let inputs = inputs.iter().map(lay_out).collect::<fngd_core::Result<Vec<_>>>()?;
    let labels = bench::labels(&network, &inputs, context.device)?;
    let options = StepOptions { clip_norm: settings.train.clip_norm, ..StepOptions::default() };
    let optimizer = optimizer::build(&network, method, &method::groups(&settings.optimizer), &options)?;
    Ok((network, optimizer, Samples::MadeUp { inputs, labels }))
}

/// The method, and what it is put over if that is not SGD.
pub fn name(settings: &OptimizerSettings) -> String {
    match settings.inner.as_deref() {
        Some(inner) if inner != "sgd" => format!("{} over {inner}", settings.name),
        _ => settings.name.clone(),
    }
}

/// Steps after which a method's work repeats itself.
pub fn period(method: &Method) -> usize {
    let steps = match method {
        Method::Kfac { config, .. } => config.refresh_every_steps.max(config.statistics_every_steps),
        Method::Skfac { config, .. } => config.refresh_every_steps,
        Method::Tengrad { config, .. } => config.refresh_every_steps,
        Method::Hylo { config, .. } => config.refresh_every_steps,
        Method::Seng { config, .. } => config.refresh_every_steps,
        Method::Mbf { config, .. } => config.refresh_every_steps.max(config.statistics_every_steps),
        Method::Shampoo(config) => config.roots_every_steps.max(config.statistics_every_steps),
        Method::Soap(config) => config.basis_every_steps,
        Method::Sgd(_) | Method::Adamw(_) | Method::Muon(_) | Method::Fngd { .. } | Method::Eva { .. } => 1,
    };
    // OK because every one of them is checked to be at least 1 when the optimizer is built; 0 would be no period.
    usize::try_from(steps).unwrap_or(usize::MAX).max(1)
}
