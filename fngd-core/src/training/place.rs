//! Where in the run the next batch is.

use crate::{Error, Result};

/// Epoch, batch and step, counted from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub epoch: u64,
    /// Position of the next batch within the epoch.
    pub slot: u64,
    /// Steps that are done.
    pub steps: u64,
    progress: Progress,
}

/// Whether the epoch has been begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    NotBegun,
    /// The place was loaded: the epoch may be begun again, and goes on.
    Loaded,
    Running,
}

impl Place {
    /// A place that was saved.
    pub fn loaded(epoch: u64, slot: u64, steps: u64) -> Self {
        Self { epoch, slot, steps, progress: Progress::Loaded }
    }

    pub fn begin_epoch(&mut self, epoch: u64) -> Result<()> {
        if self.progress == Progress::NotBegun && epoch != 0 {
            return Err(Error::state(format!(
                "epoch {epoch} cannot be the first: epochs are counted from 0, and epoch 0 is the one in which FNGD solves for the weights; to go on with an earlier run, `load` it"
            )));
        }
        let next = match self.progress {
            Progress::NotBegun => Some(0),
            Progress::Loaded if epoch == self.epoch => Some(self.slot),
            Progress::Loaded | Progress::Running if epoch > self.epoch => Some(0),
            Progress::Loaded | Progress::Running => None,
        };
        let Some(slot) = next else {
            let (latest, batches) = (self.epoch, self.slot);
            return Err(Error::state(format!(
                "epoch {epoch} cannot begin: epoch {latest} has, and {batches} of its batches are done"
            )));
        };
        (self.epoch, self.slot, self.progress) = (epoch, slot, Progress::Running);
        Ok(())
    }

    /// Epoch and slot of the next batch.
    pub fn running(&self) -> Result<(u64, u64)> {
        if self.progress == Progress::Running {
            return Ok((self.epoch, self.slot));
        }
        Err(Error::state(
            "no epoch has begun: call `begin_epoch` before the batches of each epoch, so that FNGD knows where the first one ends",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_loaded_epoch_goes_on_and_a_new_one_starts_from_its_first_batch() {
        let saved = Place::loaded(2, 7, 40);
        for (epoch, slot) in [(2, 7), (3, 0), (9, 0)] {
            let mut place = saved;
            place.begin_epoch(epoch).unwrap();
            assert_eq!((place.running().unwrap(), place.steps), ((epoch, slot), 40));
        }
    }

    #[test]
    fn epochs_only_go_forward() {
        let mut place = Place::loaded(2, 7, 40);
        let error = place.begin_epoch(0).unwrap_err();
        assert_eq!(error.to_string(), "epoch 0 cannot begin: epoch 2 has, and 7 of its batches are done");
        place.begin_epoch(2).unwrap();
        // The second time it is a mistake, not a resumed run.
        let error = place.begin_epoch(2).unwrap_err();
        assert_eq!(error.to_string(), "epoch 2 cannot begin: epoch 2 has, and 7 of its batches are done");
    }

    #[test]
    fn the_first_epoch_is_0() {
        let mut place = Place::default();
        let error = place.begin_epoch(1).unwrap_err();
        assert!(error.is_state());
        assert_eq!(
            error.to_string(),
            "epoch 1 cannot be the first: epochs are counted from 0, and epoch 0 is the one in which FNGD solves for the weights; to go on with an earlier run, `load` it"
        );
        place.begin_epoch(0).unwrap();
        place.begin_epoch(2).unwrap();
    }

    #[test]
    fn a_loop_that_names_no_epoch_is_told() {
        let error = Place::default().running().unwrap_err();
        assert!(error.is_state());
        assert_eq!(
            error.to_string(),
            "no epoch has begun: call `begin_epoch` before the batches of each epoch, so that FNGD knows where the first one ends"
        );
    }
}
