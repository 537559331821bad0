//! Generated models, compiled: they compute what onnxruntime and the importer compute, and train alike.

use fngd_core::{Fngd, FngdModule, Inventory};
use fngd_module::{BuildOptions, Precision, TrainableModule};
use fngd_onnx::OnnxModel;
use fngd_tests::fixture::Fixture;
use fngd_tests::open_model;
use std::error::Error;
use tch::nn::{ModuleT, Path, VarStore};
use tch::{Device, Kind, Tensor};

#[deny(warnings)]
#[rustfmt::skip]
#[path = "../generated/digits_cnn.rs"]
mod digits_cnn;
#[deny(warnings)]
#[rustfmt::skip]
#[path = "../generated/mobilenet_v2.rs"]
mod mobilenet_v2;
#[deny(warnings)]
#[rustfmt::skip]
#[path = "../generated/mobilenet_v3_small.rs"]
mod mobilenet_v3_small;
#[deny(warnings)]
#[rustfmt::skip]
#[path = "../generated/resnet110.rs"]
mod resnet110;
#[deny(warnings)]
#[rustfmt::skip]
#[path = "../generated/resnet18.rs"]
mod resnet18;
#[deny(warnings)]
#[rustfmt::skip]
#[path = "../generated/resnet18_default.rs"]
mod resnet18_default;
#[deny(warnings)]
#[rustfmt::skip]
#[path = "../generated/resnet18_torchscript.rs"]
mod resnet18_torchscript;
#[deny(warnings)]
#[rustfmt::skip]
#[path = "../generated/resnet20.rs"]
mod resnet20;
#[deny(warnings)]
#[rustfmt::skip]
#[path = "../generated/resnet50.rs"]
mod resnet50;
#[deny(warnings)]
#[rustfmt::skip]
#[path = "../generated/vit_b_16.rs"]
mod vit_b_16;
#[deny(warnings)]
#[rustfmt::skip]
#[path = "../generated/vit_b_16_default.rs"]
mod vit_b_16_default;
#[deny(warnings)]
#[rustfmt::skip]
#[path = "../generated/vit_b_16_torchscript.rs"]
mod vit_b_16_torchscript;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The generated model with the values of the file, loaded as a user loads them.
fn load<M>(model: &OnnxModel, new: fn(&Path<'_>) -> M, kind: Kind) -> Result<(VarStore, M)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.safetensors");
    let generated = fngd_codegen::generate(model, &Default::default())?;
    std::fs::write(&path, fngd_codegen::weights::file(model, &generated.variables)?)?;
    let mut variables = VarStore::new(Device::Cpu);
    let built = new(&variables.root());
    variables.load(&path)?;
    // The variables are converted in place: what the model holds is the same tensors.
    if kind == Kind::Double {
        variables.double();
    }
    Ok((variables, built))
}

/// Largest difference, as a share of the largest element.
fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    (found - &expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[])
}

/// Against onnxruntime, and against the importer at another batch size.
fn computes_the_same<M: ModuleT>(fixture: &Fixture, new: fn(&Path<'_>) -> M) -> Result {
    let (_variables, model) = load(&fixture.model, new, Kind::Float)?;
    let _guard = tch::no_grad_guard();
    let output = model.forward_t(&fixture.input, false).narrow(1, 0, 8);
    let expected = Tensor::from_slice(&fixture.output).view([-1, 8]);
    let found = difference(&output, &expected);
    assert!(found < 1e-4, "differs from onnxruntime by {found:.1e}");

    let imported = TrainableModule::build(&fixture.model, &BuildOptions::default())?;
    let input = Tensor::cat(&[&fixture.input, &fixture.input.narrow(0, 0, 1)], 0);
    let found = difference(&model.forward_t(&input, false), &imported.forward(&[input.shallow_clone()])?[0]);
    assert!(found < 1e-5, "differs from the importer by {found:.1e}");
    Ok(())
}

/// Losses of FNGD steps on one batch, in float64.
fn losses(module: &dyn FngdModule, input: &Tensor, forward: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Vec<f64>> {
    let labels = Tensor::arange(input.size()[0], (Kind::Int64, Device::Cpu));
    let mut optimizer = Fngd::builder(module).with_learning_rate(0.01).build()?;
    let mut losses = Vec::new();
    for epoch in 0..3 {
        optimizer.begin_epoch(epoch)?;
        let loss = forward(input)?.cross_entropy_for_logits(&labels);
        losses.push(loss.double_value(&[]));
        optimizer.backward(&loss)?;
        optimizer.step()?;
    }
    Ok(losses)
}

/// The same losses, before and after steps of FNGD, and the same layers under the same names.
fn trains_the_same<M: ModuleT + FngdModule>(model: &OnnxModel, input: &Tensor, new: fn(&Path<'_>) -> M) -> Result {
    let options = BuildOptions { precision: Precision::Float64, ..BuildOptions::default() };
    let mut imported = TrainableModule::build(model, &options)?;
    imported.set_training(true);
    imported.set_dropout(false);
    let (_variables, generated) = load(model, new, Kind::Double)?;
    let names = |module: &dyn FngdModule| {
        let mut names: Vec<String> = Inventory::of(module).layers.iter().map(|layer| layer.name().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&generated), names(&imported));
    let input = input.to_kind(Kind::Double);
    let expected = losses(&imported, &input, &|input| Ok(imported.logits(&[input.shallow_clone()])?))?;
    let found = losses(&generated, &input, &|input| Ok(generated.forward_t(input, true)))?;
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-9 * expected.abs(), "losses {found:?}, expected {expected:?}");
    }
    assert!((expected[0] - expected[2]).abs() > 1e-4, "nothing was trained: {expected:?}");
    Ok(())
}

#[test]
fn a_small_cnn_computes_and_trains_as_its_file() -> Result {
    let input = Tensor::randn([5, 1, 8, 8], (Kind::Float, Device::Cpu));
    trains_the_same(&open_model("digits-cnn.onnx"), &input, digits_cnn::DigitsCnn::new)
}

#[test]
fn resnet20_computes_and_trains_as_its_file() -> Result {
    let input = Tensor::randn([3, 3, 32, 32], (Kind::Float, Device::Cpu));
    trains_the_same(&open_model("resnet20-cifar10.onnx"), &input, resnet20::CifarResNet::new)
}

#[test]
fn resnet18_computes_what_onnxruntime_computes_however_it_was_exported() -> Result {
    computes_the_same(&Fixture::open("resnet18"), resnet18::ResNet::new)?;
    computes_the_same(&Fixture::open("resnet18_default"), resnet18_default::ResNet::new)?;
    computes_the_same(&Fixture::open("resnet18_torchscript"), resnet18_torchscript::Resnet18Torchscript::new)
}

#[test]
fn resnet18_trains_as_its_file() -> Result {
    let Fixture { model, input, .. } = &Fixture::open("resnet18");
    trains_the_same(model, input, resnet18::ResNet::new)
}

#[test]
fn resnet110_computes_what_onnxruntime_computes() -> Result {
    computes_the_same(&Fixture::open("resnet110"), resnet110::CifarResNet::new)
}

#[test]
fn resnet50_computes_what_onnxruntime_computes() -> Result {
    computes_the_same(&Fixture::open("resnet50"), resnet50::ResNet::new)
}

#[test]
fn mobilenets_compute_what_onnxruntime_computes() -> Result {
    computes_the_same(&Fixture::open("mobilenet_v2"), mobilenet_v2::MobileNetV2::new)?;
    computes_the_same(&Fixture::open("mobilenet_v3_small"), mobilenet_v3_small::MobileNetV3::new)
}

#[test]
fn vit_computes_what_onnxruntime_computes_however_it_was_exported() -> Result {
    computes_the_same(&Fixture::open("vit_b_16"), vit_b_16::VisionTransformer::new)?;
    computes_the_same(&Fixture::open("vit_b_16_default"), vit_b_16_default::VisionTransformer::new)?;
    computes_the_same(&Fixture::open("vit_b_16_torchscript"), vit_b_16_torchscript::VitB16Torchscript::new)
}
