//! The training loop.

use super::batches::{Batches, Epoch};
use super::checkpoint::{Best, EpochSums, RunState};
use super::evaluate::evaluate;
use super::events::Events;
use super::failure::Result;
use super::guard::{self, Guard};
use super::loss::{Rows, read_scalars};
use super::network::Network;
use super::progress::{Interval, StepTally, epoch_event};
use super::saver::Saver;
use super::signals::Requests;
use super::stop::StopRule;
use super::timing::timed;
use super::trouble::Trouble;
use fngd_cli::protocol::{Event, Status};
use fngd_cli::settings::TrainSettings;
use fngd_core::Schedule;
use fngd_core::optimizer::{Batch, Optimizer, StepReport};
use fngd_core::random::Stream;
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;
use tch::Tensor;

/// What is trained, on what, and how.
pub struct Parts<N> {
    pub network: N,
    pub optimizer: Box<dyn Optimizer>,
    pub schedule: Schedule,
    pub train: Rc<Batches>,
    pub val: Batches,
}

/// A run of training between two checkpoints.
pub struct Trainer<'a, N> {
    parts: &'a mut Parts<N>,
    settings: &'a TrainSettings,
    stop: StopRule,
    saver: Saver<'a>,
    events: Events,
    requests: Requests,
    state: RunState,
    guard: Guard,
    interval: Interval,
    trouble: Trouble,
    /// Wall time: of earlier sessions, and the start of this one.
    clock: (f64, Instant),
}

impl<'a, N: Network> Trainer<'a, N> {
    /// Trains on from `state`, which belongs to what is in `parts`.
    pub fn new(
        parts: &'a mut Parts<N>,
        settings: &'a TrainSettings,
        stop: StopRule,
        saver: Saver<'a>,
        (events, requests): (Events, Requests),
        state: RunState,
    ) -> Result<Self> {
        let guard = Guard::of(&parts.network)?;
        let clock = (state.wall_seconds, Instant::now());
        let (interval, trouble) = (Interval::default(), Trouble::default());
        Ok(Self { parts, settings, stop, saver, events, requests, state, guard, interval, trouble, clock })
    }

    /// Trains until something ends it. The last checkpoint is then durable.
    pub fn run(mut self) -> Result<(Status, RunState)> {
        let status = self.epochs()?;
        Ok((status, self.state))
    }

    /// Makes one step and reports it: whether everything fits, into memory and to each other. Saves nothing.
    pub fn try_step(mut self) -> Result<()> {
        self.parts.network.set_training(true);
        let train = Rc::clone(&self.parts.train);
        self.step(&train.epoch(self.state.epoch))?;
        self.report_interval()
    }

    fn epochs(&mut self) -> Result<Status> {
        // A run that was stopped after its last step still owes that epoch's validation.
        let owes_validation = |state: &RunState, slots: usize| state.slot > 0 && state.slot == slots as u64;
        while self.state.epoch < self.settings.epochs
            && (self.state.step < self.total_steps() || owes_validation(&self.state, self.parts.train.slots()))
        {
            if let Some(status) = self.epoch()? {
                self.report_interval()?;
                self.saver.save_finally(&self.state, &self.parts.network, &*self.parts.optimizer)?;
                return Ok(status);
            }
            if let Some(status) = self.finish_epoch()? {
                return Ok(status);
            }
        }
        Ok(Status::Finished)
    }

    /// The rest of the current epoch. A status if the run ends within it.
    fn epoch(&mut self) -> Result<Option<Status>> {
        self.parts.network.set_training(true);
        let train = Rc::clone(&self.parts.train);
        let order = train.epoch(self.state.epoch);
        loop {
            if let Some(status) = self.asked_to_stop() {
                return Ok(Some(status));
            }
            if self.state.slot == train.slots() as u64 {
                return Ok(None);
            }
            if self.state.step == self.total_steps() {
                return Ok(Some(Status::Finished));
            }
            self.step(&order)?;
            self.report_and_save()?;
        }
    }

    /// One optimizer step: forward and backward of its micro-batches, then the update.
    fn step(&mut self, order: &Epoch<'_>) -> Result<()> {
        let start = Instant::now();
        let mut tally = StepTally::default();
        self.guard.remember()?;
        let slots = self.slots_of_step();
        let samples: usize = slots.clone().map(|slot| self.parts.train.size_of(slot)).sum();
        let mut scalars = Vec::with_capacity(2 * slots.len());
        let mut targets = Vec::with_capacity(slots.len());
        for slot in slots.clone() {
            let (rows, loss) = self.micro_batch(order, slot, (slots.len(), samples), &mut tally)?;
            scalars.extend([loss.f_detach()?, rows.correct()?]);
            targets.push(rows.count());
        }
        // Once, and after all backward passes, so that a GPU has work while this waits for it.
        for (scalars, count) in read_scalars(&scalars)?.chunks_exact(2).zip(targets) {
            tally.loss += scalars[0] * count as f64;
            tally.correct += scalars[1] as u64;
            tally.targets += count;
        }
        if !tally.loss.is_finite() {
            guard::spoil_gradient(&self.parts.network)?;
        }
        let learning_rate = self.parts.schedule.at(self.state.step);
        let report = self.parts.optimizer.step(learning_rate)?;
        if report.skipped {
            self.guard.restore()?;
        }
        tally.phases.add_optimizer(&report.time);
        tally.elapsed = start.elapsed();
        self.count(&tally, &report, learning_rate, slots.end as u64);
        if self.trouble.is_new(&report) {
            // Asked only now, because the answer waits for the device.
            let layers = self.parts.optimizer.layers()?;
            self.trouble.tell(&report, self.state.step, &layers, &self.events);
        }
        if report.skipped { self.judge(order, &tally, slots) } else { Ok(()) }
    }

    /// Forward and backward of one micro-batch out of the `accumulation` of this step, which have `step_samples` samples together.
    fn micro_batch(
        &mut self,
        order: &Epoch<'_>,
        slot: usize,
        (accumulation, step_samples): (usize, usize),
        tally: &mut StepTally,
    ) -> Result<(Rows, Tensor)> {
        let epoch = self.state.epoch;
        let batch = timed(&mut tally.phases.data, || order.batch(slot))?;
        let Parts { network, optimizer, .. } = &mut *self.parts;
        optimizer.begin(&Batch { epoch, slot: slot as u64, samples: batch.indices.clone() })?;
        let (rows, loss) = timed(&mut tally.phases.forward, || {
            // Dropout draws from libtorch's generator: seeding it here makes its draws a function of epoch and slot.
            tch::manual_seed(Stream::new(self.settings.seed, "dropout", &[epoch, slot as u64]).seed_u64() as i64);
            let logits = optimizer.logits(network.logits(&batch.images)?)?;
            let rows = Rows::of(&logits, &batch.labels)?;
            let loss = rows.cross_entropy(self.settings.label_smoothing)?;
            Result::Ok((rows, loss))
        })?;
        let samples = batch.indices.len();
        if samples * accumulation == step_samples {
            optimizer.backward(&loss, accumulation)?;
        } else {
            // Every sample of a step counts alike, also those of a smaller micro-batch; `backward` divides by `accumulation`.
            let weight = (samples * accumulation) as f64 / step_samples as f64;
            optimizer.backward(&loss.f_mul_scalar(weight)?, accumulation)?;
        }
        tally.samples.extend(batch.indices);
        Ok((rows, loss))
    }

    fn count(&mut self, tally: &StepTally, report: &StepReport, learning_rate: f64, slot: u64) {
        let state = &mut self.state;
        state.step += 1;
        state.slot = slot;
        state.skipped_in_row = if report.skipped { state.skipped_in_row + 1 } else { 0 };
        state.train_seconds += tally.elapsed.as_secs_f64();
        state.wall_seconds = self.clock.0 + self.clock.1.elapsed().as_secs_f64();
        tally.add_to(&mut state.sums, report.skipped);
        self.interval.add(tally, report, learning_rate);
    }

    /// Ends the run if too many steps were skipped, and says where the trouble starts.
    fn judge(&mut self, order: &Epoch<'_>, tally: &StepTally, mut slots: Range<usize>) -> Result<()> {
        let Some(why) = guard::verdict(&self.state, steps_per_epoch(self.settings, &self.parts.train)) else {
            return Ok(());
        };
        // A search that fails itself must not hide that training diverged.
        let place = slots.find_map(|slot| self.first_non_finite(order, slot).unwrap_or(None));
        let failure = guard::diverged(&why, self.state.step, &tally.samples, place);
        Err(failure.help(format!("{}; a smaller --lr or --clip-norm may help", self.saver.kept())))
    }

    /// Where a pass over one micro-batch first meets a value that is not finite.
    fn first_non_finite(&mut self, order: &Epoch<'_>, slot: usize) -> Result<Option<String>> {
        let batch = order.batch(slot)?;
        let (epoch, samples) = (self.state.epoch, batch.indices.clone());
        // A tapped layer refuses a pass that nobody announced.
        self.parts.optimizer.begin(&Batch { epoch, slot: slot as u64, samples })?;
        let smoothing = self.settings.label_smoothing;
        let loss = |logits: &Tensor| Rows::of(logits, &batch.labels)?.cross_entropy(smoothing);
        guard::first_non_finite(&self.parts.network, &batch.images, loss)
    }

    fn report_and_save(&mut self) -> Result<()> {
        // The very first step is reported at once, so that nobody wonders whether anything happens.
        let due = self.interval.steps() >= self.settings.log_every_steps.max(1);
        if due || self.state.step == 1 {
            self.report_interval()?;
        }
        let interval = self.settings.save_every_steps.filter(|&steps| steps > 0);
        let due = interval.is_some_and(|steps| self.state.step.is_multiple_of(steps));
        // At the end of an epoch the checkpoint waits for validation.
        let ends_epoch = self.state.slot == self.parts.train.slots() as u64;
        if self.requests.take_save() || (due && !ends_epoch) {
            self.saver.save(&self.state, &self.parts.network, &*self.parts.optimizer)?;
        }
        Ok(())
    }

    fn report_interval(&mut self) -> Result<()> {
        if self.interval.steps() > 0 {
            let layers = self.parts.optimizer.layers()?;
            let event = self.interval.take(&self.state, self.total_steps(), &layers);
            self.events.emit(&Event::Step(event));
        }
        Ok(())
    }

    /// Validates, reports, saves. A status if the run ends here.
    fn finish_epoch(&mut self) -> Result<Option<Status>> {
        self.report_interval()?;
        let metrics = evaluate(&mut self.parts.network, &self.parts.val)?;
        let sums: EpochSums = std::mem::take(&mut self.state.sums);
        let state = &mut self.state;
        state.epoch += 1;
        state.slot = 0;
        state.wall_seconds = self.clock.0 + self.clock.1.elapsed().as_secs_f64();
        if state.best.as_ref().is_none_or(|best| metrics.accuracy > best.accuracy) {
            state.best = Some(Best { accuracy: metrics.accuracy, epoch: state.epoch, step: state.step });
        }
        let learning_rate = self.parts.schedule.at(state.step.saturating_sub(1));
        let samples = state.epoch * self.parts.train.samples() as u64;
        let row = epoch_event(state, &sums, learning_rate, (metrics.loss, metrics.accuracy), samples);
        let is_best = row.best;
        self.events.emit(&Event::Epoch(row));
        let status = self.stop.after_epoch(&self.state, metrics.accuracy);
        let is_last =
            status.is_some() || self.state.epoch == self.settings.epochs || self.state.step == self.total_steps();
        if is_last {
            self.saver.save_finally(&self.state, &self.parts.network, &*self.parts.optimizer)?;
        } else if is_best || self.state.epoch.is_multiple_of(self.settings.save_every_epochs.max(1)) {
            self.saver.save(&self.state, &self.parts.network, &*self.parts.optimizer)?;
        }
        Ok(status)
    }

    fn asked_to_stop(&self) -> Option<Status> {
        let wall_seconds = self.clock.0 + self.clock.1.elapsed().as_secs_f64();
        self.requests.stopped().or_else(|| self.stop.after_step(wall_seconds))
    }

    /// The micro-batches of the next step; the last step of an epoch may have fewer.
    fn slots_of_step(&self) -> Range<usize> {
        let first = self.state.slot as usize;
        first..(first + self.settings.accumulation.max(1)).min(self.parts.train.slots())
    }

    fn total_steps(&self) -> u64 {
        total_steps(self.settings, &self.parts.train)
    }
}

/// Optimizer steps in an epoch.
pub fn steps_per_epoch(settings: &TrainSettings, train: &Batches) -> u64 {
    train.slots().div_ceil(settings.accumulation.max(1)) as u64
}

/// Optimizer steps in the whole run.
pub fn total_steps(settings: &TrainSettings, train: &Batches) -> u64 {
    let steps = settings.epochs.saturating_mul(steps_per_epoch(settings, train));
    settings.max_steps.map_or(steps, |most| steps.min(most))
}
