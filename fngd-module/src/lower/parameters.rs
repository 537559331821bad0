//! The tensors that training changes.

use crate::lower::form::Form;
use crate::lower::tensors;
use crate::{Error, Result};
use fngd_onnx::analysis::{Analysis, ParameterInfo, ParameterRole};
use fngd_onnx::graph::{Graph, TensorData, ValueId};
use std::collections::BTreeMap;
use tch::{Tensor, no_grad_guard};

/// Every parameter and running statistic of a module, by value and by name.
pub(crate) struct Parameters {
    stored: Vec<Stored>,
    by_value: BTreeMap<ValueId, usize>,
}

/// One of them.
pub(crate) struct Stored {
    /// A float; a leaf that requires a gradient if it is trainable.
    pub tensor: Tensor,
    /// Name, role, orientation.
    pub info: ParameterInfo,
}

impl Parameters {
    /// Reads every parameter of `graph`.
    pub fn build(graph: &Graph, analysis: &Analysis, form: Form) -> Result<Self> {
        let _guard = no_grad_guard();
        let (mut stored, mut by_value) = (Vec::new(), BTreeMap::new());
        for (&value, info) in &analysis.parameters {
            let data = graph
                .initializers
                .get(&value)
                .ok_or_else(|| Error::malformed(format!("parameter `{}` has no stored value", info.name)))?;
            let tensor = leaf(data, info, form).map_err(|error| error.at(format!("parameter `{}`", info.name)))?;
            by_value.insert(value, stored.len());
            stored.push(Stored { tensor, info: info.clone() });
        }
        Ok(Self { stored, by_value })
    }

    /// The parameter that `value` is.
    pub fn of_value(&self, value: ValueId) -> Option<&Stored> {
        Some(&self.stored[*self.by_value.get(&value)?])
    }

    /// Its number.
    pub fn index_of(&self, value: ValueId) -> Option<usize> {
        self.by_value.get(&value).copied()
    }

    /// Parameter number `index`.
    pub fn at(&self, index: usize) -> &Stored {
        &self.stored[index]
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.stored.iter()
    }
}

fn leaf(data: &TensorData, info: &ParameterInfo, form: Form) -> Result<Tensor> {
    let mut tensor = tensors::from_data_as(data, form.float)?;
    if !data.element_type.is_float() {
        return Err(Error::malformed(format!("holds {:?}, which cannot be trained", data.element_type)));
    }
    if info.transposed {
        // Contiguous, so that the layer runs as fast as one whose weight is stored as `[out, in]`.
        tensor = tensor.f_transpose(0, 1)?.f_contiguous()?;
    }
    tensor = tensor.f_to_device(form.device)?;
    if form.channels_last && info.role == ParameterRole::ConvolutionWeight {
        tensor = tensors::to_channels_last(&tensor)?;
    }
    Ok(tensor.f_detach()?.f_set_requires_grad(info.trainable)?)
}
