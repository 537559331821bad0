//! Where the layers of real models keep the samples of the batch.

use fngd_core::BatchAxis;
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel};
use std::path::Path;

type Failure = Box<dyn std::error::Error>;

fn axes(file: &str) -> Result<Vec<BatchAxis>, Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fngd-onnx/tests/corpus").join(file);
    let model = OnnxModel::open(&path, &ImportOptions::default())?;
    let module = TrainableModule::build(&model, &BuildOptions::default())?;
    let unknown: Vec<_> = module.layer_batch_axes().iter().filter(|found| found.unknown_because.is_some()).collect();
    assert!(unknown.is_empty(), "{file}: {unknown:?}");
    Ok(module.layer_batch_axes().iter().map(|found| found.axis).collect())
}

#[test]
fn convolutions_keep_samples_in_front() -> Result<(), Failure> {
    for file in ["vgg.dyn.onnx", "resnet.tstrain.onnx", "convnext.ts.onnx", "efficientnet.train.onnx", "bert.dyn.onnx"]
    {
        assert!(axes(file)?.iter().all(|axis| *axis == BatchAxis::Leading), "{file}");
    }
    Ok(())
}

/// torch.nn.MultiheadAttention works on `[positions, batch, features]`, and flattens that for its last projection.
#[test]
fn attention_with_the_batch_in_the_middle_is_understood() -> Result<(), Failure> {
    for (file, middle) in
        [("vit.dyn.onnx", 4), ("vit.tstrain.onnx", 4), ("encoder.ts.onnx", 4), ("translator.train.onnx", 5)]
    {
        let found = axes(file)?;
        assert_eq!(found.iter().filter(|axis| **axis == BatchAxis::Axis(1)).count(), middle, "{file}: {found:?}");
        assert_eq!(found.iter().filter(|axis| **axis == BatchAxis::Leading).count(), found.len() - middle, "{file}");
    }
    Ok(())
}
