//! What the importer makes of the files that models write.

use crate::Failure;
use crate::networks::Network;
use fngd_core::{FngdModule, Inventory};
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::OnnxModel;
use fngd_onnx::analysis::ParameterRole;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

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

/// Names of the weights of preconditioned layers.
fn preconditioned(module: &dyn FngdModule) -> BTreeSet<String> {
    let Inventory { parameters, layers, .. } = Inventory::of(module);
    let weights: BTreeSet<_> = layers.iter().map(|layer| layer.weight().data_ptr() as usize).collect();
    let is_weight = |parameter: &fngd_core::Parameter| weights.contains(&(parameter.tensor.data_ptr() as usize));
    parameters.into_iter().filter(is_weight).map(|parameter| parameter.name).collect()
}
