//! A run on disk: the model's variables, the optimizer's state and the place in the run, in one file.

use super::{Fngd, Place};
use crate::state::{self, TensorMap};
use crate::{Error, Result, tap};
use std::collections::HashSet;
use std::path::Path;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// Prefixes that keep the parts apart.
const VARIABLES: &str = "variables";
const OPTIMIZER: &str = "optimizer";
/// Epoch, slot and steps.
const PLACE: &str = "place";
/// Most parameters that one message names.
const NAMED: usize = 3;

impl Fngd {
    /// Writes everything that going on exactly needs to one safetensors file, atomically.
    ///
    /// `variables` holds the model: its parameters and its running statistics. The schedule and the settings are the
    /// program's, and are not in the file; neither is libtorch's generator, which dropout draws from (seed it from the
    /// step with [`random::Stream`](crate::random::Stream) if that matters). For the model alone, `variables.save` of
    /// tch does.
    ///
    /// # Errors
    /// [`is_state`](Error::is_state) between [`backward`](Self::backward) and [`step`](Self::step), or if `variables`
    /// does not hold a parameter of the model; those of [`state::save`].
    pub fn save(&self, path: impl AsRef<Path>, variables: &VarStore) -> Result<()> {
        if self.unapplied > 0 {
            return Err(Error::state("`save` between `backward` and `step`: gradients are not saved, so step first"));
        }
        self.check_held_by(variables)?;
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
    /// [`is_state`](Error::is_state) if `variables` does not hold a parameter of the model; and, with the file and the
    /// tensor, if something is missing, too many, or of another kind or size. The variables are then as they were; build a
    /// new optimizer.
    pub fn load(&mut self, path: impl AsRef<Path>, variables: &VarStore) -> Result<()> {
        self.check_held_by(variables)?;
        let path = path.as_ref();
        let tensors = state::load(path)?;
        self.take(&tensors, variables).map_err(|error| error.at(path.display()))
    }

    /// Whether every parameter is one of `variables`: the same tensor, whatever it is called there.
    fn check_held_by(&self, variables: &VarStore) -> Result<()> {
        let held: HashSet<usize> = variables.variables().values().map(tap::identity).collect();
        let missing = self.parameters.iter().filter(|parameter| !held.contains(&tap::identity(&parameter.tensor)));
        let missing: Vec<String> = missing.map(|parameter| format!("`{}`", parameter.name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let named = missing[..missing.len().min(NAMED)].join(", ");
        let more = missing.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(Error::state(format!(
            "the VarStore does not hold {named}{more} of the model: give the one that the model was built in"
        )))
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
