//! Ten steps of FNGD from the same weights on the same batches.

use crate::Failure;
use crate::networks::{Batch, Network};
use fngd_core::optimizer::{self, Groups, Inner, Method, StepOptions};
use fngd_core::{FngdConfig, FngdModule};
use fngd_module::{BuildOptions, Precision, TrainableModule};
use fngd_onnx::OnnxModel;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Reduction, Tensor};

const STEPS: u64 = 10;
/// So that weights of samples are solved for in four steps, and recalled in six.
const STEPS_PER_EPOCH: u64 = 4;
const BATCH_SIZE: i64 = 6;
const LEARNING_RATE: f64 = 0.05;

/// What training left.
struct Outcome {
    losses: Vec<f64>,
    tensors: BTreeMap<String, Tensor>,
}

/// How far two outcomes are apart.
#[derive(Debug)]
struct Apart {
    /// The largest difference of losses, relative to 1 or the loss.
    losses: f64,
    /// The tensor that differs most, by how much relative to its largest element.
    tensors: (String, f64),
}

#[test]
fn in_float64_both_are_the_same() -> Result<(), Failure> {
    for network in Network::all() {
        let name = network.name;
        let apart = apart(network, Precision::Float64, |_| ())?;
        assert!(apart.losses < 1e-10 && apart.tensors.1 < 1e-10, "{name}: {apart:?}");
    }
    Ok(())
}

#[test]
fn in_float32_both_are_the_same_up_to_rounding() -> Result<(), Failure> {
    // Attention is one kernel in the model and several nodes in the file; rounding errors grow from step to step.
    for network in Network::all().chain([Network::resnet20()]) {
        let name = network.name;
        let apart = apart(network, Precision::Float32, |_| ())?;
        assert!(apart.losses < 1e-6 && apart.tensors.1 < 1e-5, "{name}: {apart:?}");
    }
    Ok(())
}

#[test]
fn a_weight_that_differs_a_little_is_noticed() -> Result<(), Failure> {
    for network in Network::all() {
        let name = network.name;
        let apart = apart(network, Precision::Float64, |tensors| {
            // OK because every network has a tensor. One element of it: equal additions to all logits would change no loss.
            let _ = tensors.last().unwrap().1.reshape([-1]).get(0).f_add_scalar_(1e-6);
        })?;
        assert!(apart.losses > 1e-10 && apart.tensors.1 > 1e-10, "{name}: {apart:?}");
    }
    Ok(())
}

/// Trains `network` and its file, whose weights `change` may change first.
fn apart(mut network: Network, precision: Precision, change: fn(&[(String, Tensor)])) -> Result<Apart, Failure> {
    let file = OnnxModel::from_bytes(network.to_onnx()?, Path::new(network.name), &Default::default())?;
    let mut imported = TrainableModule::build(&file, &BuildOptions { precision, ..BuildOptions::default() })?;
    if precision == Precision::Float64 {
        network.variables.double();
    }
    tch::no_grad(|| change(&imported.tensors()));
    let batches: Vec<Batch> = (0..STEPS_PER_EPOCH).map(|slot| network.batch(BATCH_SIZE, slot as i64)).collect();
    let kind = if precision == Precision::Float64 { Kind::Double } else { Kind::Float };
    let batches: Vec<Batch> = batches
        .into_iter()
        .map(|Batch { inputs, labels }| {
            let as_kind = |input: Tensor| if input.kind() == Kind::Float { input.to_kind(kind) } else { input };
            Batch { inputs: inputs.into_iter().map(as_kind).collect(), labels }
        })
        .collect();
    let losses = train(&network.model, &|inputs| Ok(network.model.forward_t(inputs, true)), &batches)?;
    let derived = Outcome { losses, tensors: network.variables.variables().into_iter().collect() };
    imported.set_training(true);
    let losses = train(&imported, &|inputs| Ok(imported.logits(inputs)?), &batches)?;
    Ok(derived.apart(&Outcome { losses, tensors: imported.tensors().into_iter().collect() }))
}

/// The losses of all steps.
fn train(
    module: &dyn FngdModule,
    forward: &dyn Fn(&[Tensor]) -> Result<Tensor, Failure>,
    batches: &[Batch],
) -> Result<Vec<f64>, Failure> {
    let method = Method::Fngd { config: FngdConfig::default(), inner: Inner::default() };
    let mut optimizer = optimizer::build(module, &method, &Groups::default(), &StepOptions::default())?;
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let (epoch, slot) = (step / STEPS_PER_EPOCH, step % STEPS_PER_EPOCH);
        let first = slot as i64 * BATCH_SIZE;
        optimizer.begin(&optimizer::Batch { epoch, slot, samples: (first..first + BATCH_SIZE).collect() })?;
        let Batch { inputs, labels } = &batches[slot as usize];
        let logits = optimizer.logits(forward(inputs)?)?;
        let classes = logits.size().last().copied().unwrap_or(1);
        let logits = logits.f_reshape([-1, classes])?;
        let loss = logits.f_cross_entropy_loss(&labels.reshape([-1]), None::<&Tensor>, Reduction::Mean, -100, 0.0)?;
        optimizer.backward(&loss, 1)?;
        let report = optimizer.step(LEARNING_RATE)?;
        let known = if epoch == 0 { report.solved } else { report.recalled };
        assert!(known > 0 && report.unknown + report.fallbacks == 0 && !report.skipped, "step {step}: {report:?}");
        losses.push(loss.double_value(&[]));
    }
    Ok(losses)
}

impl Outcome {
    fn apart(&self, other: &Outcome) -> Apart {
        let losses = self.losses.iter().zip(&other.losses).map(|(a, b)| (a - b).abs() / a.abs().max(1.0));
        // The running variance is that of PyTorch on one side and that of ONNX on the other.
        let names = self.tensors.keys().chain(other.tensors.keys());
        let tensors = names.map(|name| (name.clone(), self.difference(other, name)));
        Apart {
            losses: losses.fold(0.0, f64::max),
            // What is not a number is further apart than anything else.
            tensors: tensors.max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap_or_default(),
        }
    }

    fn difference(&self, other: &Outcome, name: &str) -> f64 {
        let (Some(ours), Some(theirs)) = (self.tensors.get(name), other.tensors.get(name)) else {
            return f64::INFINITY;
        };
        let is_exact = ours.kind() == Kind::Double;
        let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
        if name.ends_with("running_var") {
            return variances_apart(&ours, &theirs, is_exact);
        }
        relative(&ours, &theirs)
    }
}

/// PyTorch's running variance is that of samples, with divisor n - 1; ONNX's has divisor n. So what was added to the initial ones
/// differs by a factor n / (n - 1), the same for all channels.
fn variances_apart(ours: &Tensor, theirs: &Tensor, is_exact: bool) -> f64 {
    let initial = 0.9f64.powi(STEPS as i32);
    let (ours, theirs) = (ours - initial, theirs - initial);
    let factor = ours.sum(Kind::Double).double_value(&[]) / theirs.sum(Kind::Double).double_value(&[]);
    // Positions of each sample. Rounding errors of float32 hide that the number is whole where it is large.
    let positions = factor / (factor - 1.0) / BATCH_SIZE as f64;
    let uncertainty = if is_exact { 1e-6 } else { 0.01 * positions };
    let is_whole = (positions - positions.round()).abs() < uncertainty;
    if is_whole { relative(&ours, &(theirs * factor)) } else { f64::INFINITY }
}

fn relative(ours: &Tensor, theirs: &Tensor) -> f64 {
    (ours - theirs).abs().max().double_value(&[]) / ours.abs().max().double_value(&[]).max(1e-6)
}
