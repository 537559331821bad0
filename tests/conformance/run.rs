//! One case: import, build, run, compare outputs and gradients.

use crate::Result;
use crate::cases::Case;
use crate::workers::Answer;
use crate::{compare, gradient};
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::graph::TensorData;
use fngd_onnx::{ImportOptions, OnnxModel};
use std::path::Path;
use tch::Tensor;

/// Runs `case`, whose suites are in `folder`.
pub fn run(folder: &Path, case: &Case) -> Answer {
    let mut gradient = Ok(false);
    // The weights of these networks are all equal: their gradients are astronomic, and no small step shows them in float32.
    let has_gradient = case.suite != "light";
    let compare = |module: &TrainableModule, inputs: &[Tensor]| {
        if has_gradient {
            gradient = gradient::check(module, inputs);
        }
    };
    match outputs_are_right(folder, case, compare) {
        Err(error) => Answer::Failed(error.to_string()),
        Ok(()) => gradient.map_or_else(|error| Answer::WrongGradient(error.to_string()), Answer::Passed),
    }
}

/// Compares outputs; calls `then` with the module and the inputs of the first data set if they are right.
fn outputs_are_right(folder: &Path, case: &Case, then: impl FnOnce(&TrainableModule, &[Tensor])) -> Result<()> {
    let folder = folder.join(&case.suite).join(&case.name);
    let model = OnnxModel::open(&folder.join("model.onnx"), &ImportOptions::default()).map_err(|error| {
        // The message begins with the path, which says nothing new.
        error.to_string().replace(&format!("{}: ", folder.join("model.onnx").display()), "")
    })?;
    let module = TrainableModule::build(&model, &BuildOptions::default())?;
    let mut first = None;
    let mut number = 0;
    while let data_set = folder.join(format!("test_data_set_{number}"))
        && data_set.is_dir()
    {
        let inputs =
            values(&data_set, "input")?.iter().map(fngd_module::tensor).collect::<std::result::Result<Vec<_>, _>>()?;
        let expected = values(&data_set, "output")?;
        let found = module.forward(&inputs)?;
        let names: Vec<&str> = model.outputs().iter().map(|info| info.name.as_str()).collect();
        if expected.len() != found.len() {
            return Err(format!("{} outputs ({}), expected {}", found.len(), names.join(", "), expected.len()).into());
        }
        for ((name, found), expected) in names.iter().zip(&found).zip(&expected) {
            compare::compare(found, expected, case.rtol, case.atol)
                .map_err(|error| format!("output `{name}`: {error}"))?;
        }
        first.get_or_insert(inputs);
        number += 1;
    }
    then(&module, &first.ok_or("there is no data set")?);
    Ok(())
}

/// `input_0.pb`, `input_1.pb`, ... of a data set.
fn values(folder: &Path, kind: &str) -> Result<Vec<TensorData>> {
    let mut found = Vec::new();
    while let path = folder.join(format!("{kind}_{}.pb", found.len()))
        && path.exists()
    {
        let data = TensorData::from_proto(&std::fs::read(&path)?);
        found.push(data.map_err(|error| format!("{kind} {}: {error}", found.len()))?);
    }
    Ok(found)
}
