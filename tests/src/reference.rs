//! What PyTorch computed with the weights of a file of the large corpus (`tests/corpus/reference.py`).

use fngd_onnx::OnnxModel;
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Reduction, Tensor};

/// Why a reference cannot be used.
pub type Failure = Box<dyn std::error::Error>;

/// The tensors of one reference file, and how its loss is defined.
pub struct Reference {
    tensors: BTreeMap<String, Tensor>,
    class_axis: i64,
}

impl Reference {
    /// Reads `NAME.safetensors`.
    ///
    /// # Errors
    /// If the file is not one that `make.py` writes.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = std::fs::read(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let facts =
            header.metadata().as_ref().and_then(|metadata| metadata.get("corpus")).ok_or("no metadata `corpus`")?;
        let facts: serde_json::Value = serde_json::from_str(facts)?;
        let class_axis = facts["class_axis"].as_i64().ok_or("no `class_axis`")?;
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
            // Gradients are compared elsewhere.
            if name.starts_with("grad.") || name.starts_with("index.") {
                continue;
            }
            let kind = match view.dtype() {
                safetensors::Dtype::F32 => Kind::Float,
                safetensors::Dtype::F64 => Kind::Double,
                safetensors::Dtype::I64 => Kind::Int64,
                other => return Err(format!("{name} is {other:?}").into()),
            };
            let size: Vec<i64> = view.shape().iter().map(|&dim| dim as i64).collect();
            tensors.insert(name, Tensor::f_from_data_size(view.data(), &size, kind)?);
        }
        Ok(Self { tensors, class_axis })
    }

    /// A tensor for each of the model's inputs: `input` for the batch of the reference, `probe` for a larger one.
    ///
    /// # Errors
    /// If one is missing.
    pub fn inputs(&self, model: &OnnxModel, prefix: &str) -> Result<Vec<Tensor>, Failure> {
        let named = |name: &str| Some(self.tensors.get(&format!("{prefix}.{name}"))?.shallow_clone());
        let find = |name: &str| named(name).ok_or_else(|| format!("no `{prefix}.{name}`").into());
        model.inputs().iter().map(|input| find(&input.name)).collect()
    }

    /// Mean cross entropy of all predictions.
    ///
    /// # Errors
    /// If `logits` do not fit the labels.
    pub fn loss(&self, logits: &Tensor) -> Result<Tensor, Failure> {
        let logits = logits.f_movedim_int(self.class_axis, -1)?;
        let classes = logits.size().last().copied().unwrap_or(1);
        let labels = self.tensors.get("labels").ok_or("no `labels`")?.f_reshape([-1])?;
        let logits = logits.f_reshape([-1, classes])?;
        Ok(logits.f_cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)?)
    }
}
