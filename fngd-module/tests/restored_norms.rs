//! Repair R5 on real exports: BatchNormalizations that were folded into layers train again, and are folded again on export.

mod golden;

use fngd_core::{FngdModule, Inventory};
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel, Repair, Repairs};
use golden::{Failure, Golden};
use std::path::{Path, PathBuf};
use tch::{Kind, Reduction, Tensor, no_grad};

/// Files with folded BatchNormalizations, and how many of them can be restored.
const FOLDED: [(&str, usize); 6] = [
    ("densenet.ts", 5),
    ("mobilenet.dyn", 16),
    ("resnet-fresh.dyn", 16),
    ("resnet-fresh.ts", 16),
    ("vgg-bn.dyn", 4),
    ("vgg-bn.ts", 4),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fngd-onnx/tests/corpus").join(format!("{name}.onnx"))
}

fn open(path: &Path, repairs: Repairs) -> Result<(OnnxModel, TrainableModule), Failure> {
    let model = OnnxModel::open(path, &ImportOptions { repairs, ..ImportOptions::default() })?;
    let module = TrainableModule::build(&model, &BuildOptions::default())?;
    Ok((model, module))
}

/// Largest difference, relative to the largest value.
fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    ((found - expected).abs().max() / expected.abs().max()).double_value(&[])
}

fn outputs(module: &TrainableModule, inputs: &[Tensor]) -> Result<Tensor, Failure> {
    Ok(no_grad(|| module.forward(inputs))?.remove(0))
}

/// A few steps of gradient descent on one batch; returns the first and the last loss.
fn train(module: &mut TrainableModule, inputs: &[Tensor], labels: &Tensor) -> Result<(f64, f64), Failure> {
    let parameters = Inventory::of(module as &dyn FngdModule).parameters;
    let mut losses = Vec::new();
    module.set_training(true);
    module.set_dropout(false);
    for _ in 0..5 {
        let logits = module.logits(inputs)?;
        let loss = logits.cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, -100, 0.0);
        losses.push(loss.double_value(&[]));
        loss.f_backward()?;
        no_grad(|| {
            for parameter in &parameters {
                let (mut tensor, mut grad) = (parameter.tensor.shallow_clone(), parameter.tensor.grad());
                if grad.defined() {
                    tensor -= &grad * 0.02;
                    let _ = grad.zero_();
                }
            }
        });
    }
    module.set_training(false);
    Ok((losses[0], losses[losses.len() - 1]))
}

/// What onnxruntime computes with a written file, if Python has it; says so if not. `FNGD_PYTHON` names another interpreter.
fn onnxruntime_agrees(model: &OnnxModel, file: &Path, inputs: &[Tensor], expected: &Tensor) -> Result<(), Failure> {
    const SCRIPT: &str = "import sys, json\ntry: import numpy, onnxruntime\nexcept ImportError: sys.exit(77)\n\
        inputs, expected = json.load(open(sys.argv[2]))\n\
        array = lambda pair: numpy.array(pair[1], numpy.float32).reshape(pair[0])\n\
        found = onnxruntime.InferenceSession(sys.argv[1]).run(None, {name: array(pair) for name, pair in inputs.items()})[0]\n\
        expected = array(expected)\n\
        difference = abs(found - expected).max() / abs(expected).max()\n\
        sys.exit(f'onnxruntime differs by {difference}' if not difference < 1e-4 else 0)";
    let pair = |tensor: &Tensor| -> Result<serde_json::Value, Failure> {
        Ok(serde_json::json!([tensor.size(), Vec::<f32>::try_from(&tensor.reshape([-1]))?]))
    };
    let mut named = serde_json::Map::new();
    for (info, tensor) in model.inputs().iter().zip(inputs) {
        named.insert(info.name.clone(), pair(tensor)?);
    }
    let data = file.with_extension("json");
    std::fs::write(&data, serde_json::json!([named, pair(expected)?]).to_string())?;
    let python = std::env::var("FNGD_PYTHON").unwrap_or_else(|_| "python3".into());
    match std::process::Command::new(&python).arg("-c").arg(SCRIPT).args([file, &data]).output() {
        Ok(output) if output.status.code() == Some(77) => {
            eprintln!("not checked by onnxruntime: {python} has no such package");
        }
        Ok(output) => assert!(output.status.success(), "{}: {output:?}", file.display()),
        Err(error) => eprintln!("not checked by onnxruntime: {python}: {error}"),
    }
    Ok(())
}

#[test]
fn restored_is_the_identity_and_exports_as_what_it_computes() -> Result<(), Failure> {
    let out = tempfile::tempdir()?;
    for (name, count) in FOLDED {
        let at = |what: &str, found: f64, limit: f64| assert!(found <= limit, "{name}: {what}: {found:e}");
        let golden = Golden::read(&path(name).with_extension("golden.safetensors"))?;
        let (model, mut module) = open(&path(name), Repairs::default())?;
        let without = || Repairs::default().without(Repair::BatchNorm);
        let (_, plain) = open(&path(name), without())?;
        let inputs = golden.inputs(&model);
        let expected = outputs(&plain, &inputs)?;
        assert_eq!(model.restored().len(), count, "{name}");
        at("restored", difference(&outputs(&module, &inputs)?, &expected), 1e-5);

        // More than one batch, of different sizes.
        let batches = [golden.inputs(&model), module.example_inputs(5, &[], 3)?];
        assert_eq!(module.calibrate(batches)?, count, "{name}");
        at("calibrated", difference(&outputs(&module, &inputs)?, &expected), 1e-5);
        let target = out.path().join(format!("{name}.onnx"));
        let report = module.export(&model, &target)?;
        assert_eq!((report.sha256.as_str(), report.changed.len()), (model.sha256(), 0), "{name}: {:?}", report.edits);

        let (first, last) = train(&mut module, &inputs, &golden.tensors["labels"].to_kind(Kind::Int64))?;
        assert!(last < first, "{name}: the loss was {first}, then {last}");
        let trained = outputs(&module, &inputs)?;
        assert!(difference(&trained, &expected) > 1e-3, "{name} has not moved");
        module.export(&model, &target)?;
        let (back, written) = open(&target, without())?;
        at("written", difference(&outputs(&written, &inputs)?, &trained), 1e-4);
        assert_eq!(back.graph().nodes.len() + count, model.graph().nodes.len());
        onnxruntime_agrees(&model, &target, &inputs, &trained)?;
        // The hints are still there, so the next run restores them again.
        let (again, _) = open(&target, Repairs::default())?;
        assert_eq!(again.restored().len(), count, "{name}");
    }
    Ok(())
}
