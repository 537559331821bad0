//! One method, and the times of its steps, each kind of step by itself.

use super::period::{self, Kind};
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
    /// Steps that do more than ordinary ones, by methods that do nothing else; the rarest last.
    pub refreshes: Vec<Refresh>,
}

/// A kind of step that comes now and then.
pub struct Refresh {
    trainee: Trainee,
    pub times: Times,
    /// One step in so many.
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
        let mut kinds = period::kinds(&method).into_iter();
        // A method has ordinary steps at least.
        let trainee = build(&kinds.next().map_or(method, |kind| kind.method))?;
        let refresh = |Kind { method, every }: Kind| -> Result<Refresh> {
            Ok(Refresh { trainee: build(&method)?, times: Times::default(), every })
        };
        let refreshes = kinds.map(refresh).collect::<Result<_>>()?;
        let first_epoch = has_first_epoch.then(Times::default);
        Ok(Self { name: name.to_owned(), trainee, ordinary: Times::default(), first_epoch, refreshes })
    }

    /// Steps that are not timed: kernels are chosen, memory is taken, the bank is filled.
    pub fn warm_up(&mut self, steps: usize) -> Result<()> {
        // The first step of all makes the first factors.
        let first = if self.first_epoch.is_some() { steps } else { 1 };
        self.trainee.block(0, first)?;
        self.trainee.block(1, steps.min(3))?;
        for refresh in &mut self.refreshes {
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
        for Refresh { trainee, times, .. } in &mut self.refreshes {
            times.add(trainee.block(1, steps.div_ceil(2))?);
        }
        Ok(())
    }

    /// Steps timed so far.
    pub fn steps(&self) -> usize {
        let kinds = [Some(&self.ordinary), self.first_epoch.as_ref()].into_iter().flatten();
        kinds.chain(self.refreshes.iter().map(|refresh| &refresh.times)).map(Times::steps).sum()
    }

    /// Seconds of a step on average, by round: from the median of each kind of step, and how often it comes.
    pub fn means(&self) -> Vec<f64> {
        let mut by_round: Vec<_> = self.ordinary.medians().into_iter().map(|median| vec![(1, median)]).collect();
        for refresh in &self.refreshes {
            for (round, median) in by_round.iter_mut().zip(refresh.times.medians()) {
                round.push((refresh.every, median));
            }
        }
        by_round.iter().map(|kinds| period::mean(kinds)).collect()
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
