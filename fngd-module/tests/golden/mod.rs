//! What PyTorch computed with a corpus file's weights (`corpus/golden.py`).

#![allow(dead_code)] // Each test file uses a part.

use fngd_onnx::OnnxModel;
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

pub type Failure = Box<dyn std::error::Error>;

/// What a golden file holds.
pub struct Golden {
    pub tensors: BTreeMap<String, Tensor>,
    /// Initializers that were one PyTorch tensor.
    pub tied: Vec<Vec<String>>,
    /// The exporter merged equal parameters; those that lost their name there have no golden gradient.
    pub merges: bool,
}

impl Golden {
    /// Reads `NAME.golden.safetensors`.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = std::fs::read(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();

        let groups = metadata.get("tied").into_iter().flat_map(|groups| groups.split(';'));
        let tied = groups.map(|group| group.split(',').map(str::to_owned).collect()).collect();
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
            let kind = match view.dtype() {
                safetensors::Dtype::F32 => Kind::Float,
                safetensors::Dtype::F64 => Kind::Double,
                safetensors::Dtype::I32 => Kind::Int,
                safetensors::Dtype::I64 => Kind::Int64,
                safetensors::Dtype::BOOL => Kind::Bool,
                other => return Err(format!("{name} is {other:?}").into()),
            };
            let size: Vec<i64> = view.shape().iter().map(|&dim| dim as i64).collect();
            tensors.insert(name, Tensor::f_from_data_size(view.data(), &size, kind)?);
        }
        let merges = metadata.get("absent").is_some_and(|absent| !absent.is_empty());
        Ok(Self { tensors, tied, merges })
    }

    /// The batch, in the model's order of inputs.
    pub fn inputs(&self, model: &OnnxModel) -> Vec<Tensor> {
        model.inputs().iter().map(|input| self.tensors[&format!("input.{}", input.name)].shallow_clone()).collect()
    }
}
