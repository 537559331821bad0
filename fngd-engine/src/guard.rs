//! What happens when training meets NaN or infinity: nothing of it stays, and if it does not pass, the run says where it began.

use super::checkpoint::tensors::is_finite;
use super::checkpoint::{EpochSums, RunState};
use super::failure::{Failure, Result};
use super::network::Network;
use fngd_core::Inventory;
use tch::Tensor;

/// So many skipped steps in a row do not pass by themselves.
const MOST_IN_ROW: u64 = 10;
/// Nor does a larger share of an epoch than this, once it is more than a few.
const MOST_OF_EPOCH: f64 = 0.05;
const A_FEW: u64 = 3;

/// Copies of a network's running statistics, which a forward pass changes before anybody knows whether it was sane.
#[derive(Debug)]
pub struct Guard {
    statistics: Vec<Tensor>,
    copies: Vec<Tensor>,
}

impl Guard {
    /// Guards `network`.
    pub fn of(network: &dyn Network) -> Result<Self> {
        let statistics = network.running_statistics();
        let copies = statistics.iter().map(Tensor::f_zeros_like).collect::<std::result::Result<_, _>>()?;
        Ok(Self { statistics, copies })
    }

    /// Before a step: what the statistics are.
    pub fn remember(&mut self) -> Result<()> {
        copy(&self.statistics, &mut self.copies)
    }

    /// After a step that was skipped: what they were.
    pub fn restore(&mut self) -> Result<()> {
        copy(&self.copies, &mut self.statistics)
    }
}

fn copy(from: &[Tensor], to: &mut [Tensor]) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    for (from, to) in from.iter().zip(to) {
        to.f_copy_(from)?;
    }
    Ok(())
}

/// Puts a NaN into a gradient, so that the optimizer refuses the whole step by its own guard, clears all gradients and forgets the
/// passes. Needed when the loss is not finite but its gradient happens to be.
pub fn spoil_gradient(network: &dyn Network) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    for parameter in Inventory::of(network).parameters {
        let mut gradient = parameter.tensor.f_grad()?;
        if gradient.defined() && gradient.numel() > 0 {
            let _ = gradient.f_fill_(f64::NAN)?;
            return Ok(());
        }
    }
    Ok(())
}

/// Whether so many skipped steps are too many for an epoch of `steps`; if so, why.
pub fn verdict(state: &RunState, steps: u64) -> Option<String> {
    let EpochSums { skipped, .. } = state.sums;
    if state.skipped_in_row >= MOST_IN_ROW {
        return Some(format!("{} steps in a row had a loss or gradient that is not finite", state.skipped_in_row));
    }
    if skipped > A_FEW && skipped as f64 > MOST_OF_EPOCH * steps as f64 {
        return Some(format!("{skipped} of the {steps} steps of this epoch had a loss or gradient that is not finite"));
    }
    None
}

/// The run cannot go on: at which step, on which samples, and where the first value that is not finite is.
pub fn diverged(why: &str, step: u64, samples: &[i64], place: Option<String>) -> Failure {
    let first: Vec<String> = samples.iter().take(8).map(i64::to_string).collect();
    let more = if samples.len() > first.len() { ", ..." } else { "" };
    let place = place.map_or_else(String::new, |place| format!("; first found in {place}"));
    Failure::diverged(format!("training diverged at step {step}: {why} (samples {}{more}){place}", first.join(", ")))
}

/// The first place of a pass over `input` where a value is not finite: a parameter, the input, the output, or a gradient.
pub fn first_non_finite(
    network: &dyn Network,
    input: &Tensor,
    loss: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Option<String>> {
    if !is_finite(input)? {
        return Ok(Some("the input".to_owned()));
    }
    let parameters = Inventory::of(network).parameters;
    for parameter in &parameters {
        if !is_finite(&parameter.tensor)? {
            return Ok(Some(format!("parameter `{}`", parameter.name)));
        }
    }
    if let Some(place) = network.first_non_finite(input)? {
        return Ok(Some(place));
    }
    let loss = loss(&network.logits(input)?)?;
    if !is_finite(&loss)? {
        return Ok(Some("the loss".to_owned()));
    }
    let tensors: Vec<Tensor> = parameters.iter().map(|parameter| parameter.tensor.shallow_clone()).collect();
    let gradients = Tensor::f_run_backward(&[loss], &tensors, false, false)?;
    // Backward starts at the output: the last parameter whose gradient is not finite is the first that it met.
    for (parameter, gradient) in parameters.iter().zip(&gradients).rev() {
        if gradient.defined() && !is_finite(gradient)? {
            return Ok(Some(format!("the gradient of `{}`", parameter.name)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_in_a_row_or_a_twentieth_of_an_epoch_is_too_much() {
        let verdict = |in_row, skipped, steps| {
            let sums = EpochSums { skipped, ..Default::default() };
            verdict(&RunState { skipped_in_row: in_row, sums, ..Default::default() }, steps)
        };
        assert_eq!(verdict(9, 9, 400), None);
        assert!(verdict(10, 10, 400).unwrap().starts_with("10 steps in a row"));
        assert_eq!(verdict(1, 3, 20), None);
        assert_eq!(verdict(1, 5, 100), None);
        assert!(verdict(1, 6, 100).unwrap().starts_with("6 of the 100 steps of this epoch"));
    }

    #[test]
    fn the_message_names_step_samples_and_place() {
        let failure = diverged("why", 12, &[5, 6, 7, 8, 9, 10, 11, 12, 13], Some("parameter `fc.weight`".to_owned()));
        let expected = "training diverged at step 12: why (samples 5, 6, 7, 8, 9, 10, 11, 12, ...); \
                        first found in parameter `fc.weight`";
        assert_eq!(failure.to_string(), expected);
        assert_eq!(failure.cause().code(), 6);
    }
}
