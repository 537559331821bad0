//! The gradient source of all methods that keep a curvature of each layer.

use super::Pace;
use super::collector::Collector;
use super::curvature::{Curvature, Gradient, Update};
use crate::optimizer::gradient::backpropagate;
use crate::optimizer::{BackwardReport, Batch, GradientSource, LayerReport, PhaseTime, StepReport};
use crate::preconditioner::{Facts, lock};
use crate::state::TensorMap;
use crate::tap::ParameterGrads;
use crate::timeline::{self, Phase};
use crate::{Error, Layer, Result};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tch::{Kind, Tensor};

/// The gradient of every tapped layer times the inverse of its curvature, and the plain gradient of everything else.
///
/// Backward gives the plain gradient and lets the curvatures look on. When the gradients of all micro-batches are in, and have
/// passed guard and clipping, the curvatures take in what they saw, are factorised if that is due, and turn the gradient.
/// A step whose gradient is not finite leaves no trace. Layers whose batch axis is not known train with the plain gradient.
///
/// Building it taps the layers; dropping it takes the taps away again.
#[derive(Debug)]
pub struct LayerwiseGradient {
    layers: Vec<Layer>,
    pace: Pace,
    collector: Arc<Mutex<Collector>>,
    /// Steps that were made.
    steps: u64,
}

const STEPS: &str = "steps";

impl LayerwiseGradient {
    pub(super) fn build(
        method: &str,
        layers: Vec<Layer>,
        pace: Pace,
        make: impl Fn(usize, &Facts) -> Box<dyn Curvature>,
    ) -> Result<Self> {
        let pace = pace.check()?;
        if layers.is_empty() {
            let message = format!("the model has no linear or convolution layer that {method} could precondition");
            return Err(Error::config(message));
        }
        if let Some(layer) = layers.iter().find(|layer| layer.is_attached()) {
            let name = layer.name();
            return Err(Error::state(format!(
                "layer `{name}` is in the hands of another optimizer: drop that one first"
            )));
        }
        let collector = Collector::attach(&layers, make);
        Ok(Self { layers, pace, collector, steps: 0 })
    }
}

impl GradientSource for LayerwiseGradient {
    fn begin(&mut self, batch: &Batch) -> Result<()> {
        lock(&self.collector)?.begin(batch)
    }

    fn begin_seen(&mut self, _epoch: u64, _slot: u64) -> Result<()> {
        lock(&self.collector)?.begin_seen()
    }

    fn backward(&mut self, loss: &Tensor, accumulation: usize) -> Result<BackwardReport> {
        let start = Instant::now();
        let mut collector = lock(&self.collector)?;
        if collector.batch_size.is_none() {
            return Err(Error::state("backward before `begin`: say which samples the forward pass sees"));
        }
        collector.accumulation = accumulation.max(1) as f64;
        collector.observing = self.steps.is_multiple_of(self.pace.statistics_every_steps);
        drop(collector);
        // The lock is free meanwhile: the taps take it, layer by layer.
        let done = backpropagate(loss, accumulation);
        done?;
        let mut collector = lock(&self.collector)?;
        let _no_grad = tch::no_grad_guard();
        collector.finish_backward()?;
        let time = PhaseTime { backward: start.elapsed(), gram: collector.spent, ..Default::default() };
        Ok(BackwardReport { time, ..Default::default() })
    }

    fn finish(&mut self, learning_rate: f64, report: &mut StepReport) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let mut collector = lock(&self.collector)?;
        let refresh = self.steps.is_multiple_of(self.pace.refresh_every_steps);
        let mut directions = Vec::new();
        for layer in &mut collector.layers {
            let known_axis = layer.known_axis.take();
            let Some(gradient) = gradient_of(&layer.facts)? else { continue };
            if known_axis != Some(true) {
                layer.curvature.discard();
                report.unknown += 1;
                continue;
            }
            let at = |error: Error| error.at(format!("layer `{}`", layer.facts.name));
            let start = Instant::now();
            let span = timeline::enter_layer(Phase::Solve, &layer.facts.name);
            let update = layer.curvature.update(refresh).map_err(at)?;
            if update == Update::Kept {
                // Running averages at most, which are statistics.
                span.becomes(Phase::Gram);
            }
            drop(span);
            report.time.solve += start.elapsed();
            let start = Instant::now();
            let span = timeline::enter_layer(Phase::Precondition, &layer.facts.name);
            let direction = layer.curvature.precondition(&layer.facts, &gradient).map_err(at)?;
            drop(span);
            report.time.precondition += start.elapsed();
            if matches!(update, Update::Failed | Update::Made { retried: true }) && report.trouble.is_empty() {
                report.trouble.clone_from(&layer.facts.name);
            }
            match update {
                Update::Made { retried } => {
                    report.solved += 1;
                    report.retried += usize::from(retried);
                }
                Update::Failed => report.fallbacks += 1,
                Update::Kept if direction.is_some() => report.recalled += 1,
                Update::Kept => report.unknown += 1,
            }
            if let Some(direction) = direction {
                directions.push((gradient, direction));
            }
        }
        let start = Instant::now();
        let scale = self.pace.kl_clip.map(|kappa| kl_scale(&directions, learning_rate, kappa)).transpose()?;
        for (gradient, direction) in directions {
            replace(gradient.weight, direction.0, scale.as_ref())?;
            if let Some(bias) = gradient.bias {
                replace(bias, direction.1, scale.as_ref())?;
            }
        }
        report.time.precondition += start.elapsed();
        self.steps += 1;
        Ok(())
    }

    fn discard(&mut self) -> Result<()> {
        lock(&self.collector)?.discard();
        Ok(())
    }

    fn layers(&self) -> Result<Vec<LayerReport>> {
        Ok(Vec::new())
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        // OK because no run comes near 2^63 steps.
        let mut state = vec![(STEPS.to_owned(), Tensor::f_from_slice(&[i64::try_from(self.steps).unwrap()])?)];
        for layer in &lock(&self.collector)?.layers {
            let kept = layer.curvature.state()?;
            state.extend(kept.into_iter().map(|(what, tensor)| (format!("{what}.{}", layer.facts.name), tensor)));
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &mut TensorMap) -> Result<()> {
        let steps = state.take(STEPS, Kind::Int64, &[1])?.f_int64_value(&[0])?;
        self.steps =
            u64::try_from(steps).map_err(|_| Error::state(format!("tensor `{STEPS}` counts from 0, found {steps}")))?;
        for layer in &mut lock(&self.collector)?.layers {
            let mut own = state.split_last(&layer.facts.name);
            layer.curvature.load_state(&layer.facts, &mut own)?;
            own.finish()?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> u64 {
        let steps = Kind::Int64.elt_size_in_bytes() as u64;
        let layers = lock(&self.collector);
        layers.map_or(0, |collector| {
            steps + collector.layers.iter().map(|layer| layer.curvature.state_bytes(&layer.facts)).sum::<u64>()
        })
    }
}

impl Drop for LayerwiseGradient {
    fn drop(&mut self) {
        for layer in &self.layers {
            layer.attach(None);
        }
    }
}

/// The finished gradient of a layer, shared with its parameters; `None` if it had no part in this step.
fn gradient_of(facts: &Facts) -> Result<Option<Gradient>> {
    let weight = facts.weight.f_grad()?;
    if !weight.defined() {
        return Ok(None);
    }
    let bias = facts.bias.as_ref().map(Tensor::f_grad).transpose()?.filter(Tensor::defined);
    Ok(Some(Gradient { weight, bias }))
}

/// min(1, √(κ / (η² |Σ ⟨V, ∇⟩|))), on the device: it waits for nothing.
///
/// The quadratic form of the Fisher matrix in the step −ηV, which is twice the KL divergence that the step makes, is about
/// η²⟨V, ∇⟩: longer steps are shortened to κ. A bias without a direction has no part in it.
fn kl_scale(directions: &[(Gradient, ParameterGrads)], learning_rate: f64, kappa: f64) -> Result<Tensor> {
    let mut products = Vec::new();
    for (gradient, (weight, bias)) in directions {
        let pairs = [(Some(&gradient.weight), weight.as_ref()), (gradient.bias.as_ref(), bias.as_ref())];
        for pair in pairs {
            if let (Some(gradient), Some(direction)) = pair {
                products.push(direction.f_mul(gradient)?.f_sum(Kind::Double)?);
            }
        }
    }
    if products.is_empty() {
        return Ok(Tensor::from(1f64));
    }
    let sum = Tensor::f_stack(&products, 0)?.f_sum(Kind::Double)?.f_abs()?;
    let square = sum.f_mul_scalar(learning_rate * learning_rate)?;
    // 0 makes it infinite, and infinity is more than 1.
    Ok(square.f_reciprocal()?.f_mul_scalar(kappa)?.f_sqrt()?.f_clamp_max(1.0)?)
}

/// Makes `direction` the gradient in place; without one, leaves it.
fn replace(mut gradient: Tensor, direction: Option<Tensor>, scale: Option<&Tensor>) -> Result<()> {
    let Some(direction) = direction else { return Ok(()) };
    let direction = match scale {
        Some(scale) => direction.f_mul(&scale.f_to_kind(direction.kind())?)?,
        None => direction,
    };
    gradient.f_copy_(&direction)?;
    Ok(())
}
