//! When something is measured, and what with.

use super::probe::{Probe, trained};
use super::record::Record;
use crate::batches::{Batch, Batches};
use crate::failure::Result;
use crate::method;
use crate::network::Network;
use crate::session::Session;
use fngd_cli::protocol::Observe;
use fngd_core::optimizer::{Batch as Announcement, Method};
use fngd_core::random::Stream;
use fngd_core::{FngdConfig, Result as CoreResult};
use fngd_module::{BuildOptions, TrainableModule};
use std::rc::Rc;
use tch::{Device, Tensor};

/// Looks at a run from beside it.
pub struct Observer {
    probe: Probe,
    /// What the run trains: its memory, no copies. Running statistics are not there, because a training pass reads none.
    live: Vec<Tensor>,
    train: Rc<Batches>,
    /// The batch of the first step.
    first: Batch,
    seed: u64,
    /// Epochs, from 0, every batch of which is solved afresh.
    epochs: Vec<u64>,
    /// Numbers of complete epochs after which the batch of the first step is measured.
    moments: Vec<u64>,
    pub record: Record,
}

impl Observer {
    /// An observer of the run that `session` is going to be.
    pub fn build(session: &Session, job: &Observe, device: Device) -> Result<Self> {
        let settings = &job.settings;
        let parts = &session.parts;
        let channels_last = settings.train.channels_last;
        let options = BuildOptions { device, channels_last, ..BuildOptions::default() };
        let mut module = TrainableModule::build(&parts.network.model, &options)?;
        module.load_tensors(&parts.network.tensors())?;
        let config = match method::method(&settings.optimizer, settings.train.seed)? {
            Method::Fngd { config, .. } => config,
            _ => FngdConfig::default(),
        };
        let first = parts.train.epoch(0).batch(0)?;
        let record = Record::of(first.labels.copy());
        Ok(Self {
            probe: Probe::build(module, config, settings.train.label_smoothing)?,
            live: trained(&parts.network),
            train: Rc::clone(&parts.train),
            first,
            seed: settings.train.seed,
            // The user counts from 1.
            epochs: job.epochs.iter().filter_map(|epoch| epoch.checked_sub(1)).collect(),
            moments: job.moments.clone(),
            record,
        })
    }

    /// The run is about to make the forward pass of `batch`.
    pub fn before(&mut self, batch: &Announcement) -> CoreResult<()> {
        let Announcement { epoch, slot, .. } = *batch;
        if slot == 0 {
            self.after_epochs(epoch)?;
        }
        if self.epochs.contains(&epoch) {
            let made = self.train.epoch(epoch).batch(slot as usize)?;
            let measured = self.probe.measure(&self.live, &made, self.dropout_seed(epoch, slot))?;
            self.record.add_weights(epoch, made.indices, measured.weights)?;
        }
        Ok(())
    }

    /// So many epochs are complete.
    pub fn after_epochs(&mut self, epochs: u64) -> CoreResult<()> {
        if self.moments.contains(&epochs) {
            let measured = self.probe.measure(&self.live, &self.first, self.dropout_seed(0, 0))?;
            self.record.add_moment(epochs, measured)?;
        }
        Ok(())
    }

    /// As the training loop has it, so that both see the same.
    fn dropout_seed(&self, epoch: u64, slot: u64) -> i64 {
        Stream::new(self.seed, "dropout", &[epoch, slot]).seed_u64() as i64
    }
}
