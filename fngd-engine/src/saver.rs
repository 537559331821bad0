//! When checkpoints are written during training, and what happens when they cannot be.

use super::checkpoint::{RunState, Snapshot, Store};
use super::events::Events;
use super::failure::{Failure, Result};
use super::network::Network;
use fngd_cli::protocol::Event;
use fngd_core::optimizer::Optimizer;
use std::path::{Path, PathBuf};

/// So many checkpoints in a row that could not be written end the run.
const MOST_FAILURES: u32 = 3;

/// Saves a run, and counts what it could not save.
pub struct Saver<'a> {
    /// `None`: nothing is saved.
    store: Option<Store<'a>>,
    events: Events,
    failures: u32,
    last: Option<PathBuf>,
}

impl<'a> Saver<'a> {
    /// `last`: the checkpoint that the run goes on from.
    pub fn new(store: Store<'a>, events: Events, last: Option<PathBuf>) -> Self {
        Self { store: Some(store), events, failures: 0, last }
    }

    /// Saves nothing, for a run that only tries.
    pub fn none(events: Events) -> Self {
        Self { store: None, events, failures: 0, last: None }
    }

    /// Saves; what the disk refuses is a warning until it has refused `MOST_FAILURES` times in a row.
    pub fn save(&mut self, state: &RunState, network: &dyn Network, optimizer: &dyn Optimizer) -> Result<()> {
        match self.try_save(state, network, optimizer)? {
            Ok(()) => Ok(()),
            Err(error) if self.failures < MOST_FAILURES => {
                let kept = self.kept();
                self.events.warn(format!("no checkpoint at step {}: {error}; {kept}; training goes on", state.step));
                Ok(())
            }
            Err(error) => Err(self.give_up(state, &error)),
        }
    }

    /// Saves, and fails if that is not possible: there is no next time.
    pub fn save_finally(&mut self, state: &RunState, network: &dyn Network, optimizer: &dyn Optimizer) -> Result<()> {
        self.try_save(state, network, optimizer)?.map_err(|error| self.give_up(state, &error))
    }

    /// The newest checkpoint that is known to be whole.
    pub fn last(&self) -> Option<&Path> {
        self.last.as_deref()
    }

    /// What is left to go on from, in a clause.
    pub fn kept(&self) -> String {
        self.last().map_or_else(
            || "there is no checkpoint yet".to_owned(),
            |last| format!("the last good checkpoint is {}", last.display()),
        )
    }

    /// The outer error is a run that must not be saved, the inner one a disk that does not take it.
    fn try_save(
        &mut self,
        state: &RunState,
        network: &dyn Network,
        optimizer: &dyn Optimizer,
    ) -> Result<std::io::Result<()>> {
        let Some(store) = &self.store else { return Ok(Ok(())) };
        let snapshot = Snapshot::take(state, &network.tensors(), &optimizer.state()?)
            .map_err(|failure| failure.at(format!("step {} is not saved", state.step)).help(self.kept()))?;
        let best = state.best.as_ref().map(|best| best.step);
        match store.commit(&snapshot, best) {
            Ok(path) => {
                self.failures = 0;
                self.last = Some(path.clone());
                let best = best == Some(state.step);
                self.events.emit(&Event::Saved { step: state.step, epoch: state.epoch, path, best });
                Ok(Ok(()))
            }
            Err(error) => {
                self.failures += 1;
                Ok(Err(error))
            }
        }
    }

    fn give_up(&self, state: &RunState, error: &std::io::Error) -> Failure {
        let message = format!("no checkpoint at step {}: {error}; {}", state.step, self.kept());
        Failure::environment(message).help("make room or mend the run directory, then resume the run")
    }
}
