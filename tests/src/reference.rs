//! What PyTorch computed with the weights of a file of the large corpus (`tests/corpus/reference.py`).

use fngd_core::{FngdModule, Inventory};
use fngd_module::TrainableModule;
use fngd_onnx::OnnxModel;
use safetensors::SafeTensors;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Reduction, Tensor};

/// Why a reference cannot be used.
pub type Failure = Box<dyn std::error::Error>;

/// What the file says beside its tensors.
#[derive(Debug, Deserialize)]
pub struct Facts {
    /// Where the logits have their classes.
    pub class_axis: i64,
    /// The parameters that the loss depends on, and their sizes.
    pub parameters: BTreeMap<String, Vec<i64>>,
    /// Euclidean norms of their gradients.
    pub norms: BTreeMap<String, f64>,
    /// The initializers that hold parameters.
    pub held: BTreeMap<String, Held>,
}

/// How an initializer holds PyTorch's tensors (`tests/corpus/layouts.py`).
#[derive(Debug, Deserialize)]
pub struct Held {
    /// Names of the tensors.
    pub sources: Vec<String>,
    /// `same`, `transposed`, `gather`, `gates` or `biases`.
    pub kind: String,
    /// PyTorch's number of each gate, in ONNX's order.
    pub gates: Vec<i64>,
}

/// The tensors of one reference file, and how its loss is defined.
pub struct Reference {
    tensors: BTreeMap<String, Tensor>,
    facts: Facts,
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
        let facts: Facts = serde_json::from_str(facts)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
            let kind = match view.dtype() {
                safetensors::Dtype::F32 => Kind::Float,
                safetensors::Dtype::F64 => Kind::Double,
                safetensors::Dtype::I64 => Kind::Int64,
                other => return Err(format!("{name} is {other:?}").into()),
            };
            let size: Vec<i64> = view.shape().iter().map(|&dim| dim as i64).collect();
            tensors.insert(name, Tensor::f_from_data_size(view.data(), &size, kind)?);
        }
        Ok(Self { tensors, facts })
    }

    /// What is known beside the tensors.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// A tensor by its name in the file.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
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
        let logits = logits.f_movedim_int(self.facts.class_axis, -1)?;
        let classes = logits.size().last().copied().unwrap_or(1);
        let labels = self.tensors.get("labels").ok_or("no `labels`")?.f_reshape([-1])?;
        let logits = logits.f_reshape([-1, classes])?;
        Ok(logits.f_cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)?)
    }
}

/// Loss and gradients of one pass in training mode, without Dropout and stochastic depth; the gradients as the file has its tensors:
/// `loss`, and `grad.NAME` of every parameter that the loss depends on.
///
/// # Errors
/// What the module says.
pub fn training_pass(
    module: &mut TrainableModule,
    reference: &Reference,
    inputs: &[Tensor],
    model: &OnnxModel,
) -> Result<Vec<(String, Tensor)>, Failure> {
    module.set_training(true);
    module.set_dropout(false);
    let loss = reference.loss(&module.logits(inputs)?)?;
    loss.f_backward()?;
    let transposed: BTreeMap<&str, bool> =
        model.analysis().parameters.values().map(|info| (info.name.as_str(), info.transposed)).collect();
    let mut found = vec![("loss".to_owned(), loss)];
    for parameter in Inventory::of(module as &dyn FngdModule).parameters {
        let grad = parameter.tensor.grad();
        if grad.defined() {
            let is_transposed = transposed.get(parameter.name.as_str()).copied().unwrap_or(false);
            let grad = if is_transposed { grad.tr() } else { grad };
            found.push((format!("grad.{}", parameter.name), grad.copy()));
        }
        parameter.tensor.shallow_clone().zero_grad();
    }
    Ok(found)
}
