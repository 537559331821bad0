//! One optimizer at work with a network of its own.

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
use fngd_core::optimizer::{self, Batch, Method, Optimizer, StepOptions};
use fngd_module::BuildOptions;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Small, so that training on noise for many steps stays finite; the time of a step does not depend on it.
const LEARNING_RATE: f64 = 1e-3;

/// A method by the name that the benchmark knows it by: a method, over SGD if it has an inner rule, or one with its inner rule, such as
/// `fngd-muon`.
pub fn method_of(name: &str) -> Result<Method> {
    method::method(&settings_of(name), 0)
}

fn settings_of(name: &str) -> OptimizerSettings {
    let (optimizer, inner) = methods::split(name).unwrap_or((name, None));
    OptimizerSettings { name: optimizer.to_owned(), inner: inner.map(str::to_owned), ..OptimizerSettings::default() }
}

/// One optimizer and its network, at work on inputs made up for the model.
pub struct Trainee {
    name: String,
    network: OnnxNetwork,
    optimizer: Box<dyn Optimizer>,
    inputs: Vec<Tensor>,
    labels: Tensor,
    device: Device,
}

impl Trainee {
    /// `method` is that of `name`, or differs in how often it does what.
    pub fn build(name: &str, method: &Method, job: &BenchStep, device: Device) -> Result<Self> {
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
        let groups = method::groups(&settings_of(name));
        let optimizer = optimizer::build(&network, method, &groups, &StepOptions::default())?;
        Ok(Self { name: name.to_owned(), network, optimizer, inputs, labels, device })
    }

    /// The first steps of epoch 0 (which solves, for FNGD) or 1 (which recalls): the time of each, and of its phases.
    pub fn block(&mut self, epoch: u64, steps: usize) -> Result<Vec<(Duration, Phases)>> {
        (0..steps as u64).map(|slot| self.step(epoch, slot)).collect()
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
