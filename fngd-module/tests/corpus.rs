//! Every corpus file against what PyTorch computes with the same weights: outputs, training loss, gradients.

mod golden;

use fngd_core::{FngdModule, Inventory};
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel, Repair, Repairs};
use golden::{Failure, Golden};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Reduction, Tensor};

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fngd-onnx/tests/corpus");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the corpus is checked in")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    files.sort();
    assert!(files.len() >= 30, "found {} files", files.len());
    files
}

/// The largest difference, relative to the tolerance: above 1 is too far.
fn excess(found: &Tensor, expected: &Tensor, relative: f64, absolute: f64) -> f64 {
    if found.size() != expected.size() {
        return f64::INFINITY;
    }
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let allowed = expected.abs() * relative + absolute;
    let worst = ((found - expected).abs() / allowed).max().double_value(&[]);
    if worst.is_nan() { f64::INFINITY } else { worst }
}

/// With `retie`, the copies of a tied tensor are one parameter again.
fn check(path: &Path, channels_last: bool, retie: bool) -> Result<Vec<String>, Failure> {
    let golden = Golden::read(&path.with_extension("golden.safetensors"))?;
    // PyTorch's numbers are those of the file: BatchNormalizations that are folded there stay folded.
    let repairs = Repairs::default().without(Repair::BatchNorm);
    let repairs = if retie { repairs } else { repairs.without(Repair::Retie) };
    let model = OnnxModel::open(path, &ImportOptions { repairs, ..ImportOptions::default() })?;
    let mut module = TrainableModule::build(&model, &BuildOptions { channels_last, ..BuildOptions::default() })?;
    let inputs = golden.inputs(&model);
    let mut wrong = Vec::new();

    let outputs = tch::no_grad(|| module.forward(&inputs))?;
    let worst = excess(&outputs[0], &golden.tensors["output.logits"], 1e-4, 1e-5);
    if worst > 1.0 {
        wrong.push(format!("outputs {:?} differ, {worst:.1} times the tolerance", outputs[0].size()));
    }

    module.set_training(true);
    module.set_dropout(false);
    let logits = module.logits(&inputs)?;
    let classes = logits.size().last().copied().unwrap_or(1);
    let labels = golden.tensors["labels"].reshape([-1]);
    let loss = logits.reshape([-1, classes]).cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0);
    let worst = excess(&loss, &golden.tensors["loss"].reshape([0i64; 0]), 1e-3, 1e-6);
    if worst > 1.0 {
        wrong.push(format!("loss is {}, {worst:.1} times the tolerance", loss.double_value(&[])));
    }
    // The variance has ONNX's divisor, not PyTorch's: `training.rs` looks at it.
    for (name, tensor) in module.tensors().iter().filter(|(name, _)| name.ends_with("running_mean")) {
        if let Some(expected) = golden.tensors.get(&format!("running.{name}"))
            && excess(tensor, expected, 1e-3, 1e-5) > 1.0
        {
            wrong.push(format!("running statistic {name} differs"));
        }
    }
    loss.f_backward()?;
    wrong.extend(wrong_gradients(&golden, &model, &module, retie));
    Ok(wrong)
}

fn wrong_gradients(golden: &Golden, model: &OnnxModel, module: &TrainableModule, retie: bool) -> Vec<String> {
    let transposed: BTreeMap<_, _> =
        model.analysis().parameters.values().map(|info| (info.name.as_str(), info.transposed)).collect();
    let mut grads = BTreeMap::new();
    let mut wrong = Vec::new();
    for parameter in Inventory::of(module as &dyn FngdModule).parameters {
        let (name, grad) = (parameter.name, parameter.tensor.grad());
        if grad.defined() {
            let grad = if transposed[name.as_str()] { grad.tr() } else { grad };
            grads.insert(name, grad);
        } else {
            wrong.push(format!("{name} gets no gradient"));
        }
    }
    for (name, grad) in grads {
        // The exporter copied a tied tensor: apart, each copy has a gradient of its own.
        let is_copy = !retie && golden.tied.iter().any(|group| group.contains(&name));
        let prefix = if is_copy { "untied" } else { "grad" };
        let size = grad.norm().double_value(&[]);
        if !size.is_finite() || size == 0.0 {
            wrong.push(format!("gradient of {name} has norm {size}"));
        } else if let Some(expected) = golden.tensors.get(&format!("{prefix}.{name}")) {
            let scale = expected.abs().max().double_value(&[]);
            let worst = excess(&grad, expected, 1e-3, 1e-3 * scale + 1e-7);
            if worst > 1.0 {
                wrong.push(format!("gradient of {name} differs, {worst:.1} times the tolerance"));
            }
        } else if let Some(expected) = golden.tensors.get(&format!("{prefix}norm.{name}")) {
            let worst = excess(&grad.norm().reshape([1]), expected, 1e-3, 1e-7);
            if worst > 1.0 {
                wrong.push(format!(
                    "norm of the gradient of {name} is {size}, expected {}",
                    expected.double_value(&[0])
                ));
            }
        } else if !golden.merges && !made(model, &name) {
            wrong.push(format!("{name} {:?} is trainable, but PyTorch has no such parameter", grad.size()));
        }
    }
    wrong
}

/// Whether repair R6 added this parameter: without a hint of the exporter's whether there was one, it takes it for deleted.
fn made(model: &OnnxModel, name: &str) -> bool {
    let added = model.report().repairs.iter().any(|made| made.repair == Repair::Bias);
    added && name.ends_with(".bias")
}

fn check_all(channels_last: bool, retie: bool) {
    let mut failures = Vec::new();
    // Copies of the embedding are in these alone.
    let is_wanted = |path: &PathBuf| retie || path.to_string_lossy().contains("gpt2");
    for path in corpus().into_iter().filter(is_wanted) {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        match check(&path, channels_last, retie) {
            Ok(wrong) if wrong.is_empty() => {}
            Ok(wrong) => failures.push(format!("{name}:\n    {}", wrong.join("\n    "))),
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{} files fail\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_file_computes_and_learns_what_pytorch_does() {
    check_all(false, true);
}

#[test]
fn channels_last_gives_the_same_numbers() {
    check_all(true, true);
}

#[test]
fn copies_of_a_tied_tensor_learn_apart_if_that_is_wanted() {
    check_all(false, false);
}

#[test]
fn the_device_of_examples_is_the_modules() -> Result<(), Failure> {
    let path = corpus().into_iter().find(|path| path.ends_with("bert.dyn.onnx")).ok_or("bert.dyn.onnx is missing")?;
    let model = OnnxModel::open(&path, &ImportOptions::default())?;
    let module = TrainableModule::build(&model, &BuildOptions::default())?;
    let inputs = module.example_inputs(5, &[], 7)?;
    assert!(inputs.iter().all(|tensor| tensor.device() == Device::Cpu));
    assert_eq!(module.logits(&inputs)?.size()[0], 5);
    Ok(())
}
