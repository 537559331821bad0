//! One optimizer with a network of its own, and the times of its steps.

use super::statistics::median;
use crate::batches::channels_last;
use crate::failure::{Failure, Result};
use crate::loss::Rows;
use crate::network::Network;
use crate::onnx_network::OnnxNetwork;
use crate::timing::{Phases, timed};
use crate::{device, method};
use fngd_cli::methods;
use fngd_cli::protocol::BenchStep;
use fngd_cli::settings::OptimizerSettings;
use fngd_core::Share;
use fngd_core::optimizer::{self, Batch, Method, Optimizer, StepOptions};
use fngd_module::BuildOptions;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Small, so that training on noise for many steps stays finite; the time of a step does not depend on it.
const LEARNING_RATE: f64 = 1e-3;

/// One optimizer at work on inputs made up for the model.
pub struct Contender {
    pub name: String,
    /// Seconds of each step, round by round: steps as they are from the second epoch on.
    pub steady: Vec<Vec<f64>>,
    /// Steps of the first epoch, which form and solve Gram matrices. Empty for methods where all steps are alike.
    pub first_epoch: Vec<Vec<f64>>,
    network: OnnxNetwork,
    optimizer: Box<dyn Optimizer>,
    inputs: Vec<Tensor>,
    labels: Tensor,
    device: Device,
    has_first_epoch: bool,
    /// Whether some steps do more than others, so that a median does not tell what they cost.
    pub uneven: bool,
    phases: [Vec<Phases>; 2],
}

impl Contender {
    /// `name`: a method, over SGD if it has an inner rule, or one with its inner rule, such as `fngd-muon`.
    pub fn build(name: &str, job: &BenchStep, device: Device) -> Result<Self> {
        let (optimizer, inner) = methods::split(name).unwrap_or((name, None));
        let inner = inner.map(str::to_owned);
        let settings = OptimizerSettings { name: optimizer.to_owned(), inner, ..OptimizerSettings::default() };
        let method = method::method(&settings, 0)?;
        let dims = job.dims.clone();
        let options = BuildOptions { device, channels_last: job.channels_last, dims, ..BuildOptions::default() };
        let mut network = OnnxNetwork::build(OnnxNetwork::open(&job.model, &Default::default(), None)?, &options)?;
        network.set_training(true);
        let batch = i64::try_from(job.batch).map_err(|_| Failure::usage("bench step: batch is too large"))?;
        let inputs = network.module.example_inputs(batch, &job.dims, 0)?;
        // As training gets them, so that no step pays for it.
        let lay_out = |input: &Tensor| if job.channels_last { channels_last(input) } else { Ok(input.shallow_clone()) };
        let inputs = inputs.iter().map(lay_out).collect::<fngd_core::Result<Vec<_>>>()?;
        let labels = labels(&network, &inputs, device)?;
        let optimizer = optimizer::build(&network, &method, &method::groups(&settings), &StepOptions::default())?;
        Ok(Self {
            name: name.to_owned(),
            steady: Vec::new(),
            first_epoch: Vec::new(),
            network,
            optimizer,
            inputs,
            labels,
            device,
            has_first_epoch: matches!(&method, Method::Fngd { config, .. } if config.share != Share::None),
            uneven: matches!(
                method,
                Method::Kfac { .. }
                    | Method::Skfac { .. }
                    | Method::Tengrad { .. }
                    | Method::Hylo { .. }
                    | Method::Mbf { .. }
                    | Method::Seng { .. }
                    | Method::Shampoo(_)
                    | Method::Soap(_)
            ),
            phases: [Vec::new(), Vec::new()],
        })
    }

    /// Steps that are not timed: kernels are chosen, memory is taken, the bank is filled.
    pub fn warm_up(&mut self, steps: usize) -> Result<()> {
        self.block(0, steps)?;
        self.block(1, steps.min(3))?;
        Ok(())
    }

    /// One block of steps of each kind.
    pub fn round(&mut self, steps: usize) -> Result<()> {
        let block = self.timed_block(1, steps)?;
        self.steady.push(block);
        if self.has_first_epoch {
            let block = self.timed_block(0, steps)?;
            self.first_epoch.push(block);
        }
        Ok(())
    }

    /// Steps timed so far.
    pub fn steps(&self) -> usize {
        self.steady.iter().chain(&self.first_epoch).map(Vec::len).sum()
    }

    pub fn steady_phases(&self) -> serde_json::Value {
        medians(&self.phases[1])
    }

    pub fn first_epoch_phases(&self) -> serde_json::Value {
        medians(&self.phases[0])
    }

    /// The first steps of epoch 0 (which solves) or 1 (which recalls).
    pub fn block(&mut self, epoch: u64, steps: usize) -> Result<Vec<(Duration, Phases)>> {
        (0..steps as u64).map(|slot| self.step(epoch, slot)).collect()
    }

    fn timed_block(&mut self, epoch: u64, steps: usize) -> Result<Vec<f64>> {
        let block = self.block(epoch, steps)?;
        self.phases[epoch as usize].extend(block.iter().map(|(_, phases)| *phases));
        Ok(block.iter().map(|(time, _)| time.as_secs_f64()).collect())
    }

    fn step(&mut self, epoch: u64, slot: u64) -> Result<(Duration, Phases)> {
        device::synchronize(self.device);
        let start = Instant::now();
        let mut phases = Phases::default();
        let samples = self.inputs[0].size()[0];
        let first = slot as i64 * samples;
        self.optimizer.begin(&Batch { epoch, slot, samples: (first..first + samples).collect() })?;
        let loss = timed(&mut phases.forward, || {
            let logits = self.optimizer.logits(self.network.module.logits(&self.inputs)?)?;
            Rows::of(&logits, &self.labels)?.cross_entropy(0.0)
        })?;
        self.optimizer.backward(&loss, 1)?;
        let loss = f64::try_from(&loss)?;
        let report = self.optimizer.step(LEARNING_RATE)?;
        device::synchronize(self.device);
        let elapsed = start.elapsed();
        if report.skipped || !loss.is_finite() {
            return Err(Failure::diverged(format!("bench step: `{}` met a loss of {loss}", self.name)));
        }
        phases.add_optimizer(&report.time);
        Ok((elapsed, phases))
    }
}

/// Random classes for whatever the model answers with: `[B]`, or `[B, T]` for a sequence.
pub fn labels(network: &OnnxNetwork, inputs: &[Tensor], device: Device) -> Result<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let size = network.module.logits(inputs)?.size();
    let (classes, rows) = size.split_last().ok_or_else(|| Failure::model("the model answers with a scalar"))?;
    tch::manual_seed(0);
    Ok(Tensor::f_randint(*classes, rows, (Kind::Int64, Device::Cpu))?.f_to_device(device)?)
}

/// Median milliseconds of each phase.
fn medians(steps: &[Phases]) -> serde_json::Value {
    let by_step: Vec<_> = steps.iter().map(|phases| phases.per_step(1)).collect();
    let names = by_step.first().map(|phases| phases.iter().map(|(name, _)| name.clone())).into_iter().flatten();
    let entries = names.enumerate().filter_map(|(index, name)| {
        let times: Vec<f64> = by_step.iter().map(|phases| phases[index].1 * 1e3).collect();
        Some((name, serde_json::Value::from(median(&times)?)))
    });
    serde_json::Value::Object(entries.collect())
}
