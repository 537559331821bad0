//! What the importer makes of the files that models write.

use crate::Failure;
use crate::networks::{Batch, Network};
use fngd_core::{FngdModule, Inventory, state};
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::OnnxModel;
use fngd_onnx::analysis::ParameterRole;
use fngd_tests::programs::launcher;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use tch::Tensor;

#[test]
fn files_have_the_variables_of_their_models() -> Result<(), Failure> {
    for network in Network::all() {
        let name = network.name;
        let file = OnnxModel::from_bytes(network.to_onnx()?, Path::new(name), &Default::default())?;
        assert_eq!(file.report().repairs, [], "{name}");
        let dims = |dims: &[u64]| dims.iter().map(|&dim| dim as i64).collect::<Vec<_>>();
        let found: BTreeMap<String, (Vec<i64>, bool)> =
            file.parameters().iter().map(|row| (row.name.clone(), (dims(&row.dims), row.trainable))).collect();
        let statistic = |name: &str| name.contains("running_");
        let variables = network.variables.variables();
        let expected: BTreeMap<String, (Vec<i64>, bool)> =
            variables.iter().map(|(name, tensor)| (name.clone(), (tensor.size(), !statistic(name)))).collect();
        assert_eq!(found, expected, "{name}");
        for row in file.parameters() {
            assert_eq!(row.role == ParameterRole::RunningStatistic, statistic(&row.name), "{name}: {}", row.name);
        }
        let stored = TrainableModule::build(&file, &BuildOptions::default())?.tensors();
        for (parameter, tensor) in stored {
            assert_eq!(tensor, variables[&parameter].detach(), "{name}: {parameter}");
        }
    }
    Ok(())
}

#[test]
fn the_same_layers_are_preconditioned() -> Result<(), Failure> {
    for network in Network::all() {
        let file = OnnxModel::from_bytes(network.to_onnx()?, Path::new(network.name), &Default::default())?;
        let imported = TrainableModule::build(&file, &BuildOptions::default())?;
        assert_eq!(preconditioned(&imported), preconditioned(&network.model), "{}", network.name);
    }
    Ok(())
}

#[test]
fn another_runtime_computes_what_the_model_computes() -> Result<(), Failure> {
    for network in Network::all() {
        let file = network.to_onnx()?;
        for size in [1, 3] {
            let Batch { inputs, .. } = network.batch(size, 1);
            let expected = tch::no_grad(|| network.model.forward_t(&inputs, false));
            let found = by_tract(&network, &file, &inputs).map_err(|error| format!("{}: {error}", network.name))?;
            assert_eq!(found.size(), expected.size(), "{}", network.name);
            let apart = (&found - &expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[]);
            assert!(apart < 1e-5, "{} at batch size {size}: {apart:.1e}", network.name);
        }
    }
    Ok(())
}

/// What tract makes of `inputs`, in `fngd-cli`'s process for it.
fn by_tract(network: &Network, file: &[u8], inputs: &[Tensor]) -> Result<Tensor, Failure> {
    let folder = tempfile::tempdir()?;
    let [model, given, found] = ["model.onnx", "inputs", "outputs"].map(|name| folder.path().join(name));
    std::fs::write(&model, file)?;
    let names = network.inputs.iter().map(|input| format!("input.{}", input.name));
    let tensors: Vec<_> = names.zip(inputs.iter().map(Tensor::shallow_clone)).collect();
    state::save(&given, &tensors)?;
    let output = Command::new(launcher()).arg("__reference").args([&model, &given, &found]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let logits = state::load(&found)?.into_iter().find(|(name, _)| name == "output.logits");
    Ok(logits.ok_or("no logits")?.1)
}

/// Names of the weights of preconditioned layers.
fn preconditioned(module: &dyn FngdModule) -> BTreeSet<String> {
    let Inventory { parameters, layers, .. } = Inventory::of(module);
    let weights: BTreeSet<_> = layers.iter().map(|layer| layer.weight().data_ptr() as usize).collect();
    let is_weight = |parameter: &fngd_core::Parameter| weights.contains(&(parameter.tensor.data_ptr() as usize));
    parameters.into_iter().filter(is_weight).map(|parameter| parameter.name).collect()
}
