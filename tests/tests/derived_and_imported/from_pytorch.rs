//! The file is the one that PyTorch wrote.

use fngd_core::{Inventory, Result};
use fngd_models::CifarResNet;
use fngd_module::{BuildOptions, TrainableModule};
use fngd_tests::open_model;
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// Name to dimensions, of what is trained.
type Parameters = BTreeMap<String, Vec<i64>>;

#[test]
fn resnet20_has_the_parameters_and_layers_of_its_file() -> Result<()> {
    let variables = VarStore::new(Device::Cpu);
    let derived = Inventory::of(&CifarResNet::new(&variables.root(), 3, 10));
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

#[test]
fn resnet20_computes_what_its_file_computes() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut imported = TrainableModule::build(&open_model("resnet20-cifar10.onnx"), &BuildOptions::default())?;
    let variables = VarStore::new(Device::Cpu);
    let derived = CifarResNet::new(&variables.root(), 3, 10);
    let mut stored = variables.variables();
    for (name, tensor) in imported.tensors() {
        let mut variable = stored.remove(&name).ok_or(format!("the derived model has no `{name}`"))?;
        tch::no_grad(|| variable.copy_(&tensor));
    }
    assert!(stored.is_empty(), "the file has no {:?}", stored.keys());

    let images = Tensor::randn([3, 3, 32, 32], (Kind::Float, Device::Cpu));
    imported.set_training(true);
    assert_eq!(imported.logits(&[images.shallow_clone()])?, images.apply_t(&derived, true));

    // That moved the running statistics: by the variance with divisor n - 1 in PyTorch and tch, with divisor n in ONNX.
    // From equal statistics, inference is equal too.
    let moved: Vec<_> = variables.variables().into_iter().collect();
    imported.load_tensors(&moved)?;
    imported.set_training(false);
    assert_eq!(imported.logits(&[images.shallow_clone()])?, images.apply_t(&derived, false));
    Ok(())
}
