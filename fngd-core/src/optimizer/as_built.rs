//! What an optimizer relies on from the moment it is built: which tensors train, and of what kind they are.

use super::GroupedParameter;
use crate::{Error, Parameter, Result};
use tch::{Device, Kind};

/// The model as it was. Buffers, taps and sample weights were made for it.
#[derive(Debug)]
pub(super) struct AsBuilt {
    parameters: Vec<(Parameter, Kind, Device)>,
    frozen: Vec<Parameter>,
}

impl AsBuilt {
    pub fn of(parameters: &[GroupedParameter]) -> Result<Self> {
        let parameters = parameters.iter().map(|grouped| {
            let parameter = grouped.parameter.clone();
            let (kind, device) = (parameter.tensor.f_kind()?, parameter.tensor.device());
            Ok((parameter, kind, device))
        });
        Ok(Self { parameters: parameters.collect::<Result<_>>()?, frozen: Vec::new() })
    }

    /// Tensors that are not to train.
    pub fn watch(&mut self, frozen: Vec<Parameter>) {
        self.frozen = frozen;
    }

    /// Asks the tensors themselves and never waits for the device.
    ///
    /// # Errors
    /// `is_state()`, naming the first tensor that was unfrozen, or converted or moved.
    pub fn check(&self) -> Result<()> {
        if let Some(Parameter { name, .. }) = self.frozen.iter().find(|parameter| parameter.tensor.requires_grad()) {
            return Err(Error::state(format!(
                "`{name}` was frozen when the optimizer was built, and now requires a gradient: build the optimizer anew"
            )));
        }
        for (Parameter { name, tensor, .. }, kind, device) in &self.parameters {
            let (now, place) = (tensor.f_kind()?, tensor.device());
            if (now, place) != (*kind, *device) {
                return Err(Error::state(format!(
                    "`{name}` was {kind:?} on {device:?} when the optimizer was built, and is {now:?} on {place:?}: build the optimizer anew"
                )));
            }
        }
        Ok(())
    }
}
