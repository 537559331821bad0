//! A run on disk: the model's variables, the optimizer's state and the place in the run, in one file.

use super::{Fngd, Place};
use crate::state::{self, TensorMap};
use crate::{Error, Result};
use std::path::Path;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// Prefixes that keep the parts apart.
const VARIABLES: &str = "variables";
const OPTIMIZER: &str = "optimizer";
/// Epoch, slot and steps.
const PLACE: &str = "place";

impl Fngd {
    /// Writes everything that going on exactly needs to one safetensors file, atomically.
    ///
    /// `variables` holds the model: its parameters and its running statistics. The schedule and the settings are the
    /// program's, and are not in the file; neither is libtorch's generator, which dropout draws from (seed it from the
    /// step with [`random::Stream`](crate::random::Stream) if that matters). For the model alone, `variables.save` of
    /// tch does.
    ///
    /// # Errors
    /// [`is_state`](Error::is_state) between [`backward`](Self::backward) and [`step`](Self::step); those of
    /// [`state::save`].
    pub fn save(&self, path: impl AsRef<Path>, variables: &VarStore) -> Result<()> {
        if self.unapplied > 0 {
            return Err(Error::state("`save` between `backward` and `step`: gradients are not saved, so step first"));
        }
        let Place { epoch, slot, steps, .. } = self.place;
        // OK because no run comes near 2^63 batches.
        let place = [epoch, slot, steps].map(|count| i64::try_from(count).unwrap());
        let mut tensors = vec![(PLACE.to_owned(), Tensor::f_from_slice(&place)?)];
        tensors.extend(variables.variables().into_iter().map(|(name, tensor)| (format!("{VARIABLES}.{name}"), tensor)));
        tensors
            .extend(self.optimizer.state()?.into_iter().map(|(name, tensor)| (format!("{OPTIMIZER}.{name}"), tensor)));
        state::save(path, &tensors)
    }

    /// Takes back what [`save`](Self::save) wrote, into an optimizer with the same settings and a model of the same
    /// layers.
    ///
    /// Then go on from [`epoch`](Self::epoch) and [`slot`](Self::slot): the steps are those of a run that was never
    /// interrupted, bit for bit on a CPU.
    ///
    /// # Errors
    /// [`is_state`](Error::is_state), with the file and the tensor, if something is missing, too many, or of another
    /// kind or size. The variables are then as they were; build a new optimizer.
    pub fn load(&mut self, path: impl AsRef<Path>, variables: &VarStore) -> Result<()> {
        let path = path.as_ref();
        let tensors = state::load(path)?;
        self.take(&tensors, variables).map_err(|error| error.at(path.display()))
    }

    fn take(&mut self, tensors: &[(String, Tensor)], variables: &VarStore) -> Result<()> {
        let mut saved = TensorMap::new(tensors)?;
        let place = Vec::<i64>::try_from(&saved.take(PLACE, Kind::Int64, &[3])?)?;
        let mut counts = place.iter().map(|count| u64::try_from(*count));
        let (Some(Ok(epoch)), Some(Ok(slot)), Some(Ok(steps))) = (counts.next(), counts.next(), counts.next()) else {
            return Err(Error::state(format!("tensor `{PLACE}` counts from 0, found {place:?}")));
        };
        let mut of_model = saved.split(VARIABLES);
        let mut copies = Vec::new();
        for (name, own) in variables.variables() {
            let value = of_model.take(&name, own.f_kind()?, &own.size())?;
            copies.push((own, value));
        }
        of_model.finish()?;
        let _ = saved.split(OPTIMIZER);
        saved.finish()?;
        let of_optimizer: Vec<(String, Tensor)> = tensors
            .iter()
            .filter_map(|(name, tensor)| {
                let name = name.strip_prefix(OPTIMIZER)?.strip_prefix('.')?;
                Some((name.to_owned(), tensor.shallow_clone()))
            })
            .collect();
        self.optimizer.load_state(&of_optimizer)?;
        let _no_grad = tch::no_grad_guard();
        for (mut own, value) in copies {
            own.f_copy_(&value)?;
        }
        self.place = Place::loaded(epoch, slot, steps);
        self.announced = false;
        self.unapplied = 0;
        Ok(())
    }
}
