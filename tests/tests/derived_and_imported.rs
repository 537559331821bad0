//! The same network twice: written by hand with the derive, and read from the ONNX file that PyTorch wrote.

use fngd_core::{Inventory, Result};
use fngd_models::CifarResNet;
use fngd_tests::open_model;
use std::collections::BTreeMap;
use tch::Device;
use tch::nn::VarStore;

/// Name to dimensions, of what is trained.
type Parameters = BTreeMap<String, Vec<i64>>;

#[test]
fn resnet20_has_the_parameters_and_layers_of_its_file() -> Result<()> {
    let variables = VarStore::new(Device::Cpu);
    let derived = Inventory::of(&CifarResNet::build(&variables.root(), 20, 10)?);
    let derived_parameters: Parameters =
        derived.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.tensor.size())).collect();
    let mut derived_layers: Vec<_> = derived.layers.iter().map(|layer| format!("{}.weight", layer.name())).collect();

    let file = open_model("resnet20-cifar10.onnx");
    let rows = file.parameters();
    let size = |dims: &[u64]| dims.iter().map(|&dim| dim as i64).collect();
    let file_parameters: Parameters =
        rows.iter().filter(|row| row.trainable).map(|row| (row.name.clone(), size(&row.dims))).collect();
    let mut file_layers: Vec<_> =
        rows.iter().filter(|row| row.preconditioned && row.dims.len() > 1).map(|row| row.name.clone()).collect();

    assert_eq!(derived_parameters, file_parameters);
    derived_layers.sort();
    file_layers.sort();
    assert_eq!(derived_layers, file_layers);
    Ok(())
}
