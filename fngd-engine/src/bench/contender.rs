//! One method, and the times of its steps, each kind of step by itself.

use super::period::Period;
use super::statistics::{Ratios, Summary, median};
use super::trainee::{Trainee, method_of};
use crate::failure::Result;
use crate::timing::Phases;
use fngd_cli::protocol::BenchStep;
use fngd_core::Share;
use fngd_core::optimizer::Method;
use std::time::Duration;
use tch::Device;

/// One method at work.
pub struct Contender {
    pub name: String,
    trainee: Trainee,
    /// Steps as they are from the second epoch on; those that refresh are not among them.
    pub ordinary: Times,
    /// Steps of the first epoch, which form and solve Gram matrices. Of FNGD only.
    pub first_epoch: Option<Times>,
    pub refresh: Option<Refresh>,
}

/// The steps of a method that refreshes now and then, by one that always does.
pub struct Refresh {
    trainee: Trainee,
    pub times: Times,
    /// One step in so many refreshes.
    pub every: u64,
}

/// Steps of one kind, round by round.
#[derive(Default)]
pub struct Times {
    /// Seconds.
    rounds: Vec<Vec<f64>>,
    phases: Vec<Phases>,
}

impl Contender {
    pub fn build(name: &str, job: &BenchStep, device: Device) -> Result<Self> {
        let method = method_of(name)?;
        let has_first_epoch = matches!(&method, Method::Fngd { config, .. } if config.share != Share::None);
        let build = |method: &Method| Trainee::build(name, method, job, device);
        let (trainee, refresh) = match Period::of(&method) {
            None => (build(&method)?, None),
            Some(Period { ordinary, refresh, every }) => {
                let refresh = Refresh { trainee: build(&refresh)?, times: Times::default(), every };
                (build(&ordinary)?, Some(refresh))
            }
        };
        let first_epoch = has_first_epoch.then(Times::default);
        Ok(Self { name: name.to_owned(), trainee, ordinary: Times::default(), first_epoch, refresh })
    }

    /// Steps that are not timed: kernels are chosen, memory is taken, the bank is filled.
    pub fn warm_up(&mut self, steps: usize) -> Result<()> {
        // The first step of all makes the first factors.
        let first = if self.first_epoch.is_some() { steps } else { 1 };
        self.trainee.block(0, first)?;
        self.trainee.block(1, steps.min(3))?;
        if let Some(refresh) = &mut self.refresh {
            refresh.trainee.block(0, 1)?;
        }
        Ok(())
    }

    /// One block of steps of each kind. Those that cost more are fewer.
    pub fn round(&mut self, steps: usize) -> Result<()> {
        self.ordinary.add(self.trainee.block(1, steps)?);
        if let Some(first_epoch) = &mut self.first_epoch {
            first_epoch.add(self.trainee.block(0, steps)?);
        }
        if let Some(Refresh { trainee, times, .. }) = &mut self.refresh {
            times.add(trainee.block(1, steps.div_ceil(2))?);
        }
        Ok(())
    }

    /// Steps timed so far.
    pub fn steps(&self) -> usize {
        let refresh = self.refresh.as_ref().map(|refresh| &refresh.times);
        [Some(&self.ordinary), self.first_epoch.as_ref(), refresh].into_iter().flatten().map(Times::steps).sum()
    }

    /// Seconds of a step on average, by round: from the medians of ordinary steps and of those that refresh, which come once in so many.
    pub fn means(&self) -> Vec<f64> {
        let ordinary = self.ordinary.medians();
        let Some(refresh) = &self.refresh else { return ordinary };
        let pairs = ordinary.into_iter().zip(refresh.times.medians());
        pairs.map(|(ordinary, more)| Period::mean(refresh.every, ordinary, more)).collect()
    }
}

impl Times {
    fn add(&mut self, block: Vec<(Duration, Phases)>) {
        self.rounds.push(block.iter().map(|(time, _)| time.as_secs_f64()).collect());
        self.phases.extend(block.iter().map(|(_, phases)| *phases));
    }

    fn steps(&self) -> usize {
        self.rounds.iter().map(Vec::len).sum()
    }

    fn medians(&self) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| median(round)).collect()
    }

    /// `None` if nothing was timed.
    pub fn summary(&self, batch: usize) -> Option<Summary> {
        Summary::of(&self.rounds.concat(), batch)
    }

    /// `None` if either was not timed.
    pub fn ratios(&self, reference: &Self) -> Option<Ratios> {
        Ratios::of(&self.rounds, &reference.rounds)
    }

    /// Median milliseconds of each phase.
    pub fn phases(&self) -> serde_json::Value {
        let by_step: Vec<_> = self.phases.iter().map(|phases| phases.per_step(1)).collect();
        let names = by_step.first().map(|phases| phases.iter().map(|(name, _)| name.clone())).into_iter().flatten();
        let entries = names.enumerate().filter_map(|(index, name)| {
            let times: Vec<f64> = by_step.iter().map(|phases| phases[index].1 * 1e3).collect();
            Some((name, serde_json::Value::from(median(&times)?)))
        });
        serde_json::Value::Object(entries.collect())
    }
}
