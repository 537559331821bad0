//! Fused operators of com.microsoft against onnxruntime (`microsoft/make.py` made the models and the numbers).

mod golden;

use fngd_core::{FngdModule, Inventory};
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel};
use golden::{Failure, Golden};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/microsoft")
}

fn open(name: &str) -> Result<(OnnxModel, TrainableModule), Failure> {
    let model = OnnxModel::open(&folder().join(format!("{name}.onnx")), &ImportOptions::default())?;
    let module = TrainableModule::build(&model, &BuildOptions::default())?;
    Ok((model, module))
}

fn check(name: &str, golden: &Golden) -> Result<Vec<String>, Failure> {
    let (model, module) = open(name)?;
    let inputs: Vec<Tensor> =
        (0..model.inputs().len()).map(|k| golden.tensors[&format!("{name}/in{k}")].shallow_clone()).collect();
    let mut wrong = Vec::new();
    let outputs = module.forward(&inputs)?;
    for (position, found) in outputs.iter().enumerate() {
        let expected = &golden.tensors[&format!("{name}/out{position}")];
        let (left, right) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
        if left.size() != right.size() || left.isclose(&right, 1e-4, 1e-5, true).all().int64_value(&[]) == 0 {
            wrong.push(format!("output {position}\n    found    {left}\n    expected {right}"));
        }
    }
    // A loss that no symmetry makes flat.
    let loss = outputs[0].to_kind(Kind::Float).pow_tensor_scalar(3).mean(Kind::Float);
    let parameters = Inventory::of(&module as &dyn FngdModule).parameters;
    if !parameters.is_empty() {
        loss.f_backward()?;
    }
    for parameter in &parameters {
        let grad = parameter.tensor.grad();
        // NaN is none either.
        let has_one = grad.defined() && grad.norm().double_value(&[]) > 0.0;
        if !has_one {
            wrong.push(format!("no gradient for {}", parameter.name));
        }
    }
    let stored = model.graph().initializers.iter().filter(|(id, data)| {
        data.element_type.is_float() && model.graph().values[id.0].name.starts_with('w') && !name.starts_with("rotary")
    });
    if parameters.len() != stored.count() {
        let names: Vec<_> = parameters.iter().map(|parameter| parameter.name.clone()).collect();
        wrong.push(format!("trains {names:?} only"));
    }
    Ok(wrong)
}

#[test]
fn fused_operators_compute_what_onnxruntime_does_and_all_their_weights_train() -> Result<(), Failure> {
    let golden = Golden::read(&folder().join("expected.safetensors"))?;
    let names: BTreeSet<String> =
        golden.tensors.keys().filter_map(|key| Some(key.split_once('/')?.0.to_owned())).collect();
    assert!(names.len() >= 40, "found {} models", names.len());
    let mut failures = Vec::new();
    for name in &names {
        match check(name, &golden) {
            Ok(wrong) => failures.extend(wrong.into_iter().map(|text| format!("{name}: {text}"))),
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

#[test]
fn weights_inside_fused_operators_are_preconditioned_layers() -> Result<(), Failure> {
    for name in ["matmul", "matmul_scaled", "gemm", "conv", "conv_sum", "conv_sigmoid", "attention", "attention_sizes"]
    {
        let (_, module) = open(name)?;
        assert_eq!(module.preconditioned_layers().len(), 1, "{name}");
    }
    // Half of the product: its gradient is not that of a linear layer.
    assert!(open("gemm_leaky")?.1.preconditioned_layers().is_empty());
    Ok(())
}

#[test]
fn an_optimized_bert_computes_and_learns_what_the_plain_one_does() -> Result<(), Failure> {
    let golden = Golden::read(&folder().join("bert.golden.safetensors"))?;
    let (model, module) = open("bert")?;
    let fused = model.report().operators.iter().filter(|(name, _)| name.starts_with("com.microsoft::"));
    assert_eq!(fused.map(|(_, count)| count).sum::<usize>(), 9, "{:?}", model.report().operators);
    let inputs = golden.inputs(&model);
    let logits = module.logits(&inputs)?;
    assert!(logits.isclose(&golden.tensors["output"], 1e-4, 1e-5, false).all().int64_value(&[]) == 1);

    logits.cross_entropy_for_logits(&golden.tensors["labels"]).f_backward()?;
    let parameters = Inventory::of(&module as &dyn FngdModule).parameters;
    let expected = golden.tensors.keys().filter(|name| name.starts_with("grad.")).count();
    assert_eq!(parameters.len(), expected);
    for parameter in parameters {
        let (found, expected) = (parameter.tensor.grad(), &golden.tensors[&format!("grad.{}", parameter.name)]);
        assert_eq!(found.size(), expected.size(), "{}", parameter.name);
        let worst = (&found - expected).abs().max().double_value(&[]);
        assert!(worst < 1e-4 * expected.abs().max().double_value(&[]) + 1e-6, "{}: {worst:e}", parameter.name);
    }
    // Queries, keys and values in one, the layer behind attention, two of the feed-forward network, twice; pooler and classifier.
    assert_eq!(module.preconditioned_layers().len(), 10);

    let copy = tempfile::tempdir()?;
    module.export(&model, &copy.path().join("bert.onnx"))?;
    assert!(std::fs::read(copy.path().join("bert.onnx"))? == std::fs::read(folder().join("bert.onnx"))?);
    Ok(())
}
